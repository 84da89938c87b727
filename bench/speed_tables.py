"""The tables of a run of curves: queries per second at fixed recalls, and the builds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.points import BuildLine, Point, by_engine, point_at, qps_at
from bench.tables import megabytes, parameters, table, whole

TARGETS = (0.80, 0.90, 0.95, 0.98, 0.99)
SHOWN = 0.95  # the recall whose parameters are shown
OURS = "ours"


@dataclass(frozen=True)
class _Row:
    """An engine: its speed at each of TARGETS, and its fastest point with the recall SHOWN."""

    name: str
    at: list[float | None]
    near: Point

    def rank(self) -> list[float]:
        """By speed at .95, then at .90, then at .80; fastest first."""
        return [-(value or 0) for value in (self.at[2], self.at[1], self.at[0])]


def _rows(points: Sequence[Point]) -> list[_Row]:
    found = []
    for name, group in by_engine(points).items():
        near = point_at(group, SHOWN)
        assert near is not None  # a group has points
        found.append(_Row(name, [qps_at(group, target) for target in TARGETS], near))
    return sorted(found, key=_Row.rank)


def _settings(mode: str, rows: Sequence[_Row]) -> str:
    """Parameters at the recall SHOWN."""
    cells = [
        [
            row.name,
            parameters(row.near.build),
            parameters(row.near.setting),
            f"{row.near.recall:.4f}",
            whole(row.near.qps),
            whole(row.near.p50_us),
            whole(row.near.p99_us),
        ]
        for row in rows
    ]
    head = [f"{mode}: fastest with recall >= .95", "build", "search", "recall", "QPS", "p50 us", "p99 us"]
    return table(head, cells)


def _ratios(mode: str, rows: Sequence[_Row]) -> str:
    """How many times as fast as each peer ours is."""
    ours = next(row for row in rows if row.name == OURS)
    cells = [
        [peer.name, *(f"{own / other:.2f}" if own and other else None for own, other in zip(ours.at, peer.at))]
        for peer in rows
        if peer is not ours
    ]
    return table([f"{mode}: {OURS} / peer", *(f"{target:.2f}" for target in TARGETS)], cells)


def speed_tables(points: Sequence[Point], mode: str) -> str:
    """QPS at TARGETS, the ratio ours/peer, and the parameters at .95, one mode."""
    rows = _rows([point for point in points if point.mode == mode])
    head = [f"{mode}: QPS at recall", *(f"{target:.2f}" for target in TARGETS), "build s", "memory MB"]
    cells = [
        [
            row.name,
            *map(whole, row.at),
            f"{row.near.facts.build_seconds:.0f}",
            f"{row.near.facts.memory_bytes / 1e6:.0f}",
        ]
        for row in rows
    ]
    parts = [table(head, cells)]
    if len(rows) > 1 and any(row.name == OURS for row in rows):
        parts.append(_ratios(mode, rows))
    return "\n\n".join([*parts, _settings(mode, rows)])


def build_table(builds: Sequence[BuildLine]) -> str:
    """Every build that was made: seconds, bytes as stored or reported, by how much the process grew."""
    made = [(line.engine, line.build, line.facts) for line in builds if line.facts is not None]
    cells = [
        [
            engine,
            parameters(build),
            facts.version,
            f"{facts.build_seconds:.1f}",
            f"{facts.build_cpu_seconds:.1f}",
            facts.build_threads,
            megabytes(facts.memory_bytes),
            facts.memory_kind,
            megabytes(facts.rss_delta_bytes),
        ]
        for engine, build, facts in made
    ]
    head = "engine,build,version,seconds,CPU seconds,threads,index MB,found by,RSS grew MB"
    return table(head.split(","), cells)
