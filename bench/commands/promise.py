"""What search(target_recall=) promises and delivers.

One calibrate() per set, with rows of the index or with every second of some
queries; then for every k, share of rows that a random filter passes, and target:
recall and time on the other queries, and the recall that the search expected.
Beside it the fastest fixed setting of a sweep that reaches the same recall on
the same queries: chosen knowing the answers.

    bench/promise --set wordnet-384,glove-50,sift-128 --ks 10,100 --shares 1,.1,.01

Out, in --out: promise.jsonl and promise.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

from bench import points, timing
from bench.commands.calibration import Searches as CalibratedSearches
from bench.commands.calibration import best_by_hand, grid
from bench.datasets import Dataset, Flags, load_chosen
from bench.engines.ours import Ours, build_index, library
from bench.ground_truth import exact_neighbours, filter_mask, padded, recall
from bench.options import IndexOptions, RepetitionOptions, integers, numbers, option
from bench.tables import publish, table

SHOWN = 200  # queries that calibrate() is given


@dataclass(frozen=True)
class Options(RepetitionOptions, IndexOptions):
    factory: str = option("", "instead of bench/curves' first")
    targets: tuple[float, ...] = option((0.8, 0.9, 0.95, 0.99), "recalls asked for", parse=numbers)
    ks: tuple[int, ...] = option((1, 10, 50, 100), "neighbours of each query", parse=integers)
    shares: tuple[float, ...] = option((1.0, 0.5, 0.1, 0.01, 0.001), "of rows that pass a filter", parse=numbers)
    source: str = option("rows", "what calibrate() asks with", flag="--from", choices=("rows", "queries"))
    spacing: float = option(1.25, "ratio between values of the sweep by hand; 0: no sweep", low=0)


@dataclass(frozen=True)
class PromisePoint:
    """A target, and what came of it."""

    set: str
    factory: str
    source: str
    k: int
    share: float
    target: float
    reached: float
    expected: float
    lists: float  # a query
    us: float
    by_hand_us: float  # nan: no sweep


@dataclass(frozen=True)
class Case:
    """A k and a filter, with what the sweep found."""

    searches: CalibratedSearches
    tried: list[Any]

    def point(self, target: float, passes: int) -> dict[str, Any]:
        """One target, measured."""
        searches = self.searches
        stats = library().SearchStats()
        given = {"target_recall": target}
        found = searches.index.search(
            searches.query, searches.k, filter=searches.filter, stats=stats, return_recall=True, **given
        )
        times = timing.repeated(lambda: searches.answers(given), passes)
        reached = recall(padded(list(found[1]), searches.k), searches.truth, searches.k)
        by_hand = best_by_hand(self.tried, reached, searches, passes) if self.tried else float("nan")
        return {
            "reached": reached,
            "expected": found[2],
            "lists": stats.lists / stats.nq,
            "us": times.minimum / len(searches.query) * 1e6,
            "by_hand_us": by_hand,
        }


def case_of(index: Any, data: Dataset, k: int, mask: Flags | None, options: Options) -> Case:
    """The queries that were not shown, their truth among the rows that pass, and the sweep."""
    query = data.query[1::2]
    base = data.base if mask is None else data.base[mask]
    truth, _ = exact_neighbours(base, query, data.metric, k)
    if mask is not None:
        truth = mask.nonzero()[0][truth]
    passing = None if mask is None else library().Filter(mask)
    searches = CalibratedSearches(index, query, truth, k, passing)
    if options.spacing <= 1:
        return Case(searches, [])
    settings = grid(index.nlist, k, index.refine_type != "none", options.spacing)
    return Case(searches, [searches.thinned().measure(setting) for setting in settings])


def measure(name: str, options: Options) -> list[PromisePoint]:
    """Points of one set."""
    lib, data = library(), load_chosen(name, options)
    factory = options.factory or Ours.builds_of(data.base, data.metric)[0]["factory"]
    index = build_index(data.base, factory, data.metric, options.threads)
    index.calibrate(data.query[::2][:SHOWN] if options.source == "queries" else None)
    lib.omp_set_num_threads(1)
    found = []
    for k, share in product(options.ks, options.shares):
        case = case_of(index, data, k, filter_mask(len(data.base), share), options)
        for target in options.targets:
            measured = case.point(target, options.repetitions)
            facts: dict[str, Any] = {"set": name, "factory": factory, "source": options.source}
            point = PromisePoint(**facts, k=k, share=share, target=target, **measured)
            found.append(point)
            print(f"  {point}", flush=True)
    return found


def row(point: PromisePoint) -> list[object]:
    """One line of the table."""
    return [
        point.set,
        point.source,
        point.k,
        f"{point.share:g}",
        f"{point.target:g}",
        f"{point.reached:.4f}",
        f"{point.expected:.4f}",
        f"{point.lists:.0f}",
        f"{point.us:.0f}",
        f"{point.us / point.by_hand_us:.2f}",
    ]


def run(options: Options) -> None:
    """All sets."""
    measured = [point for name in options.sets for point in measure(name, options)]
    points.write(options.out / "promise.jsonl", map(points.as_line, measured))
    head = "set,from,k,passing,target,reached,expected,lists,us,by hand".split(",")
    publish(options.out / "promise.md", "Searches with target_recall", [table(head, map(row, measured))])
