"""Where the time of one query goes, next to what its bytes must cost.

One query a call, one thread. Two passes take turns: one with the index' own
stage timers, one without (`all`: what the caller waits, Python's call included).
Bytes are those a stage cannot do without; `limit` is the time they take at the
read bandwidths of `bench/kernels --benchmark_filter=memory`.

    bench/stages --set wordnet-384 --factory "IVF1024,ScaNN96x4(soar_lambda=1),SQ8,RFlat" \\
        --setting nprobe=20,refine_k=60,reorder_k=16
    bench/stages --set sift-128 --factory IVF1024,ScaNN,SQ8,RFlat --setting nprobe=64 --pieces 100
    SCANN_SIMD_LEVEL=AVX2 bench/stages --set glove-50 --factory IVF2048,ScaNN,RFlat --setting nprobe=80,reorder_k=60
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench import timing
from bench.datasets import Floats, Ids, load_chosen
from bench.engines.ours import build_index, library
from bench.ground_truth import ground_truth, padded, recall
from bench.options import IndexOptions, OptionError, RepetitionOptions, assignments, numbers, option
from bench.tables import cpu_model, table
from bench.timing import Times

STAGES = ("partition", "table", "scan", "refine", "rerank")
PIECES = 10  # of --pieces
REFINE_BYTES = {"none": 0, "int8": 1, "fp16": 2, "bf16": 2}


@dataclass(frozen=True)
class Options(RepetitionOptions, IndexOptions):
    factory: str = option("IVF1024,ScaNN,RFlat", "factory string of the index")
    setting: tuple[dict[str, int], ...] = option(
        (), "nprobe=..,refine_k=..,reorder_k=..; repeatable", parse=assignments, repeated=True
    )
    bandwidth: tuple[float, ...] = option(
        (112.0, 91.0, 23.0), "GB/s read from L2, L3 and DRAM; those of Zen 4:", parse=numbers
    )

    pieces: int | None = option(None, f"also compare {PIECES} pieces of so many rows with one search", parse=int, low=1)

    def __post_init__(self) -> None:
        if any("nprobe" not in setting for setting in self.setting):
            raise OptionError("--setting: nprobe=.. is missing")
        if len(self.bandwidth) != 3:
            raise OptionError(f"--bandwidth: {len(self.bandwidth)} numbers, expected 3")

    def settings(self) -> tuple[dict[str, int], ...]:
        return self.setting or ({"nprobe": 16, "reorder_k": 10 * self.k},)


@dataclass(frozen=True)
class Stages:
    """Seconds a query of each stage and of the whole, what the searches counted, their ids."""

    times: dict[str, Times]
    all: Times
    counted: Any
    found: Ids

    def rest(self) -> Times:
        """Of the whole, what no stage has."""
        sums = [sum(parts) for parts in zip(*(self.times[name].seconds for name in STAGES))]
        return Times([whole - stages for whole, stages in zip(self.all.seconds, sums)])


def code_bytes(factory: str, d: int, sub_dim: int) -> int:
    """Bytes the scan reads of a vector: codes in fours, and a term of 2 bytes."""
    named = re.search(r"ScaNN(\d+)x4", factory)
    blocks = int(named[1]) if named else math.ceil(d / sub_dim)
    return 2 * math.ceil(blocks / 4) + 2


def bytes_moved(index: Any, factory: str, counted: Any, nprobe: int) -> dict[str, float]:
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


def measure(index: Any, query: Floats, k: int, setting: dict[str, int], repetitions: int) -> Stages:
    """Both passes, in turn."""
    rows = [q[None] for q in query]
    stats, times = library().SearchStats, {name: Times() for name in STAGES}
    counted: list[Any] = []
    found: list[Ids] = []

    def with_timers() -> None:
        counted.append(stats())
        for row in rows:
            index.search(row, k, stats=counted[-1], **setting)

    def without() -> None:
        found[:] = [index.search(row, k, **setting)[1][0] for row in rows]

    taken = timing.in_turn({"timers": with_timers, "all": without}, repetitions)
    for one in counted:
        for name in STAGES:
            times[name].seconds.append(getattr(one, f"{name}_time") / len(rows))
    return Stages(times, taken["all"].per(len(rows)), counted[-1], padded(found, k))


def first_pieces(pieces: Iterable[tuple[Floats, Ids]]) -> Ids:
    """Of one query, in the order in which they came."""
    return np.concatenate([ids for _, (_, ids) in zip(range(PIECES), pieces)])


def compare_pieces(index: Any, query: Floats, piece: int, nprobe: int, repetitions: int) -> str:
    """One search for as many rows as some pieces have, and these pieces, in turn: times and recalls.

    Recall is against all lists of the index, with four times as many candidates.
    """
    rows = [q[None] for q in query]
    k = PIECES * piece
    found: dict[str, list[Ids]] = {}

    def at_once() -> None:
        found["at once"] = [index.search(row, k, nprobe=nprobe)[1][0] for row in rows]

    def in_pieces() -> None:
        found["in pieces"] = [first_pieces(index.iterate(row, piece, nprobe=nprobe)) for row in rows]

    taken = timing.in_turn({"at once": at_once, "in pieces": in_pieces}, repetitions)
    truth = index.search(query, k, nprobe=index.nlist, refine_k=4 * k, reorder_k=4 * k)[1]
    told = [
        f"{way} {taken[way].per(len(rows)).minimum * 1e6:.0f} us, recall {recall(padded(found[way], k), truth, k):.4f}"
        for way in found
    ]
    ratio = taken["in pieces"].minimum / taken["at once"].minimum
    return f"{k} rows {'; '.join(told)}, {PIECES} of {piece}: {ratio:.2f} x"


def rows_of(stages: Stages, moved: dict[str, float], bandwidth: tuple[float, ...]) -> list[list[str]]:
    """One line a stage, one for what no stage has, one for the whole."""

    def line(name: str, times: Times, size: float) -> list[str]:
        limits = [f"{size / 1e3 / speed:.1f}" if size else "" for speed in bandwidth]
        kilobytes = f"{size / 1e3:.0f}" if size else ""
        return [name, f"{times.minimum * 1e6:.1f}", f"{times.median * 1e6:.1f}", kilobytes, *limits]

    read = [name for name in STAGES if moved[name]]
    return [
        *(line(name, stages.times[name], moved[name]) for name in read),
        line("rest", stages.rest(), 0),
        line("all", stages.all, sum(moved.values())),
    ]


def run_set(name: str, options: Options) -> None:
    """Every setting on one set."""
    data = load_chosen(name, options)
    truth = ground_truth(data, options.cache)
    index = build_index(data.base, options.factory, data.metric, options.threads)
    library().omp_set_num_threads(1)
    print(f"{name}, {options.factory}, {library().simd_level()}, {cpu_model()}\n")
    for setting in options.settings():
        stages = measure(index, data.query, options.k, setting, options.repetitions)
        counted = stages.counted
        moved = bytes_moved(index, options.factory, counted, setting["nprobe"])
        counts = ", ".join(
            f"{getattr(counted, what) / counted.nq:.0f} {what}"
            for what in ("lists", "codes", "candidates", "refined", "reranked")
        )
        print(f"{setting}: recall@{options.k} {recall(stages.found, truth, options.k):.4f}; a query: {counts}\n")
        head = "stage,min us,median us,KB,limit L2,limit L3,limit DRAM".split(",")
        print(table(head, rows_of(stages, moved, options.bandwidth)) + "\n", flush=True)
        if options.pieces is not None:
            nprobe = setting["nprobe"]
            print(compare_pieces(index, data.query, options.pieces, nprobe, options.repetitions) + "\n", flush=True)


def run(options: Options) -> None:
    """All sets."""
    for name in options.sets:
        run_set(name, options)
