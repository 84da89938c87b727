"""The part of bench/demo with a real Milvus server: our SCANN beside the server's own indexes.

In:  tests/data/glove-50-frequent.{hbin,words.txt}, words on the command line.
Out: tables on the screen; the server's data and logs in build/demo/milvus.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench import milvus_collection, timing
from bench.commands import demo
from bench.datasets import Floats, Ids, normalised
from bench.folders import MILVUS_BINARIES, REPOSITORY
from bench.milvus_collection import Built, IndexType, Rows
from bench.options import SeedOptions, option
from bench.tables import megabytes, parameters, screen_table
from faiss_ext import milvus_host

BASE_DIR = REPOSITORY / "build" / "demo" / "milvus"
METRIC = "COSINE"
QUERIES = 1000
K = 10
GOAL = 0.95
FILTER = "letters <= 4"

NLIST = 256
NPROBES = (4, 8, 12, 16, 24, 32, 48, 64, 96)
SCANN = milvus_collection.scann(NLIST, NPROBES, (60, 100), with_raw_data=True)
OTHERS = (SCANN, milvus_collection.ivf_flat(NLIST, NPROBES), milvus_collection.hnsw((16, 32, 64, 128, 256)))


@dataclass(frozen=True)
class Options(SeedOptions):
    words: tuple[str, ...] = option((), "words whose neighbours are shown", positional=True, metavar="WORD")


@dataclass(frozen=True)
class Asked:
    """Queries of the comparison, and their truth."""

    queries: Floats
    truth: Ids


def asked_of(data: demo.Words, seed: int) -> Asked:
    """Words drawn at random."""
    rows = data.sample(QUERIES, seed)
    unit = normalised(data.vectors)
    return Asked(data.vectors[rows], np.array([demo.exhaustive(unit, unit[row], K) for row in rows]))


def show_neighbours(rows: Rows, asked: Sequence[str], data: demo.Words, expr: str | None) -> list[list[int]]:
    """The nearest words of every asked one that pass the expression; their ids."""
    row_of = {word: row for row, word in enumerate(data.words)}
    found = demo.known(asked, row_of)
    if not found:
        return []
    own = [row_of[word] for word in found]
    search = {"nprobe": 32, "reorder_k": 100}
    hits = rows.search(data.vectors[own].tolist(), 1 + demo.SHOWN, search, expr, ["word"])
    lines = []
    for row, word, near in zip(own, found, hits):
        others = [f"{hit.entity.get('word')} {hit.distance:.2f}" for hit in near if hit.id != row]
        lines.append([word, *others[: demo.SHOWN]])
    print(demo.neighbour_table(lines))
    return [list(near.ids) for near in hits]


def line(rows: Rows, kind: IndexType, built: Built, asked: Asked) -> list[str]:
    """One row of the comparison."""
    searches = rows.server.statistics().get("searches", 0)
    got = milvus_collection.measure(rows, kind, asked.queries, asked.truth, GOAL)
    ours = rows.server.statistics().get("searches", 0) > searches
    library: Any = rows.server.serving() if ours else rows.server.library("libknowhere.so")
    return [
        f"{kind.name}, {parameters(got.parameters)}",
        library.name,
        f"{got.recall:.3f}",
        f"{got.single * 1e3:.2f} ms",
        f"{got.batch / len(asked.queries) * 1e6:.0f} µs",
        f"{megabytes(built.size)} MB",
        f"{built.seconds:.1f} s",
    ]


def show_restart(rows: Rows, asked: Sequence[str], data: demo.Words, before: list[list[int]]) -> None:
    """The server ends and starts again; the answers stay."""
    server = rows.server

    def restart() -> None:
        server.restart()
        rows.resume()

    took = timing.timed(restart)
    after = show_neighbours(rows, asked[:3], data, None)
    if after != before[: len(after)]:
        raise RuntimeError("after the restart other words were found")
    serving: Any = server.serving()
    print(
        f"\n  back after {took.seconds:.1f} s, the same answers; SCANN is {serving.name}, "
        f"{server.statistics()['searches']} searches since the start"
    )


def show_comparison(rows: Rows, built: Built, asked: Asked) -> None:
    """SCANN of the plug-in, then without it the server's own indexes."""
    lines = [line(rows, SCANN, built, asked)]
    rows.drop_index()  # the other SCANN could not read it
    rows.server.restart(plugin=False)
    milvus_collection.connect(rows.server)
    for kind in OTHERS:
        lines.append(line(rows, kind, rows.index(kind), asked))
    head = ["index", "library", f"recall@{K}", "nq = 1", f"nq = {QUERIES}, a query", "index", "build"]
    print(screen_table(head, lines, left=2))


def show(server: milvus_host.Server, data: demo.Words, words: Sequence[str], asked: Asked) -> None:
    """All parts."""
    print(f"  {server.uri}, pid {server.pid}, logs in {server.logs.relative_to(REPOSITORY)}")
    print(f"  {server.messages()[-1]}")

    demo.title(f"Collection of {len(data.words):,} words, index SCANN {SCANN.build}")
    letters = [len(word) for word in data.words]
    made = timing.timed(lambda: Rows(server, "words", data.vectors, METRIC, word=data.words, letters=letters))
    rows, built = made.result, made.result.index(SCANN)
    print(f"  inserted in {made.seconds:.1f} s, index built in {built.seconds:.1f} s")
    before = show_neighbours(rows, words, data, None)

    demo.title(f"The same with the filter {FILTER}")
    show_neighbours(rows, words, data, FILTER)

    demo.title("Stop, start, search again")
    show_restart(rows, words, data, before)

    demo.title(f"SCANN beside Milvus' own indexes, recall@{K} >= {GOAL}, {QUERIES:,} words")
    show_comparison(rows, built, asked)


def run(options: Options) -> None:
    """Starts the server, shows everything, stops it."""
    data = demo.load()
    asked = asked_of(data, options.seed)
    demo.title("A Milvus server with libknowhere_scann.so preloaded")
    shutil.rmtree(BASE_DIR, ignore_errors=True)
    try:
        with milvus_host.start(
            BASE_DIR,
            binaries=MILVUS_BINARIES,
            wait=milvus_collection.WAIT_FOR_OTHERS,
            on_wait=lambda holder: print(f"  waiting for another server to end: {holder}", flush=True),
            on_step=lambda step: print(f"  {step}", flush=True),
        ) as server:
            show(server, data, options.words or demo.WORDS, asked)
    except Exception as error:
        print(f"\nerror: {error}\nlogs of the server: {BASE_DIR / 'logs'}", file=sys.stderr)
        raise
    print("\n  server stopped")
