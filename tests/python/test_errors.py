"""Bad input: a ValueError that names the value and what is allowed, and an
index that is as it was before."""

import os
import resource
import subprocess
import sys

import numpy as np
import pytest
from conftest import made

import faiss_ext as fx

BAD_ROWS = [
    (lambda r: r[:, :49], r"shape \(20, 49\) \(allowed: \(n, 50\), since the index has d = 50"),
    (lambda r: r[0], r"shape \(50,\) \(allowed: a 2-d array .* use \w+\.reshape\(1, -1\)"),
    (lambda r: r[None], r"shape \(1, 20, 50\) \(allowed: a 2-d"),
    (lambda r: r[:, :0], r"shape \(20, 0\)"),
    (lambda r: np.where(np.arange(20)[:, None] == 3, np.nan, r), r"\[3, 0\] is nan"),
    (lambda r: np.where(np.arange(50) == 7, -np.inf, r), r"\[0, 7\] is -inf"),
    (lambda r: r.astype(np.complex64), r"dtype complex64 \(allowed: float32"),
    (lambda r: r > 0, "dtype bool"),
    (lambda r: r.astype(object), "dtype object"),
    (lambda r: r.astype(str), "dtype <U"),
    (lambda r: "abc", "dtype <U3"),
    (lambda r: None, "None"),
    (lambda r: np.ma.masked_less(r, 0), "masked array"),
    (lambda r: r.astype("datetime64[s]"), "dtype datetime64"),
]


@pytest.mark.parametrize("bad, message", BAD_ROWS, ids=[m for _, m in BAD_ROWS])
@pytest.mark.parametrize(
    "call",
    [
        lambda i, r: i.train(r),
        lambda i, r: i.add(r),
        lambda i, r: i.add_with_ids(r, np.arange(20)),
        lambda i, r: i.search(r, 5),
        lambda i, r: i.search_and_reconstruct(r, 5),
        lambda i, r: i.range_search(r, 1.0),
        lambda i, r: i.update_vectors(np.arange(20), r),
        lambda i, r: i.sa_encode(r),
    ],
    ids=["train", "add", "add_with_ids", "search", "search_rec", "range", "update", "encode"],
)
def test_bad_rows(shared_l2, x, call, bad, message):
    with pytest.raises(ValueError, match=message):
        call(shared_l2, bad(x[:20]))
    assert shared_l2.ntotal == len(x)


def test_float64_beyond_float32_is_refused(shared_l2):
    with np.errstate(over="ignore"), pytest.raises(ValueError, match=r"is inf \(as float32\)"):
        shared_l2.search(np.full((1, 50), 1e300), 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: np.asfortranarray(a),
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: a[::-1][::-1],
        lambda a: a.astype(np.float64),
        lambda a: a.astype(">f4"),
        lambda a: a.tolist(),
        lambda a: np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(np.float32).reshape(a.shape),
    ],
    ids=["fortran", "rows", "columns", "reversed", "float64", "big-endian", "list", "unaligned"],
)
def test_other_layouts_are_converted(shared_l2, q, change):
    want = shared_l2.search(q, 5, nprobe=8)
    got = shared_l2.search(change(q), 5, nprobe=8)
    np.testing.assert_array_equal(got[1], want[1])
    np.testing.assert_array_equal(got[0], want[0])


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.int32, np.uint64, np.longdouble])
def test_other_numbers_are_converted(shared_l2, q, dtype):
    whole = np.abs(np.round(q))
    want = shared_l2.search(whole, 5, nprobe=8)
    np.testing.assert_array_equal(shared_l2.search(whole.astype(dtype), 5, nprobe=8)[1], want[1])


def test_float32_is_not_copied(shared_l2, q):
    """Half a gigabyte of rows, refused for their width, without a second one."""
    wide = np.zeros((1 << 17, 1024), np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    index = fx.index_factory(1024, "IVF8,ScaNN")
    wide[-1, -1] = np.nan
    with pytest.raises(ValueError, match="131071, 1023"):
        index.train(wide)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 1100 * 512  # KiB; the rows alone are 524288, touched here


def test_too_few_training_rows(x):
    index = fx.index_factory(50, "IVF100,ScaNN")
    with pytest.raises(ValueError, match="100"):
        index.train(x[:99])
    assert not index.is_trained
    index.train(x[:400])
    assert index.is_trained


def test_chosen_nlist_needs_few_rows(x):
    index = fx.index_factory(50, "ScaNN,RFlat")
    index.train(x[:40])
    assert 1 <= index.nlist <= 40
    index.add(x[:40])
    assert index.search(x[:40], 1, nprobe=index.nlist)[1].ravel().tolist() == list(range(40))


def test_not_trained(x):
    index = fx.index_factory(50, "IVF8,ScaNN")
    for call in (
        lambda: index.add(x),
        lambda: index.add_with_ids(x[:1], [1]),
        lambda: index.search(x, 3),
        lambda: index.range_search(x, 3),
        lambda: index.update_vectors([0], x[:1]),
        lambda: index.sa_encode(x),
        lambda: index.sa_decode(np.zeros((1, 1), np.uint8)),
    ):
        with pytest.raises(ValueError, match="not trained"):
            call()


@pytest.mark.parametrize(
    "k, options, message",
    [
        (0, {}, r"k = 0 \(allowed: 1\.\.1048576"),
        (-3, {}, "k = -3"),
        (5, {"nprobe": 0}, r"nprobe = 0 \(allowed: 1\.\.32"),
        (5, {"nprobe": 33}, r"nprobe = 33 \(allowed: 1\.\.32"),
        (5, {"nprobe": -1}, "nprobe = -1"),
        (5, {"reorder_k": 4}, "reorder_k = 4 .* k = 5"),
        (5, {"reorder_k": -1}, "reorder_k = -1"),
        (5, {"refine_k": -1}, "refine_k = -1"),
        (5, {"max_codes": -1}, "max_codes = -1"),
    ],
)
def test_numbers_out_of_range(shared_l2, q, k, options, message):
    with pytest.raises(ValueError, match=message):
        shared_l2.search(q, k, **options)


def test_huge_k(shared_l2, q):
    with pytest.raises((ValueError, MemoryError)):
        shared_l2.search(q, 2**60)


def test_wrong_kinds_of_numbers(shared_l2, q):
    for call in (
        lambda: shared_l2.search(q, 1.5),
        lambda: shared_l2.search(q, "3"),
        lambda: shared_l2.search(q, 3, nprobe=2.5),
        lambda: shared_l2.search(q, 3, 8),
        lambda: shared_l2.search(q, 3, wrong=8),
        lambda: shared_l2.train(q, progress=3),
    ):
        with pytest.raises(TypeError):
            call()
    assert shared_l2.search(q, np.int32(3), nprobe=np.uint8(4))[1].shape == (len(q), 3)


def test_attributes_out_of_range(index):
    for name, value in [("nprobe", 0), ("nprobe", 33), ("reorder_k", -1), ("max_codes", -1), ("kmeans_rounds", 0)]:
        before = getattr(index, name)
        with pytest.raises(ValueError, match=f"{name} = {value}"):
            setattr(index, name, value)
        assert getattr(index, name) == before
    with pytest.raises(AttributeError):
        index.sub_dim = 3
    with pytest.raises(ValueError):
        index.estimate_memory(-1)


def test_radius(shared_l2, q):
    with pytest.raises(ValueError, match="radius = nan"):
        shared_l2.range_search(q, float("nan"))


@pytest.mark.parametrize(
    "ids, message",
    [
        ([1, 2], r"2 entries \(allowed: 3"),
        ([1.0, 2.0, 3.0], r"dtype float64 \(allowed: integers"),
        (np.array([True, False, True]), "dtype bool"),
        (np.zeros((3, 1), int), r"shape \(3, 1\) \(allowed: a 1-d"),
        (["a", "b", "c"], "dtype <U1"),
        ([1, -1, 2], r"ids\[1\] is -1"),
        (np.array([1, 2, 2**63], np.uint64), "9223372036854775808"),
        (None, "None"),
    ],
)
def test_bad_ids(index, x, ids, message):
    with pytest.raises(ValueError, match=message):
        index.add_with_ids(x[:3], ids)
    assert index.ntotal == len(x)


def test_unknown_ids(index, x):
    for call in (
        lambda: index.reconstruct(10**6),
        lambda: index.reconstruct(-1),
        lambda: index.reconstruct_batch([0, 10**6]),
        lambda: index.reconstruct_n(len(x) - 1, 2),
        lambda: index.update_vectors([10**6], x[:1]),
    ):
        with pytest.raises(ValueError, match="id .* is not in the index"):
            call()
    with pytest.raises(ValueError, match="n = 4001"):
        index.reconstruct_n(0, len(x) + 1)
    with pytest.raises(ValueError, match="i0 = -5"):
        index.reconstruct_n(-5, 2)
    with pytest.raises(ValueError, match="twice"):
        index.update_vectors([3, 3], x[:2])
    assert index.remove_ids([10**6, -5]) == 0 and index.remove_ids([]) == 0
    np.testing.assert_array_equal(index.reconstruct_n(), x)


def test_zero_vectors_under_cosine(x, q):
    index = made("IVF8,ScaNN(normalize=1),RFlat", x, fx.METRIC_INNER_PRODUCT)
    zero = np.zeros((3, 50), np.float32)
    for call in (lambda: index.add(zero), lambda: index.search(zero, 3), lambda: index.range_search(zero, 0.5)):
        with pytest.raises(ValueError, match="zero|length"):
            call()
    assert index.ntotal == len(x)
    assert (index.search(q, 3)[1] >= 0).all()


def test_codes(index):
    size = index.sa_code_size()
    for bad, message in [
        (np.zeros((2, size - 1), np.uint8), rf"allowed: \(n, {size}\)"),
        (np.zeros((2, size), np.int8), r"dtype int8 \(allowed: uint8"),
        (np.zeros(size, np.uint8), "shape"),
        (np.zeros((0, size + 1), np.uint8), rf"allowed: \(n, {size}\)"),
    ]:
        for call in (index.sa_decode, index.add_sa_codes):
            with pytest.raises(ValueError, match=message):
                call(bad)
    damaged = np.full((1, size), 255, np.uint8)
    with pytest.raises(ValueError):
        index.add_sa_codes(damaged)
    assert index.ntotal == 4000


@pytest.mark.parametrize(
    "d, description, metric",
    [
        (0, "IVF8,ScaNN", fx.METRIC_L2),
        (-1, "IVF8,ScaNN", fx.METRIC_L2),
        (70000, "IVF8,ScaNN", fx.METRIC_L2),
        (50, "IVF8,ScaNN", 7),
        (50, "IVF8,ScaNN(sub_dim=9)", fx.METRIC_L2),
        (50, "IVF8,ScaNN(sub_dim=0)", fx.METRIC_L2),
        (50, "IVF8,ScaNN(eta=0.5)", fx.METRIC_L2),
        (50, "IVF8,ScaNN(eta=2,threshold=0.2)", fx.METRIC_L2),
        (50, "IVF8,ScaNN(nonsense=1)", fx.METRIC_L2),
        (50, "IVF8,ScaNN(normalize=1)", fx.METRIC_L2),
        (50, "IVF8,ScaNN,SQ5", fx.METRIC_L2),
        (50, "IVF8,Skann", fx.METRIC_L2),
        (50, "IVF-3,ScaNN", fx.METRIC_L2),
        (50, "", fx.METRIC_L2),
    ],
)
def test_factory(d, description, metric):
    with pytest.raises(ValueError):
        fx.index_factory(d, description, metric)


def test_simd_and_threads():
    with pytest.raises(ValueError, match="NONE"):
        fx.set_simd_level("SSE9")
    for n in (0, -1):
        with pytest.raises(ValueError, match=f"n = {n}"):
            fx.omp_set_num_threads(n)


def test_unknown_simd_level_in_the_environment():
    code = "import faiss_ext as fx\ntry: fx.simd_level()\nexcept ValueError as e: print('said', e)"
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "SCANN_SIMD_LEVEL": "MMX"}, capture_output=True, text=True
    )
    assert run.returncode == 0 and "said" in run.stdout and "NONE" in run.stdout


def test_direct_map_array_needs_running_ids(x):
    index = fx.index_factory(50, "IVF8,ScaNN")
    index.train(x)
    index.add_with_ids(x[:10], np.arange(10) * 5)
    with pytest.raises(ValueError):
        index.set_direct_map_type(fx.DirectMap.Array)
    assert (index.search(x[:10], 1, nprobe=8)[1] >= 0).all()
    index.set_direct_map_type(fx.DirectMap.Hashtable)
    index.reconstruct(45)


def test_copy_subset_bounds(index):
    other = fx.clone_index(index)
    for subset, a1 in [(-1, 0), (9, 0), (fx.SUBSET_TYPE_ID_MOD, 0)]:
        with pytest.raises(ValueError):
            index.copy_subset_to(other, subset, a1, 0)


def test_errors_do_not_leak(shared_l2, x):
    """Twenty thousand refused calls: memory stays where it was."""
    bad = np.full((1, 50), np.nan, np.float32)

    def refuse(times):
        for _ in range(times):
            for call in (lambda: shared_l2.search(bad, 3), lambda: shared_l2.search(x[:1], 3, nprobe=99)):
                with pytest.raises(ValueError):
                    call()
        with open("/proc/self/statm") as f:
            return int(f.read().split()[1]) * 4096

    before = refuse(2000)
    assert refuse(10000) - before < 4 << 20


@pytest.mark.parametrize("factory", ["IVF16,ScaNN,RFlat", "IVF16,Flat", "PCA12,IVF16,ScaNN,RFlat"])
@pytest.mark.parametrize("kind", [fx.DirectMap.NoMap, fx.DirectMap.Hashtable])
def test_a_direct_map_that_cannot_be_made_leaves_the_old_one(factory, kind):
    x = np.random.default_rng(0).standard_normal((2000, 16), dtype=np.float32)
    index = fx.index_factory(16, factory)
    index.train(x)
    ids = np.arange(2000)
    ids[1500] = 50000
    index.add_with_ids(x, ids)
    index.set_direct_map_type(kind)
    for make in (index.make_direct_map, lambda: index.set_direct_map_type(fx.DirectMap.Array)):
        with pytest.raises(ValueError, match=r"id 50000 .*allowed: 0\.\.1999"):
            make()
        assert index.direct_map_type == kind
    for i in (0, 1499, 1900, 1999, 50000):
        row = x[1500 if i == 50000 else i]
        if factory.startswith("IVF16,ScaNN"):
            np.testing.assert_array_equal(index.reconstruct(i), row)
        assert index.search(row[None], 1, nprobe=16, filter=np.array([i]))[1][0, 0] == i
    index.update_vectors(np.array([1900]), x[:1])
    assert index.remove_ids(np.array([1900, 50000])) == 2
