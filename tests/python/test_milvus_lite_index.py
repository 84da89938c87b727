"""The index of one segment of Milvus Lite, called as Milvus Lite calls it."""

import inspect
import subprocess
import sys
import threading

import numpy as np
import pytest
from reference import brute_force, recall

import faiss_ext as fx
from faiss_ext import knowhere
from faiss_ext.milvus_lite_index import ScannIndex, activity, searching_with

METRICS = next(p.words for p in knowhere.parameters("SCANN") if p.name == "metric_type")
K = 10
EXACT = {"nprobe": 128, "reorder_k": 4000}


def distances_of(x, q, metric, allowed=None):
    """Brute force: distances as Milvus Lite counts them, and ids."""
    scores, ids = brute_force(x, q, K, metric, allowed)
    if metric == "L2":
        return np.sqrt(np.maximum(scores, 0)), ids
    return (-scores if metric == "IP" else 1 - scores), ids


@pytest.fixture(scope="module", params=METRICS)
def built(request, x):
    return ScannIndex.build(x, request.param, {"nlist": "32"})


def test_importing_the_package_does_not_import_milvus_lite():
    code = (
        "import sys, faiss_ext, faiss_ext.milvus_lite as a; a.uninstall();"
        "assert not a.installed(); sys.exit('milvus_lite' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_protocol():
    protocol = pytest.importorskip("milvus_lite.index.protocol", reason="PyPI milvus-lite is not installed").VectorIndex
    for name in protocol.__abstractmethods__:
        asked, given = getattr(protocol, name), getattr(ScannIndex, name)
        if callable(asked):
            assert list(inspect.signature(given).parameters) == list(inspect.signature(asked).parameters)
    assert set(protocol.__annotations__) <= set(ScannIndex.__slots__)
    assert ScannIndex.index_type == "SCANN"


def test_exact_where_all_is_looked_at(built, x, q):
    want, truth = distances_of(x, q, built.metric)
    ids, distances = built.search(q, K, params=EXACT)
    assert (ids.dtype, distances.dtype) == (np.int64, np.float32)
    assert recall(ids, truth) > 0.995
    np.testing.assert_allclose(distances, want, rtol=2e-4, atol=2e-3 if built.metric == "L2" else 2e-5)


def test_defaults_find_most(built, x, q):
    _, truth = distances_of(x, q, built.metric)
    assert recall(built.search(q, K)[0], truth) > 0.8


def test_mask_keeps_what_is_true(built, x, q):
    mask = np.random.default_rng(1).random(len(x)) < 0.2
    want, truth = distances_of(x, q, built.metric, mask)
    ids, distances = built.search(q, K, valid_mask=mask, params=EXACT)
    assert mask[ids].all()
    assert recall(ids, truth) > 0.995
    np.testing.assert_allclose(distances, want, rtol=2e-4, atol=2e-3)


def test_padding_is_minus_one_and_infinity(built, x, q):
    mask = np.zeros(len(x), dtype=bool)
    mask[[7, 70, 700]] = True
    ids, distances = built.search(q[:5], K, valid_mask=mask)
    assert np.array_equal(np.sort(ids[:, :3]), np.tile([7, 70, 700], (5, 1)))
    assert (ids[:, 3:] == -1).all() and np.isposinf(distances[:, 3:]).all()
    assert (np.diff(distances[:, :3]) >= 0).all()
    ids, distances = built.search(q[:5], K, valid_mask=np.zeros(len(x), dtype=bool))
    assert (ids == -1).all() and np.isposinf(distances).all()
    ids, _ = built.search(q[:2], len(x) + 5, params=EXACT)
    assert (np.sort(ids[:, :-5]) == np.arange(len(x))).all() and (ids[:, -5:] == -1).all()


def test_shapes_of_nothing(built, q):
    assert built.search(q[:0], K)[0].shape == (0, K)
    assert built.search(q[:3], 0)[0].shape == (3, 0)
    assert built.search(q[0], K)[0].shape == (1, K)


def test_save_and_load(built, q, tmp_path):
    path = str(tmp_path / "segment.scann.idx")
    built.save(path)
    loaded = ScannIndex.load(path, built.metric, built.dim)
    assert (loaded.num_vectors, loaded.dim, loaded.metric) == (built.num_vectors, built.dim, built.metric)
    for a, b in zip(loaded.search(q, K), built.search(q, K)):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match=r"holds 50 dimensions, metric .* \(allowed: 51"):
        ScannIndex.load(path, built.metric, 51)
    with pytest.raises(ValueError, match=r"\(allowed: 50, "):
        ScannIndex.load(path, "IP" if built.metric == "L2" else "L2", 50)


def test_a_failed_save_leaves_the_older_file(built, q, tmp_path):
    path = tmp_path / "segment.idx"
    built.save(str(path))
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="missing"):
        built.save(str(tmp_path / "missing" / "segment.idx"))
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["segment.idx"]


@pytest.mark.parametrize("rows", [0, 1, 2, 38, 39, 500, 2048])
@pytest.mark.parametrize("metric", METRICS)
def test_few_rows_are_served_exactly(x, q, rows, metric, tmp_path):
    index = ScannIndex.build(x[:rows], metric, {"nlist": 64, "with_raw_data": "False"})
    path = str(tmp_path / "few.idx")
    index.save(path)
    for one in (index, ScannIndex.load(path, metric, x.shape[1])):
        ids, distances = one.search(q, K, params={"nprobe": 1})
        found = min(rows, K)
        assert (ids[:, found:] == -1).all()
        if rows:
            want, truth = distances_of(x[:rows], q, metric)
            assert recall(ids[:, :found], truth) > 0.998
            np.testing.assert_allclose(distances[:, :found], want, rtol=2e-4, atol=2e-3)


def test_search_parameters_reach_the_engine(built, x, q):
    _, truth = distances_of(x, q, built.metric)
    found = {}
    for nprobe in (1, "32"):
        ids, _ = built.search(q, K, params={"nprobe": nprobe, "reorder_k": "200"})
        assert activity().last_search == {"nprobe": nprobe, "reorder_k": 200}
        found[int(nprobe)] = recall(ids, truth)
    assert found[1] < found[32] - 0.1
    with searching_with({"nprobe": 3}):
        built.search(q, K)
        assert activity().last_search == {"nprobe": 3}
        built.search(q, K, params={"nprobe": 4})  # what the call says goes first
        assert activity().last_search == {"nprobe": 4}
    built.search(q, K)
    assert activity().last_search == {}


def test_what_a_search_does_not_say_is_what_the_node_chooses(built, x, q):
    node = knowhere.IndexFactory().create("SCANN")
    node.build(x, metric_type=built.metric, nlist=32)
    for given in ({}, {"nprobe": 4}, {"reorder_k": 50}, {"ensure_topk_full": True}):
        scores, want = node.search(q, k=K, **given)
        ids, distances = built.search(q, K, params=given)
        np.testing.assert_array_equal(ids, want)
        np.testing.assert_array_equal(distances, built._nearness(scores))


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_are_as_queries_alone(built, x, threads):
    before = fx.omp_get_max_threads()
    fx.omp_set_num_threads(threads)
    try:
        mask = np.arange(len(x)) % 3 > 0
        ids, distances = built.search(x[:500], K, valid_mask=mask, params={"nprobe": 4})
    finally:
        fx.omp_set_num_threads(before)
    for row in (0, 77, 166, 167, 333, 334, 499):
        alone = built.search(x[row : row + 1], K, valid_mask=mask, params={"nprobe": 4})
        np.testing.assert_array_equal(ids[row], alone[0][0])
        np.testing.assert_array_equal(distances[row], alone[1][0])


def test_search_defaults(built, q):
    built.search_defaults = {"nprobe": "5"}
    try:
        built.search(q, K, params={"reorder_k": 50})
        assert activity().last_search == {"nprobe": "5", "reorder_k": 50}
    finally:
        built.search_defaults = {}


def test_ensure_topk_full(x, q):
    index = ScannIndex.build(x, "L2", {"nlist": 64})
    k = 300  # more than one list holds
    assert (index.search(q, k, params={"nprobe": 1})[0] == -1).any()
    ids, distances = index.search(q, k, params={"nprobe": 1, "ensure_topk_full": "True"})
    assert (ids >= 0).all()
    assert all(len(np.unique(row)) == k for row in ids) and (np.diff(distances, axis=1) >= 0).all()


def test_reorder_k_below_k_is_raised(built, q):
    for spelling in (20, "20", ' "20" '):
        ids, _ = built.search(q, 50, params={"reorder_k": spelling})
        assert (ids >= 0).all() and activity().last_search["reorder_k"] == 50


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("refine, floor", [("none", 0.45), ("int8", 0.9), ("fp16", 0.95), ("bf16", 0.9)])
def test_without_raw_rows(x, q, metric, refine, floor):
    index = ScannIndex.build(x, metric, {"nlist": 16, "with_raw_data": False, "refine_type": refine})
    _, truth = distances_of(x, q, metric)
    ids, distances = index.search(q, K, params={"nprobe": 16, "reorder_k": 200})
    assert recall(ids, truth) > floor
    assert np.isfinite(distances).all()
    assert activity().last_search == {"nprobe": 16, "reorder_k": 200}
    # 200 candidates are rescored by the refine codes: all of them, as far as they are better
    assert refine == "none" or recall(index.search(q, K, params={"nprobe": 16, "reorder_k": 10})[0], truth) < recall(
        ids, truth)


def test_rows_that_are_not_finite_are_never_found(x, q):
    rows = x.copy()
    rows[[3, len(x) - 1]] = np.nan
    rows[17, 4] = np.inf
    index = ScannIndex.build(rows, "COSINE", {"nlist": 16})
    assert index.num_vectors == len(x) - 3
    ids, distances = index.search(rows[16:17], 3, params=EXACT, valid_mask=np.ones(len(x), dtype=bool))
    assert ids[0, 0] == 16 and distances[0, 0] == pytest.approx(0, abs=1e-5)
    every = index.search(q[:1], len(x), params=EXACT)[0]
    assert set(every[0]) == set(range(len(x))) - {3, 17, len(x) - 1} | {-1}


def test_rows_that_are_not_finite_are_never_found_in_files(x, q, tmp_path):
    rows = x.copy()
    rows[[0, 3, len(x) - 1]] = np.nan
    index = ScannIndex.build(rows, "L2", {"nlist": 16})
    path = tmp_path / "holes.idx"
    index.save(str(path))
    loaded = ScannIndex.load(str(path), "L2", x.shape[1])
    assert loaded.num_vectors == len(x) - 3
    mask = np.arange(len(x)) % 2 == 1
    for valid_mask in (None, mask):
        got, want = (one.search(x[[2, 5, 101]], 3, valid_mask=valid_mask, params=EXACT) for one in (loaded, index))
        np.testing.assert_array_equal(got[0], want[0])
        np.testing.assert_array_equal(got[1], want[1])
    assert list(want[0][1:, 0]) == [5, 101] and mask[want[0]].all()
    with pytest.raises(ValueError, match=r"valid_mask has shape .* \(allowed: one flag for each of 4000 rows"):
        loaded.search(q, K, valid_mask=mask[:-1])
    whole = path.read_bytes()
    flipped = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in (8, 9, 17, 25, 40, len(whole) // 2)]
    for damaged in (whole[:20], whole[:1000], whole[:-9], *flipped):
        path.write_bytes(damaged)
        with pytest.raises(RuntimeError, match="holes.idx: "):
            ScannIndex.load(str(path), "L2", x.shape[1])


def test_a_row_of_zeros_has_cosine_0_with_everything(x, q):
    rows = x.copy()
    rows[5] = 0
    index = ScannIndex.build(rows, "COSINE", {"nlist": 16})
    ids, distances = index.search(q[:1], len(x), params=EXACT)
    assert distances[0, list(ids[0]).index(5)] == pytest.approx(1, abs=1e-5)
    ids, distances = index.search(np.zeros((1, 50), dtype=np.float32), K, params=EXACT)
    np.testing.assert_allclose(distances, 1, atol=1e-5)
    assert len(np.unique(ids)) == K and (ids >= 0).all()


def test_bad_calls(built, x, q):
    with pytest.raises(ValueError, match=r'nprobe = "0" \(allowed'):
        built.search(q, K, params={"nprobe": 0})
    with pytest.raises(ValueError, match='unknown search parameter ef = "9"'):
        built.search(q, K, params={"ef": 9})
    with pytest.raises(ValueError, match=r"queries: dim = 49 \(allowed: 50\)"):
        built.search(q[:, :49], K)
    with pytest.raises(ValueError, match=r"queries\[1, 2\] = nan \(allowed: finite numbers\)"):
        built.search(np.where(np.arange(100).reshape(2, 50) == 52, np.nan, q[:2]), K)
    with pytest.raises(ValueError, match="shape"):
        built.search(q[None], K)
    with pytest.raises(ValueError, match="flag"):
        built.search(q, K, valid_mask=np.ones(10, dtype=bool))
    with pytest.raises(ValueError, match=r'metric_type = "HAMMING" \(allowed: L2\|IP\|COSINE\)'):
        ScannIndex.build(x, "HAMMING")
    with pytest.raises(ValueError, match=r'metric_type = "JACCARD" \(allowed'):
        ScannIndex.load("none", "JACCARD", 50)
    with pytest.raises(ValueError, match=r'nlist = "abc" \(allowed'):
        ScannIndex.build(x, "L2", {"nlist": "abc"})
    with pytest.raises(ValueError, match="vectors have shape"):
        ScannIndex.build(x[0], "L2")
    with pytest.raises(RuntimeError, match="no-such-file"):
        ScannIndex.load("no-such-file", "L2", 50)


def test_many_threads_search_one_index(built, q):
    want = built.search(q, K)
    before = activity()
    wrong = []

    def run():
        for _ in range(20):
            got = built.search(q, K)
            if not all(np.array_equal(a, b) for a, b in zip(got, want)):
                wrong.append(got)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    after = activity()
    assert after.searches - before.searches == 160 and after.queries - before.queries == 160 * len(q)


def test_target_recall_chooses_what_a_search_does_not_say(x, q):
    built = ScannIndex.build(x, "L2", {"nlist": 32, "target_recall": "0.9"})
    assert recall(built.search(q, K)[0], distances_of(x, q, "L2")[1]) >= 0.87
    chosen = fx.deserialize_index(built._node.serialize())
    assert 1 <= chosen.nprobe < 32
    usual = ScannIndex.build(x, "L2", {"nlist": 32})
    for params in ({}, {"nprobe": 3}):
        wanted = {"nprobe": chosen.nprobe, **params}
        np.testing.assert_array_equal(built.search(q, K, params=params)[0], built.search(q, K, params=wanted)[0])
        assert activity().last_search == wanted
    assert (usual.search(q, K)[0] != built.search(q, K)[0]).any()
