"""The part of bench/demo with a real Milvus server: our SCANN beside the server's own indexes.

In:  tests/data/glove-50-frequent.{hbin,words.txt}, words on the command line.
Out: tables on the screen; the server's data and logs in build/demo/milvus.
"""

from __future__ import annotations

import shutil
import signal
import sys
import time

import demo
import milvus_client
import numpy as np
from milvus_client import Built, IndexType, Rows

from faiss_ext import milvus_host

BASE_DIR = demo.REPOSITORY / "build" / "demo" / "milvus"
BINARIES = demo.REPOSITORY / "build" / "milvus"
METRIC = "COSINE"
QUERIES = 1000
K = 10
GOAL = 0.95
WAIT_FOR_OTHERS = 600.0  # seconds

NLIST = 256
NPROBES = (4, 8, 12, 16, 24, 32, 48, 64, 96)
SCANN = milvus_client.scann(NLIST, NPROBES, (60, 100), with_raw_data=True)
OTHERS = (SCANN, milvus_client.ivf_flat(NLIST, NPROBES), milvus_client.hnsw((16, 32, 64, 128, 256)))


def show_neighbours(rows: Rows, asked: list[str], words: list[str], vectors: np.ndarray, expr: str | None) -> list:
    """The nearest words of every asked one that pass the expression; their ids."""
    row_of = {word: row for row, word in enumerate(words)}
    found = demo.known(asked, row_of)
    if not found:
        return []
    own = [row_of[word] for word in found]
    hits = rows.search(vectors[own].tolist(), 6, {"nprobe": 32, "reorder_k": 100}, expr, ["word"])
    lines = []
    for row, word, near in zip(own, found, hits):
        others = [f"{hit.entity.get('word')} {hit.distance:.2f}" for hit in near if hit.id != row][:5]
        lines.append([word, *others, *[""] * (5 - len(others))])
    demo.table(["word", "1st", "2nd", "3rd", "4th", "5th"], lines, left=6)
    return [list(near.ids) for near in hits]


def line(rows: Rows, kind: IndexType, built: Built, queries: np.ndarray, truth: np.ndarray) -> list[str]:
    """One row of the comparison."""
    searches = rows.server.statistics().get("searches", 0)
    got = milvus_client.measure(rows, kind, queries, truth, GOAL)
    ours = rows.server.statistics().get("searches", 0) > searches
    library = rows.server.serving() if ours else rows.server.library("libknowhere.so")
    how = ", ".join(f"{key} {value}" for key, value in got.parameters.items())
    return [
        f"{kind.name}, {how}", library.name, f"{got.recall:.3f}", f"{got.single * 1e3:.2f} ms",
        f"{got.batch / len(queries) * 1e6:.0f} µs", demo.megabytes(built.size), f"{built.seconds:.1f} s",
    ]


def main() -> None:
    """Runs all parts."""
    words, vectors = demo.load()
    asked = sys.argv[1:] or demo.WORDS
    queries = np.random.default_rng(7).choice(len(vectors), QUERIES, replace=False)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    truth = np.array([demo.exhaustive(unit, unit[row], K) for row in queries])

    demo.title("A Milvus server with libknowhere_scann.so preloaded")
    shutil.rmtree(BASE_DIR, ignore_errors=True)
    with milvus_host.start(
        BASE_DIR, binaries=BINARIES, wait=WAIT_FOR_OTHERS,
        on_wait=lambda holder: print(f"  waiting for another server to end: {holder}", flush=True),
    ) as server:
        print(f"  {server.uri}, pid {server.pid}, logs in {server.logs.relative_to(demo.REPOSITORY)}")
        print(f"  {server.messages()[-1]}")

        demo.title(f"Collection of {len(words):,} words, index SCANN {SCANN.build}")
        seconds, rows = demo.timed(lambda: Rows(
            server, "words", vectors, METRIC, word=words, letters=[len(word) for word in words]))
        built = rows.index(SCANN)
        print(f"  inserted in {seconds:.1f} s, index built in {built.seconds:.1f} s")
        before = show_neighbours(rows, asked, words, vectors, None)

        expr = "letters <= 4"
        demo.title(f"The same with the filter {expr}")
        show_neighbours(rows, asked, words, vectors, expr)

        demo.title("Stop, start, search again")
        seconds, _ = demo.timed(lambda: (server.restart(), rows.resume()))
        after = show_neighbours(rows, asked[:3], words, vectors, None)
        assert after == before[: len(after)], "after the restart other words were found"
        print(f"\n  back after {seconds:.1f} s, the same answers; SCANN is {server.serving().name}, "
              f"{server.statistics()['searches']} searches since the start")

        demo.title(f"SCANN beside Milvus' own indexes, recall@{K} >= {GOAL}, {QUERIES:,} words")
        lines = [line(rows, SCANN, built, vectors[queries], truth)]
        rows.drop_index()  # the other SCANN could not read it
        server.restart(plugin=False)
        milvus_client.connect(server)
        for kind in OTHERS:
            built = rows.index(kind)
            lines.append(line(rows, kind, built, vectors[queries], truth))
        demo.table(["index", "library", f"recall@{K}", "nq = 1", f"nq = {QUERIES}, a query", "index", "build"],
                   lines, left=2)
    print("\n  server stopped")


def end(*_: object) -> None:
    """A signal that would end the process at once ends it in order."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, end)
    started = time.monotonic()
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(f"\nstopped after {time.monotonic() - started:.0f} s")
    except Exception as error:
        print(f"\nerror: {error}\nlogs of the server: {BASE_DIR / 'logs'}", file=sys.stderr)
        raise
