#!/usr/bin/env python3
"""Where the time of one query goes, next to what its bytes must cost.

One query a call, one thread. Two passes take turns: one with the index' own
stage timers, one without (`all`: what the caller waits, Python's call included).
Bytes are those a stage cannot do without; `limit` is the time they take at the
read bandwidths of `bench/kernels --benchmark_filter=memory`.

    bench/stages --set wordnet-384 --factory "IVF1024,ScaNN96x4(soar_lambda=1),SQ8,RFlat" \\
        --setting nprobe=20,refine_k=60,reorder_k=16
    SCANN_SIMD_LEVEL=AVX2 bench/stages --set glove-50 --factory IVF2048,ScaNN,RFlat --setting nprobe=80,reorder_k=60
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
import time

import datasets
import report

import faiss_ext as fx

STAGES = ("partition", "table", "scan", "refine", "rerank")
REFINE_BYTES = {"none": 0, "int8": 1, "fp16": 2, "bf16": 2}


def code_bytes(factory: str, d: int, sub_dim: int) -> int:
    """Bytes the scan reads of a vector: codes in fours, and a term of 2 bytes."""
    named = re.search(r"ScaNN(\d+)x4", factory)
    blocks = int(named[1]) if named else math.ceil(d / sub_dim)
    return 2 * math.ceil(blocks / 4) + 2


def bytes_moved(index, factory: str, counted, nprobe: int) -> dict[str, float]:
    """Bytes a query must read, per stage."""
    d, per_query = index.d, 1 / counted.nq
    # without raw rows some centroids are scored again in full precision
    exact = 0 if index.with_raw_data else min(nprobe + nprobe // 4 + 8, index.nlist)
    rescored = index.with_raw_data or index.refine_type != "none"
    rotation = 0 if index.rotation == "none" else d * d * (1 if rescored else 4)
    return {
        "partition": index.nlist * d + exact * 4 * d,
        "table": rotation + 16 * 4 * d,
        "scan": counted.codes * per_query * code_bytes(factory, d, index.sub_dim),
        "refine": counted.refined * per_query * d * REFINE_BYTES[index.refine_type],
        "rerank": counted.reranked * per_query * 4 * d,
    }


def measure(index, query, k: int, setting: dict, repetitions: int):
    """(microseconds a query of each stage and of `all`, statistics, ids)."""
    rows = [q[None] for q in query]
    stages: dict[str, list[float]] = {name: [] for name in (*STAGES, "all")}
    for _ in range(repetitions):
        counted = fx.SearchStats()
        for row in rows:
            index.search(row, k, stats=counted, **setting)
        for name in STAGES:
            stages[name].append(getattr(counted, f"{name}_time") / len(rows) * 1e6)
        start = time.perf_counter()
        found = [index.search(row, k, **setting)[1][0] for row in rows]
        stages["all"].append((time.perf_counter() - start) / len(rows) * 1e6)
    return stages, counted, found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    datasets.add_arguments(parser)
    parser.add_argument("--factory", required=True)
    parser.add_argument(
        "--setting",
        type=lambda t: {key: int(value) for key, value in (pair.split("=") for pair in t.split(","))},
        required=True,
        help="nprobe=..,refine_k=..,reorder_k=..; repeatable",
        action="append",
    )
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument(
        "--bandwidth",
        type=lambda t: [float(v) for v in t.split(",")],
        default=[112, 91, 23],
        help="GB/s read from L2, L3 and DRAM (112,91,23: Zen 4)",
    )
    options = parser.parse_args()

    data = datasets.load(options.data, options.sets, options.queries)
    truth = datasets.ground_truth(data, options.cache)
    kind = fx.METRIC_L2 if data.metric == "l2" else fx.METRIC_INNER_PRODUCT
    fx.omp_set_num_threads(options.threads)
    index = fx.index_factory(data.base.shape[1], options.factory, kind)
    index.train(data.base)
    index.add(data.base)
    fx.omp_set_num_threads(1)
    print(f"{options.sets}, {options.factory}, {fx.simd_level()}, {report.cpu_model()}\n")
    for setting in options.setting:
        stages, counted, found = measure(index, data.query, options.k, setting, options.repetitions)
        moved = bytes_moved(index, options.factory, counted, setting["nprobe"])
        rows = []
        for name, times in stages.items():
            size = sum(moved.values()) if name == "all" else moved[name]
            if size:
                limits = [f"{size / 1e3 / speed:.1f}" for speed in options.bandwidth]
                spent = [f"{min(times):.1f}", f"{statistics.median(times):.1f}"]
                rows.append([name, *spent, f"{size / 1e3:.0f}", *limits])
        rest = [a - sum(s) for a, s in zip(stages["all"], zip(*(stages[n] for n in STAGES)))]
        rows.insert(-1, ["rest", f"{min(rest):.1f}", f"{statistics.median(rest):.1f}"] + [""] * 4)
        recall = datasets.recall(found, truth, options.k)
        print(f"{setting}: recall@{options.k} {recall:.4f}; a query: {counted.lists / counted.nq:.0f} lists,"
              f" {counted.codes / counted.nq:.0f} codes, {counted.candidates / counted.nq:.0f} candidates,"
              f" {counted.refined / counted.nq:.0f} refined, {counted.reranked / counted.nq:.0f} reranked\n")
        head = "stage,min us,median us,KB,limit L2,limit L3,limit DRAM".split(",")
        print(report.table(head, rows) + "\n")


if __name__ == "__main__":
    main()
