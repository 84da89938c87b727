"""Files of vectors of the command line: what is read is what was written, what is wrong is said."""

import pathlib
import struct

import numpy as np
import pytest

from faiss_ext import _vector_files as vectors
from faiss_ext._errors import Failure, UsageError

X = np.random.default_rng(1).integers(-100, 100, (50, 6))
UNSIGNED = np.abs(X)


def written_by_hand(path, kind, rows):
    """The bytes of a format, by its definition."""
    n, d = rows.shape
    with open(path, "wb") as file:
        if path.suffix.endswith("vecs"):
            for row in rows:
                file.write(struct.pack("<i", d) + row.astype(kind).tobytes())
        else:
            file.write(struct.pack("<II", n, d) + rows.astype(kind).tobytes())


@pytest.mark.parametrize(
    "suffix, kind",
    [
        (".fvecs", "<f4"),
        (".bvecs", "u1"),
        (".ivecs", "<i4"),
        (".fbin", "<f4"),
        (".hbin", "<f2"),
        (".u8bin", "u1"),
        (".i8bin", "i1"),
        (".ibin", "<i4"),
    ],
)
def test_binary_formats(tmp_path, suffix, kind):
    rows = UNSIGNED if kind == "u1" else X
    by_hand, by_us = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    written_by_hand(by_hand, kind, rows)
    found = vectors.read(by_hand)
    np.testing.assert_array_equal(found.rows, rows)
    assert found.rows.dtype == np.dtype(kind) and found.ids is None
    assert isinstance(found.rows, np.memmap) or isinstance(found.rows.base, np.memmap)
    vectors.write(by_us, rows.astype(np.float64))
    assert by_us.read_bytes() == by_hand.read_bytes()


def test_npy_is_mapped(tmp_path):
    np.save(tmp_path / "a.npy", X)
    found = vectors.read(tmp_path / "a.npy").rows
    np.testing.assert_array_equal(found, X)
    assert isinstance(found, np.memmap)


def test_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "set.hdf5", "w") as file:
        file["train"], file["test"], file["neighbors"] = X.astype(np.float32), X[:3].astype(np.float32), X[:3, :2]
    np.testing.assert_array_equal(vectors.read(tmp_path / "set.hdf5").rows, X)
    np.testing.assert_array_equal(vectors.read(tmp_path / "set.hdf5", use="queries").rows, X[:3])
    np.testing.assert_array_equal(vectors.read(tmp_path / "set.hdf5", use="neighbors").rows, X[:3, :2])
    np.testing.assert_array_equal(vectors.read(tmp_path / "set.hdf5", "test").rows, X[:3])
    with pytest.raises(UsageError, match="no data set 'rows'.*it has: neighbors, test, train"):
        vectors.read(tmp_path / "set.hdf5", "rows")
    vectors.write(tmp_path / "new.h5", X)
    np.testing.assert_array_equal(vectors.read(tmp_path / "new.h5").rows, X)
    (tmp_path / "bad.hdf5").write_bytes(b"nonsense")
    with pytest.raises(Failure, match="bad.hdf5: no HDF5 file"):
        vectors.read(tmp_path / "bad.hdf5")


def test_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    ids = np.arange(50) * 3 + 1
    table = pa.table({"id": ids, "emb": pa.array(list(X.astype(np.float32)))})
    parquet.write_table(table, tmp_path / "train.parquet", row_group_size=20)
    found = vectors.read(tmp_path / "train.parquet")
    np.testing.assert_array_equal(found.rows, X)
    np.testing.assert_array_equal(found.ids, ids)
    vectors.write(tmp_path / "new.parquet", X.astype(np.float32))
    found = vectors.read(tmp_path / "new.parquet")
    np.testing.assert_array_equal(found.rows, X)
    np.testing.assert_array_equal(found.ids, np.arange(50))
    for name, column, message in (
        ("ragged", pa.array([[1.0], [1.0, 2.0]]), "different lengths"),
        ("flat", pa.array([1.0, 2.0]), "allowed: lists"),
        ("words", pa.array([["a"], ["b"]]), "allowed: floats or integers"),
    ):
        parquet.write_table(pa.table({"emb": column}), tmp_path / f"{name}.parquet")
        with pytest.raises(Failure, match=message):
            vectors.read(tmp_path / f"{name}.parquet")
    with pytest.raises(UsageError, match="no column 'x'.*it has: emb"):
        vectors.read(tmp_path / "flat.parquet", "x")
    (tmp_path / "bad.parquet").write_bytes(b"nonsense")
    with pytest.raises(Failure, match="bad.parquet: no Parquet file"):
        vectors.read(tmp_path / "bad.parquet")


@pytest.mark.parametrize(
    "name, content, error, message",
    [
        ("a.txt", b"1", UsageError, r"unknown format '.txt' \(known: .npy"),
        ("a", b"1", UsageError, "without a suffix"),
        ("a.npy", b"nonsense", Failure, "no .npy file"),
        ("a.fvecs", b"", Failure, "0 bytes"),
        ("a.fvecs", b"\xff\xff\xff\xff1234", Failure, "no whole number of rows"),
        ("a.fvecs", struct.pack("<ifif", 1, 1.0, 2, 1.0), Failure, "different numbers of dimensions"),
        ("a.fvecs", struct.pack("<ifi", 1, 1.0, 1), Failure, "no whole number"),
        ("a.fbin", b"123", Failure, "head"),
        ("a.fbin", struct.pack("<II", 2, 2) + b"1234", Failure, "12 bytes, but its head says 2 x 2"),
        ("a.fbin", struct.pack("<II", 0, 3), Failure, r"shape is \(0, 3\)"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path, name, content, error, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        vectors.read(tmp_path / name)


def test_arrays_that_are_no_rows(tmp_path):
    for array, message in (
        (np.zeros(3), "shape is"),
        (np.zeros((2, 3), complex), "allowed: floats"),
        (np.array([[{}]], object), "no .npy file"),
    ):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(Failure, match=message):
            vectors.read(tmp_path / "a.npy")
    with pytest.raises(UsageError, match="a column is named"):
        vectors.read(tmp_path / "a.npy", "emb")
    with pytest.raises(Failure, match="no such file"):
        vectors.read(tmp_path / "b.npy")
    with pytest.raises(Failure, match="not a regular file"):
        (tmp_path / "folder.npy").mkdir()
        vectors.read(tmp_path / "folder.npy")


@pytest.mark.parametrize(
    "suffix, value", [(".u8bin", -1), (".u8bin", 0.5), (".bvecs", 256), (".hbin", 1e6), (".ivecs", np.nan)]
)
def test_values_that_a_format_cannot_hold(tmp_path, suffix, value):
    target = tmp_path / f"a{suffix}"
    target.write_bytes(b"before")
    with pytest.raises(Failure, match=suffix[1:] if suffix != ".hbin" else "16-bit"):
        vectors.write(target, np.array([[1.0, value]]))
    assert target.read_bytes() == b"before" and list(tmp_path.iterdir()) == [target]


def test_a_file_is_whole_or_not_there(tmp_path):
    with pytest.raises(KeyboardInterrupt), vectors.whole_file(tmp_path / "a.npy") as part:
        part.write_bytes(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Failure, match="not a regular file"), vectors.whole_file(tmp_path):
        raise AssertionError("not reached")
    with pytest.raises(Failure, match="No such file"), vectors.whole_file(pathlib.Path("/no/such/folder/a.npy")):
        raise AssertionError("not reached")
