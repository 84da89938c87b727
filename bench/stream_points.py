"""What was measured of indexes whose rows change, and what it comes to.

In:  one point a setting of each search step, one a change of rows.
Out: a table an index, a summary against the index that is rebuilt, curves over the steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench import points, tables
from bench.plots import Series
from bench.points import Parameters
from bench.stream_worker import Changed

REFERENCE, PLAIN, AUTOMATIC = "rebuilt", "ours", "ours-auto"
ADDS = ("insert", "replace")  # the changes whose time that of maintenance is compared with
OPERATIONS = ("train", *ADDS, "delete", "rebuild")
SUMMARY = (
    "index,recall loss,at step,time ratio,at step,time ratio at recall {recall:g},at the last step,"
    "recall loss since the first search,maintenance of adds"
)
EXPLAINED = (
    "Recall loss and time ratio: against `rebuilt`, the largest of any step in the same setting; at recall {recall:g}\n"
    "interpolated between settings. Maintenance of adds: seconds of maintain(), of rebuilding, or (`ours-auto`) that\n"
    "adds took more than those of `ours`, for each second of adds."
)


@dataclass(frozen=True)
class StreamFacts:
    """What all points of a run share."""

    set: str
    runbook: str
    order: str
    metric: str
    k: int
    n: int
    d: int
    threads: int  # of builds and changes
    queries: int
    repetitions: int
    cpu: str
    date: str


@dataclass(frozen=True)
class SearchPoint:
    """A setting of an index at a search step: microseconds a query, of its best or median repetitions."""

    engine: str
    step: int
    live: int  # rows that are there
    setting: Parameters
    recall: float
    us: float
    us_median: float
    run: StreamFacts
    imbalance: float | None = None  # of the lists, if the library says

    @property
    def qps(self) -> float:
        return 1e6 / self.us

    @property
    def width(self) -> str:
        """'nprobe=8'"""
        name, value = next(iter(self.setting.items()))
        return f"{name}={value}"


@dataclass(frozen=True)
class ChangePoint:
    """A step that changed rows of an index, or made it anew."""

    engine: str
    step: int
    changed: Changed
    run: StreamFacts


@dataclass(frozen=True)
class IndexLine:
    """An index of a run; why it has no points or not all."""

    engine: str
    params: Parameters
    run: StreamFacts
    version: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Results:
    """Of a runbook."""

    searches: Sequence[SearchPoint]
    changes: Sequence[ChangePoint]
    indexes: Sequence[IndexLine]

    def engines(self) -> list[str]:
        """Those with points."""
        return list(dict.fromkeys(point.engine for point in self.searches))

    def of(self, engine: str) -> list[SearchPoint]:
        return [point for point in self.searches if point.engine == engine]

    def at(self, engine: str, step: int) -> list[SearchPoint]:
        return [point for point in self.of(engine) if point.step == step]

    def adds(self, engine: str) -> float:
        """Seconds of adds, without maintenance that has a call of its own."""
        return math.fsum(c.changed.seconds for c in self.changes if c.engine == engine and c.changed.operation in ADDS)


def steps_of(found: Sequence[SearchPoint]) -> list[int]:
    return sorted({point.step for point in found})


def micros(seconds: float, rows: int) -> str | None:
    """Of a row."""
    return f"{1e6 * seconds / rows:.1f}" if rows else None


def maintained(changes: Sequence[Changed]) -> list[str | None]:
    """Time of maintenance for each row that was changed, and as a part of the time of adds."""
    seconds = math.fsum(change.maintain_seconds for change in changes)
    adds = math.fsum(change.seconds for change in changes if change.operation in ADDS)
    if not seconds:
        return [None, None]
    return [micros(seconds, sum(change.rows for change in changes)), f"{seconds / adds:.2f}" if adds else None]


def index_table(results: Results, engine: str) -> str:
    """A line a search step: recalls, times of queries, and of the changes since the step before."""
    found = results.of(engine)
    widths = list(dict.fromkeys(point.width for point in found))
    head = ["step", "rows", *(f"recall {w}" for w in widths), *(f"us {w}" for w in widths)]
    head += ["imbalance", *(f"{operation} us/row" for operation in OPERATIONS), "maintain us/row", "of adds"]
    lines: list[list[object]] = []
    before = 0
    for step in steps_of(found):
        here = {point.width: point for point in results.at(engine, step)}
        since = [c.changed for c in results.changes if c.engine == engine and before < c.step <= step]
        by_operation = [[c for c in since if c.operation == operation] for operation in OPERATIONS]
        times = [micros(math.fsum(c.seconds for c in some), sum(c.rows for c in some)) for some in by_operation]
        measured = [here.get(width) for width in widths]
        one = next(iter(here.values()))
        line: list[object] = [step, f"{one.live:,}"]
        line += [point and f"{point.recall:.4f}" for point in measured]
        line += [point and f"{point.us:.1f}" for point in measured]
        imbalance = None if one.imbalance is None else f"{one.imbalance:.2f}"
        lines.append([*line, imbalance, *times, *maintained(since)])
        before = step
    shown = [i for i in range(len(head)) if any(line[i] is not None for line in lines)]
    return tables.table([head[i] for i in shown], [[line[i] for i in shown] for line in lines])


@dataclass(frozen=True)
class Extreme:
    """The largest of some figures, and the step that it is of."""

    value: float
    step: int


def largest(figures: Sequence[Extreme]) -> Extreme | None:
    return max(figures, key=lambda figure: figure.value, default=None)


def against(results: Results, engine: str, recall: float) -> list[object]:
    """Cells of the summary that compare with the index that is rebuilt; None where it was not measured."""
    theirs = {(point.step, str(point.setting)): point for point in results.of(REFERENCE)}
    pairs = [(p, theirs[key]) for p in results.of(engine) if (key := (p.step, str(p.setting))) in theirs]
    loss = largest([Extreme(other.recall - point.recall, point.step) for point, other in pairs])
    slower = largest([Extreme(point.us / other.us, point.step) for point, other in pairs])
    cells: list[object] = []
    cells += [f"{loss.value:.4f}", loss.step] if loss else [None, None]
    cells += [f"{slower.value:.2f}", slower.step] if slower else [None, None]
    ratios: list[float] = []
    for step in steps_of(results.of(engine)):
        needed = points.qps_at(results.at(REFERENCE, step), recall)
        if needed:
            reached = points.qps_at(results.at(engine, step), recall)
            ratios.append(needed / reached if reached else math.inf)
    shown = ["not reached" if math.isinf(ratio) else f"{ratio:.2f}" for ratio in ratios]
    return [*cells, *([shown[ratios.index(max(ratios))], shown[-1]] if ratios else [None, None])]


def maintenance(results: Results, engine: str) -> str | None:
    """Time of all maintenance, of rebuilding or that adds took more, as a part of the time of adds."""
    own = [c.changed for c in results.changes if c.engine == engine]
    plain, adds = results.adds(PLAIN), results.adds(engine)
    if engine == REFERENCE:
        seconds, adds = math.fsum(c.seconds for c in own if c.operation == "rebuild"), plain
    elif engine == AUTOMATIC:
        seconds, adds = adds - plain, plain
    else:
        seconds = math.fsum(c.maintain_seconds for c in own)
    return f"{seconds / adds:.2f}" if seconds and adds else None


def summary(results: Results, recall: float) -> str:
    """A line an index."""
    lines = []
    for engine in results.engines():
        found = results.of(engine)
        first = {point.width: point.recall for point in results.at(engine, steps_of(found)[0])}
        lost = max(first.get(point.width, 0.0) - point.recall for point in found)
        compared = [None] * 6 if engine == REFERENCE else against(results, engine, recall)
        lines.append([engine, *compared, f"{lost:.4f}", maintenance(results, engine)])
    head = SUMMARY.format(recall=recall).split(",")
    return f"{EXPLAINED.format(recall=recall)}\n\n{tables.table(head, lines)}"


def drawn_setting(results: Results, engine: str, recall: float) -> str:
    """The narrowest setting that has this recall at the first search, or the widest; of ours that of rebuilt."""
    known = results.engines()
    chooser = REFERENCE if engine.startswith(PLAIN) and REFERENCE in known else engine
    at_first = results.at(chooser, steps_of(results.of(chooser))[0])
    return next((point.width for point in at_first if point.recall >= recall), at_first[-1].width)


@dataclass(frozen=True)
class Drawn:
    """Recall and microseconds over the steps, one curve an index, and the setting that it is of."""

    recalls: dict[str, Series] = field(default_factory=dict)
    times: dict[str, Series] = field(default_factory=dict)
    widths: dict[str, str] = field(default_factory=dict)


def drawn(results: Results, recall: float) -> Drawn:
    """The curves of all indexes."""
    curves = Drawn()
    for engine in results.engines():
        width = drawn_setting(results, engine, recall)
        found = [point for point in results.of(engine) if point.width == width]
        if found:
            steps = [point.step for point in found]
            curves.recalls[engine] = Series(steps, [point.recall for point in found])
            curves.times[engine] = Series(steps, [point.us for point in found])
            curves.widths[engine] = width
    return curves
