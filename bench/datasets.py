"""Data sets of the benchmarks: files in, float32 matrices and exact neighbours out.

In:  a folder with `<name>.base.<ext>` and `<name>.query.<ext>` (ext: hbin,
     u8bin, fvecs, npy), or one file `<name>.<ext>` that is cut in two here.
Out: Dataset(base (n, d), query (nq, d), metric "ip" or "l2"), and ground truth
     by exhaustive search, cached. Next: engines.py searches what is loaded here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
DEFAULT_CACHE = REPOSITORY / "build" / "bench"
EXTENSIONS = ("hbin", "u8bin", "fvecs", "npy")
# The natural metric of a set, by the first word(s) of its name; "ip" otherwise.
METRICS = {"glove": "cosine", "wordnet": "ip", "sift": "l2"}
TRUTH_DEPTH = 100
HOLD_OUT = 20  # a set without a query file gives every 20th row as a query


@dataclass
class Dataset:
    """Vectors of one set: float32, rows contiguous, normalised for cosine."""

    name: str
    base: np.ndarray  # (n, d)
    query: np.ndarray  # (nq, d)
    metric: str  # "ip" (larger is better) or "l2" (squared, smaller is better)


def default_data() -> Path:
    """The folder taken when --data is not given."""
    shared = REPOSITORY.parent / "shared" / "data"
    return shared if shared.is_dir() else REPOSITORY / "tests" / "data"


def read_vectors(path) -> np.ndarray:
    """Rows of one file as a float32 matrix (n, d)."""
    path = Path(path)
    kind = path.suffix[1:]
    if kind == "npy":
        rows = np.load(path)
    elif kind == "fvecs":
        # Every row: int32 d, then d floats.
        words = np.fromfile(path, dtype="<i4")
        rows = words.reshape(-1, words[0] + 1)[:, 1:].view("<f4")
    elif kind in ("hbin", "u8bin"):
        n, d = (int(v) for v in np.fromfile(path, dtype="<u4", count=2))
        dtype = "<f2" if kind == "hbin" else "u1"
        rows = np.fromfile(path, dtype=dtype, offset=8)
        if rows.size != n * d:
            raise ValueError(f"{path}: {rows.size} values, the head says {n} x {d}")
        rows = rows.reshape(n, d)
    else:
        raise ValueError(f"{path}: unknown extension, expected {EXTENSIONS}")
    if rows.ndim != 2:
        raise ValueError(f"{path}: expected a matrix, found shape {rows.shape}")
    return np.ascontiguousarray(rows, dtype=np.float32)


def find(folder, stem: str):
    """The file `<stem>.<ext>` in `folder`, or None."""
    for ext in EXTENSIONS:
        path = Path(folder) / f"{stem}.{ext}"
        if path.is_file():
            return path
    return None


def names(folder) -> list[str]:
    """Names of all sets with a base file in `folder`."""
    marks = tuple(f".base.{ext}" for ext in EXTENSIONS)
    files = sorted(os.listdir(folder)) if Path(folder).is_dir() else []
    return [f[: f.rindex(".base.")] for f in files if f.endswith(marks)]


def normalised(x: np.ndarray) -> np.ndarray:
    """Rows of x (n, d) at unit length; rows of zeros stay."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1)


def load(folder, name: str, queries: int = 0, metric: str = "") -> Dataset:
    """Load set `name`; the first `queries` query rows (0: all of them).

    `metric` ("ip", "l2", "cosine") replaces the natural one of METRICS.
    """
    base_file, query_file = find(folder, f"{name}.base"), find(folder, f"{name}.query")
    whole_file = find(folder, name)
    if base_file and query_file:
        base, query = read_vectors(base_file), read_vectors(query_file)
    elif whole_file:
        rows = read_vectors(whole_file)
        held_out = np.arange(len(rows)) % HOLD_OUT == 0
        base, query = rows[~held_out], rows[held_out]
    else:
        raise FileNotFoundError(
            f"no set {name!r} in {folder}; there are: {', '.join(names(folder)) or 'none'}"
        )
    if queries:
        query = query[:queries]
    metric = metric or METRICS.get(name.split("-")[0], "ip")
    if metric == "cosine":
        base, query, metric = normalised(base), normalised(query), "ip"
    return Dataset(name, np.ascontiguousarray(base), np.ascontiguousarray(query), metric)


def exact_neighbours(base, query, metric: str, k: int = TRUTH_DEPTH, block: int = 16384):
    """Exhaustive search in blocks of base rows.

    base (n, d), query (nq, d), float32 -> ids (nq, k) int64, best first, and
    their scores (nq, k) float32: inner products, or for "l2" 2<q,x> - ||x||^2,
    which orders like -||q-x||^2. Sums of squared bytes (SIFT) stay exact:
    they are integers below 2^24.
    """
    k = min(k, len(base))
    best = np.full((len(query), k), -np.inf, dtype=np.float32)
    ids = np.zeros((len(query), k), dtype=np.int64)
    for start in range(0, len(base), block):
        rows = base[start : start + block]
        score = query @ rows.T
        if metric == "l2":
            score = 2 * score - np.einsum("nd,nd->n", rows, rows)
        # A row whose best new score does not beat its k-th is left alone.
        open_rows = np.flatnonzero(score.max(axis=1) > best[:, -1])
        score = score[open_rows]
        keep = min(k, score.shape[1])
        new = np.argpartition(-score, keep - 1, axis=1)[:, :keep]
        merged = np.hstack([best[open_rows], np.take_along_axis(score, new, 1)])
        merged_ids = np.hstack([ids[open_rows], new + start])
        order = np.argsort(-merged, axis=1, kind="stable")[:, :k]
        best[open_rows] = np.take_along_axis(merged, order, 1)
        ids[open_rows] = np.take_along_axis(merged_ids, order, 1)
    return ids, best


def filter_mask(n: int, share: float):
    """Flags (n,) of a random `share` of the rows, or None for all of them."""
    return None if share >= 1 else np.random.default_rng(7).random(n) < share


def ground_truth(data: Dataset, cache=DEFAULT_CACHE, allowed=None) -> np.ndarray:
    """Exact neighbours (nq, TRUTH_DEPTH) int64 of data.query, kept in `cache`;
    with `allowed`, flags (n,), among those rows.

    The file name carries a fingerprint of the vectors, so a changed set can
    never meet an old truth.
    """
    n, d = data.base.shape
    print_rows = np.concatenate(
        [data.base[:: max(1, n // 97)], data.query[:: max(1, len(data.query) // 97)]]
    )
    stamp = np.abs(print_rows.astype(np.float64) @ np.cos(np.arange(d))).sum()
    passing = "" if allowed is None else f"-{np.count_nonzero(allowed)}"
    name = f"truth-{data.name}-{data.metric}-{n}x{d}-{len(data.query)}-{stamp:.6g}{passing}.npy"
    path = Path(cache) / name
    if path.is_file():
        return np.load(path)
    if allowed is None:
        truth, _ = exact_neighbours(data.base, data.query, data.metric)
    else:
        found, _ = exact_neighbours(data.base[allowed], data.query, data.metric)
        truth = np.flatnonzero(allowed)[found]
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written aside and renamed: a second process never reads half a file.
    part = path.with_suffix(f".{os.getpid()}.npy")
    np.save(part, truth)
    part.replace(path)
    return truth


def recall(found: np.ndarray, truth: np.ndarray, k: int) -> float:
    """Mean share of the k true neighbours among found[:, :k]; both (nq, >= k)."""
    hits = sum(np.intersect1d(f[:k], t[:k]).size for f, t in zip(found, truth))
    return hits / (k * len(truth))


def add_arguments(parser, queries: int = 2000, one_set: bool = True) -> None:
    """The options every program of this folder shares."""
    parser.add_argument(
        "--data", default=str(default_data()), help="folder of the sets (%(default)s)"
    )
    parser.add_argument(
        "--set", dest="sets", required=one_set, help="name of the set, several with commas"
    )
    parser.add_argument(
        "--queries",
        type=int,
        default=queries,
        help="first rows of the query file, 0: all (%(default)s)",
    )
    parser.add_argument(
        "--cache", default=str(DEFAULT_CACHE), help="folder of cached ground truth (%(default)s)"
    )
    parser.add_argument(
        "--out", default=str(DEFAULT_CACHE), help="folder of the results (%(default)s)"
    )
    parser.add_argument(
        "--threads", type=int, default=2, help="threads of every build (%(default)s)"
    )
