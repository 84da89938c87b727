"""Files of vectors: read without loading them whole where the format allows, written whole or not at all.

In:  a path, whose suffix names the format; of HDF5 and Parquet, a column in it.
Out: rows (n, d) as NumPy arrays, mapped where possible; next: _cli, _build_index.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._errors import Failure, UsageError

Rows = NDArray[Any]

# big-ann-benchmarks: two uint32, rows and dimensions, then the rows
BIN_TYPES = {".fbin": "<f4", ".hbin": "<f2", ".u8bin": "u1", ".i8bin": "i1", ".ibin": "<i4"}
# TEXMEX: each row is an int32, its dimensions, then these
VECS_TYPES = {".fvecs": "<f4", ".bvecs": "u1", ".ivecs": "<i4"}
HDF5_SUFFIXES = (".hdf5", ".h5")
FORMATS = (".npy", *VECS_TYPES, *BIN_TYPES, *HDF5_SUFFIXES, ".parquet")
ID_COLUMN = "id"
HDF5_COLUMNS = {"rows": "train", "queries": "test", "neighbors": "neighbors"}  # ann-benchmarks
PARQUET_COLUMNS = {"rows": "emb", "queries": "emb", "neighbors": "neighbors_id"}  # VectorDBBench


class Vectors(NamedTuple):
    """Rows of a file, and their ids if it has any."""

    rows: Rows
    ids: NDArray[np.int64] | None = None


def read(path: Path, column: str | None = None, *, use: str = "rows") -> Vectors:
    """Read the rows of a file.

    Parameters
    ----------
    path : Path
        The suffix names the format.
    column : str, optional
        Data set of an HDF5 file, column of a Parquet file. Default: by `use`.
    use : {"rows", "queries", "neighbors"}
        What the rows are for.

    Returns
    -------
    vectors : Vectors
    """
    suffix = known_suffix(path)
    if not path.is_file():
        raise Failure(f"{path}: no such file" if not path.exists() else f"{path}: not a regular file")
    if suffix in HDF5_SUFFIXES:
        return Vectors(_checked(path, _read_hdf5(path, column or HDF5_COLUMNS[use])))
    if suffix == ".parquet":
        return _read_parquet(path, column or PARQUET_COLUMNS[use])
    if column is not None:
        raise UsageError(f"{path}: a column is named, which {suffix} has none of (HDF5 and Parquet have)")
    if suffix == ".npy":
        try:
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise Failure(f"{path}: no .npy file of numbers: {error}") from error
    elif suffix in VECS_TYPES:
        rows = _read_vecs(path, VECS_TYPES[suffix])
    else:
        rows = _read_bin(path, BIN_TYPES[suffix])
    return Vectors(_checked(path, rows))


def lazy(path: Path, column: str | None = None) -> Any:
    """Rows of a file that are not in memory: mapped, or a data set that can be sliced."""
    suffix = known_suffix(path)
    if suffix == ".parquet":
        raise UsageError(f"{path}: rows of Parquet files have no places (allowed: {', '.join(FORMATS[:-1])})")
    if suffix not in HDF5_SUFFIXES:
        return read(path, column).rows
    if not path.is_file():
        raise Failure(f"{path}: no such file" if not path.exists() else f"{path}: not a regular file")
    try:
        return _checked(path, _data_set(path, import_h5py().File(path, "r"), column or HDF5_COLUMNS["rows"]))
    except OSError as error:
        raise Failure(f"{path}: no HDF5 file that can be read: {error}") from error


def known_suffix(path: Path) -> str:
    """The format of a path."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(f"{path}: unknown format {suffix or 'without a suffix'!r} (known: {', '.join(FORMATS)})")
    return suffix


def _checked(path: Path, rows: Rows) -> Rows:
    if rows.ndim != 2 or 0 in rows.shape:
        raise Failure(f"{path}: its shape is {rows.shape} (allowed: rows x dimensions, neither of them 0)")
    if rows.dtype.kind not in "fiu":
        raise Failure(f"{path}: it holds {rows.dtype} (allowed: floats or integers)")
    return rows


def _read_vecs(path: Path, kind: str) -> Rows:
    dtype = np.dtype(kind)
    size = path.stat().st_size
    head = np.fromfile(path, dtype="<i4", count=1)
    d = int(head[0]) if len(head) else 0
    row = 4 + d * dtype.itemsize
    if d < 1 or size % row:
        raise Failure(f"{path}: {size} bytes are no whole number of rows of {d} dimensions, as the first one has")
    table = np.memmap(path, dtype=np.dtype([("d", "<i4"), ("row", dtype, (d,))]), mode="r")
    if (table["d"] != d).any():
        raise Failure(f"{path}: rows have different numbers of dimensions")
    rows: Rows = table["row"]
    return rows


def _read_bin(path: Path, kind: str) -> Rows:
    head = np.fromfile(path, dtype="<u4", count=2)
    n, d = (int(value) for value in head) if len(head) == 2 else (0, 0)
    dtype, size = np.dtype(kind), path.stat().st_size
    if size != 8 + n * d * dtype.itemsize:
        raise Failure(f"{path}: {size} bytes, but its head says {n} x {d} of {dtype.itemsize} bytes")
    if 0 in (n, d):
        return np.empty((n, d), dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=8, shape=(n, d))


def import_h5py() -> Any:
    """The package h5py."""
    try:
        import h5py
    except ImportError as error:
        raise Failure("HDF5 files need the package h5py: pip install h5py") from error
    return h5py


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise Failure("Parquet files need the package pyarrow: pip install pyarrow") from error
    return pyarrow, pyarrow.parquet


def _read_hdf5(path: Path, column: str) -> Rows:
    h5py = import_h5py()
    try:
        with h5py.File(path, "r") as file:
            rows: Rows = _data_set(path, file, column)[()]
            return rows
    except OSError as error:
        raise Failure(f"{path}: no HDF5 file that can be read: {error}") from error


def _data_set(path: Path, file: Any, column: str) -> Any:
    if column not in file or not hasattr(file[column], "shape"):
        raise UsageError(f"{path}: no data set {column!r} (it has: {', '.join(sorted(file)) or 'none'})")
    return file[column]


def _read_parquet(path: Path, column: str) -> Vectors:
    pyarrow, parquet = _pyarrow()
    try:
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
        if column not in names:
            raise UsageError(f"{path}: no column {column!r} (it has: {', '.join(names)})")
        table = file.read(columns=[column] + ([ID_COLUMN] if ID_COLUMN in names else []))
    except pyarrow.ArrowException as error:
        raise Failure(f"{path}: no Parquet file that can be read: {error}") from error
    lists = table.column(column).combine_chunks()
    if isinstance(lists, pyarrow.ChunkedArray):  # of a file without rows, or by older releases
        lists = pyarrow.concat_arrays(lists.chunks) if lists.num_chunks else pyarrow.array([], lists.type)
    if not hasattr(lists, "flatten"):
        raise Failure(f"{path}: {column!r} holds {lists.type} (allowed: lists of numbers)")
    values = lists.flatten().to_numpy(zero_copy_only=False)
    n = len(lists)
    widths = lists.value_lengths().to_numpy(zero_copy_only=False)
    if n == 0 or len(set(widths.tolist())) != 1:
        raise Failure(f"{path}: {column!r} has rows of different lengths, or none")
    ids = table.column(ID_COLUMN).to_numpy() if ID_COLUMN in names else None
    if ids is not None and ids.dtype.kind not in "iu":
        ids = None
    return Vectors(_checked(path, values.reshape(n, -1)), None if ids is None else ids.astype(np.int64))


@contextlib.contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A path beside `target` that becomes it at the end of the block, or vanishes."""
    if target.exists() and not target.is_file():
        raise Failure(f"{target}: not a regular file")
    try:
        handle, name = tempfile.mkstemp(prefix=".faiss_ext-", suffix=target.suffix, dir=target.parent)
    except OSError as error:
        raise Failure(f"{target}: {error.strerror}") from error
    part = Path(name)
    try:
        os.close(handle)
        yield part
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def write(path: Path, rows: Rows, column: str | None = None) -> None:
    """Write rows in the format that the suffix names, whole or not at all.

    Values must be representable: what a format would round or cut off is refused.
    """
    suffix = known_suffix(path)
    with whole_file(path) as part:
        if suffix == ".npy":
            with part.open("wb") as file:
                np.save(file, np.asarray(rows))
        elif suffix in VECS_TYPES:
            _in_blocks(part, path, rows, VECS_TYPES[suffix], _vecs_block)
        elif suffix in BIN_TYPES:
            head = np.array(rows.shape, dtype="<u4").tobytes()
            _in_blocks(part, path, rows, BIN_TYPES[suffix], lambda block: block.tobytes(), head)
        elif suffix == ".parquet":
            _write_parquet(part, rows, column or PARQUET_COLUMNS["rows"])
        else:
            with import_h5py().File(part, "w") as file:
                file.create_dataset(column or HDF5_COLUMNS["rows"], data=rows)


def _vecs_block(block: Rows) -> bytes:
    d = block.shape[1]
    table = np.empty(len(block), dtype=np.dtype([("d", "<i4"), ("row", block.dtype, (d,))]))
    table["d"], table["row"] = d, block
    return table.tobytes()


def _in_blocks(
    part: Path, path: Path, rows: Rows, kind: str, bytes_of: Callable[[Rows], bytes], head: bytes = b""
) -> None:
    """Rows as `kind`, some at a time."""
    step = max(1, (1 << 24) // rows.shape[1])
    with part.open("wb") as file:
        file.write(head)
        for start in range(0, len(rows), step):
            file.write(bytes_of(_converted(path, rows[start : start + step], kind)))


def _converted(path: Path, block: Rows, kind: str) -> Rows:
    dtype = np.dtype(kind)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if not ((block >= limits.min) & (block <= limits.max) & (block == np.floor(block))).all():
            raise Failure(
                f"{path}: some values are no integers of {limits.min}..{limits.max}, which {path.suffix} holds"
            )
    with np.errstate(over="ignore"):  # said below, as an error
        converted: Rows = block.astype(dtype)
    if dtype.kind == "f" and not np.isfinite(converted).all():
        raise Failure(f"{path}: some values are not finite as {dtype.itemsize * 8}-bit floats")
    return converted


def _write_parquet(part: Path, rows: Rows, column: str) -> None:
    pyarrow, parquet = _pyarrow()
    writer = None
    step = max(1, (1 << 22) // rows.shape[1])
    for start in range(0, len(rows), step):
        block = np.ascontiguousarray(rows[start : start + step])
        offsets = np.arange(0, block.size + 1, block.shape[1], dtype=np.int32)
        lists = pyarrow.ListArray.from_arrays(pyarrow.array(offsets), pyarrow.array(block.reshape(-1)))
        ids = pyarrow.array(np.arange(start, start + len(block), dtype=np.int64))
        table = pyarrow.table({ID_COLUMN: ids, column: lists})
        writer = writer or parquet.ParquetWriter(part, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()
