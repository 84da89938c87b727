"""Every operation against brute force in NumPy."""

import re

import numpy as np
import pytest
from conftest import made
from reference import brute_force, clustered, recall

import faiss_ext as fx

METRICS = pytest.mark.parametrize("metric", [fx.METRIC_L2, fx.METRIC_INNER_PRODUCT])

# description, recall@10 at nprobe = nlist that it must reach on glove-50
KINDS = [
    ("IVF32,ScaNN", 0.60),
    ("IVF32,ScaNN,SQ8", 0.95),
    ("IVF32,ScaNN,SQfp16", 0.95),
    ("IVF32,ScaNN,RFlat", 0.95),
    ("IVF32,ScaNN,SQ8,RFlat", 0.95),
    ("IVF32,ScaNN(sub_dim=3),RFlat", 0.80),
    ("IVF32,ScaNN(soar_lambda=1),RFlat", 0.95),
    ("ScaNN,RFlat", 0.95),
    ("IDMap2,IVF32,ScaNN,RFlat", 0.95),
    ("RR50,IVF32,ScaNN,RFlat", 0.95),
    ("IVF32_HNSW16,ScaNN,RFlat", 0.95),
]


@METRICS
@pytest.mark.parametrize("description, floor", KINDS, ids=[k[0] for k in KINDS])
def test_search_finds_the_neighbours(x, q, metric, description, floor):
    index = fx.index_factory(50, description, metric)
    index.train(x)
    if "IDMap" in description:
        index.add_with_ids(x, np.arange(len(x)))
    else:
        index.add(x)
    D, I = index.search(q, 10, nprobe=index.nlist)
    assert D.dtype == np.float32 and I.dtype == np.int64
    assert D.shape == I.shape == (len(q), 10)
    exact, truth = brute_force(x, q, 10, metric)
    assert recall(I, truth) >= floor
    if "RFlat" in description and "PCA" not in description:
        scores = q @ x.T if metric == fx.METRIC_INNER_PRODUCT else ((q[:, None] - x[I]) ** 2).sum(2)
        want = np.take_along_axis(scores, I, 1) if metric == fx.METRIC_INNER_PRODUCT else scores
        np.testing.assert_allclose(D, want, rtol=1e-3, atol=1e-3)
    order = np.diff(D, axis=1)
    assert (order <= 0).all() if metric == fx.METRIC_INNER_PRODUCT else (order >= 0).all()


@METRICS
def test_raw_rows_and_all_lists_are_exact(x, q, metric):
    index = made("IVF32,ScaNN,RFlat", x, metric)
    D, I = index.search(q, 10, nprobe=32, reorder_k=len(x))
    exact, truth = brute_force(x, q, 10, metric)
    np.testing.assert_allclose(D, exact, rtol=1e-4, atol=1e-3)
    assert recall(I, truth) > 0.999


def test_cosine_normalises_by_itself(x, q):
    index = made("IVF32,ScaNN(normalize=1),RFlat", x, fx.METRIC_INNER_PRODUCT)
    assert index.normalize
    D, I = index.search(q, 10, nprobe=32, reorder_k=len(x))
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, q)]
    exact, truth = brute_force(*unit, 10, fx.METRIC_INNER_PRODUCT)
    np.testing.assert_allclose(D, exact, atol=1e-5)
    assert recall(I, truth) > 0.999
    np.testing.assert_allclose(index.reconstruct(5), x[5], rtol=1e-5)


def test_one_query_equals_batch(shared_l2, q):
    D, I = shared_l2.search(q, 10, nprobe=8)
    for i in range(0, len(q), 20):
        D1, I1 = shared_l2.search(q[i : i + 1], 10, nprobe=8)
        np.testing.assert_array_equal(I1[0], I[i])
        np.testing.assert_array_equal(D1[0], D[i])


def test_defaults_of_the_index_are_used(index, q):
    index.nprobe = 4
    index.reorder_k = 50
    by_default = index.search(q, 10)
    given = fx.clone_index(index)
    given.nprobe, given.reorder_k = 1, 0
    explicit = given.search(q, 10, nprobe=4, reorder_k=50)
    np.testing.assert_array_equal(by_default[1], explicit[1])


def test_more_results_than_vectors(x, q):
    index = fx.index_factory(50, "IVF4,ScaNN,RFlat")
    index.train(x[:200])
    index.add(x[:5])
    D, I = index.search(q, 20, nprobe=4)
    assert (np.sort(I[:, :5], axis=1) == np.arange(5)).all()
    assert (I[:, 5:] == -1).all()


def test_empty_index(x, q):
    index = fx.index_factory(50, "IVF4,ScaNN")
    index.train(x[:200])
    assert (index.search(q, 3)[1] == -1).all()
    lims, D, I = index.range_search(q, 1e9)
    assert (lims == 0).all() and len(D) == len(I) == 0


@METRICS
@pytest.mark.parametrize("description", ["IVF32,ScaNN,RFlat", "RR50,IVF32,ScaNN,RFlat"])
def test_range_search(x, q, metric, description):
    index = made(description, x, metric)
    exact, _ = brute_force(x, q, len(x), metric)
    sign = -1 if metric == fx.METRIC_L2 else 1
    for radius in [np.median(exact[:, 5]), np.median(exact[:, 100]), sign * 1e9]:
        # the rotation rounds: a value at the border may fall on either side
        lims, D, I = index.range_search(q, float(radius), nprobe=32)
        assert lims.dtype == I.dtype == np.int64 and D.dtype == np.float32
        assert len(lims) == len(q) + 1 and lims[-1] == len(D) == len(I)
        want = (sign * exact > sign * radius).sum(1)
        np.testing.assert_allclose(np.diff(lims), want, atol=1)
        assert (sign * D >= sign * radius - 1e-3).all()
    everything = index.range_search(q[:3], -sign * np.inf, nprobe=32)
    assert (np.diff(everything[0]) == len(x)).all()


def test_range_search_agrees_with_search(shared_l2, q):
    D, I = shared_l2.search(q, 10, nprobe=4, reorder_k=2000)
    lims, RD, RI = shared_l2.range_search(q, float(np.median(D[:, 5])), nprobe=4)
    for i in range(len(q)):
        inside = I[i][D[i] < np.median(D[:, 5])]
        assert set(inside) <= set(RI[lims[i] : lims[i + 1]])


@pytest.mark.parametrize("description", ["IVF32,ScaNN,RFlat", "IVF32,ScaNN,SQ8", "PCA50,IVF32,ScaNN,RFlat"])
def test_search_and_reconstruct(x, q, description):
    index = made(description, x)
    D, I, R = index.search_and_reconstruct(q, 5, nprobe=8)
    want = index.search(q, 5, nprobe=8)
    np.testing.assert_allclose(D, want[0], rtol=1e-5)
    np.testing.assert_array_equal(I, want[1])
    for i in range(5):
        np.testing.assert_allclose(R[i, 0], index.reconstruct(int(I[i, 0])), atol=1e-5)
    few = np.array([17])
    D, I, R = index.search_and_reconstruct(q, 3, nprobe=32, filter=few)
    assert (I[:, 0] == 17).all() and (I[:, 1:] == -1).all()
    assert np.isnan(R[:, 1:]).all() and not np.isnan(R[:, 0]).any()


@pytest.mark.parametrize(
    "description",
    ["IVF32,ScaNN,RFlat", "IDMap2,IVF32,ScaNN,RFlat", "IDMap,IVF32,ScaNN,RFlat", "PCA50,IVF32,ScaNN,RFlat"],
)
def test_reconstruct(x, description):
    index = fx.index_factory(50, description)
    index.train(x)
    ids = 10**12 + 7 * np.arange(len(x))
    index.add_with_ids(x, ids)
    close = dict(atol=1e-4) if "PCA" in description else dict(atol=0)
    np.testing.assert_allclose(index.reconstruct_batch(ids[::-100]), x[::-100], **close)
    np.testing.assert_allclose(index.reconstruct(int(ids[1234])), x[1234], **close)
    assert index.reconstruct(int(ids[0])).shape == (50,)
    np.testing.assert_allclose(index.reconstruct_batch(ids[:50]), x[:50], **close)
    np.testing.assert_allclose(index.reconstruct_n(int(ids[3]), 1), x[3:4], **close)
    with pytest.raises(ValueError, match="is not in the index"):
        index.reconstruct_n(int(ids[3]), 2)


def test_reconstruct_n(index, x):
    np.testing.assert_array_equal(index.reconstruct_n(10, 90), x[10:100])
    np.testing.assert_array_equal(index.reconstruct_n(), x)
    assert index.direct_map_type == fx.DirectMap.NoMap
    index.reconstruct(0)
    assert index.direct_map_type == fx.DirectMap.Hashtable
    np.testing.assert_array_equal(index.reconstruct_n(10, 90), x[10:100])
    assert index.reconstruct_n(0, 0).shape == (0, 50)


def test_approximate_reconstruction(x):
    errors = []
    for tail in ["", ",SQ8", ",SQfp16", ",RFlat"]:
        y = made("IVF32,ScaNN" + tail, x).reconstruct_n()
        errors.append(((y - x) ** 2).sum() / ((x - x.mean(0)) ** 2).sum())
    assert errors[0] < 0.35 and errors[1] < 1e-3 and errors[2] < 1e-5 and errors[3] == 0


@pytest.mark.parametrize(
    "description",
    [
        "IVF32,ScaNN,RFlat",
        "IVF32,ScaNN(soar_lambda=1),RFlat",
        "IDMap2,IVF32,ScaNN,RFlat",
        "IDMap,IVF32,ScaNN(soar_lambda=1),RFlat",
        "PCA50,IVF32,ScaNN,RFlat",
    ],
)
@pytest.mark.parametrize("mapped", [False, True])
def test_remove_then_add(x, q, description, mapped):
    index = fx.index_factory(50, description)
    index.train(x)
    ids = 100_000 + np.arange(len(x))
    index.add_with_ids(x, ids)
    if mapped:
        index.set_direct_map_type(fx.DirectMap.Hashtable)
    gone = ids[::3]
    assert index.remove_ids(gone) == len(gone)
    assert index.remove_ids(gone) == 0
    assert index.ntotal == len(x) - len(gone)
    kept = ~np.isin(ids, gone)
    _, truth = brute_force(x, q, 10, fx.METRIC_L2, allowed=kept)
    D, I = index.search(q, 10, nprobe=32, reorder_k=len(x))
    assert recall(I, ids[truth]) > 0.995
    index.add_with_ids(x[::3], gone + 500_000)
    all_ids = np.where(kept, ids, ids + 500_000)
    _, truth = brute_force(x, q, 10, fx.METRIC_L2)
    D, I = index.search(q, 10, nprobe=32, reorder_k=len(x))
    assert recall(I, all_ids[truth]) > 0.995
    np.testing.assert_allclose(index.reconstruct_batch(all_ids), x, atol=1e-4)


@pytest.mark.parametrize("description", ["IVF32,ScaNN,RFlat", "IDMap2,IVF32,ScaNN,RFlat", "PCA50,IVF32,ScaNN,RFlat"])
def test_update_vectors(x, q, description):
    index = fx.index_factory(50, description)
    index.train(x)
    ids = 3 * np.arange(2000)
    index.add_with_ids(x[:2000], ids)
    index.update_vectors(ids[1000:1500], x[3000:3500])
    now = x[:2000].copy()
    now[1000:1500] = x[3000:3500]
    assert index.ntotal == 2000
    np.testing.assert_allclose(index.reconstruct_batch(ids), now, atol=1e-4)
    _, truth = brute_force(now, q, 10, fx.METRIC_L2)
    assert recall(index.search(q, 10, nprobe=32, reorder_k=2000)[1], ids[truth]) > 0.995
    before = index.search(q, 10, nprobe=32)
    with pytest.raises(ValueError, match="id 1 is not in the index"):
        index.update_vectors([0, 1], x[:2])
    np.testing.assert_array_equal(index.search(q, 10, nprobe=32)[1], before[1])


def test_codec(index, x, q):
    codes = index.sa_encode(x[:100])
    assert codes.dtype == np.uint8 and codes.shape == (100, index.sa_code_size())
    np.testing.assert_allclose(index.sa_decode(codes), x[:100], atol=1e-6)
    other = fx.clone_index(index)
    other.reset()
    other.add_sa_codes(index.sa_encode(x))
    np.testing.assert_array_equal(other.search(q, 10, nprobe=8)[1], index.search(q, 10, nprobe=8)[1])
    other.add_sa_codes(codes, np.arange(100) + 10**9)
    np.testing.assert_array_equal(other.reconstruct(10**9 + 5), x[5])


def test_codec_through_wrappers(x):
    index = fx.index_factory(50, "IDMap2,PCA50,IVF16,ScaNN,RFlat")
    index.train(x)
    index.add_sa_codes(index.sa_encode(x[:500]), 7 * np.arange(500))
    assert index.ntotal == 500
    np.testing.assert_allclose(index.reconstruct(7 * 77), x[77], atol=1e-4)
    assert index.search(x[:5], 1, nprobe=16)[1].ravel().tolist() == [0, 7, 14, 21, 28]


@pytest.mark.parametrize(
    "description",
    ["IVF32,ScaNN,RFlat", "IVF32,ScaNN(soar_lambda=1),RFlat", "IDMap2,IVF32,ScaNN,RFlat", "PCA50,IVF32,ScaNN,RFlat"],
)
def test_merge_from(x, q, description):
    a = fx.index_factory(50, description)
    a.train(x)
    b = fx.clone_index(a)
    ids = np.arange(len(x))
    a.add_with_ids(x[:3000], ids[:3000])
    b.add_with_ids(x[3000:], ids[: len(x) - 3000])
    a.reconstruct(0)  # maps must not get in the way
    b.reconstruct(0)
    a.merge_from(b, add_id=3000)
    assert (a.ntotal, b.ntotal) == (len(x), 0)
    _, truth = brute_force(x, q, 10, fx.METRIC_L2)
    assert recall(a.search(q, 10, nprobe=32, reorder_k=len(x))[1], truth) > 0.995
    np.testing.assert_allclose(a.reconstruct_n(), x, atol=1e-4)
    assert (b.search(q, 5, nprobe=32)[1] == -1).all()


def test_merge_refuses_strangers(index, x):
    stranger = made("IVF32,ScaNN,RFlat", x[:2000])
    with pytest.raises(ValueError):
        index.merge_from(stranger)
    with pytest.raises(ValueError, match="itself"):
        index.merge_from(index)
    wrapped = fx.index_factory(50, "IDMap2,IVF32,ScaNN,RFlat")
    with pytest.raises(ValueError, match="different layers"):
        index.merge_from(wrapped)
    assert index.ntotal == len(x) and stranger.ntotal == 2000


@pytest.mark.parametrize("description", ["IVF32,ScaNN(soar_lambda=1),RFlat", "PCA50,IVF32,ScaNN,RFlat"])
def test_copy_subset(x, q, description):
    index = made(description, x)
    empty = fx.clone_index(index)
    empty.reset()
    ids = np.arange(len(x))
    index.reconstruct(1)
    for subset, a1, a2, want in [
        (fx.SUBSET_TYPE_ID_RANGE, 100, 900, (ids >= 100) & (ids < 900)),
        (fx.SUBSET_TYPE_ID_MOD, 5, 2, ids % 5 == 2),
    ]:
        part = fx.clone_index(empty)
        index.copy_subset_to(part, subset, a1, a2)
        assert part.ntotal == want.sum()
        _, truth = brute_force(x, q, 10, fx.METRIC_L2, allowed=want)
        assert recall(part.search(q, 10, nprobe=32, reorder_k=800)[1], truth) > 0.995
    part = fx.clone_index(empty)
    index.copy_subset_to(part, fx.SUBSET_TYPE_ELEMENT_RANGE, 0, 2000)
    assert part.ntotal == 2000
    assert index.ntotal == len(x)


def test_reset(index, x):
    index.reset()
    assert len(index) == 0 and index.is_trained
    index.add(x[:100])
    assert index.search(x[:100], 1, nprobe=32)[1].ravel().tolist() == list(range(100))


def test_direct_maps(index, x):
    for kind in (fx.DirectMap.Array, fx.DirectMap.Hashtable, fx.DirectMap.NoMap):
        index.set_direct_map_type(kind)
        assert index.direct_map_type == kind
        np.testing.assert_array_equal(index.reconstruct_batch([5, 9]), x[[5, 9]])
    index.make_direct_map()
    assert index.direct_map_type == fx.DirectMap.Array
    index.add(x[:10])
    np.testing.assert_array_equal(index.reconstruct(len(x) + 3), x[3])
    index.make_direct_map(False)
    assert index.direct_map_type == fx.DirectMap.NoMap


def test_attributes(shared_l2, x):
    i = shared_l2
    assert (i.d, i.ntotal, len(i), i.nlist) == (50, len(x), len(x), 32)
    assert i.is_trained and i.metric_type == fx.METRIC_L2
    assert (i.sub_dim, i.with_raw_data, i.refine_type, i.soar_lambda) == (2, True, "none", 0)
    assert i.eta >= 1 and np.isnan(i.threshold) and not i.score_aware_centroids
    assert "d=50" in repr(i) and "ntotal=4000" in repr(i)
    assert fx.index_factory(50, "IVF8,ScaNN(eta=3,rotation=none),SQ8").eta == 3
    wrapped = fx.index_factory(50, "IDMap2,PCA20,IVF8,ScaNN(sub_dim=4),SQ8,RFlat", fx.METRIC_INNER_PRODUCT)
    wrapped.nprobe = 3
    assert (wrapped.nprobe, wrapped.sub_dim, wrapped.refine_type) == (3, 4, "int8")
    assert bool(wrapped) and len(wrapped) == 0


def test_plain_faiss_index(x, q):
    index = made("IVF16,Flat", x)
    _, truth = brute_force(x, q, 10, fx.METRIC_L2)
    assert recall(index.search(q, 10, nprobe=16)[1], truth) == 1
    with pytest.raises(AttributeError, match="needs a ScaNN index"):
        _ = index.sub_dim
    with pytest.raises(ValueError, match="reorder_k"):
        index.search(q, 10, reorder_k=100)
    flat = made("Flat", x)
    assert recall(flat.search(q, 10)[1], truth) == 1
    with pytest.raises(AttributeError, match="needs an IVF index"):
        _ = flat.nprobe


@pytest.mark.parametrize(
    "description", ["IVF32,ScaNN", "IVF32,ScaNN,SQ8", "IVF32,ScaNN,RFlat", "IVF32,ScaNN(soar_lambda=1),SQ8,RFlat"]
)
def test_memory_is_as_estimated(x, description):
    index = fx.index_factory(50, description)
    estimate = index.estimate_memory(len(x))
    index.train(x)
    index.add(x)
    assert index.memory_usage() == pytest.approx(estimate, rel=0.05)


@pytest.mark.parametrize("by_direction", [True, False])
@pytest.mark.parametrize("description", ["IVF64,ScaNN", "IVF64,ScaNN,RFlat"])
def test_memory_is_as_estimated_for_inner_product(description, by_direction):
    """Training decides whether lists are of rows with like directions, for which there are tables more."""
    rows = clustered(4000, 50, seed=1, clouds=200, width=0.3)
    lengths = 1 + np.random.default_rng(1).random((4000, 1))
    rows *= lengths if by_direction else 1 / np.linalg.norm(rows, axis=1)[:, None]
    index = fx.index_factory(50, description, fx.METRIC_INNER_PRODUCT)
    estimate = index.estimate_memory(4000)
    index.train(rows)
    index.add(rows)
    assert index.memory_usage() == pytest.approx(estimate, rel=0.05)
    assert index.memory_usage() == pytest.approx(index.estimate_memory(4000), rel=0.05)


def test_stats(shared_l2, q):
    stats = fx.SearchStats()
    shared_l2.search(q, 10, nprobe=4, stats=stats)
    assert stats.nq == len(q) and stats.lists == 4 * len(q)
    assert stats.codes > stats.candidates >= stats.reranked >= 10 * len(q)
    assert stats.scan_time > 0 and stats.refined == 0
    shared_l2.search(q, 10, nprobe=4, stats=stats)
    assert stats.nq == 2 * len(q)
    stats.reset()
    assert stats.nq == 0 and "nq=0" in repr(stats)


def test_max_codes_limits_the_scan(shared_l2, q):
    stats = fx.SearchStats()
    shared_l2.search(q, 10, nprobe=32, max_codes=100, stats=stats)
    assert stats.codes < 1000 * len(q)


@pytest.mark.parametrize("description", ["IVF32,ScaNN,RFlat", "PCA30,IVF32,ScaNN"])
def test_training_again_changes_nothing(x, q, description):
    index = made(description, x)
    before = index.search(q, 10, nprobe=4)
    index.train(x[::-1] * 3)
    again = index.search(q, 10, nprobe=4)
    np.testing.assert_array_equal(again[0], before[0])
    np.testing.assert_array_equal(again[1], before[1])


def test_progress(x):
    calls = []
    index = fx.index_factory(50, "IVF16,ScaNN")
    index.train(x, progress=lambda *a: calls.append(a))
    assert {"k-means", "codebook"} <= {c[0] for c in calls}
    assert all(0 <= done <= total for _, done, total in calls)
    calls.clear()
    index.add(x, progress=lambda *a: calls.append(a))
    assert calls[-1] == ("add", len(x), len(x))
    index.add_with_ids(x[:10], range(10), progress=lambda *a: calls.append(a))


def test_documented_stages_are_those_reported(x):
    index = fx.index_factory(50, "IVF16,ScaNN,RFlat")
    for method, arguments in ((index.train, [x]), (index.add, [x]), (index.calibrate, [])):
        stages = set()
        method(*arguments, progress=lambda stage, *_, seen=stages: seen.add(stage))
        documented = set(re.findall(r'"([a-z-]+)"', method.__doc__.split("progress : callable")[1].split("\n\n")[0]))
        assert stages == documented


def test_floats_are_what_was_given():
    index = fx.index_factory(8, "IVF4,ScaNN(threshold=.95,soar_lambda=.3,eta_formula=limit)", fx.METRIC_INNER_PRODUCT)
    assert (index.threshold, index.soar_lambda, index.eta_formula) == (0.95, 0.3, "limit")
    index = fx.index_factory(8, "IVF4,ScaNN(eta=1.7)")
    assert index.eta == 1.7 and np.isnan(index.threshold) and index.eta_formula == "exact"
    index.train(np.random.default_rng(0).standard_normal((100, 8), dtype=np.float32))
    assert index.eta == 1.7


def test_every_option_of_the_factory_is_documented():
    with pytest.raises(ValueError, match="known: ") as error:
        fx.index_factory(8, "IVF4,ScaNN(nonsense=1)")
    options = re.search(r"known: ([^)]*)\)", str(error.value))[1].split(", ")
    assert "bytes_per_vector" in options
    assert [name for name in options if name not in fx.index_factory.__doc__] == []


def test_few_rows_are_enough_where_lists_are_chosen():
    x = np.random.default_rng(0).standard_normal((3, 8), dtype=np.float32)
    for n in (1, 3):
        index = fx.index_factory(8, "ScaNN")
        index.train(x[:n])
        assert index.nlist == 1


def test_progress_bar_writes_to_stderr(x, capfd):
    index = fx.index_factory(50, "IVF16,ScaNN")
    index.train(x, progress=fx.progress_bar())
    index.add(x, progress=fx.progress_bar())
    err = capfd.readouterr().err
    assert "k-means" in err and "100 %" in err and "add" in err


def test_progress_bar_of_unknown_length(capfd):
    draw = fx.progress_bar()
    for step in range(3):
        draw("calibrate", step, 0)
    assert "%" not in capfd.readouterr().err


@pytest.mark.parametrize("level", fx.simd_levels())
def test_levels_agree(shared_l2, q, level):
    want = shared_l2.search(q, 10, nprobe=8)
    before = fx.simd_level()
    try:
        fx.set_simd_level(level)
        assert fx.simd_level() == level
        got = shared_l2.search(q, 10, nprobe=8)
    finally:
        fx.set_simd_level(before)
    np.testing.assert_array_equal(got[1], want[1])
    np.testing.assert_allclose(got[0], want[0], rtol=1e-5)


@pytest.mark.parametrize("description", ["OPQ5,IVF16,ScaNN", "PCA8,IVF16,ScaNN", "IVF16,Flat"])
def test_training_prints_nothing(x, capfd, description):
    index = fx.index_factory(x.shape[1], description)
    threads = fx.omp_get_max_threads()
    fx.omp_set_num_threads(1)  # OPQ trains many small codebooks
    index.train(x[:300])
    fx.omp_set_num_threads(threads)
    assert index.is_trained
    assert capfd.readouterr() == ("", "")
