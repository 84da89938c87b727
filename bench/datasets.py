"""Data sets of the benchmarks: files in, rows and queries out.

In:  a folder with `<name>.base.<ext>` and `<name>.query.<ext>` (ext: hbin,
     u8bin, fvecs, npy), or one file `<name>.<ext>` that is cut in two here.
Out: Dataset: float32, but for the base of a .u8bin file, whose bytes are mapped
     (10 million rows of 128 are 1.3 GB so, for all processes together, and 5 GB
     as floats for each). Next: ground_truth.py finds its exact neighbours,
     engines search it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, cast

import numpy as np
from numpy.typing import NDArray

from bench.folders import Unavailable

if TYPE_CHECKING:
    from bench.options import SetOptions

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Rows = Union[Floats, Bytes]
Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]
Metric = Literal["ip", "l2"]

# The natural metric of a set, by the first word of its name; "ip" otherwise.
METRICS = {"glove": "cosine", "wordnet": "ip", "sift": "l2"}
METRIC_NAMES = ("ip", "l2", "cosine")
HOLD_OUT = 20  # a set without a query file gives every 20th row as a query
PIECE = 1 << 17  # rows that are converted at once


@dataclass
class Dataset:
    """Vectors of one set, rows contiguous, of length 1 for cosine."""

    name: str
    base: Rows  # (n, d)
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
    """A reader of files with a head of two uint32, n and d, and n x d numbers, which are mapped."""
    size = np.dtype(kind).itemsize

    def read(path: Path) -> NDArray[Any]:
        head = np.fromfile(path, dtype="<u4", count=2)
        values = max(0, path.stat().st_size - 8) // size
        if len(head) < 2 or values != int(head[0]) * int(head[1]):
            said = f"the head says {head[0]} x {head[1]}" if len(head) == 2 else "there is no head"
            raise ValueError(f"{path}: {values} values, {said}")
        shape = (int(head[0]), int(head[1]))
        return np.memmap(path, dtype=kind, mode="r", offset=8, shape=shape) if values else np.empty(shape, kind)

    return read


READERS: dict[str, Callable[[Path], NDArray[Any]]] = {
    "hbin": _read_bin("<f2"),
    "u8bin": _read_bin("u1"),
    "fvecs": _read_fvecs,
    "npy": _read_npy,
}


def read_rows(path: Path) -> Rows:
    """Rows of one file (n, d): bytes where they are, all else as floats."""
    reader = READERS.get(path.suffix[1:])
    if reader is None:
        raise ValueError(f"{path}: unknown extension (allowed: {', '.join(READERS)})")
    rows = reader(path)
    if rows.ndim != 2:
        raise ValueError(f"{path}: expected a matrix, found shape {rows.shape}")
    return np.ascontiguousarray(rows) if rows.dtype == np.uint8 else floats(rows)


def read_vectors(path: Path) -> Floats:
    """Rows of one file (n, d)."""
    return floats(read_rows(path))


def floats(rows: NDArray[Any]) -> Floats:
    """Rows as float32, contiguous; themselves if they are."""
    return np.ascontiguousarray(rows, dtype=np.float32)


def copied(rows: Rows, chosen: slice | Ids) -> Rows:
    """Some of the rows, contiguous in memory."""
    return cast(Rows, np.array(rows[chosen]))


def float_pieces(rows: Rows, piece: int = PIECE) -> Iterator[Floats]:
    """The rows as float32: all at once if they are, else `piece` rows after another."""
    if rows.dtype == np.float32:
        yield floats(rows)
        return
    for begin in range(0, len(rows), piece):
        yield floats(rows[begin : begin + piece])


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


def _read_set(folder: Path, name: str) -> tuple[Rows, Rows]:
    """All rows and queries of a set."""
    base_file, query_file, whole_file = find(folder, f"{name}.base"), find(folder, f"{name}.query"), find(folder, name)
    if base_file and query_file:
        return read_rows(base_file), read_rows(query_file)
    if whole_file:
        rows = read_rows(whole_file)
        held_out = np.arange(len(rows)) % HOLD_OUT == 0
        return rows[~held_out], rows[held_out]
    raise Unavailable(
        f"no set {name!r} in {folder} (it has: {', '.join(names(folder)) or 'none'}); "
        "--data or FAISS_EXT_BENCH_DATA names the folder of the sets"
    )


def natural_metric(name: str) -> str:
    """The metric of a set by its name."""
    return METRICS.get(name.split("-")[0], "ip")


def load(folder: Path, name: str, *, rows: int = 0, queries: int = 0, metric: str = "") -> Dataset:
    """Set `name`: its first `rows` rows and `queries` queries (0: all).

    `metric` ("ip", "l2", "cosine") replaces the natural one of METRICS.
    """
    base, asked = _read_set(folder, name)
    base, query = base[: rows or None], floats(asked[: queries or None])
    metric = metric or natural_metric(name)
    if metric not in METRIC_NAMES:
        raise ValueError(f"metric {metric!r} (allowed: {', '.join(METRIC_NAMES)})")
    if metric == "cosine":
        base, query = normalised(floats(base)), normalised(query)
    return Dataset(name, base, query, "l2" if metric == "l2" else "ip")


def load_chosen(name: str, options: SetOptions) -> Dataset:
    """Set `name` as the command line wants it."""
    return load(options.data, name, rows=options.rows, queries=options.queries)
