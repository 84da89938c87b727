"""What an IVF index of Faiss shows of its lists: centroids, quantizer, contents,
searches in given lists, parameters of k-means; beside faiss-cpu where it is."""

import threading

import numpy as np
import pytest
from conftest import made
from reference import recall

import faiss_ext as fx

try:
    import faiss
except ImportError:
    faiss = None

KINDS = [
    "IVF32,ScaNN,RFlat",
    "IVF32,ScaNN(soar_lambda=1),SQ8",
    "IVF32,Flat",
    "IVF32_HNSW8,ScaNN,RFlat",
    "IDMap2,PCA50,IVF32,ScaNN,RFlat",
    "PCA20,IVF32,Flat",
]


@pytest.fixture(scope="module", params=KINDS)
def any_index(request, glove):
    x = glove[0]
    index = fx.index_factory(50, request.param)
    index.train(x)
    if "IDMap" in request.param:
        index.add_with_ids(x, np.arange(len(x)) * 2 + 7)
    else:
        index.add(x)
    index.nprobe = 8
    return index, request.param


def test_lists_hold_every_vector_once(any_index, x):
    index, kind = any_index
    sizes = [index.get_list_size(i) for i in range(index.nlist)]
    lists = [index.list_ids(i) for i in range(index.nlist)]
    assert [len(ids) for ids in lists] == sizes and sum(sizes) == len(x)
    ids = np.arange(len(x)) * 2 + 7 if "IDMap" in kind else np.arange(len(x))
    np.testing.assert_array_equal(np.sort(np.concatenate(lists)), ids)
    assert lists[0].dtype == np.int64


def test_codes_of_lists_decode_to_the_vectors(any_index):
    index, kind = any_index
    for i in (0, 5, 31):
        codes = index.list_codes(i)
        assert codes.shape == (index.get_list_size(i), index.sa_code_size()) and codes.dtype == np.uint8
        np.testing.assert_array_equal(index.sa_decode(codes), index.reconstruct_batch(index.list_ids(i)))
    if kind.startswith("IVF") and "ScaNN" in kind:
        other = fx.clone_index(index)
        other.reset()
        assert other.list_codes(3).shape == (0, index.sa_code_size()) and other.list_ids(3).shape == (0,)
        for i in range(index.nlist):
            other.add_sa_codes(index.list_codes(i), index.list_ids(i))
        q = index.reconstruct_batch(index.list_ids(0)[:20])
        np.testing.assert_array_equal(other.search(q, 5, nprobe=32)[0], index.search(q, 5, nprobe=32)[0])


def test_centroids_are_those_of_the_quantizer(any_index, x):
    index, kind = any_index
    centroids = index.centroids()
    quantizer = index.quantizer
    assert centroids.shape == (32, quantizer.d) and centroids.dtype == np.float32
    assert (quantizer.ntotal, quantizer.is_trained, quantizer.metric_type) == (32, True, index.metric_type)
    np.testing.assert_array_equal(quantizer.reconstruct_n(0, 32), centroids)
    if kind in ("IVF32,ScaNN,RFlat", "IVF32,Flat"):
        ids = index.list_ids(4)
        nearest = ((x[ids][:, None] - centroids) ** 2).sum(2).argmin(1)
        assert (nearest == 4).mean() > 0.97
        np.testing.assert_array_equal(quantizer.assign(x[ids])[:, 0], nearest)
        assert quantizer.assign(x[:7], 3).shape == (7, 3) == quantizer.search(x[:7], 3)[1].shape


def test_the_quantizer_is_a_copy(index, x, q):
    before = index.search(q, 5)
    quantizer = index.quantizer
    quantizer.reset()
    quantizer.add(x[:3])
    assert index.quantizer.ntotal == 32
    np.testing.assert_array_equal(index.search(q, 5)[1], before[1])
    quantizer = index.quantizer
    del index
    assert quantizer.assign(x[:2]).shape == (2, 1)
    with pytest.raises(AttributeError):
        fx.index_factory(4, "IVF4,Flat").quantizer = quantizer


def test_assign_is_search(shared_l2, q):
    np.testing.assert_array_equal(shared_l2.assign(q, 4), shared_l2.search(q, 4)[1])
    assert shared_l2.assign(q).shape == (100, 1) and shared_l2.assign(q[:0], 3).shape == (0, 3)
    with pytest.raises(ValueError, match="k = 0"):
        shared_l2.assign(q, 0)


@pytest.mark.parametrize("kind", KINDS[:4])
@pytest.mark.parametrize("metric", [fx.METRIC_L2, fx.METRIC_INNER_PRODUCT])
def test_search_in_given_lists_is_search(x, q, kind, metric):
    index = made(kind, x, metric)
    Dq, Iq = index.quantizer.search(q, 32)
    want = index.search(q, 10, nprobe=32)
    for distances in (Dq, None, Dq.astype(np.float64)):
        D, I = index.search_preassigned(q, 10, Iq, distances)
        if kind == "IVF32,Flat":
            np.testing.assert_array_equal(I, want[1])
            np.testing.assert_allclose(D, want[0], rtol=1e-5)
        # search() may rank lists by rough scores, from which candidates differ a little
        assert recall(I, want[1]) > 0.98
    radius = float(np.median(want[0][:, -1]))
    lims, _, I = index.range_search(q, radius, nprobe=32)
    for distances in (Dq, None):
        got = index.range_search_preassigned(q, radius, Iq, distances)
        np.testing.assert_allclose(got[0], lims, rtol=0.01, atol=3)
        pairs = [set(zip(np.repeat(range(100), np.diff(ends)), labels)) for ends, labels in ((lims, I), got[::2])]
        assert len(pairs[0] & pairs[1]) > 0.99 * len(pairs[0] | pairs[1])
    keep = np.arange(0, len(x), 2)
    _, I = index.search_preassigned(q, 10, Iq, Dq, fx.SearchParameters(sel=keep))
    assert (I % 2 == 0).all()
    D, I = np.empty((100, 3), np.float32), np.empty((100, 3), np.int64)
    got = index.search_preassigned(q, 3, Iq[:, :5], Dq[:, :5], D=D, I=I)
    assert got[0] is D and got[1] is I


def test_only_the_given_lists_are_searched(shared_l2, x, q):
    Iq = np.random.default_rng(0).integers(-1, 32, (100, 2))
    I = shared_l2.search_preassigned(q, 500, Iq)[1]
    members = [set(shared_l2.list_ids(i)) for i in range(32)]
    for row, lists in zip(I, Iq):
        inside = set().union(*(members[i] for i in lists if i >= 0))
        found = row[row >= 0]
        assert set(found) <= inside and len(set(found)) == len(found) == min(500, len(inside))
    # a list that is given twice is visited once
    twice = np.array([[3, 5, 3, -1, 5]] * 100)
    for kind in ("IVF32,ScaNN,RFlat", "IVF32,Flat"):
        index = shared_l2 if "ScaNN" in kind else made(kind, x)
        once = index.search_preassigned(q, 9, twice[:, :2])
        np.testing.assert_array_equal(index.search_preassigned(q, 9, twice)[1], once[1])
        wide = index.range_search_preassigned(q, 1e9, twice)
        assert wide[0][1] == index.get_list_size(3) + index.get_list_size(5)
    assert (shared_l2.search_preassigned(q, 3, np.full((100, 4), -1))[1] == -1).all()
    none = np.zeros((0, 50), np.float32)
    assert shared_l2.search_preassigned(none, 3, np.zeros((0, 4), int))[1].shape == (0, 3)
    stats = fx.SearchStats()
    shared_l2.search_preassigned(q, 3, np.zeros((100, 1), int), stats=stats)
    assert (stats.nq, stats.lists) == (100, 100)


@pytest.mark.parametrize(
    "Iq, Dq, message",
    [
        (np.zeros((99, 2), int), None, r"Iq has shape \(99, 2\) \(allowed: \(100, 1\.\.nlist = 32\)"),
        (np.zeros((100, 33), int), None, r"Iq has shape \(100, 33\)"),
        (np.zeros((100, 0), int), None, r"Iq has shape \(100, 0\)"),
        (np.zeros(100, int), None, "allowed: a 2-d array"),
        (np.zeros((100, 2)), None, r"Iq has dtype float64 \(allowed: integers"),
        (np.full((100, 2), 32), None, r"Iq\[0, 0\] = 32 \(allowed: lists 0\.\.31, -1 for none"),
        (np.full((100, 2), -2), None, r"Iq\[0, 0\] = -2"),
        (None, None, "Iq is None"),
        (np.zeros((100, 2), int), np.zeros((100, 3)), r"Dq has shape \(100, 3\)"),
        (np.zeros((100, 2), int), np.zeros((50, 2)), r"Dq has shape \(50, 2\) \(allowed: \(100, 2\), that of Iq"),
        (np.zeros((100, 2), int), np.full((100, 2), np.nan), r"Dq\[0, 0\] is not finite"),
        (np.zeros((100, 2), int), np.zeros((100, 2), bool), "dtype bool"),
    ],
)
def test_wrong_lists(shared_l2, q, Iq, Dq, message):
    with pytest.raises(ValueError, match=message):
        shared_l2.search_preassigned(q, 3, Iq, Dq)
    with pytest.raises(ValueError, match=message):
        shared_l2.range_search_preassigned(q, 3.0, Iq, Dq)


def test_numbers_of_lists_are_checked(shared_l2):
    for call in (shared_l2.get_list_size, shared_l2.list_ids, shared_l2.list_codes):
        for wrong in (-1, 32, 2**40):
            with pytest.raises(ValueError, match=rf"list_no = {wrong} \(allowed: 0\.\.31"):
                call(wrong)
        for wrong in (1.5, "1", None):
            with pytest.raises(TypeError):
                call(wrong)


def test_what_has_no_lists_says_so(q):
    untrained = fx.index_factory(50, "IVF,ScaNN")
    for call in (
        untrained.centroids,
        lambda: untrained.get_list_size(0),
        lambda: untrained.list_ids(0),
        lambda: untrained.list_codes(0),
        lambda: untrained.search_preassigned(q, 1, np.zeros((100, 1), int)),
    ):
        with pytest.raises(ValueError, match="not trained"):
            call()
    flat = fx.index_factory(50, "Flat")
    for call in (flat.centroids, lambda: flat.list_ids(0), lambda: flat.quantizer, lambda: flat.cp):
        with pytest.raises(AttributeError, match="needs an IVF index"):
            call()
    wrapped = fx.index_factory(50, "IDMap2,IVF4,ScaNN")
    wrapped.train(q)
    with pytest.raises(ValueError, match="lies below a transform or an id map"):
        wrapped.search_preassigned(q, 1, np.zeros((100, 1), int))


def test_cp_steers_training(x):
    for kind in ("IVF16,ScaNN", "PCA50,IVF16,Flat"):
        centroids = []
        for settings in ({}, {"niter": 1}, {"seed": 5}, {"max_points_per_centroid": 40}, {}):
            index = fx.index_factory(50, kind)
            for name, value in settings.items():
                setattr(index.cp, name, value)
                assert getattr(index.cp, name) == value
            index.train(x)
            centroids.append(index.centroids())
        np.testing.assert_array_equal(centroids[0], centroids[-1])
        for other in centroids[1:-1]:
            assert (centroids[0] != other).any()
    index = fx.index_factory(50, "IVF16,ScaNN")
    index.kmeans_rounds, index.seed, index.max_points_per_centroid = 7, 8, 9
    cp = index.cp
    del index  # it lives on in cp
    assert repr(cp) == "ClusteringParameters(niter=7, seed=8, max_points_per_centroid=9)"
    for name, wrong in (("niter", 0), ("seed", -1), ("max_points_per_centroid", 0), ("niter", 2**40)):
        with pytest.raises(ValueError, match=f"{name} = {wrong}"):
            setattr(cp, name, wrong)
    with pytest.raises(AttributeError):
        cp.nredo = 3


def test_verbose_draws_a_bar_and_is_off(x, capfd):
    for index in (fx.index_factory(50, "IVF16,ScaNN"), fx.index_factory(50, "IVF16,Flat")):
        assert index.verbose is False
        index.train(x)
        index.add(x)
    assert capfd.readouterr() == ("", "")
    index = fx.index_factory(50, "IVF16,ScaNN")
    index.verbose = True
    index.train(x)
    index.add(x)
    out, err = capfd.readouterr()
    assert out == "" and "k-means" in err and "add" in err and "100 %" in err
    seen = []
    index.add(x, progress=lambda *step: seen.append(step))
    index.verbose = False
    index.add(x)
    assert seen and capfd.readouterr() == ("", "")
    assert fx.clone_index(index).verbose is False


@pytest.mark.skipif(faiss is None, reason="faiss-cpu is not installed")
def test_names_and_shapes_are_those_of_faiss(x, q):
    shapes = []
    for library in (faiss, fx):
        index = library.index_factory(50, "IVF32,Flat")
        index.cp.niter, index.cp.seed = 3, 7
        index.train(x)
        index.add(x)
        index.nprobe = 4
        Dq, Iq = index.quantizer.search(q, 4)
        D, I = index.search_preassigned(q, 5, Iq, Dq)
        lims, *_ = index.range_search_preassigned(q, 1.0, Iq, Dq)
        assert (I == index.search(q, 5)[1]).mean() > 0.99
        shapes.append(
            [a.shape for a in (index.assign(q, 2), index.quantizer.assign(q, 1), index.quantizer.reconstruct_n(0, 32))]
            + [D.shape, lims.shape]
            + [sum(index.get_list_size(i) for i in range(index.nlist))]
        )
    assert shapes[0] == shapes[1]


def test_lists_beside_a_writer(x):
    index = fx.index_factory(50, "IVF16,ScaNN,RFlat")
    index.train(x)
    wrong = []

    def read():
        for _ in range(60):
            for i in range(0, 16, 5):
                if index.list_codes(i).shape[1] != index.sa_code_size() or (index.list_ids(i) < 0).any():
                    wrong.append(i)
            index.quantizer.assign(x[:2])

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for begin in range(0, 4000, 200):
        index.add_with_ids(x[begin : begin + 200], np.arange(begin, begin + 200))
        index.remove_ids(fx.IDSelectorRange(begin, begin + 50))
    for thread in threads:
        thread.join()
    assert not wrong and index.ntotal == 3000
