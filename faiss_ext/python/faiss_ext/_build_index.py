"""Index files of more rows than fit into memory. In: rows, wherever they are. Out: a file."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ._faiss_ext import (
    METRIC_L2,
    _build_from_array,
    _build_from_file,
    _build_from_pieces,
    _build_from_stream,
)
from ._sizes import bytes_of, whole_number
from ._vector_files import lazy

_Progress = Callable[[str, int, int], object]
_TYPES = ("float32", "float16", "bfloat16", "int8", "uint8")


def build_index(
    description: str,
    rows: Any,
    path: str | os.PathLike[str],
    *,
    memory: int | str,
    metric: int = METRIC_L2,
    piece_rows: int = 0,
    total: int = 0,
    progress: _Progress | None = None,
) -> None:
    """Build an index file of rows that need not fit into memory, with ids 0, 1, 2, ...

    Trains on a sample, adds the rows piece by piece, each of which becomes a file in the folder
    ``<path>.build``, and merges these into one. The result is the file that `index_factory`,
    `train`, `add` and `write_index` make with all rows in memory. (Of float32 rows, if they are at
    most 100,000 or 64 a list; of more, they train as the same rows of another type do.)

    If the call fails or its process ends, the same call goes on after the last piece that was
    complete; another `memory` may be given. To begin anew, remove the folder. A file at `path` is
    replaced at the end and stays whole until then.

    Parameters
    ----------
    description : str
        Factory string, as for `index_factory`, without wrappers around ScaNN.
    rows : array, path or iterable of arrays
        Shape (n, d). float32, float16, bfloat16 (of ml_dtypes), int8 and uint8 are used as they
        are, other floats and integers become float32, some at a time. An array in memory is not
        copied; one that maps a file (``np.load(path, mmap_mode="r")``) is read piece by piece, as
        anything is that has a shape and can be sliced (data sets of h5py, zarr). A path is a
        file in one of the formats of the command line. Of an iterable, each item is some rows;
        they are written to the folder first, which takes as much disk as they have.
    path : str or path-like
        Of the index file.
    memory : int or str
        Bytes that the build may take beside what `rows` has in memory, such as ``"2GB"``
        (units: kB, MB, GB, TB; KiB, MiB, GiB, TiB).
    metric : int
        METRIC_L2 or METRIC_INNER_PRODUCT.
    piece_rows : int
        Rows of a piece, at most about this many; 0: as many as fit into memory.
    total : int
        Rows of an iterable in all, if that is known: another number is refused. 0: not known.
    progress : callable, optional
        As for `Index.train`; stages are ``"rows"`` (of an iterable), ``"k-means"``,
        ``"codebook"``, ``"add"`` and ``"merge"``, the last two of how many rows.

    Raises
    ------
    ValueError
        Before the work, if memory is too little: the message has the least that works. For rows
        that the index does not take, by their numbers, or that are not those of the folder.
    RuntimeError
        Before the work, if there is not twice the size of the result free on the disk, or another
        build has the folder. If a file cannot be read or written, or ends early.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "x.scann")
    >>> fx.build_index("IVF8,ScaNN,RFlat", x, path, memory="100MB")
    >>> fx.read_index(path, mmap=True).ntotal
    1000
    """
    description.encode()
    options = {
        "description": description,
        "path": os.fspath(path),
        "metric": whole_number("metric", metric, 1),
        "memory": bytes_of("memory", memory),
        "piece_rows": whole_number("piece_rows", piece_rows),
        "progress": progress,
    }
    total = whole_number("total", total)
    if isinstance(rows, (str, os.PathLike)):
        rows = lazy(Path(rows))
    if isinstance(rows, (list, tuple)) and not any(isinstance(item, np.ndarray) for item in rows):
        rows = np.asarray(rows)
    if isinstance(rows, np.ma.MaskedArray):
        raise ValueError("rows is a masked array, whose mask would be lost; fill or compress it first")
    if hasattr(rows, "shape") and hasattr(rows, "dtype"):
        _build_of_array(options, rows, total)
    elif isinstance(rows, Iterable) and not isinstance(rows, (bytes, dict)):
        _build_of_stream(options, iter(rows), total)
    else:
        raise TypeError(f"rows is a {type(rows).__name__} (allowed: an array, a path, an iterable of arrays)")


def _type_of(rows: Any) -> tuple[str, int]:
    """The type that rows have, or become, and their dimension."""
    dtype, shape = np.dtype(rows.dtype), tuple(rows.shape)
    if dtype.name != "bfloat16" and dtype.kind not in "fiu":
        raise ValueError(f"rows has dtype {dtype} (allowed: floats and integers)")
    if len(shape) != 2 or shape[1] < 1:
        raise ValueError(f"rows has shape {shape} (allowed: (n, d), d >= 1)")
    return dtype.name if dtype.name in _TYPES and dtype.isnative else "float32", shape[1]


def _as_type(rows: Any, dtype: str) -> np.ndarray[Any, Any]:
    """In C order."""
    rows = np.asarray(rows)
    same = rows.dtype.name == dtype and rows.dtype.isnative
    return np.ascontiguousarray(rows, dtype=None if same else dtype)


def _build_of_array(options: dict[str, Any], rows: Any, total: int) -> None:
    dtype, d = _type_of(rows)
    if total not in (0, len(rows)):
        raise ValueError(f"total = {total}, but rows has {len(rows)}")
    if isinstance(rows, np.ndarray) and rows.dtype.name == dtype and rows.dtype.isnative and len(rows):
        place = _place_in_file(rows)
        if place is not None:
            _build_from_file(options, *place, len(rows), dtype, d)
            return
        if rows.flags.c_contiguous and rows.flags.aligned:
            _build_from_array(options, rows, dtype, d)
            return

    def read(begin: int, end: int) -> np.ndarray[Any, Any]:
        return _as_type(rows[begin:end], dtype)

    _build_from_pieces(options, read, len(rows), dtype, d)


def _place_in_file(rows: np.ndarray[Any, Any]) -> tuple[str, int, int] | None:
    """File, offset and bytes from row to row of an array that maps a file, and only reads it."""
    if rows.strides[1] != rows.itemsize or rows.strides[0] < rows.shape[1] * rows.itemsize:
        return None
    whole: Any = rows
    while isinstance(whole, np.ndarray) and not isinstance(whole.base, mmap.mmap):
        whole = whole.base
    if not isinstance(whole, np.memmap) or whole.filename is None or whole.mode == "c":
        return None
    base: Any = whole.base
    memory = np.frombuffer(base, np.uint8)
    begin = whole.offset - whole.offset % mmap.ALLOCATIONGRANULARITY
    return str(whole.filename), begin + rows.ctypes.data - memory.ctypes.data, rows.strides[0]


def _build_of_stream(options: dict[str, Any], pieces: Iterator[Any], total: int) -> None:
    first = None
    for first in pieces:
        if len(first):
            break
    else:
        raise ValueError("rows has none")
    first = np.asarray(first)
    dtype, d = _type_of(first)

    def take() -> np.ndarray[Any, Any] | None:
        nonlocal first
        if first is not None:
            piece, first = first, None
            return _as_type(piece, dtype)
        for piece in pieces:
            piece = np.asarray(piece)
            given = _type_of(piece)
            if given != (dtype, d):
                raise ValueError(f"rows came as {given[0]} of {given[1]} dimensions, before as {dtype} of {d}")
            if len(piece):
                return _as_type(piece, dtype)
        return None

    _build_from_stream(options, take, total, dtype, d)
