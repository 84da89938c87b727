"""The demonstration that bench/demo starts: words, vectors, nearest words.

In:  tests/data/glove-50-frequent.{hbin,words.txt}, words on the command line.
Out: tables on the screen; the index is saved in build/demo/.
"""

from __future__ import annotations

import difflib
import os
import sys
import time
from pathlib import Path

# "one thread" below holds for numpy too, which is asked before it is loaded
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np  # noqa: E402

import faiss_ext as fx  # noqa: E402

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = REPOSITORY / "tests" / "data" / "glove-50-frequent"
SAVED = REPOSITORY / "build" / "demo" / "words.scann"
FACTORY = "IVF256,ScaNN(normalize=1),RFlat"
WORDS = "coffee paris king happy computer piano football doctor rain jupiter tuesday linux".split()
NPROBES = (1, 2, 4, 8, 16, 32, 64)
QUERIES = 1000
K = 10


def title(text: str) -> None:
    """A heading between two parts."""
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}")


def table(head: list[str], rows: list[list[str]], left: int = 1) -> None:
    """Aligned columns, the first `left` of them to the left."""
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    for line in [head, ["-" * width for width in widths], *rows]:
        cells = [cell.ljust(width) if i < left else cell.rjust(width)
                 for i, (cell, width) in enumerate(zip(line, widths))]
        print("  " + "   ".join(cells).rstrip())


def megabytes(count: float) -> str:
    """10000000 -> '10.0 MB'."""
    return f"{count / 1e6:.1f} MB"


def timed(call):
    """(seconds, result)."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def load() -> tuple[list[str], np.ndarray]:
    """Words, most frequent first, and their vectors (n, d)."""
    n, d = np.fromfile(DATA.with_suffix(".hbin"), dtype="<u4", count=2)
    rows = np.fromfile(DATA.with_suffix(".hbin"), dtype="<f2", offset=8).reshape(n, d)
    words = DATA.with_suffix(".words.txt").read_text(encoding="utf-8").split("\n")[:n]
    return words, rows.astype(np.float32)


def known(asked: list[str], row_of: dict[str, int]) -> list[str]:
    """The asked words that have a vector; says which others are near in spelling."""
    found = []
    for word in asked:
        if word.lower() in row_of:
            found.append(word.lower())
            continue
        near = difflib.get_close_matches(word.lower(), row_of, n=3, cutoff=0.75)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        print(f"  '{word}' is not among the {len(row_of):,} words{hint}")
    return found


def show_neighbours(index, asked: list[str], words: list[str], vectors: np.ndarray) -> None:
    """The nearest words of every asked one, cosine behind each."""
    row_of = {word: row for row, word in enumerate(words)}
    found = known(asked, row_of)
    if not found:
        return
    rows = np.array([row_of[word] for word in found])
    cosines, labels = index.search(vectors[rows], 6, nprobe=16)  # the word itself comes first
    lines = []
    for row, word, near, scores in zip(rows, found, labels, cosines):
        lines.append([word, *[f"{words[i]} {score:.2f}" for i, score in zip(near, scores) if i != row][:5]])
    table(["word", "1st", "2nd", "3rd", "4th", "5th"], lines, left=6)


def others(labels: np.ndarray, rows: np.ndarray) -> list[list[int]]:
    """The first K labels of every query that are not the query itself."""
    return [[i for i in near if i != row][:K] for near, row in zip(labels.tolist(), rows.tolist())]


def exhaustive(unit: np.ndarray, query: np.ndarray, k: int) -> np.ndarray:
    """Rows with the largest cosine, best first."""
    scores = unit @ query
    best = np.argpartition(scores, -k)[-k:]
    return best[np.argsort(-scores[best])]


def fastest(call, queries) -> float:
    """Seconds a query, one query a call: the best of three passes."""
    def once():
        for query in queries:
            call(query)
    return min(timed(once)[0] for _ in range(3)) / len(queries)


def show_recall(index, vectors: np.ndarray) -> None:
    """Recall and time against looking at every vector."""
    rows = np.random.default_rng(7).choice(len(vectors), QUERIES, replace=False)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    k = K + 1  # every query is in the index and finds itself
    truth = others(np.array([exhaustive(unit, unit[row], k) for row in rows]), rows)
    everything = fastest(lambda query: exhaustive(unit, query, k), unit[rows])
    lines = []
    for nprobe in NPROBES:
        found = others(index.search(vectors[rows], k, nprobe=nprobe)[1], rows)
        recall = sum(len(set(a) & set(b)) for a, b in zip(found, truth)) / (K * QUERIES)
        seconds = fastest(lambda query, nprobe=nprobe: index.search(query, k, nprobe=nprobe), vectors[rows][:, None])
        lines.append([f"ScaNN, nprobe {nprobe}", f"{recall:.3f}", f"{seconds * 1e6:,.0f} µs", f"{1 / seconds:,.0f}",
                      f"{everything / seconds:.1f} x"])
    lines.append(["all 50,000 (numpy)", "1.000", f"{everything * 1e6:,.0f} µs", f"{1 / everything:,.0f}", "1.0 x"])
    table(["search", f"recall@{K}", "a query", "queries/s", "speed"], lines)


def show_sizes(index, estimate: int, vectors: np.ndarray) -> None:
    """Bytes in memory and on disk; saving, opening, the same answers."""
    SAVED.parent.mkdir(parents=True, exist_ok=True)
    saving, _ = timed(lambda: fx.write_index(index, str(SAVED)))
    opening, mapped = timed(lambda: fx.read_index(str(SAVED), mmap=True))
    reading, copied = timed(lambda: fx.read_index(str(SAVED)))
    raw, memory, disk = vectors.nbytes, index.memory_usage(), SAVED.stat().st_size
    table(["", "size", "a vector", "of the raw floats"], [
        [name, megabytes(size), f"{size / len(vectors):.0f} bytes", f"{size / raw:.2f} x"]
        for name, size in (("raw floats", raw), ("estimate before building", estimate),
                           ("index in memory", memory), ("index on disk", disk))])
    print()
    table(["", "time"], [["save", f"{saving * 1e3:.1f} ms"], ["open by mmap", f"{opening * 1e3:.1f} ms"],
                         ["read into memory", f"{reading * 1e3:.1f} ms"]])
    wanted = index.search(vectors[:QUERIES], K, nprobe=16)
    for again in (mapped, copied):
        got = again.search(vectors[:QUERIES], K, nprobe=16)
        assert np.array_equal(got[1], wanted[1]), "a reopened index found other words"
        assert np.array_equal(got[0], wanted[0]), "a reopened index scored differently"
    print(f"\n  {QUERIES:,} searches in each reopened index: the same answers\n  saved as {SAVED.relative_to(REPOSITORY)}")


def main() -> None:
    """Runs all parts."""
    words, vectors = load()
    n, d = vectors.shape
    print(f"{n:,} words, {d} dimensions, cosine; kernels: {fx.simd_level()} of {', '.join(fx.simd_levels())}")

    title(f"Building {FACTORY}")
    index = fx.index_factory(d, FACTORY, fx.METRIC_INNER_PRODUCT)
    estimate = index.estimate_memory(n)
    bar = fx.progress_bar(sys.stdout, width=30)
    seconds, _ = timed(lambda: index.train(vectors, progress=bar))
    more, _ = timed(lambda: index.add(vectors, progress=bar))
    print(f"  trained in {seconds:.2f} s, added in {more:.2f} s ({n / more:,.0f} vectors/s)")

    title("Nearest words and their cosine")
    show_neighbours(index, sys.argv[1:] or WORDS, words, vectors)

    title(f"Recall and speed, {QUERIES:,} words, one thread, one query a call")
    fx.omp_set_num_threads(1)
    show_recall(index, vectors)

    title("Size, saving, opening")
    show_sizes(index, estimate, vectors)


if __name__ == "__main__":
    main()
