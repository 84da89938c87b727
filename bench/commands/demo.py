"""The demonstration: words, vectors, nearest words; bench/demo sets up what it needs.

In:  tests/data/glove-50-frequent.{hbin,words.txt}, words on the command line.
Out: tables on the screen; the index is saved in build/demo/.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# "one thread" below holds for numpy too, which is asked before it is loaded
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np  # noqa: E402

from bench import timing  # noqa: E402
from bench.datasets import Floats, Ids, normalised, read_vectors  # noqa: E402
from bench.engines.ours import library  # noqa: E402
from bench.folders import REPOSITORY, TEST_DATA, Unavailable  # noqa: E402
from bench.ground_truth import recall  # noqa: E402
from bench.options import RepetitionOptions, SeedOptions, another_default, option  # noqa: E402
from bench.tables import megabytes, screen_table  # noqa: E402

DATA = TEST_DATA / "glove-50-frequent"
SAVED = REPOSITORY / "build" / "demo" / "words.scann"
FACTORY = "IVF256,ScaNN(normalize=1),RFlat"
WORDS = (
    "coffee",
    "paris",
    "king",
    "happy",
    "computer",
    "piano",
    "football",
    "doctor",
    "rain",
    "jupiter",
    "tuesday",
    "linux",
)
NPROBES = (1, 2, 4, 8, 16, 32, 64)
QUERIES = 1000
K = 10
SHOWN = 5  # neighbours of a word
ORDINALS = ("1st", "2nd", "3rd", "4th", "5th")


@dataclass(frozen=True)
class Options(RepetitionOptions, SeedOptions):
    repetitions: int = another_default(RepetitionOptions, "repetitions", 3)
    words: tuple[str, ...] = option((), "words whose neighbours are shown", positional=True, metavar="WORD")


@dataclass(frozen=True)
class Words:
    """Words, most frequent first, and their vectors (n, d)."""

    words: list[str]
    vectors: Floats

    def sample(self, count: int, seed: int) -> Ids:
        """Rows drawn at random."""
        return np.random.default_rng(seed).choice(len(self.vectors), count, replace=False)


def title(text: str) -> None:
    """A heading between two parts."""
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}")


def load() -> Words:
    """The words in tests/data."""
    rows, names = DATA.with_suffix(".hbin"), DATA.with_suffix(".words.txt")
    for path in (rows, names):
        if not path.is_file():
            raise Unavailable(f"{path} is missing")
    vectors = read_vectors(rows)
    return Words(names.read_text(encoding="utf-8").split("\n")[: len(vectors)], vectors)


def known(asked: Sequence[str], row_of: Mapping[str, int]) -> list[str]:
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


def neighbour_table(lines: Sequence[Sequence[str]]) -> str:
    """A word a line, and its neighbours."""
    padded = [[*line, *[""] * (1 + SHOWN - len(line))] for line in lines]
    return screen_table(["word", *ORDINALS], padded, left=1 + SHOWN)


def show_neighbours(index: Any, asked: Sequence[str], data: Words) -> None:
    """The nearest words of every asked one, cosine behind each."""
    row_of = {word: row for row, word in enumerate(data.words)}
    found = known(asked, row_of)
    if not found:
        return
    rows = np.array([row_of[word] for word in found])
    cosines, labels = index.search(data.vectors[rows], 1 + SHOWN, nprobe=16)  # the word itself comes first
    lines = []
    for row, word, near, scores in zip(rows, found, labels, cosines):
        others = [f"{data.words[i]} {score:.2f}" for i, score in zip(near, scores) if i != row]
        lines.append([word, *others[:SHOWN]])
    print(neighbour_table(lines))


def others(labels: Ids, rows: Ids) -> Ids:
    """The first K labels of every query that are not the query itself."""
    return np.array([[i for i in near if i != row][:K] for near, row in zip(labels.tolist(), rows.tolist())])


def exhaustive(unit: Floats, query: Floats, k: int) -> Ids:
    """Rows with the largest cosine, best first."""
    scores = unit @ query
    best = np.argpartition(scores, -k)[-k:]
    return np.asarray(best[np.argsort(-scores[best])], dtype=np.int64)


def seconds_each(call: Any, queries: Floats, repetitions: int) -> float:
    """Of a query, one query a call: the best of the passes."""

    def once() -> None:
        for query in queries:
            call(query)

    return timing.repeated(once, repetitions).per(len(queries)).minimum


def show_recall(index: Any, data: Words, options: Options) -> None:
    """Recall and time against looking at every vector."""
    rows = data.sample(QUERIES, options.seed)
    unit, queries = normalised(data.vectors), data.vectors[rows]
    k = K + 1  # every query is in the index and finds itself
    truth = others(np.array([exhaustive(unit, unit[row], k) for row in rows]), rows)
    everything = seconds_each(lambda query: exhaustive(unit, query, k), unit[rows], options.repetitions)
    lines = []
    for nprobe in NPROBES:
        found = others(index.search(queries, k, nprobe=nprobe)[1], rows)
        seconds = seconds_each(
            lambda query, nprobe=nprobe: index.search(query, k, nprobe=nprobe), queries[:, None], options.repetitions
        )
        lines.append(
            [
                f"ScaNN, nprobe {nprobe}",
                f"{recall(found, truth, K):.3f}",
                f"{seconds * 1e6:,.0f} µs",
                f"{1 / seconds:,.0f}",
                f"{everything / seconds:.1f} x",
            ]
        )
    lines.append(["all 50,000 (numpy)", "1.000", f"{everything * 1e6:,.0f} µs", f"{1 / everything:,.0f}", "1.0 x"])
    print(screen_table(["search", f"recall@{K}", "a query", "queries/s", "speed"], lines))


def show_sizes(index: Any, estimate: int, vectors: Floats) -> None:
    """Bytes in memory and on disk; saving, opening, the same answers."""
    fx = library()
    SAVED.parent.mkdir(parents=True, exist_ok=True)
    saving = timing.timed(lambda: fx.write_index(index, str(SAVED)))
    mapped = timing.timed(lambda: fx.read_index(str(SAVED), mmap=True))
    copied = timing.timed(lambda: fx.read_index(str(SAVED)))
    sizes = {
        "raw floats": vectors.nbytes,
        "estimate before building": estimate,
        "index in memory": index.memory_usage(),
        "index on disk": SAVED.stat().st_size,
    }
    lines = [
        [name, f"{megabytes(size)} MB", f"{size / len(vectors):.0f} bytes", f"{size / vectors.nbytes:.2f} x"]
        for name, size in sizes.items()
    ]
    print(screen_table(["", "size", "a vector", "of the raw floats"], lines) + "\n")
    times = {"save": saving, "open by mmap": mapped, "read into memory": copied}
    print(screen_table(["", "time"], [[name, f"{one.seconds * 1e3:.1f} ms"] for name, one in times.items()]))
    wanted = index.search(vectors[:QUERIES], K, nprobe=16)
    for again in (mapped.result, copied.result):
        got = again.search(vectors[:QUERIES], K, nprobe=16)
        if not (np.array_equal(got[1], wanted[1]) and np.array_equal(got[0], wanted[0])):
            raise RuntimeError("a reopened index found other words or scored differently")
    print(
        f"\n  {QUERIES:,} searches in each reopened index: the same answers\n  saved as {SAVED.relative_to(REPOSITORY)}"
    )


def run(options: Options) -> None:
    """All parts."""
    fx, data = library(), load()
    n, d = data.vectors.shape
    print(f"{n:,} words, {d} dimensions, cosine; kernels: {fx.simd_level()} of {', '.join(fx.simd_levels())}")

    title(f"Building {FACTORY}")
    index = fx.index_factory(d, FACTORY, fx.METRIC_INNER_PRODUCT)
    estimate = index.estimate_memory(n)
    bar = fx.progress_bar(sys.stdout, width=30)
    training = timing.timed(lambda: index.train(data.vectors, progress=bar))
    adding = timing.timed(lambda: index.add(data.vectors, progress=bar))
    print(
        f"  trained in {training.seconds:.2f} s, added in {adding.seconds:.2f} s ({n / adding.seconds:,.0f} vectors/s)"
    )

    title("Nearest words and their cosine")
    show_neighbours(index, options.words or WORDS, data)

    title(f"Recall and speed, {QUERIES:,} words, one thread, one query a call")
    fx.omp_set_num_threads(1)
    show_recall(index, data, options)

    title("Size, saving, opening")
    show_sizes(index, estimate, data.vectors)
