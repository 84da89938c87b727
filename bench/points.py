"""What was measured, as JSON lines; Pareto fronts and interpolation along them.

In:  measurements of worker.py. Out: lines of files, fronts, queries per second at
a recall. Next: tables.py and plots.py show what is reduced here.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

Parameters = dict[str, Any]  # of a build or a search: JSON values by the library's names


class HasSpeed(Protocol):
    """A point of a curve."""

    @property
    def recall(self) -> float: ...

    @property
    def qps(self) -> float: ...


class HasEngine(Protocol):
    """A point of one of several engines."""

    @property
    def engine(self) -> str: ...


P = TypeVar("P", bound=HasSpeed)
E = TypeVar("E", bound=HasEngine)
D = TypeVar("D")


@dataclass(frozen=True)
class Measurement:
    """Some queries, searched in one way."""

    qps: float  # by the wall clock
    qps_cpu: float  # by the CPU time of all threads: holds where other programs compute too
    recall: float
    cpu_per_wall: float
    timed: int  # queries
    p50_us: float | None = None  # latencies: of single queries only
    p99_us: float | None = None


@dataclass(frozen=True)
class BuildFacts:
    """What a build has cost."""

    build_seconds: float
    build_cpu_seconds: float
    build_threads: int
    memory_bytes: int
    memory_kind: str  # how memory_bytes was found
    rss_delta_bytes: int  # by how much the process grew
    version: str  # of the library
    n: int
    d: int


@dataclass(frozen=True)
class RunFacts:
    """What all points of a run share."""

    set: str
    share: float  # of the rows, that a filter passes
    metric: str
    k: int
    cpu: str
    clock: str  # what qps counts: "wall" or "cpu"
    date: str


@dataclass(frozen=True)
class CoarsePoint:
    """One setting of one build in the coarse sweep; qps by the chosen clock."""

    engine: str
    mode: str
    build: Parameters
    setting: Parameters
    recall: float
    qps: float


@dataclass(frozen=True)
class Point:
    """One setting of one build, measured in all repetitions: medians."""

    engine: str
    mode: str  # "single" (one query a call) or "batch"
    build: Parameters
    setting: Parameters
    recall: float
    qps: float
    qps_best: float
    qps_worst: float
    qps_wall: float
    qps_cpu: float
    cpu_per_wall: float
    p50_us: float | None
    p99_us: float | None
    repetitions: int
    queries: int
    facts: BuildFacts
    run: RunFacts


@dataclass(frozen=True)
class BuildLine:
    """A build of a run: its facts, and why it has no points or not all."""

    engine: str
    build: Parameters
    run: RunFacts
    facts: BuildFacts | None = None
    reason: str | None = None


def as_line(point: Any) -> dict[str, Any]:
    """A dataclass as one flat JSON object: nested ones give their fields, what is None is left out."""
    line: dict[str, Any] = {}
    for field in dataclasses.fields(point):
        value = getattr(point, field.name)
        if dataclasses.is_dataclass(value):
            line.update(as_line(value))
        elif value is not None:
            line[field.name] = value
    return line


def of_line(kind: type[D], line: dict[str, Any], **more: Any) -> D:
    """The dataclass `kind` with those fields of a line that it has."""
    known = {f.name for f in dataclasses.fields(kind)} - set(more)  # type: ignore[arg-type]
    return kind(**{name: line.get(name) for name in known}, **more)


def point_of(line: dict[str, Any]) -> Point:
    """The inverse of as_line."""
    return of_line(Point, line, facts=of_line(BuildFacts, line), run=of_line(RunFacts, line))


def build_of(line: dict[str, Any]) -> BuildLine:
    """The inverse of as_line."""
    facts = of_line(BuildFacts, line) if "build_seconds" in line else None
    return of_line(BuildLine, line, facts=facts, run=of_line(RunFacts, line))


def append(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Adds lines to a JSON-lines file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line) + "\n")


def write(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    """A JSON-lines file of these lines alone."""
    path.unlink(missing_ok=True)
    append(path, lines)


def read(path: Path) -> list[dict[str, Any]]:
    """Lines of a JSON-lines file."""
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def front(points: Iterable[P], slack: float = 0.0) -> list[P]:
    """Points no other beats in recall and qps, by rising recall.

    With `slack` 0.1 a point also stays when it has 90 % of the qps of the best
    point at its recall or above: one noisy sweep must not decide alone.
    """
    kept: list[P] = []
    best = 0.0
    for point in sorted(points, key=lambda p: (-p.recall, -p.qps)):
        if point.qps > best * (1 - slack):
            kept.append(point)
            best = max(best, point.qps)
    return kept[::-1]


def stretched(recall: float, nearest: float = 1e-4) -> float:
    """-log10(1 - recall): gives .90 to .99 as much room as 0 to .90, where engines differ."""
    return -math.log10(max(nearest, 1 - recall))


def thin(points: Sequence[P], most: int) -> list[P]:
    """At most `most` of the points, spread evenly over the stretched recall."""
    if len(points) <= most:
        return list(points)
    place = [stretched(p.recall) for p in points]
    low, high = min(place), max(place)
    chosen: set[int] = set()
    for i in range(most):
        goal = low + (high - low) * i / max(1, most - 1)
        free = [j for j in range(len(points)) if j not in chosen]
        chosen.add(min(free, key=lambda j: abs(place[j] - goal)))
    return [points[j] for j in sorted(chosen)]


def qps_at(points: Iterable[P], target: float) -> float | None:
    """QPS at a recall, interpolated on log QPS along the front; None above it.

    Below the lowest recall of the front its fastest point counts as measured:
    it delivers more recall than asked.
    """
    line = front(points)
    above = [p for p in line if p.recall >= target]
    below = [p for p in line if p.recall < target]
    if not above:
        return None
    right = above[0]
    if not below:
        return right.qps
    left = below[-1]
    share = (target - left.recall) / (right.recall - left.recall)
    return math.exp((1 - share) * math.log(left.qps) + share * math.log(right.qps))


def point_at(points: Iterable[P], target: float) -> P | None:
    """The fastest measured point with at least this recall, or the best recall."""
    line = front(points)
    return next((p for p in line if p.recall >= target), line[-1] if line else None)


def by_engine(points: Iterable[E]) -> dict[str, list[E]]:
    """Points grouped by engine, first seen first."""
    groups: dict[str, list[E]] = {}
    for point in points:
        groups.setdefault(point.engine, []).append(point)
    return groups
