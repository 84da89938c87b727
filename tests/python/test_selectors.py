"""Selectors by Faiss' names, ours and faiss-cpu's: the ids that pass are those
of a set of Python, in searches and removals, however selectors are nested."""

import gc
import itertools
import time
import weakref

import numpy as np
import pytest

import faiss_ext as fx

try:
    import faiss
except ImportError:
    faiss = None

needs_faiss = pytest.mark.skipif(faiss is None, reason="faiss-cpu is not installed")

N = 4000
SOME = np.r_[np.random.default_rng(0).choice(N, 300, replace=False), 2**40, -9]
BITS = np.random.default_rng(1).integers(0, 256, 300).astype(np.uint8)
PROBES = np.unique(np.r_[np.arange(-70, 2 * N + 200), SOME, 2**40 + 1, 2**62, 2**63 - 1, -(2**63)])


def ids(values):
    return frozenset(int(v) for v in values)


EVERY = ids(PROBES)
BIT_IDS = ids(np.flatnonzero(np.unpackbits(BITS, bitorder="little")))


def leaves(library):
    yield library.IDSelectorRange(100, 3000), EVERY & ids(range(100, 3000))
    yield library.IDSelectorRange(-50, 7), EVERY & ids(range(-50, 7))
    yield library.IDSelectorRange(3500, 2**45), ids(i for i in PROBES if 3500 <= i < 2**45)
    yield library.IDSelectorRange(10, 10), frozenset()
    yield library.IDSelectorRange(10, -10), frozenset()
    yield library.IDSelectorArray(SOME), ids(SOME)
    yield library.IDSelectorBatch(SOME), ids(SOME)
    yield library.IDSelectorBatch(np.arange(500, 2500)), ids(range(500, 2500))
    yield library.IDSelectorBatch(np.zeros(0, np.int64)), frozenset()
    yield library.IDSelectorBitmap(BITS), BIT_IDS
    yield library.IDSelectorAll(), EVERY


def trees(library):
    """Selectors, and what they take of PROBES."""
    flat = list(leaves(library))
    yield from flat
    rng = np.random.default_rng(2)
    for _ in range(40):
        (a, in_a), (b, in_b) = (flat[i] for i in rng.integers(0, len(flat), 2))
        kind = rng.integers(0, 4)
        if kind == 0:
            flat.append((library.IDSelectorNot(a), EVERY - in_a))
        elif kind == 1:
            flat.append((library.IDSelectorAnd(a, b), in_a & in_b))
        elif kind == 2:
            flat.append((library.IDSelectorOr(a, b), in_a | in_b))
        else:
            flat.append((library.IDSelectorXOr(a, b), in_a ^ in_b))
        yield flat[-1]


def test_members_are_those_of_sets():
    for sel, members in trees(fx):
        assert ids(p for p in PROBES if sel.is_member(int(p))) == members, sel
    for filter_ in (fx.Filter(SOME), fx.Filter(np.isin(np.arange(N), SOME))):
        assert ids(p for p in range(N) if filter_.is_member(p)) == ids(SOME) & ids(range(N))


@pytest.fixture(scope="module")
def scattered(x):
    """Ids of all sizes."""
    index = fx.index_factory(50, "IVF16,ScaNN,RFlat")
    index.train(x)
    inside = np.setdiff1d(PROBES[1:-2][PROBES[1:-2] != -1], SOME)[:3600]
    chosen = np.r_[SOME, np.random.default_rng(3).permutation(inside)[: N - len(SOME) - 3], 2**62, -(2**63), 2**63 - 1]
    index.add_with_ids(x[: len(chosen)], chosen)
    return index, ids(chosen)


@pytest.mark.parametrize("libraries", ["ours", pytest.param("faiss", marks=needs_faiss)])
def test_searches_return_exactly_the_members(shared_l2, scattered, libraries, q):
    library = fx if libraries == "ours" else faiss
    for sel, members in trees(library):
        for index, held in ((shared_l2, ids(range(N))), scattered):
            _, D, I = index.range_search(q[:1], 1e9, nprobe=index.nlist, filter=sel)
            assert ids(I) == members & held and len(I) == len(members & held), sel
            I = index.search(q[:3], 10, fx.SearchParameters(sel=sel), nprobe=index.nlist)[1]
            assert ids(I.ravel()) - {-1} <= members & held, sel
            assert ((I >= 0) | (I < -1)).sum() == 3 * min(10, len(members & held)), sel


@pytest.mark.parametrize(
    "description, map_type",
    [
        *itertools.product(
            ["IVF16,ScaNN,RFlat", "IVF16,Flat", "IDMap2,PCA20,IVF16,ScaNN"],
            [fx.DirectMap.NoMap, fx.DirectMap.Hashtable],
        ),
        ("Flat", fx.DirectMap.NoMap),
    ],
)
@pytest.mark.parametrize("libraries", ["ours", pytest.param("faiss", marks=needs_faiss)])
def test_removals_take_exactly_the_members(x, description, map_type, libraries):
    library = fx if libraries == "ours" else faiss
    template = fx.index_factory(50, description)
    template.train(x[:600])
    for sel, members in list(trees(library))[::3]:
        if "ScaNN" in description:
            index = fx.clone_index(template)
        else:
            index = fx.index_factory(50, description)
            index.train(x[:600])
        index.add_with_ids(x[:600], np.arange(600)) if "IDMap" in description else index.add(x[:600])
        if map_type != fx.DirectMap.NoMap:
            index.set_direct_map_type(map_type)
        gone = members & ids(range(600))
        assert index.remove_ids(sel) == len(gone), sel
        assert index.ntotal == 600 - len(gone)
        if index.ntotal and description != "Flat":  # which counts its ids anew
            _, _, I = index.range_search(x[:1], 1e9, nprobe=16)
            assert ids(I) == ids(range(600)) - gone, sel


def test_a_selector_is_prepared_once_and_grows_with_the_index(x, q):
    index = fx.index_factory(50, "IVF8,ScaNN,RFlat")
    index.train(x)
    sel = fx.IDSelectorNot(fx.IDSelectorRange(10, 20))
    for end in (30, 300, 3000):
        index.add(x[index.ntotal : end])
        I = index.range_search(q[:1], 1e9, nprobe=8, filter=sel)[2]
        assert ids(I) == ids(range(end)) - ids(range(10, 20))
    small = fx.index_factory(50, "IVF8,ScaNN")
    small.train(x)
    small.add(x[:15])
    assert ids(small.range_search(q[:1], 1e9, nprobe=8, filter=sel)[2]) == ids(range(10))


def test_parts_are_kept():
    parts = [fx.IDSelectorBatch([3, 2**50]), fx.IDSelectorBitmap(np.array([255], np.uint8))]
    seen = [weakref.ref(p) for p in parts if hasattr(type(p), "__weakref__")]
    sel = fx.IDSelectorNot(fx.IDSelectorAnd(*parts))
    del parts
    gc.collect()
    assert len(seen) in (0, 2)
    assert [sel.is_member(i) for i in (3, 4, 2**50)] == [False, True, True]
    inner = sel.sel
    assert isinstance(inner, fx.IDSelectorAnd) and isinstance(inner.rhs, fx.IDSelectorBitmap)
    batch = inner.lhs
    del sel, inner
    gc.collect()
    assert batch.is_member(2**50) and not batch.is_member(4)
    bits = np.zeros(2, np.uint8)
    sel = fx.IDSelectorBitmap(bits)
    bits[:] = 255
    assert not sel.is_member(3)


def test_chains_are_bounded(shared_l2, q):
    sel = fx.IDSelectorRange(0, 5)
    with pytest.raises(ValueError, match=r"nested 1001 deep \(allowed: 10000 parts, 1000 deep"):
        for _ in range(10000):
            sel = fx.IDSelectorNot(sel)
    assert ids(shared_l2.search(q[:1], 10, nprobe=32, filter=sel)[1].ravel()) - {-1} != set()
    assert sel.is_member(3) != sel.is_member(6)
    sel = fx.IDSelectorRange(0, 5)
    with pytest.raises(ValueError, match="a selector of 16383 parts"):
        for _ in range(100):
            sel = fx.IDSelectorAnd(sel, sel)
    started = time.perf_counter()
    assert sel.is_member(3)
    shared_l2.search(q[:1], 10, filter=sel)
    assert time.perf_counter() - started < 5
    assert "..." in repr(sel) and len(repr(sel)) < 200
    del sel


def test_chains_of_others_are_bounded(shared_l2, q):
    class IDSelectorNot:
        def __init__(self, sel):
            self.sel = sel

        def is_member(self, i):
            return True

    sel = fx.IDSelectorAll()
    for _ in range(10000):
        sel = IDSelectorNot(sel)
    with pytest.raises(ValueError, match="nested too deep"):
        shared_l2.search(q, 3, filter=sel)
    while isinstance(sel, IDSelectorNot):  # or Python takes its stack to free it
        sel.sel, sel = None, sel.sel
    itself = IDSelectorNot(None)
    itself.sel = itself
    with pytest.raises(ValueError, match="nested too deep"):
        shared_l2.search(q, 3, filter=itself)
    twice = type("IDSelectorAnd", (), {"is_member": lambda self, i: True})()
    twice.lhs = twice.rhs = twice
    with pytest.raises(ValueError, match="nested too deep"):
        shared_l2.search(q, 3, filter=twice)


class Odd:
    def __init__(self):
        self.asked = []

    def is_member(self, i):
        self.asked.append(i)
        return i % 2


def test_any_object_is_asked_for_each_id(x, q):
    index = fx.index_factory(50, "IDMap2,IVF8,ScaNN,RFlat")
    index.train(x)
    index.add_with_ids(x[:500], np.arange(500) * 7 + 1)
    sel = Odd()
    I = index.range_search(q[:1], 1e9, nprobe=8, filter=sel)[2]
    assert ids(I) == ids(i for i in range(1, 3500, 7) if i % 2)
    assert sorted(sel.asked) == list(range(1, 3501, 7))
    assert index.remove_ids(sel) == 250 and index.ntotal == 250

    class Fails:
        def is_member(self, i):
            raise ZeroDivisionError("no answer")

    class NoTruth:
        def is_member(self, i):
            return np.zeros(3)

    for wrong, error in ((Fails(), ZeroDivisionError), (NoTruth(), ValueError)):
        with pytest.raises(error):
            index.search(q, 3, filter=wrong)
        with pytest.raises(error):
            index.remove_ids(wrong)
    assert index.ntotal == 250


def test_a_selector_that_changes_the_index_while_it_is_asked(x, q):
    index = fx.index_factory(50, "IVF8,ScaNN,RFlat")
    index.train(x)
    index.add(x[:100])

    class Adds:
        def is_member(self, i):
            if index.ntotal < 200:
                index.add(x[100:200])
            return True

    assert ids(index.range_search(q[:1], 1e9, nprobe=8, filter=Adds())[2]) == ids(range(100))
    assert index.ntotal == 200


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: fx.IDSelectorRange(1.5, 3), TypeError, "incompatible"),
        (lambda: fx.IDSelectorRange(1), TypeError, "incompatible"),
        (lambda: fx.IDSelectorRange(2**63, 2**64), TypeError, "incompatible"),
        (lambda: fx.IDSelectorBatch([1.5]), ValueError, r"ids has dtype float64 \(allowed: integers"),
        (lambda: fx.IDSelectorBatch([[1]]), ValueError, r"ids has shape \(1, 1\) \(allowed: a 1-d"),
        (lambda: fx.IDSelectorArray(None), ValueError, "ids is None"),
        (lambda: fx.IDSelectorArray(np.array([True])), ValueError, "dtype bool"),
        (lambda: fx.IDSelectorArray(np.array([2**63], np.uint64)), ValueError, "9223372036854775808"),
        (lambda: fx.IDSelectorBitmap([1, 2]), ValueError, r"bitmap has dtype int64 \(allowed: uint8"),
        (lambda: fx.IDSelectorBitmap(np.zeros((2, 2), np.uint8)), ValueError, "1-d array, one bit for each id"),
        (lambda: fx.IDSelectorNot(None), TypeError, r"sel is a NoneType \(allowed: an IDSelector or a Filter"),
        (lambda: fx.IDSelectorNot([1, 2]), TypeError, "sel is a list"),
        (lambda: fx.IDSelectorNot(fx.Index), TypeError, "sel is a"),
        (lambda: fx.IDSelectorAnd(fx.IDSelectorAll(), 3), TypeError, "rhs is a int"),
        (lambda: fx.IDSelectorNot(Odd()), TypeError, r"of which only is_member\(\) is known"),
        (lambda: fx.IDSelector(), TypeError, "constructor"),
        (lambda: fx.IDSelectorAll().is_member("x"), TypeError, "incompatible"),
        (lambda: fx.IDSelectorAll().is_member(2**64), TypeError, "incompatible"),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_mask_inside_covers_the_index_or_is_refused(shared_l2, q):
    short = fx.IDSelectorNot(fx.Filter(np.ones(3999, bool)))
    with pytest.raises(ValueError, match="mask of 3999 flags; the index holds 4000"):
        shared_l2.search(q, 3, filter=short)
    fine = fx.IDSelectorNot(fx.Filter(np.arange(N) < 3990))
    assert ids(shared_l2.range_search(q[:1], 1e9, nprobe=32, filter=fine)[2]) == ids(range(3990, N))


def test_representation():
    sel = fx.IDSelectorOr(fx.IDSelectorNot(fx.IDSelectorRange(1, 5)), fx.IDSelectorBatch([7, 7]))
    assert repr(sel) == "<faiss_ext.IDSelectorOr: (not (ids 1..5 without the last)) or (1 ids)>"
    assert repr(fx.IDSelectorBitmap(np.array([5], np.uint8))) == "<faiss_ext.IDSelectorBitmap: bitmap of 8 ids, 2 set>"
    assert (fx.IDSelectorRange(3, 9, True).imin, fx.IDSelectorRange(3, imax=9).imax) == (3, 9)


@needs_faiss
def test_selectors_of_faiss_inside_of_ours(shared_l2, q):
    theirs = faiss.IDSelectorAnd(faiss.IDSelectorRange(0, 50), faiss.IDSelectorNot(faiss.IDSelectorArray([3, 4])))
    sel = fx.IDSelectorNot(theirs)
    del theirs
    found = shared_l2.range_search(q[:1], 1e9, nprobe=32, filter=sel)[2]
    assert ids(found) == ids(range(50, N)) | {3, 4}
    with pytest.raises(TypeError, match="IDSelectorBatch, of which only is_member"):
        fx.IDSelectorNot(faiss.IDSelectorBatch([3]))


@needs_faiss
def test_an_array_behind_a_selector_of_faiss_that_was_exchanged(shared_l2, q):
    """It is read where it is, or asked; never by an address alone."""
    sel = faiss.IDSelectorArray([3, 4])
    sel.referenced_objects[0] = np.array([7, 8])
    held = np.array([3, 4])
    sel.ids, sel.n = faiss.swig_ptr(held), 2
    assert ids(shared_l2.search(q[:1], 5, nprobe=32, filter=sel)[1][0]) == {3, 4, -1}
    fake = type("IDSelectorArray", (), {"n": 10**9, "ids": 12345, "is_member": lambda self, i: i == 5})()
    assert ids(shared_l2.search(q[:1], 5, nprobe=32, filter=fake)[1][0]) == {5, -1}


@pytest.mark.parametrize("sel", ["range", "not", "and"])
def test_selectors_are_about_as_fast_as_masks(sel):
    """They were twenty times slower when each id was asked for itself."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200_000, 4), dtype=np.float32)
    index = fx.index_factory(4, "IVF64,ScaNN")
    index.train(x[:20_000])
    index.add(x)
    flags = np.arange(len(x)) % 2 == 0 if sel == "and" else np.arange(len(x)) >= 100_000
    made_of = {
        "range": fx.IDSelectorRange(100_000, 10**9),
        "not": fx.IDSelectorNot(fx.IDSelectorRange(0, 100_000)),
        "and": fx.IDSelectorAnd(fx.IDSelectorNot(fx.Filter(~flags)), fx.IDSelectorAll()),
    }[sel]
    mask = fx.Filter(flags)
    times = {}
    for _ in range(5):
        for name, filter_ in (("mask", mask), ("selector", made_of)):
            started = time.process_time()
            found = index.search(x[:200], 10, nprobe=32, filter=filter_)
            times[name] = min(times.get(name, 9e9), time.process_time() - started)
            assert flags[found[1]].all()
    assert times["selector"] < 4 * times["mask"]
