"""Names of Faiss' module beside searches and lists: parameters by text, wrappers
by class, normalize_L2, several indexes as one; what is said to Faiss' users."""

import threading

import numpy as np
import pytest
from conftest import made

import faiss_ext as fx

try:
    import faiss
except ImportError:
    faiss = None

needs_faiss = pytest.mark.skipif(faiss is None, reason="faiss-cpu is not installed")


# ------------------------------------------------------------ normalize_L2


def test_normalize_scales_rows_in_place(x):
    rows = x.copy()
    rows[3] = 0
    rows[4] *= 1e30
    rows[5] *= 1e-30
    address = rows.ctypes.data
    assert fx.normalize_L2(rows) is None and rows.ctypes.data == address
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    assert lengths[3] == 0
    np.testing.assert_allclose(np.delete(lengths, 3), 1, atol=1e-6)
    np.testing.assert_allclose(rows[5], x[5] / np.linalg.norm(x[5]), rtol=1e-4)
    if faiss is not None:
        theirs = x.copy()
        faiss.normalize_L2(theirs)
        np.testing.assert_allclose(np.delete(rows, [3], 0), np.delete(theirs, [3], 0), atol=1e-6)
    many = np.random.default_rng(0).random((300_000, 2), dtype=np.float32)
    fx.normalize_L2(many)
    np.testing.assert_allclose(np.linalg.norm(many, axis=1), 1, atol=1e-6)
    for empty in (np.zeros((0, 5), np.float32), np.zeros((5, 0), np.float32)):
        fx.normalize_L2(empty)


def test_normalize_refuses_what_it_cannot_change(x):
    read_only = x.copy()
    read_only.flags.writeable = False
    wrong = [x.astype(np.float64), np.asfortranarray(x), x[:, ::2], x[::2], x[0], read_only, x.astype(">f4"), x[None]]
    for array in wrong:
        before = array.copy()
        with pytest.raises(ValueError, match="allowed: a writable one of float32"):
            fx.normalize_L2(array)
        np.testing.assert_array_equal(array, before)
    for other in (x.tolist(), None, 3, memoryview(x)):
        with pytest.raises(TypeError, match=r"allowed: a numpy\.ndarray"):
            fx.normalize_L2(other)


# -------------------------------------------------------------- parameters


def test_parameters_by_text(index):
    index.set_index_parameters("nprobe=5,reorder_k=77,refine_k=88,max_codes=99")
    assert (index.nprobe, index.reorder_k, index.refine_k, index.max_codes) == (5, 77, 88, 99)
    space = fx.ParameterSpace()
    space.set_index_parameters(index, "nprobe=6")
    space.set_index_parameter(index, "reorder_k", 12)
    space.set_index_parameter(index, "max_codes", 0.0)
    space.set_index_parameter(index, "refine_k", np.int64(9))
    assert (index.nprobe, index.reorder_k, index.refine_k, index.max_codes) == (6, 12, 9, 0)
    wrapped = fx.index_factory(50, "IDMap2,PCA20,IVF16,Flat")
    wrapped.set_index_parameters("nprobe=7,max_codes=10")
    assert wrapped.nprobe == 7
    with pytest.raises(ValueError, match=r"allowed: .* with nprobe, max_codes\)$"):
        wrapped.set_index_parameters("reorder_k=3")
    with pytest.raises(AttributeError, match="needs an IVF index"):
        fx.index_factory(50, "Flat").set_index_parameters("nprobe=3")


@pytest.mark.parametrize(
    "text, message",
    [
        ("nprobe=4,efSearch=3", r'"efSearch=3" in "nprobe=4,efSearch=3" \(allowed: <name>=<value>'),
        ("nprobe=4,nprobe=5", "nprobe is given twice"),
        ("nprobe=33", r"nprobe = 33 \(allowed: 1\.\.32"),
        ("reorder_k=7,nprobe=0", "nprobe = 0"),
        ("nprobe=4,reorder_k=-1", "reorder_k = -1"),
        ("nprobe=four", "allowed: an integer after nprobe="),
        ("nprobe=4.5", "allowed: an integer"),
        ("nprobe=", "allowed: an integer"),
        ("nprobe=99999999999999999999", "allowed: an integer"),
        ("nprobe", '"nprobe" in'),
        ("nprobe=4,", '"" in'),
        ("", '"" in'),
        ("nprobe =4", "allowed"),
        ("=4", "allowed"),
        ("n=4", "allowed"),
    ],
)
def test_wrong_texts_change_nothing(index, text, message):
    before = index.nprobe, index.reorder_k, index.refine_k, index.max_codes
    with pytest.raises(ValueError, match=message):
        index.set_index_parameters(text)
    assert (index.nprobe, index.reorder_k, index.refine_k, index.max_codes) == before
    with pytest.raises((ValueError, TypeError)):
        fx.ParameterSpace().set_index_parameter(index, "nprobe", "4,reorder_k")


# ---------------------------------------------------------------- wrappers


def test_extract_and_downcast():
    index = fx.index_factory(16, "IDMap,PCA8,IVF8,Flat")
    assert fx.downcast_index(index) is index and fx.extract_index_ivf(index) is index
    with pytest.raises(ValueError, match="no IVF index inside"):
        fx.extract_index_ivf(fx.index_factory(16, "Flat"))
    for call in (fx.downcast_index, fx.extract_index_ivf):
        with pytest.raises(TypeError, match="allowed: Index"):
            call(3)


@pytest.mark.parametrize("make", [fx.IndexIDMap, fx.IndexIDMap2])
@pytest.mark.parametrize("kind", ["IVF16,ScaNN,RFlat", "Flat", "PCA20,IVF16,ScaNN", "IVF16,Flat"])
def test_id_maps_by_class(x, q, make, kind):
    inner = fx.index_factory(50, kind)
    inner.train(x)
    ids = np.random.default_rng(0).permutation(10**6)[: len(x)]
    index = make(inner)
    assert index.is_trained and index.ntotal == 0
    index.add_with_ids(x, ids)
    same = fx.index_factory(50, kind)
    same.train(x)
    same.add(x)
    nprobe = {} if kind == "Flat" else {"nprobe": 16}
    np.testing.assert_array_equal(index.search(q, 5, **nprobe)[1], ids[same.search(q, 5, **nprobe)[1]])
    assert inner.ntotal == 0  # a copy was wrapped
    with pytest.raises(ValueError, match=r"holds 4000 vectors \(allowed: an empty one"):
        make(same)
    with pytest.raises(ValueError, match="maps ids already"):
        make(index)


@pytest.mark.parametrize("outer", ["IDMap,", "IDMap2,"])
@pytest.mark.parametrize("kind", ["Flat", "SQ8", "IVF16,Flat", "PCA20,IVF16,SQ8", "IVF16,ScaNN,RFlat"])
def test_id_maps_keep_their_ids_after_removals(x, q, outer, kind):
    ids = np.random.default_rng(0).permutation(10**6)[: len(x)]
    index = fx.index_factory(50, outer + kind)
    index.train(x)
    index.add_with_ids(x[:3000], ids[:3000])
    gone = ids[np.r_[0:10, 500:900, 2999]]
    assert index.remove_ids(np.r_[gone, 2 * 10**6]) == 411 and index.ntotal == 2589
    index.add_with_ids(x[3000:], ids[3000:])
    assert index.remove_ids(fx.IDSelectorBatch(ids[3500:3600])) == 100 and index.remove_ids(gone) == 0
    left = np.setdiff1d(np.arange(len(x)), np.r_[0:10, 500:900, 2999, 3500:3600])
    same = fx.index_factory(50, kind)
    same.train(x)
    same.add(x[left])
    every = {} if "IVF" not in kind else {"nprobe": 16}
    D, I = same.search(q, 5, **every)
    np.testing.assert_array_equal(index.search(q, 5, **every)[0], D)
    np.testing.assert_array_equal(index.search(q, 5, **every)[1], ids[left][I])


@pytest.mark.parametrize("outer", ["IDMap,", "IDMap2,"])
def test_id_maps_remove_where_lists_have_a_direct_map(x, outer):
    index = fx.index_factory(50, outer + "IVF16,Flat")
    index.train(x)
    index.add_with_ids(x[:1000], np.arange(1000) + 10**6)
    index.set_direct_map_type(fx.DirectMap.Hashtable)
    for first in (0, 300):
        assert index.remove_ids(np.arange(first, first + 100) + 10**6) == 100
    assert index.ntotal == 800
    np.testing.assert_array_equal(index.search(x[100:300], 1, nprobe=16)[1].ravel(), np.arange(100, 300) + 10**6)
    np.testing.assert_array_equal(index.reconstruct_batch(np.arange(400, 1000) + 10**6), x[400:1000])


def test_id_maps_are_saved(x, tmp_path):
    index = fx.IndexIDMap2(fx.index_factory(50, "IVF16,ScaNN,RFlat"))
    index.train(x)
    index.add_with_ids(x[:500], np.arange(500) + 10**6)
    fx.write_index(index, tmp_path / "index")
    read = fx.read_index(tmp_path / "index")
    np.testing.assert_array_equal(read.search(x[:20], 1, nprobe=16)[1].ravel(), np.arange(20) + 10**6)


@pytest.mark.parametrize(
    "transform, text",
    [
        (fx.PCAMatrix(50, 20), "PCA20"),
        (fx.PCAMatrix(50, 20, -0.5, True), "PCAWR20"),
        (fx.OPQMatrix(50, 5, 20), "OPQ5_20"),
        (fx.RandomRotationMatrix(50, 20), "RR20"),
        (fx.NormalizationTransform(20), "L2norm"),
    ],
)
def test_transforms_by_class_are_those_of_the_factory(x, q, transform, text):
    d = transform.d_in
    rows, queries = np.ascontiguousarray(x[:, :d]), np.ascontiguousarray(q[:, :d])
    index = fx.IndexPreTransform(transform, fx.index_factory(20, "IVF16,ScaNN,RFlat"))
    same = fx.index_factory(d, text + ",IVF16,ScaNN,RFlat")
    for one in (index, same):
        assert not one.is_trained
        one.train(rows[:600])  # OPQ learns slowly
        one.add(rows)
    assert index.d == d
    for a, b in zip(index.search(queries, 5, nprobe=8), same.search(queries, 5, nprobe=8)):
        np.testing.assert_array_equal(a, b)


def test_wrong_transforms(x):
    inner = fx.index_factory(20, "IVF16,ScaNN")
    for make, message in [
        (lambda: fx.IndexPreTransform(fx.PCAMatrix(50, 21), inner), "makes vectors of 21 dimensions; .* d = 20"),
        (lambda: fx.IndexPreTransform(fx.PCAMatrix(0, 20), inner), "d = 0"),
        (lambda: fx.IndexPreTransform(fx.PCAMatrix(10, 20), inner), "PCA20"),
        (lambda: fx.IndexPreTransform(fx.VectorTransform(20, 20, "IVF4"), inner), "IVF4"),
        (lambda: fx.IndexPreTransform(fx.VectorTransform(20, 20, "Flat"), inner), "Flat"),
        (lambda: fx.IndexPreTransform(fx.VectorTransform(20, 20, ""), inner), "nothing"),
        (lambda: fx.PCAMatrix(50, 20, 0.3), r"eigen_power = 0\.3 \(allowed: 0, -0\.5"),
        (lambda: fx.IndexPreTransform(fx.PCAMatrix(50, 50), made("IVF16,ScaNN", x)), "holds 4000 vectors"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
    for make in (
        lambda: fx.IndexPreTransform("PCA20", inner),
        lambda: fx.IndexPreTransform(fx.PCAMatrix(50, 20), 3),
        lambda: fx.IndexIDMap(None),
        lambda: fx.IndexIDMap("Flat"),
    ):
        with pytest.raises(TypeError):
            make()


# ------------------------------------------------- several indexes as one


@pytest.fixture
def parts(x):
    index = fx.index_factory(50, "IVF16,ScaNN,RFlat")
    index.train(x)
    index.nprobe = 16
    return [fx.clone_index(index) for _ in range(3)]


@pytest.mark.parametrize("successive", [True, False])
def test_shards_answer_as_one_index(x, q, parts, successive):
    shards = fx.IndexShards(50, False, successive)
    for part in parts:
        shards.add_shard(part)
    assert (shards.count(), shards.d, shards.ntotal, shards.is_trained) == (3, 50, 0, True)
    assert shards.at(1) is parts[1] and shards.metric_type == fx.METRIC_L2
    del parts
    shards.add(x)
    assert shards.ntotal == len(x) and [shards.at(i).ntotal for i in range(3)] == [1333, 1333, 1334]
    whole = made("IVF16,ScaNN,RFlat", x)
    want = whole.search(q, 10, nprobe=16, reorder_k=4000)
    got = shards.search(q, 10, reorder_k=1400)
    np.testing.assert_array_equal(got[1], want[1])
    np.testing.assert_allclose(got[0], want[0], rtol=1e-6)
    got = shards.search(q, 10, fx.SearchParametersScaNN(reorder_k=1400))
    np.testing.assert_array_equal(got[1], want[1])
    assert shards.search(q[:0], 4)[1].shape == (0, 4)
    if successive:
        for call in (
            lambda: shards.search(q, 3, filter=[1]),
            lambda: shards.search(q, 3, fx.SearchParameters([1])),
            lambda: shards.add(x),
            lambda: shards.add_with_ids(x, np.arange(len(x))),
            lambda: shards.remove_ids([1]),
        ):
            with pytest.raises(ValueError, match="successive_ids"):
                call()
    else:
        I = shards.search(q, 5, filter=np.arange(0, len(x), 2))[1]
        assert (I % 2 == 0).all()
        assert shards.remove_ids(np.arange(100)) == 100
        shards.add_with_ids(x[:100], np.arange(100) + 10**9)
        assert shards.search(x[:100], 1)[1].ravel().tolist() == list(range(10**9, 10**9 + 100))
    shards.reset()
    assert shards.ntotal == 0 and (shards.search(q, 2)[1] == -1).all()


def test_shards_of_few_vectors_are_filled_up(x, parts):
    shards = fx.IndexShards(successive_ids=False)
    for part in parts:
        shards.add_shard(part)
    shards.add(x[:5])
    D, I = shards.search(x[:5], 10)
    assert (I[:, 0] == np.arange(5)).all() and ((I >= 0).sum(1) == 5).all() and (I[:, 5:] == -1).all()
    assert shards.metric_type == fx.METRIC_L2


def test_inner_products_are_merged_largest_first(x, q):
    index = fx.index_factory(50, "IVF16,ScaNN,RFlat", fx.METRIC_INNER_PRODUCT)
    index.train(x)
    index.nprobe = 16
    shards = fx.IndexShards(50)
    for _ in range(2):
        shards.add_shard(fx.clone_index(index))
    shards.add(x)
    index.add(x)
    np.testing.assert_array_equal(shards.search(q, 10, reorder_k=2000)[1], index.search(q, 10, reorder_k=4000)[1])


@pytest.mark.parametrize("kind", [fx.IndexShards, fx.IndexReplicas])
def test_wrong_parts_change_nothing(x, parts, kind):
    both = kind()
    add = both.add_shard if kind is fx.IndexShards else both.add_replica
    remove = both.remove_shard if kind is fx.IndexShards else both.remove_replica
    for call in (lambda: both.search(x, 1), lambda: both.add(x), lambda: both.train(x), lambda: both.metric_type):
        with pytest.raises(ValueError, match="there are no parts"):
            call()
    add(parts[0])
    wrong = [parts[0], fx.index_factory(49, "Flat"), fx.index_factory(50, "Flat", fx.METRIC_INNER_PRODUCT)]
    for index in wrong:
        with pytest.raises(ValueError, match="part already|allowed: d = 50|another metric"):
            add(index)
    for index in (None, 3, both, "Flat"):
        with pytest.raises(TypeError, match="allowed: Index"):
            add(index)
    assert both.count() == 1 and both.at(0) is parts[0]
    for i in (-1, 1):
        with pytest.raises(ValueError, match=f"i = {i}"):
            both.at(i)
    with pytest.raises(ValueError, match="no part"):
        remove(parts[1])
    add(parts[1])
    remove(parts[0])
    assert both.count() == 1 and both.at(0) is parts[1]
    with pytest.raises(ValueError, match="threaded = True"):
        kind(50, True)
    for d in (-1, 1.5, "3", True):
        with pytest.raises(ValueError, match="d = "):
            kind(d)


@pytest.mark.parametrize("kind", [fx.IndexShards, fx.IndexReplicas])
def test_an_add_that_fails_leaves_all_parts(x, parts, kind):
    both = kind()
    parts.append(fx.index_factory(50, "IVF16,ScaNN,RFlat"))  # not trained
    for part in parts:
        (both.add_shard if kind is fx.IndexShards else both.add_replica)(part)
    assert not both.is_trained
    with pytest.raises(ValueError, match="not trained"):
        both.add(x)
    assert [part.ntotal for part in parts] == [0, 0, 0, 0] and both.ntotal == 0
    for wrong in (x[:, :49], x[0], np.where(np.arange(50) == 3, np.nan, x)):
        with pytest.raises(ValueError):
            both.add(wrong)
    both.train(x)
    both.add(x)
    assert both.is_trained and both.ntotal == len(x)


def test_replicas(x, q, parts):
    replicas = fx.IndexReplicas(50)
    for part in parts:
        replicas.add_replica(part)
    replicas.add(x)
    assert replicas.ntotal == len(x) and [part.ntotal for part in parts] == [len(x)] * 3
    found = [replicas.search(q, 5, nprobe=8)[1] for _ in range(4)]
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)
    assert replicas.remove_ids(fx.IDSelectorRange(0, 10)) == 10
    assert [part.ntotal for part in parts] == [len(x) - 10] * 3
    more = fx.clone_index(parts[0])
    more.reset()
    with pytest.raises(ValueError, match=r"holds 0 vectors \(allowed: 3990"):
        replicas.add_replica(more)
    wrong = []

    def search():
        for _ in range(10):
            if (replicas.search(q, 5)[1] < 0).any():
                wrong.append(1)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        replicas.add(x[:10])
        replicas.remove_ids(np.arange(4000, 4100))
    for thread in threads:
        thread.join()
    assert not wrong
    replicas.reset()
    assert replicas.ntotal == 0


# ------------------------------------------------------- what is said


def test_an_index_without_scann_says_what_to_use(x):
    index = made("IVF16,Flat", x)
    for call in (index.calibrate, index.memory_usage, lambda: index.reorder_k, lambda: fx.write_index(index, "x")):
        with pytest.raises(AttributeError, match="needs a ScaNN index; this one is IVF.*IVF1024,ScaNN.*from_faiss"):
            call()


@needs_faiss
@pytest.mark.parametrize(
    "description, name",
    [
        ("IVF16,Flat", "IwFl: IndexIVFFlat"),
        ("Flat", "IxF2: IndexFlat"),
        ("IVF16,PQ10x4fs", "IwPf: IndexIVFPQFastScan"),
        ("IVF16,PQ10x4", "IwPQ: IndexIVFPQ"),
        ("IVF16,SQ8", "IwSq: IndexIVFScalarQuantizer"),
        ("HNSW16", "IHNf: IndexHNSWFlat"),
        ("IDMap2,Flat", "IxM2: IndexIDMap2"),
        ("PCA20,Flat", "IxPT: IndexPreTransform"),
        ("Flat,RFlat", "IxRF: IndexRefine"),
    ],
)
def test_a_file_of_faiss_is_named(x, tmp_path, description, name):
    index = faiss.index_factory(50, description)
    index.train(x)
    if "IDMap" in description:
        index.add_with_ids(x[:100], np.arange(100))
    else:
        index.add(x[:100])
    path = str(tmp_path / "theirs.faiss")
    faiss.write_index(index, path)
    for call, source in (
        (lambda: fx.read_index(path), "path"),
        (lambda: fx.read_index(path, mmap=True), "path"),
        (lambda: fx.deserialize_index(faiss.serialize_index(index)), "data"),
    ):
        says = rf"a file of Faiss \({name}\).*faiss_ext\.from_faiss\({source}\)$"
        with pytest.raises(RuntimeError, match=says):
            call()


def test_other_files_are_not_taken_for_those_of_faiss(tmp_path):
    path = tmp_path / "other"
    for content in (b"hello" * 100, b"IwF" + bytes(500), bytes(500), b"IwFl"):
        path.write_bytes(content)
        with pytest.raises(RuntimeError) as error:
            fx.read_index(path)
        assert "file of Faiss" not in str(error.value)
