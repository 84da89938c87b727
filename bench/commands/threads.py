"""What a second thread brings in search, and how fast rows are added.

Search: a batch with omp_set_num_threads(1) and (2), and two Python threads that
send one query a call beside one that does; in turn, best and median of the
repetitions. Adds: rows added to trained indexes without raw rows, ours and
Faiss' IVFPQFastScan with as many code bytes, in turn, a fresh clone each time.

    bench/threads --set wordnet-384,glove-50,sift-128

Out, in --out: threads.md.
"""

from __future__ import annotations

import importlib
import threading
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench import timing
from bench.datasets import Dataset, Floats, floats, load_chosen
from bench.engines.base import usual_nlist
from bench.engines.faiss_indexes import training_rows
from bench.engines.ours import build_index, library
from bench.options import IndexOptions, RepetitionOptions, option
from bench.tables import publish, table
from bench.timing import Times


@dataclass(frozen=True)
class Options(RepetitionOptions, IndexOptions):
    added: int = option(100_000, "rows added", low=1)


def calls(index: Any, queries: Floats, k: int) -> None:
    """One query a call."""
    for row in queries:
        index.search(row[None], k)


def calls_together(index: Any, queries: Floats, k: int) -> None:
    """Two threads, each with every second query."""
    threads = [threading.Thread(target=calls, args=(index, queries[i::2], k)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def search_rows(data: Dataset, options: Options) -> list[list[object]]:
    """One line of the table for batches, one for callers."""
    lib, q, k = library(), data.query, options.k
    index = build_index(data.base, "ScaNN", data.metric, options.threads)

    def batch(threads: int) -> None:
        lib.omp_set_num_threads(threads)
        index.search(q, k)

    def callers(action: Any) -> None:
        lib.omp_set_num_threads(1)
        action(index, q, k)

    times = timing.in_turn(
        {
            "batch, one": lambda: batch(1),
            "batch, two": lambda: batch(2),
            "calls, one": lambda: callers(calls),
            "calls, two": lambda: callers(calls_together),
        },
        options.repetitions,
    )

    def line(what: str, one: Times, two: Times) -> list[object]:
        return [data.name, what, one, two, f"{one.minimum / two.minimum:.2f}"]

    return [
        line(f"batch of {len(q)}", times["batch, one"], times["batch, two"]),
        line(f"{len(q)} calls", times["calls, one"], times["calls, two"]),
    ]


def add_row(data: Dataset, options: Options) -> list[object]:
    """One line: seconds to add the first rows, ours and Faiss'."""
    fx: Any = library()
    faiss: Any = importlib.import_module("faiss")
    n, d = data.base.shape
    nlist, rows = usual_nlist(n), floats(data.base[: options.added])
    trained = {}
    for lib, factory in ((fx, f"IVF{nlist},ScaNN"), (faiss, f"IVF{nlist},PQ{(d + 1) // 2}x4fsr")):
        lib.omp_set_num_threads(options.threads)
        metric = lib.METRIC_L2 if data.metric == "l2" else lib.METRIC_INNER_PRODUCT
        trained[lib] = lib.index_factory(d, factory, metric)
        trained[lib].train(training_rows(data.base))
    times = {fx: Times(), faiss: Times()}
    for _ in range(options.repetitions):
        for lib, index in trained.items():
            clone = lib.clone_index(index)
            times[lib].seconds.append(timing.timed(partial(clone.add, rows)).seconds)
    ours, theirs = times[fx], times[faiss]
    return [data.name, len(rows), ours, theirs, f"{theirs.minimum / ours.minimum:.2f}"]


def run(options: Options) -> None:
    """All sets."""
    search: list[list[object]] = []
    adds: list[list[object]] = []
    for name in options.sets:
        data = load_chosen(name, options)
        search += search_rows(data, options)
        adds.append(add_row(data, options))
        print(f"{name}: measured", flush=True)
    parts = [
        "Seconds, best / median.",
        table(["set", "search", "one thread", "two", "gain"], search),
        f"Adding on {options.threads} threads:",
        table(["set", "rows", "ours", "IVFPQFastScan", "faster"], adds),
    ]
    publish(options.out / "threads.md", "Threads", parts)
