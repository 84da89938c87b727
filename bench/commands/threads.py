#!/usr/bin/env python3
"""What a second thread brings in search, and how fast rows are added.

Search: a batch with omp_set_num_threads(1) and (2), and two Python threads that
send one query a call beside one that does; in turn, best and median of the
repetitions. Adds: rows added to trained indexes without raw rows, ours and
Faiss' IVFPQFastScan with as many code bytes, in turn, a fresh clone each time.

    bench/threads --set wordnet-384,glove-50,sift-128

Out, in --out: threads.md.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from pathlib import Path

import datasets
import engines
import report

import faiss
import faiss_ext as fx


def seconds(action) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def best_and_median(times) -> str:
    return f"{min(times):.4f} / {statistics.median(times):.4f}"


def one_by_one(index, queries, k: int) -> None:
    for row in queries:
        index.search(row[None], k)


def together(index, parts, k: int) -> None:
    """A thread for each part of the queries."""
    threads = [threading.Thread(target=one_by_one, args=(index, part, k)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def search_rows(name: str, data, options) -> list[list]:
    """One line of the table for batches, one for callers."""
    n, d = data.base.shape
    fx.omp_set_num_threads(2)
    kind = fx.METRIC_L2 if data.metric == "l2" else fx.METRIC_INNER_PRODUCT
    index = fx.index_factory(d, "ScaNN", kind)
    index.train(data.base)
    index.add(data.base)
    q, k = data.query, options.k
    batch: dict[int, list] = {1: [], 2: []}
    callers: dict[int, list] = {1: [], 2: []}
    for _ in range(options.repetitions):
        for threads in (1, 2):
            fx.omp_set_num_threads(threads)
            batch[threads].append(seconds(lambda: index.search(q, k)))
        fx.omp_set_num_threads(1)
        callers[1].append(seconds(lambda: one_by_one(index, q, k)))
        callers[2].append(seconds(lambda: together(index, (q[::2], q[1::2]), k)))
    return [
        [name, what, best_and_median(t[1]), best_and_median(t[2]), f"{min(t[1]) / min(t[2]):.2f}"]
        for what, t in ((f"batch of {len(q)}", batch), (f"{len(q)} calls", callers))
    ]


def add_row(name: str, data, options) -> list:
    """One line: seconds to add the first rows, ours and Faiss'."""
    n, d = data.base.shape
    nlist, pairs = engines.usual_nlist(n), (d + 1) // 2
    x = data.base[: options.rows]
    fx.omp_set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    l2 = data.metric == "l2"
    ours = fx.index_factory(d, f"IVF{nlist},ScaNN", fx.METRIC_L2 if l2 else fx.METRIC_INNER_PRODUCT)
    theirs = faiss.index_factory(
        d, f"IVF{nlist},PQ{pairs}x4fsr", faiss.METRIC_L2 if l2 else faiss.METRIC_INNER_PRODUCT
    )
    ours.train(data.base)
    theirs.train(data.base)
    times: tuple[list, list] = ([], [])
    for _ in range(options.repetitions):
        copies = fx.clone_index(ours), faiss.clone_index(theirs)
        for copy, series in zip(copies, times):
            series.append(seconds(lambda: copy.add(x)))
    return [name, len(x), *map(best_and_median, times), f"{min(times[1]) / min(times[0]):.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    datasets.add_arguments(parser)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--rows", type=int, default=100_000, help="rows added (%(default)s)")
    parser.add_argument("--repetitions", type=int, default=7)
    options = parser.parse_args()
    search, adds = [], []
    for name in options.sets.split(","):
        data = datasets.load(options.data, name, options.queries)
        search += search_rows(name, data, options)
        adds.append(add_row(name, data, options))
        print(search[-2], search[-1], adds[-1], sep="\n", flush=True)
    text = (
        f"# Threads\n\n{report.cpu_model()}, {time.strftime('%Y-%m-%d')}; seconds, best / median.\n\n"
        + report.table(["set", "search", "one thread", "two", "gain"], search)
        + f"\n\nAdding on {options.threads} threads:\n\n"
        + report.table(["set", "rows", "ours", "IVFPQFastScan", "faster"], adds)
        + "\n"
    )
    Path(options.out).mkdir(parents=True, exist_ok=True)
    Path(options.out, "threads.md").write_text(text, encoding="utf-8")
    print("\n" + text)


if __name__ == "__main__":
    main()
