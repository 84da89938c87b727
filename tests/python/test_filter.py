"""Filters: masks, ids, wide and strict, through wrappers."""

import numpy as np
import pytest
from conftest import made
from reference import brute_force, recall

import faiss_ext as fx


@pytest.mark.parametrize("share", [0.5, 0.05, 0.002])
@pytest.mark.parametrize("kind", ["mask", "ids", "Filter", "sparse ids"])
def test_filter_is_honoured(shared_l2, x, q, share, kind):
    mask = np.random.default_rng(1).random(len(x)) < share
    ids = np.flatnonzero(mask)
    allowed = {
        "mask": mask,
        "ids": np.random.default_rng(2).permutation(np.r_[ids, ids]),
        "Filter": fx.Filter(mask),
        "sparse ids": np.r_[ids, 2**40, -7],
    }[kind]
    D, I = shared_l2.search(q, 10, nprobe=32, reorder_k=len(x), filter=allowed)
    assert mask[I[I >= 0]].all()
    _, truth = brute_force(x, q, min(10, len(ids)), fx.METRIC_L2, allowed=mask)
    assert recall(I, truth) > 0.995


def test_strict_filter_finds_all_that_pass(shared_l2, q):
    """nprobe = 1 covers 1/32 of the rows; still all that pass are found."""
    for ids in ([42], [1, 1000, 2000, 3999]):
        D, I = shared_l2.search(q, 10, nprobe=1, filter=np.array(ids))
        assert (np.sort(I, axis=1)[:, -len(ids) :] == ids).all()
        assert (I[:, len(ids) :] == -1).all()


def test_strict_filter_keeps_recall(shared_l2, x, q):
    mask = np.random.default_rng(3).random(len(x)) < 0.01
    _, truth = brute_force(x, q, 10, fx.METRIC_L2, allowed=mask)
    _, unfiltered = brute_force(x, q, 10, fx.METRIC_L2)
    with_filter = recall(shared_l2.search(q, 10, nprobe=4, filter=mask)[1], truth)
    without = recall(shared_l2.search(q, 10, nprobe=4)[1], unfiltered)
    assert with_filter >= without - 0.02


def test_nothing_allowed(shared_l2, x, q):
    for nothing in (np.zeros(len(x), bool), np.zeros(0, np.int64), [], np.array([2**50])):
        assert (shared_l2.search(q, 5, filter=nothing)[1] == -1).all()


def test_everything_allowed(shared_l2, x, q):
    want = shared_l2.search(q, 10, nprobe=8)
    got = shared_l2.search(q, 10, nprobe=8, filter=np.ones(len(x) + 100, bool))
    np.testing.assert_array_equal(got[1], want[1])


def test_lists_and_other_types(shared_l2, x, q):
    want = shared_l2.search(q, 3, filter=np.array([3, 5, 7]))[1]
    for same in ([7, 5, 3], np.array([3, 5, 7], np.uint8), np.array([3, 0, 5, 0, 7])[::2], range(3, 8, 2)):
        np.testing.assert_array_equal(shared_l2.search(q, 3, filter=same)[1], want)
    mask = np.zeros(2 * len(x), bool)
    mask[2 * np.array([3, 5, 7])] = True
    np.testing.assert_array_equal(shared_l2.search(q, 3, filter=mask[::2])[1], want)
    np.testing.assert_array_equal(shared_l2.search(q, 3, filter=mask[::2].tolist())[1], want)


def test_range_search(shared_l2, x, q):
    mask = np.arange(len(x)) % 7 == 0
    exact, _ = brute_force(x, q, 50, fx.METRIC_L2)
    radius = float(np.median(exact[:, -1]))
    lims, D, I = shared_l2.range_search(q, radius, nprobe=32, filter=mask)
    all_lims, _, all_I = shared_l2.range_search(q, radius, nprobe=32)
    for i in range(len(q)):
        found = all_I[all_lims[i] : all_lims[i + 1]]
        assert set(I[lims[i] : lims[i + 1]]) == set(found[mask[found]])


@pytest.mark.parametrize("description", ["IDMap2,IVF32,ScaNN,RFlat", "IDMap,PCA50,IVF32,ScaNN,RFlat"])
def test_through_wrappers(x, q, description):
    index = fx.index_factory(50, description)
    index.train(x)
    ids = np.random.default_rng(5).permutation(3 * len(x))[: len(x)]
    index.add_with_ids(x, ids)
    allowed = ids[::10]
    mask = np.zeros(3 * len(x), bool)
    mask[allowed] = True
    _, truth = brute_force(x, q, 10, fx.METRIC_L2, allowed=np.arange(len(x)) % 10 == 0)
    for given in (allowed, mask):
        D, I = index.search(q, 10, nprobe=32, reorder_k=len(x), filter=given)
        assert recall(I, ids[truth]) > 0.995
        lims, _, RI = index.range_search(q, 20.0, nprobe=32, filter=given)
        assert np.isin(RI, allowed).all() and lims[-1] > 0


def test_after_removal(index, x, q):
    index.remove_ids(np.arange(0, len(x), 2))
    mask = np.ones(len(x), bool)
    mask[:2000] = False
    D, I = index.search(q, 10, nprobe=32, filter=mask)
    assert (I >= 2000).all() and (I % 2 == 1).all()


def test_cosine(x, q):
    index = made("IVF32,ScaNN(normalize=1),SQ8", x, fx.METRIC_INNER_PRODUCT)
    mask = np.arange(len(x)) < 1000
    I = index.search(q, 10, nprobe=32, filter=mask)[1]
    assert ((I >= 0) & (I < 1000)).all()


def test_filter_objects():
    assert len(fx.Filter([1, 1, 2])) == 2
    assert len(fx.Filter(np.array([True, False, True]))) == 2
    assert repr(fx.Filter([5])) == "<faiss_ext.Filter: 1 ids>"
    assert bool(fx.Filter([]))


@pytest.mark.parametrize(
    "bad, message",
    [
        (np.zeros((4000, 1), bool), r"mask of shape \(4000, 1\) \(allowed: a 1-d"),
        (np.zeros((2, 2), int), r"shape \(2, 2\) \(allowed: a 1-d"),
        (np.zeros(4000, np.float32), r"dtype float32 \(allowed: bool .* or integers"),
        (np.array(["a"]), "dtype <U1"),
        (np.array([None]), "dtype object"),
        ("abc", "dtype <U3"),
        (np.zeros(3999, bool), "mask of 3999 flags; the index holds 4000"),
        (np.array([2**63], np.uint64), "9223372036854775808"),
        (np.ma.masked_array([1, 2], [True, False]), "masked array"),
        (3, r"shape \(\)"),
    ],
)
def test_bad_filters(shared_l2, q, bad, message):
    with pytest.raises(ValueError, match=message):
        shared_l2.search(q, 3, filter=bad)
    with pytest.raises(ValueError, match=message):
        shared_l2.range_search(q, 3.0, filter=bad)
