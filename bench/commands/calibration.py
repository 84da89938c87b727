"""What index.calibrate() promises and what it delivers.

For each target: parameters chosen from rows of the index, and from the even
query rows; recall and time on the odd ones, which calibration has not seen.
Beside it the fastest setting of a sweep that reaches the same recall on the odd
rows: chosen knowing the answers, so that nothing can beat it honestly.

    bench/calibration --set wordnet-384,glove-50,sift-128

Out, in --out: calibration.jsonl and calibration.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from bench import points, timing
from bench.datasets import Floats, Ids, load_chosen
from bench.engines.ours import Ours, build_index, library
from bench.ground_truth import ground_truth, padded, recall
from bench.options import IndexOptions, RepetitionOptions, numbers, option
from bench.points import Parameters
from bench.tables import publish, table

TARGETS = (0.80, 0.90, 0.95, 0.98, 0.99)
SPACING = 1.25  # between values of the sweep
SAMPLE = 5  # the sweep searches every so many-th query
DOUBT = 0.004  # of recall, because of that
BEST = 5  # settings that reach the recall, of which the fastest counts


@dataclass(frozen=True)
class Options(RepetitionOptions, IndexOptions):
    factory: str = option("", "instead of bench/curves' first")
    targets: tuple[float, ...] = option(TARGETS, "recalls asked for", parse=numbers)
    spacing: float = option(SPACING, "ratio between values of the sweep by hand", low=1.01)


@dataclass(frozen=True)
class Searched:
    """One query a call, in one setting."""

    recall: float
    micros: float  # a query, the fastest pass
    setting: Parameters


@dataclass(frozen=True)
class CalibrationPoint:
    """A target, and what came of it."""

    set: str
    factory: str
    target: float
    source: str  # "rows" of the index or "queries", from which the parameters were chosen
    nprobe: int
    refine_k: int
    reorder_k: int
    reached: float
    us: float
    by_hand_us: float
    seconds: float  # that calibrate took


@dataclass(frozen=True)
class Searches:
    """An index, queries that calibration does not see, their truth."""

    index: Any
    query: Floats
    truth: Ids
    k: int
    filter: Any = None

    def thinned(self) -> Searches:
        """With a part of the queries."""
        return Searches(self.index, self.query[::SAMPLE], self.truth[::SAMPLE], self.k, self.filter)

    def answers(self, setting: Mapping[str, Any]) -> list[Ids]:
        """Ids of every query, one a call."""
        return [self.index.search(row[None], self.k, filter=self.filter, **setting)[1][0] for row in self.query]

    def measure(self, setting: Parameters, passes: int = 1) -> Searched:
        """An empty setting: the index' own."""
        found: list[Ids] = []

        def once() -> None:
            found[:] = self.answers(setting)

        times = timing.repeated(once, passes)
        micros = times.minimum / len(self.query) * 1e6
        return Searched(recall(padded(found, self.k), self.truth, self.k), micros, setting)


def spaced(low: int, high: int, spacing: float) -> list[int]:
    """Whole numbers from low to high, about `spacing` apart."""
    values, value = [], float(low)
    while value <= high:
        values.append(round(value))
        value = max(value * spacing, value + 1)
    return sorted(set(values))


def grid(nlist: int, k: int, refine: bool, spacing: float) -> list[Parameters]:
    """Settings of the sweep; with refine codes both numbers of candidates vary."""
    found: list[Parameters] = []
    for nprobe, first in product(spaced(1, max(1, nlist // 2), spacing), spaced(2 * k, 20 * k, spacing)):
        if refine:
            raw = [r for r in (k, 3 * k // 2, 2 * k, 3 * k) if r <= first]
            found += [{"nprobe": nprobe, "reorder_k": r, "refine_k": first} for r in raw]
        else:
            found.append({"nprobe": nprobe, "reorder_k": first})
    return found


def best_by_hand(tried: Sequence[Searched], wanted: float, searches: Searches, passes: int) -> float:
    """Microseconds of the fastest setting that reaches `wanted`, timed on all queries."""
    times: list[float] = []
    for one in sorted(tried, key=lambda tried_one: tried_one.micros):
        if one.recall < wanted - DOUBT:
            continue
        again = searches.measure(one.setting, passes)
        if again.recall >= wanted:
            times.append(again.micros)
        if len(times) == BEST:
            break
    return min(times, default=float("nan"))


def measure(name: str, options: Options) -> list[CalibrationPoint]:
    """Points of one set."""
    lib, data = library(), load_chosen(name, options)
    factory = options.factory or Ours.builds_of(data.base, data.metric)[0]["factory"]
    index = build_index(data.base, factory, data.metric, options.threads)
    print(f"{name}, {factory}", flush=True)
    unseen = Searches(index, data.query[1::2], ground_truth(data, options.cache)[1::2], options.k)
    lib.omp_set_num_threads(1)
    settings = grid(index.nlist, options.k, "SQ" in factory, options.spacing)
    tried = [unseen.thinned().measure(setting) for setting in settings]
    found = []
    for target, source in product(options.targets, ("rows", "queries")):
        given = data.query[::2] if source == "queries" else None
        lib.omp_set_num_threads(options.threads)
        chosen = timing.timed(partial(index.calibrate, given, target_recall=target, k=options.k))
        lib.omp_set_num_threads(1)
        own = unseen.measure({}, options.repetitions)
        by_hand = best_by_hand(tried, own.recall, unseen, options.repetitions)
        point = CalibrationPoint(
            set=name,
            factory=factory,
            target=target,
            source=source,
            reached=own.recall,
            us=own.micros,
            by_hand_us=by_hand,
            seconds=chosen.seconds,
            **{key: chosen.result[key] for key in ("nprobe", "refine_k", "reorder_k")},
        )
        found.append(point)
        print(
            f"  {target:.2f} from {source}: {own.recall:.4f}, {own.micros:.0f} us, by hand {by_hand:.0f} us,"
            f" chosen in {chosen.seconds:.1f} s: {chosen.result}",
            flush=True,
        )
    return found


def row(point: CalibrationPoint) -> list[object]:
    """One line of the table."""
    return [
        point.set,
        f"{point.target:.2f}",
        point.source,
        f"{point.reached:.4f}",
        point.nprobe,
        point.refine_k,
        point.reorder_k,
        f"{point.us:.0f}",
        f"{point.by_hand_us:.0f}",
        f"{point.us / point.by_hand_us:.2f}",
        f"{point.seconds:.1f}",
    ]


def run(options: Options) -> None:
    """All sets."""
    measured = [point for name in options.sets for point in measure(name, options)]
    points.write(options.out / "calibration.jsonl", map(points.as_line, measured))
    head = "set,target,from,reached,nprobe,refine_k,reorder_k,us,by hand us,ratio,seconds".split(",")
    parts = [table(head, map(row, measured))]
    publish(options.out / "calibration.md", f"Calibrated searches, recall@{options.k}", parts)
