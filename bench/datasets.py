"""Data sets of the benchmarks: files in, float32 rows and queries out.

In:  a folder with `<name>.base.<ext>` and `<name>.query.<ext>` (ext: hbin,
     u8bin, fvecs, npy), or one file `<name>.<ext>` that is cut in two here.
Out: Dataset. Next: ground_truth.py finds its exact neighbours, engines search it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from bench.folders import Unavailable

if TYPE_CHECKING:
    from bench.options import SetOptions

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]
Metric = Literal["ip", "l2"]

# The natural metric of a set, by the first word of its name; "ip" otherwise.
METRICS = {"glove": "cosine", "wordnet": "ip", "sift": "l2"}
METRIC_NAMES = ("ip", "l2", "cosine")
HOLD_OUT = 20  # a set without a query file gives every 20th row as a query


@dataclass
class Dataset:
    """Vectors of one set, rows contiguous, of length 1 for cosine."""

    name: str
    base: Floats  # (n, d)
    query: Floats  # (nq, d)
    metric: Metric  # "ip" (larger is better) or "l2" (squared, smaller is better)


def _read_npy(path: Path) -> NDArray[Any]:
    rows: NDArray[Any] = np.load(path)
    return rows


def _read_fvecs(path: Path) -> NDArray[Any]:
    """Every row: int32 d, then d floats."""
    numbers = np.fromfile(path, dtype="<i4")
    return numbers.reshape(-1, numbers[0] + 1)[:, 1:].view("<f4")


def _read_bin(kind: str) -> Callable[[Path], NDArray[Any]]:
    """A reader of files with a head of two uint32, n and d, and n x d numbers."""

    def read(path: Path) -> NDArray[Any]:
        n, d = (int(v) for v in np.fromfile(path, dtype="<u4", count=2))
        rows = np.fromfile(path, dtype=kind, offset=8)
        if rows.size != n * d:
            raise ValueError(f"{path}: {rows.size} values, the head says {n} x {d}")
        return rows.reshape(n, d)

    return read


READERS: dict[str, Callable[[Path], NDArray[Any]]] = {
    "hbin": _read_bin("<f2"),
    "u8bin": _read_bin("u1"),
    "fvecs": _read_fvecs,
    "npy": _read_npy,
}


def read_vectors(path: Path) -> Floats:
    """Rows of one file (n, d)."""
    reader = READERS.get(path.suffix[1:])
    if reader is None:
        raise ValueError(f"{path}: unknown extension (allowed: {', '.join(READERS)})")
    rows = reader(path)
    if rows.ndim != 2:
        raise ValueError(f"{path}: expected a matrix, found shape {rows.shape}")
    return np.ascontiguousarray(rows, dtype=np.float32)


def find(folder: Path, stem: str) -> Path | None:
    """The file `<stem>.<ext>` in `folder`."""
    paths = (folder / f"{stem}.{ext}" for ext in READERS)
    return next((path for path in paths if path.is_file()), None)


def names(folder: Path) -> list[str]:
    """Names of all sets in `folder`."""
    files = [path for path in folder.iterdir() if path.suffix[1:] in READERS] if folder.is_dir() else []
    stems = {path.stem for path in files}
    pairs = {stem[: -len(".base")] for stem in stems if stem.endswith(".base")}
    return sorted(pairs | {stem for stem in stems if not stem.endswith((".base", ".query"))})


def normalised(x: Floats) -> Floats:
    """Rows of x (n, d) at length 1; rows of zeros stay."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(length > 0, length, 1), dtype=np.float32)


def _read_set(folder: Path, name: str) -> tuple[Floats, Floats]:
    """All rows and queries of a set."""
    base_file, query_file, whole_file = find(folder, f"{name}.base"), find(folder, f"{name}.query"), find(folder, name)
    if base_file and query_file:
        return read_vectors(base_file), read_vectors(query_file)
    if whole_file:
        rows = read_vectors(whole_file)
        held_out = np.arange(len(rows)) % HOLD_OUT == 0
        return rows[~held_out], rows[held_out]
    raise Unavailable(
        f"no set {name!r} in {folder} (it has: {', '.join(names(folder)) or 'none'}); "
        "--data or FAISS_EXT_BENCH_DATA names the folder of the sets"
    )


def load(folder: Path, name: str, *, rows: int = 0, queries: int = 0, metric: str = "") -> Dataset:
    """Set `name`: its first `rows` rows and `queries` queries (0: all).

    `metric` ("ip", "l2", "cosine") replaces the natural one of METRICS.
    """
    base, query = _read_set(folder, name)
    base, query = base[: rows or None], query[: queries or None]
    metric = metric or METRICS.get(name.split("-")[0], "ip")
    if metric not in METRIC_NAMES:
        raise ValueError(f"metric {metric!r} (allowed: {', '.join(METRIC_NAMES)})")
    if metric == "cosine":
        base, query = normalised(base), normalised(query)
    return Dataset(name, np.ascontiguousarray(base), np.ascontiguousarray(query), "l2" if metric == "l2" else "ip")


def load_chosen(name: str, options: SetOptions) -> Dataset:
    """Set `name` as the command line wants it."""
    return load(options.data, name, rows=options.rows, queries=options.queries)
