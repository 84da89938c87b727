"""Searches as Faiss' users write them: parameters as objects, arrays for the
results, no queries at all; beside faiss-cpu where it is installed."""

import numpy as np
import pytest
from conftest import made

import faiss_ext as fx

try:
    import faiss
except ImportError:
    faiss = None

needs_faiss = pytest.mark.skipif(faiss is None, reason="faiss-cpu is not installed")


def same(got, want):
    for a, b in zip(got, want):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("description", ["IVF32,ScaNN,RFlat", "IVF32,Flat", "IDMap2,PCA50,IVF32,ScaNN,SQ8,RFlat"])
def test_params_are_the_keywords(x, q, description):
    index = fx.index_factory(50, description)
    index.train(x)
    index.add_with_ids(x, np.arange(len(x)))
    sel = fx.Filter(np.arange(0, len(x), 3))
    keywords = {"nprobe": 5, "max_codes": 900, "filter": sel}
    params = fx.SearchParametersIVF(sel=sel, nprobe=5, max_codes=900)
    if "ScaNN" in description:
        keywords.update(reorder_k=40, refine_k=60)
        params = fx.SearchParametersScaNN(sel, 5, 900, 60, 40)
    want = index.search(q, 10, **keywords)
    same(index.search(q, 10, params), want)
    same(index.search(x=q, k=10, params=params), want)
    if description != "IVF32,Flat":  # Faiss 1.7.3 has no parameters there
        same(index.search_and_reconstruct(q, 10, params), index.search_and_reconstruct(q, 10, **keywords))
    ranged = {"nprobe": 5, "filter": sel}
    params = fx.SearchParametersIVF(sel=sel, nprobe=5)
    same(index.range_search(q, 20.0, params), index.range_search(q, 20.0, **ranged))
    same(index.search(q, 10, fx.SearchParameters(sel)), index.search(q, 10, filter=sel))


def test_parameters_may_come_from_both_sides_but_not_twice(shared_l2, q):
    params = fx.SearchParametersScaNN(nprobe=7)
    want = shared_l2.search(q, 10, nprobe=7, reorder_k=33, filter=[1, 2, 3])
    same(shared_l2.search(q, 10, params, reorder_k=33, filter=[1, 2, 3]), want)
    full = fx.SearchParametersScaNN([1], 7, 0, 50, 50)
    for name, value in [("nprobe", 7), ("max_codes", 0), ("refine_k", 9), ("reorder_k", 50), ("filter", [2])]:
        with pytest.raises(ValueError, match=f"{name} is given by the keyword and by params"):
            shared_l2.search(q, 10, full, **{name: value})


def test_params_of_other_kinds_are_refused(shared_l2, q):
    class SearchParametersHNSW(fx.SearchParameters):
        pass

    class Mine(fx.SearchParametersScaNN):
        pass

    Foreign = type("SearchParametersHNSW", (type("SearchParameters", (), {"sel": None}),), {"efSearch": 9})
    for wrong in (3, "nprobe=3", {"nprobe": 3}, [1], object(), Foreign(), fx.Filter([1])):
        with pytest.raises(TypeError, match=r"params is a .* \(allowed: None, SearchParameters"):
            shared_l2.search(q, 3, wrong)
    same(shared_l2.search(q, 3, SearchParametersHNSW()), shared_l2.search(q, 3))
    same(shared_l2.search(q, 3, Mine(nprobe=9)), shared_l2.search(q, 3, nprobe=9))
    same(shared_l2.search(q, 3, fx.SearchParametersIVF.__new__(fx.SearchParametersIVF)), shared_l2.search(q, 3))


@pytest.mark.parametrize("field", ["nprobe", "max_codes", "refine_k", "reorder_k"])
def test_fields_are_checked(shared_l2, q, field):
    for wrong in ("3", 2.5, [1], b"3", object()):
        with pytest.raises(TypeError, match=rf"params\.{field} = .* \(allowed: an integer"):
            shared_l2.search(q, 3, fx.SearchParametersScaNN(**{field: wrong}))
    for wrong in (-1, 2**63, -(2**70)):
        with pytest.raises(ValueError, match=field):
            shared_l2.search(q, 3, fx.SearchParametersScaNN(**{field: wrong}))
    assert shared_l2.search(q, 3, fx.SearchParametersScaNN(**{field: np.int16(5)}))[1].shape == (100, 3)
    if field in ("refine_k", "reorder_k"):
        with pytest.raises(ValueError, match=rf"{field} = 2 is below k = 3 \(allowed: >= k\)"):
            shared_l2.search(q, 3, fx.SearchParametersScaNN(**{field: 2}))
    elif field == "nprobe":
        with pytest.raises(ValueError, match=r"nprobe = 33 \(allowed: 1\.\.32"):
            shared_l2.search(q, 3, fx.SearchParametersIVF(nprobe=33))


@needs_faiss
def test_parameters_of_faiss(shared_l2, x, q):
    sel = faiss.IDSelectorRange(100, 2000)
    params = faiss.SearchParametersIVF(sel=sel, nprobe=9)
    want = shared_l2.search(q, 10, nprobe=9, filter=np.arange(100, 2000))
    same(shared_l2.search(q, 10, params=params), want)
    want = shared_l2.search(q, 10, filter=range(100, 2000))
    same(shared_l2.search(q, 10, params=faiss.SearchParameters(sel=sel)), want)
    same(shared_l2.search(q, 10, params=faiss.SearchParametersIVF(nprobe=3)), shared_l2.search(q, 10, nprobe=3))
    with pytest.raises(TypeError, match="params is a SearchParametersHNSW"):
        shared_l2.search(q, 3, faiss.SearchParametersHNSW(efSearch=30))
    with pytest.raises(ValueError, match=r"params\.quantizer_params is set"):
        shared_l2.search(q, 3, faiss.SearchParametersIVF(quantizer_params=faiss.SearchParametersHNSW(efSearch=30)))
    with pytest.raises(ValueError, match="nprobe is given by the keyword and by params"):
        shared_l2.search(q, 3, params, nprobe=3)


@pytest.mark.parametrize("description", ["IVF32,ScaNN,RFlat", "PCA50,IVF32,Flat"])
def test_outputs_are_filled(x, q, description):
    index = made(description, x)
    D, I = np.empty((100, 7), np.float32), np.empty((100, 7), np.int64)
    got = index.search(q, 7, None, D, I)
    assert got[0] is D and got[1] is I
    same((D, I), index.search(q, 7))
    D[:], I[:] = 0, 0
    only_I = index.search(q, 7, I=I)
    assert only_I[1] is I and only_I[0] is not D
    same(only_I, index.search(q, 7))
    R = np.empty((100, 7, 50), np.float32)
    got = index.search_and_reconstruct(q, 7, D=D, I=I, R=R)
    assert got[2] is R
    same((D, I, R), index.search_and_reconstruct(q, 7))


def test_outputs_are_checked(shared_l2, q):
    D, I = np.zeros((100, 7), np.float32), np.zeros((100, 7), np.int64)
    read_only = D.copy()
    read_only.flags.writeable = False
    for wrong in (D[:99], D[:, :6], D.astype(np.float64), D.astype(">f4"), np.asfortranarray(D), read_only, D[None], I):
        with pytest.raises(ValueError, match=r"D is a .* \(allowed: a writable one of float32 and shape \(100, 7\)"):
            shared_l2.search(q, 7, D=wrong)
    for wrong in (I[:99], I.astype(np.int32), I.astype(np.uint64), I[::-1], np.repeat(I, 2, 1)[:, ::2]):
        with pytest.raises(ValueError, match=r"I is a .* \(allowed: a writable one of int64 and shape \(100, 7\)"):
            shared_l2.search(q, 7, I=wrong)
    for wrong in (D.tolist(), "x", memoryview(D), np.asmatrix(D), np.ma.masked_array(D), 3):
        with pytest.raises(TypeError, match="D must be None or a numpy.ndarray"):
            shared_l2.search(q, 7, D=wrong)
    assert not D.any() and not I.any()
    memory = np.zeros((200, 50), np.float32)
    memory[:100] = q
    with pytest.raises(ValueError, match="D and x share memory"):
        shared_l2.search(memory[:100], 50, D=memory[50:150])
    both = np.zeros(100 * 7 * 3, np.float32)
    with pytest.raises(ValueError, match="D and I share memory"):
        shared_l2.search(q, 7, D=both[:700].reshape(100, 7), I=both[: 2 * 700].view(np.int64).reshape(100, 7))
    same((memory[:100], memory[100:]), (q, np.zeros_like(q)))


@needs_faiss
def test_calls_are_those_of_faiss(x, q):
    """The same lines, once with either library."""
    found = []
    for library in (faiss, fx):
        index = library.index_factory(50, "IVF32,Flat")
        index.train(x)
        index.add(x)
        index.nprobe = 32
        D, I = np.empty((100, 4), np.float32), np.empty((100, 4), np.int64)
        params = library.SearchParametersIVF(sel=library.IDSelectorRange(0, 1500), nprobe=32)
        index.search(x=q, k=4, params=params, D=D, I=I)
        lims, RD, RI = index.range_search(q, 12.0, params=params)
        index.remove_ids(library.IDSelectorRange(0, 100))
        found.append((I, index.search(q, 4)[1], lims, np.sort(RI), index.ntotal))
    for a, b in zip(*found):
        np.testing.assert_array_equal(a, b)


EMPTY = np.zeros((0, 50), np.float32)


@pytest.mark.parametrize(
    "description",
    ["IVF8,ScaNN,RFlat", "IVF8,Flat", "Flat", "PCA50,IVF8,ScaNN,SQ8", "IDMap2,IVF8,ScaNN", "OPQ10_50,IVF8,Flat"],
)
def test_no_rows(x, description):
    index = fx.index_factory(50, description)
    if description != "Flat":
        for call in (lambda: index.add(EMPTY), lambda: index.search(EMPTY, 3)):
            with pytest.raises(ValueError, match="not trained"):
                call()
    for none in (EMPTY, np.zeros((0, 50)), np.zeros((0, 50), int)):
        with pytest.raises(ValueError, match=r"shape \(0, 50\) \(allowed: \(n, 50\) with n >= 1"):
            index.train(none)
    index.train(x[:1000])
    index.add_with_ids(x[:1000], np.arange(1000)) if "IDMap" in description else index.add(x[:1000])
    before = index.search(x[:3], 2)
    for none in (EMPTY, np.zeros((0, 50)), np.zeros((0, 50), int)):
        D, I = index.search(none, 3)
        assert (D.shape, D.dtype, I.shape, I.dtype) == ((0, 3), np.float32, (0, 3), np.int64)
        lims, D, I = index.range_search(none, 3.0)
        assert lims.tolist() == [0] and D.shape == I.shape == (0,)
        if description != "OPQ10_50,IVF8,Flat":
            assert [a.shape for a in index.search_and_reconstruct(none, 3)] == [(0, 3), (0, 3), (0, 3, 50)]
        if "IDMap" not in description:
            index.add(none)
        if description != "Flat":
            index.add_with_ids(none, np.zeros(0, np.int64))
            index.add_with_ids(none, [])
            index.update_vectors([], none)
            assert index.sa_encode(none).shape == (0, index.sa_code_size())
            assert index.sa_decode(np.zeros((0, index.sa_code_size()), np.uint8)).shape == (0, 50)
        assert index.remove_ids([]) == 0 == index.remove_ids(np.zeros(0, np.int64))
        assert index.reconstruct_batch([]).shape == (0, 50)
        assert index.reconstruct_n(0, 0).shape == (0, 50)
    if "ScaNN" in description:
        index.add_sa_codes(np.zeros((0, index.sa_code_size()), np.uint8), [] if "IDMap" in description else None)
    for wrong in (np.zeros((0, 49), np.float32), np.zeros(0), np.zeros((0, 50, 1)), np.zeros((0, 50), bool)):
        with pytest.raises(ValueError):
            index.search(wrong, 3)
    with pytest.raises(ValueError, match="k = 0"):
        index.search(EMPTY, 0)
    same(index.search(x[:3], 2), before)
    assert index.ntotal == 1000


def test_defaults_below_k_are_raised(x, q):
    index = made("IVF8,ScaNN,SQ8,RFlat", x[:1000])
    want = index.search(q, 10, reorder_k=10, refine_k=10)
    index.reorder_k, index.refine_k = 3, 2
    same(index.search(q, 10), want)
    assert (index.reorder_k, index.refine_k) == (3, 2)
    with pytest.raises(ValueError, match=r"reorder_k = 3 is below k = 10 \(allowed: >= k\)"):
        index.search(q, 10, reorder_k=3)
    with pytest.raises(ValueError, match="refine_k = 2 is below k = 10"):
        index.search(q, 10, fx.SearchParametersScaNN(refine_k=2))
