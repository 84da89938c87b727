"""Files, mmap, pickle, clone, export."""

import copy
import os
import pickle
import signal
import time

import numpy as np
import pytest
from conftest import made
from reference import brute_force, recall

import faiss_ext as fx

KINDS = [
    "IVF32,ScaNN,RFlat",
    "IVF32,ScaNN,SQ8",
    "IVF32,ScaNN(soar_lambda=1),SQfp16,RFlat",
    "IDMap2,IVF32,ScaNN,RFlat",
    "PCA40,IVF32,ScaNN,SQ8",
    "IVF32_HNSW8,ScaNN(normalize=1)",
]


def same_answers(a, b, q):
    for A, B in zip(a.search(q, 10, nprobe=8), b.search(q, 10, nprobe=8)):
        np.testing.assert_array_equal(A, B)


@pytest.mark.parametrize("description", KINDS)
def test_round_trip(x, q, tmp_path, description):
    metric = fx.METRIC_INNER_PRODUCT
    index = fx.index_factory(50, description, metric)
    index.train(x)
    index.add_with_ids(x, 5 * np.arange(len(x)))
    index.nprobe = 7
    path = tmp_path / "a.scann"
    fx.write_index(index, path)
    for other in (
        fx.read_index(path),
        fx.read_index(str(path), mmap=True),
        fx.clone_index(index),
        copy.deepcopy(index),
        pickle.loads(pickle.dumps(index)),
        fx.deserialize_index(fx.serialize_index(index)),
        fx.deserialize_index(fx.serialize_index(index).tobytes()),
    ):
        assert repr(other) == repr(index)
        assert (other.ntotal, other.nprobe, other.metric_type) == (len(x), 7, metric)
        same_answers(index, other, q)
        np.testing.assert_array_equal(other.reconstruct(35), index.reconstruct(35))
        assert other.remove_ids([35]) == 1 and index.ntotal == len(x)
        other.add_with_ids(x[7:8], [35])
        # BLAS rounds one row of a PCA otherwise than thousands
        np.testing.assert_allclose(other.reconstruct(35), index.reconstruct(35), atol=1e-5)


def test_untrained_and_empty(x, q, tmp_path):
    index = fx.index_factory(50, "IVF8,ScaNN,SQ8")
    fx.write_index(index, tmp_path / "a")
    again = fx.read_index(tmp_path / "a")
    assert not again.is_trained
    again.train(x)
    for mmap in (False, True):
        fx.write_index(again, tmp_path / "b")
        empty = fx.read_index(tmp_path / "b", mmap=mmap)
        empty.add(x)
        assert empty.search(q, 3)[1].shape == (len(q), 3)


def test_mmap_leaves_the_file_alone(index, x, q, tmp_path):
    path = tmp_path / "a.scann"
    fx.write_index(index, path)
    before = path.read_bytes()
    mapped = fx.read_index(path, mmap=True)
    assert mapped.memory_usage() == pytest.approx(index.memory_usage(), rel=0.05)
    mapped.add(x[:100])
    mapped.remove_ids(np.arange(50))
    mapped.update_vectors([60], x[:1])
    assert path.read_bytes() == before
    fx.write_index(mapped, path)  # over the file that is mapped
    assert fx.read_index(path).ntotal == len(x) + 50
    same_answers(mapped, fx.read_index(path, mmap=True), q)
    os.unlink(path)
    assert mapped.search(q, 3)[1].shape == (len(q), 3)


def test_a_mapped_file_can_be_verified(index, q, tmp_path):
    path = tmp_path / "a.scann"
    fx.write_index(index, path)
    same_answers(index, fx.read_index(path, mmap=True, verify=True), q)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) * 9 // 10] ^= 1  # in the lists, which fill most of it
    path.write_bytes(damaged)
    fx.read_index(path, mmap=True)
    for arguments in ({"mmap": True, "verify": True}, {"verify": True}, {}):
        with pytest.raises(RuntimeError, match="wrong checksum"):
            fx.read_index(path, **arguments)


def test_opening_is_fast(x, tmp_path):
    big = made("IVF64,ScaNN,RFlat", x)
    for _ in range(4):
        big.add(x)
    path = tmp_path / "a.scann"
    fx.write_index(big, path)
    start = time.perf_counter()
    fx.read_index(path, mmap=True)
    assert time.perf_counter() - start < 0.25  # milliseconds on a quiet machine


def test_missing_and_unwritable(index, tmp_path):
    for mmap in (False, True):
        with pytest.raises(RuntimeError, match="no-such-file"):
            fx.read_index(tmp_path / "no-such-file", mmap=mmap)
    with pytest.raises(RuntimeError, match="no-such-directory"):
        fx.write_index(index, tmp_path / "no-such-directory" / "a")
    with pytest.raises(RuntimeError):
        fx.export_to_faiss(index, tmp_path / "no-such-directory" / "a")
    with pytest.raises(RuntimeError):
        fx.write_index(index, tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["a pipe", "a directory", "a device"])
def test_only_regular_files(index, tmp_path, kind):
    path = tmp_path / "it"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a directory":
        path.mkdir()
    else:
        path = "/dev/zero"
    before = os.stat(path)
    signal.alarm(60)  # without somebody at its other end a pipe waits for ever
    for work in (
        lambda: fx.read_index(path),
        lambda: fx.read_index(path, mmap=True),
        lambda: fx.write_index(index, path),
        lambda: fx.export_to_faiss(index, path),
    ):
        with pytest.raises(RuntimeError, match=f"{path}: it is {kind}, not a regular file"):
            work()
    signal.alarm(0)
    assert os.stat(path) == before
    assert os.listdir(tmp_path) in ([], ["it"])


def test_full_disk(index, tmp_path):
    path = tmp_path / "a.scann"
    path.write_bytes(b"old")
    import resource
    import signal

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        with pytest.raises(RuntimeError):
            fx.write_index(index, path)
        with pytest.raises(RuntimeError):
            fx.export_to_faiss(index, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.scann"]


@pytest.mark.parametrize("mmap", [False, True])
def test_damaged_files(index, tmp_path, mmap):
    path = tmp_path / "a.scann"
    fx.write_index(index, path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for cut in [0, 1, 7, 8, 100, 1000, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:cut])
        with pytest.raises(RuntimeError):
            fx.read_index(path, mmap=mmap)
    for place in range(64):
        broken = bytearray(whole)
        broken[place] ^= 1 << rng.integers(8)
        path.write_bytes(broken)
        with pytest.raises(RuntimeError):
            fx.read_index(path, mmap=mmap)
    if not mmap:  # every byte is under a checksum
        for place in rng.integers(0, len(whole), 20):
            broken = bytearray(whole)
            broken[place] ^= 255
            path.write_bytes(broken)
            with pytest.raises(RuntimeError):
                fx.read_index(path)


def test_damaged_bytes(index):
    data = fx.serialize_index(index)
    for bad in (data[:-1], data[:100], data[:0], b"", b"nonsense" * 100):
        with pytest.raises(RuntimeError):
            fx.deserialize_index(bad)
    with pytest.raises(ValueError, match="uint8"):
        fx.deserialize_index(data.astype(np.int32))
    with pytest.raises(ValueError, match="contiguous"):
        fx.deserialize_index(data[::2])
    with pytest.raises(TypeError):
        fx.deserialize_index("text")
    with pytest.raises(RuntimeError):
        index.__class__.__new__(index.__class__).__setstate__(b"junk")


def test_no_constructor():
    with pytest.raises(TypeError):
        fx.Index()


def test_arrays_of_serialize_outlive_the_index(index, q):
    data = fx.serialize_index(index)
    want = index.search(q, 3)[1]
    del index
    np.testing.assert_array_equal(fx.deserialize_index(data).search(q, 3)[1], want)


@pytest.mark.parametrize("metric", [fx.METRIC_L2, fx.METRIC_INNER_PRODUCT])
@pytest.mark.parametrize("description", ["IVF32,ScaNN,RFlat", "IVF32,ScaNN"])
def test_export(x, q, tmp_path, description, metric):
    faiss = pytest.importorskip("faiss", reason="PyPI faiss-cpu is not installed")
    index = made(description, x, metric)
    path = tmp_path / "plain.faiss"
    fx.export_to_faiss(index, path)
    plain = faiss.read_index(str(path))
    assert plain.ntotal == len(x) and os.listdir(tmp_path) == ["plain.faiss"]
    ivf = faiss.extract_index_ivf(faiss.downcast_index(plain))
    ivf.nprobe = 32
    if "RFlat" in description:
        base = plain.index if isinstance(plain, faiss.IndexPreTransform) else plain
        faiss.downcast_index(base).k_factor = 10
    _, truth = brute_force(x, q, 10, metric)
    ours = recall(index.search(q, 10, nprobe=32)[1], truth)
    theirs = recall(plain.search(q, 10)[1], truth)
    assert theirs > ours - (0.1 if "RFlat" in description else 0.2)


def test_beside_faiss_cpu(shared_l2, x, q):
    """Both packages in one process, each with its own Faiss."""
    faiss = pytest.importorskip("faiss", reason="PyPI faiss-cpu is not installed")
    plain = faiss.IndexFlatL2(50)
    plain.add(x)
    _, I = shared_l2.search(q, 10, nprobe=32, reorder_k=len(x))
    assert recall(I, plain.search(q, 10)[1]) > 0.995


def test_a_name_that_is_no_utf8_is_shown(tmp_path):
    with pytest.raises(RuntimeError, match=r"index file .*\\xff: No such file or directory$"):
        fx.read_index(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
