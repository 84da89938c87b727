"""Searches beside a writer: what a query takes while rows come, go and change.

One thread searches, one query a call; another changes rows at a given rate, so
many of them a call. In turn without and with the writer, for an index with
versions (index.concurrent) and for one whose searches wait for a change. Half of
the rows never change: each of them must be found, at distance 0 from itself,
whatever is written; one search in 20 asks for one, and `wrong` counts those that
were not.

    bench/concurrent --set sift-128 --changes add,update,remove --per-call 1,100,1000
    bench/concurrent --set sift-128 --changes update --seconds 600 --repetitions 1   (a soak)

Out, in --out: concurrent.jsonl and concurrent.md.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from bench import points
from bench.datasets import Dataset, Floats, Ids, floats, load_chosen
from bench.engines.base import usual_nlist
from bench.engines.ours import build_index, library
from bench.options import IndexOptions, OptionError, RepetitionOptions, SeedOptions, integers, option, words
from bench.tables import publish, table
from bench.worker import resident_bytes

CHANGES = ("add", "update", "remove")
CHECKED = 20  # one search in so many asks for a row itself
NEW_IDS = 1 << 40
HAND_OVER = 2e-5  # seconds after which a thread gives Python's lock to another that waits; 5e-3 by default


@dataclass(frozen=True)
class Options(SeedOptions, RepetitionOptions, IndexOptions):
    factory: str = option("", "instead of IVF<lists>,ScaNN with raw rows")
    nprobe: int = option(16, "lists of a query", low=1)
    changes: tuple[str, ...] = option(CHANGES, "what is written: " + ", ".join(CHANGES), parse=words)
    per_call: tuple[int, ...] = option((1, 100, 1000), "rows of a call", parse=integers)
    rate: int = option(5000, "rows a second that are changed", low=1)
    seconds: float = option(2.0, "of each measurement", low=0.1)

    def __post_init__(self) -> None:
        for change in self.changes:
            if change not in CHANGES:
                raise OptionError(f"--changes {change} (allowed: {', '.join(CHANGES)})")
        for rows in self.per_call:
            if rows < 1:
                raise OptionError(f"--per-call {rows} (allowed: 1 and more)")


@dataclass(frozen=True)
class ConcurrentPoint:
    """Searches without and with a writer, medians of the repetitions."""

    set: str
    factory: str
    versions: bool
    change: str
    per_call: int
    rows_per_s: float  # that were changed
    call_us: float  # of a change
    idle_us: float  # p50 of a search
    idle_p99_us: float
    beside_us: float
    beside_p99_us: float
    grown: float  # resident bytes, times those of the index
    searches: int
    wrong: int


class Writer:
    """Changes rows of the second half of a set, in calls of so many, at a rate."""

    def __init__(self, index: Any, rows: Floats, per_call: int, options: Options):
        self.index, self.rows, self.options = index, rows, options
        self.per_call = min(per_call, len(rows) // 2)
        self.rng = np.random.default_rng(options.seed)
        self.next_id = NEW_IDS
        self.calls: list[float] = []
        self.grown = 0
        self.error: BaseException | None = None

    def planned(self, what: str) -> list[tuple[Ids, Floats]]:
        """Ids and rows of all calls: Python's lock would be held for making them."""
        calls = int(self.options.rate * self.options.seconds) // self.per_call + 1
        half = len(self.rows) // 2
        found = []
        for _ in range(calls):
            some = half + np.unique(self.rng.integers(len(self.rows) - half, size=self.per_call))
            ids = some
            if what != "update":
                ids = np.arange(self.next_id, self.next_id + len(some))
                self.next_id += len(some)
            found.append((ids, self.rows[some]))
        if what == "remove":
            self.index.add_with_ids(np.concatenate([x for _, x in found]), np.concatenate([ids for ids, _ in found]))
        return found

    def run(self, what: str, planned: list[tuple[Ids, Floats]], stop: threading.Event) -> None:
        """Until it is told to stop."""
        done, before = 0, resident_bytes()
        begin = time.perf_counter()
        try:
            for ids, x in planned:
                if stop.is_set():
                    return
                called = time.perf_counter()
                if what == "add":
                    self.index.add_with_ids(x, ids)
                elif what == "update":
                    self.index.update_vectors(ids, x)
                else:
                    self.index.remove_ids(ids)
                self.calls.append(time.perf_counter() - called)
                done += len(ids)
                self.grown = max(self.grown, resident_bytes(trimmed=False) - before)
                time.sleep(max(0.0, begin + done / self.options.rate - time.perf_counter()))
        except BaseException as error:  # for the thread that waits
            self.error = error


class Searches:
    """One query a call, for some seconds."""

    def __init__(self, index: Any, data: Dataset, options: Options):
        self.index, self.options = index, options
        self.query, self.base = data.query, floats(data.base)
        self.wrong = self.number = 0

    def run(self) -> list[float]:
        """Microseconds of each."""
        found, end = [], time.perf_counter() + self.options.seconds
        while time.perf_counter() < end:
            self.number += 1
            if self.number % CHECKED == 0:
                self.check(self.number * 7919 % (len(self.base) // 2))
                continue
            row = self.number % len(self.query)
            begin = time.perf_counter()
            self.index.search(self.query[row : row + 1], self.options.k)
            found.append((time.perf_counter() - begin) * 1e6)
        return found

    def check(self, row: int) -> None:
        """A row that nobody changes finds itself, or one that is equal."""
        distances, labels = self.index.search(self.base[row : row + 1], 1, nprobe=min(64, self.index.nlist))
        found = labels[0, 0] == row or np.isclose(distances[0, 0], self.best_of(row), rtol=1e-5, atol=1e-5)
        self.wrong += not found

    def best_of(self, row: int) -> float:
        """The best score of a row with itself."""
        return 0.0 if self.index.metric_type == library().METRIC_L2 else float(np.square(self.base[row]).sum())


def measure(name: str, options: Options) -> list[ConcurrentPoint]:
    """All kinds of changes of one set."""
    data = load_chosen(name, options)
    factory = options.factory or f"IVF{usual_nlist(len(data.base))},ScaNN,RFlat"
    built = build_index(data.base, factory, data.metric, options.threads)
    built.nprobe = min(options.nprobe, built.nlist)
    built.set_direct_map_type(library().DirectMap.Hashtable)
    library().omp_set_num_threads(1)
    return [
        case(name, factory, built, data, options, *which)
        for which in product(options.changes, options.per_call, (True, False))
    ]


def case(
    name: str, factory: str, built: Any, data: Dataset, options: Options, change: str, per_call: int, versions: bool
) -> ConcurrentPoint:
    """In turn without and with a writer."""
    index = library().clone_index(built)
    if versions:
        index.concurrent = True
    searches = Searches(index, data, options)
    writer = Writer(index, searches.base, per_call, options)
    idle, beside = [], []
    for _ in range(options.repetitions):
        idle.append(searches.run())
        stop, planned = threading.Event(), writer.planned(change)
        thread = threading.Thread(target=writer.run, args=(change, planned, stop))
        thread.start()
        try:
            beside.append(searches.run())
        finally:
            stop.set()
            thread.join()
        if writer.error is not None:
            raise writer.error

    def median(measured: list[list[float]], percent: float) -> float:
        return float(np.median([np.percentile(one, percent) for one in measured]))

    point = ConcurrentPoint(
        set=name,
        factory=factory,
        versions=versions,
        change=change,
        per_call=per_call,
        rows_per_s=len(writer.calls) * per_call / (options.seconds * options.repetitions),
        call_us=float(np.median(writer.calls)) * 1e6,
        idle_us=median(idle, 50),
        idle_p99_us=median(idle, 99),
        beside_us=median(beside, 50),
        beside_p99_us=median(beside, 99),
        grown=1 + writer.grown / index.memory_usage(),
        searches=searches.number,
        wrong=searches.wrong,
    )
    print(f"  {point}", flush=True)
    return point


def row(point: ConcurrentPoint) -> list[object]:
    """One line of the table."""
    return [
        point.set,
        point.change,
        point.per_call,
        "versions" if point.versions else "a lock",
        f"{point.rows_per_s:.0f}",
        f"{point.call_us:.0f}",
        f"{point.idle_us:.0f} / {point.idle_p99_us:.0f}",
        f"{point.beside_us:.0f} / {point.beside_p99_us:.0f}",
        f"{point.beside_us / point.idle_us:.2f} / {point.beside_p99_us / point.idle_p99_us:.2f}",
        f"{point.grown:.2f}",
        f"{point.wrong} of {point.searches // CHECKED}",
    ]


def run(options: Options) -> None:
    """All sets."""
    sys.setswitchinterval(HAND_OVER)
    measured = [point for name in options.sets for point in measure(name, options)]
    points.write(options.out / "concurrent.jsonl", map(points.as_line, measured))
    head = "set,change,a call,by,rows/s,us a call,alone p50 / p99,beside p50 / p99,ratio,memory,wrong".split(",")
    publish(
        options.out / "concurrent.md",
        "Searches beside a writer",
        ["us a query; memory: resident at most, times that of the index.", table(head, map(row, measured))],
    )
