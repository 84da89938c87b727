"""Rows of other types than float32: the same values as float32, in an index that keeps float32, are the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from reference import normal

import faiss_ext as fx

ml_dtypes = pytest.importorskip("ml_dtypes")

D = 24
TYPES = {
    "RU8": np.dtype(np.uint8),
    "RI8": np.dtype(np.int8),
    "RFP16": np.dtype(np.float16),
    "RBF16": np.dtype(ml_dtypes.bfloat16),
}


def values(dtype, n, seed):
    x = 20 * normal(n, D, seed=seed)
    if dtype == np.uint8:
        x = np.clip(x + 100, 0, 255)
    elif dtype == np.int8:
        x = np.clip(x, -128, 127)
    return x.astype(dtype)


def filled(storage, x, metric=fx.METRIC_L2, options=""):
    index = fx.index_factory(D, f"IVF8,ScaNN{options},{storage}", metric)
    index.train(x)
    index.add_with_ids(x, np.arange(len(x)) * 2 + 1)
    index.nprobe = 4
    return index


def same(a, b):
    return all(np.array_equal(one, other) for one, other in zip(a, b))


@pytest.mark.parametrize("storage", TYPES)
@pytest.mark.parametrize("metric", [fx.METRIC_L2, fx.METRIC_INNER_PRODUCT])
def test_answers_are_those_of_float32(storage, metric):
    dtype = TYPES[storage]
    x, q, more = values(dtype, 800, 1), values(dtype, 30, 2), values(dtype, 50, 3)
    typed = filled(storage, x, metric)
    floats = filled("RFlat", x.astype(np.float32), metric)
    assert typed.raw_type == {"bfloat16": "bfloat16"}.get(dtype.name, dtype.name)
    assert floats.raw_type == "float32"
    for index, rows in ((typed, more), (floats, more.astype(np.float32))):
        index.add(rows)
        index.update_vectors(np.arange(50) * 2 + 1, rows[::-1])
        index.remove_ids(np.arange(101, 201, 2))
    queries = q.astype(np.float32)
    assert same(typed.search(q, 10), floats.search(queries, 10))
    assert same(typed.search(queries, 10), floats.search(queries, 10))
    assert same(typed.search(q[:0], 10), floats.search(queries[:0], 10))
    assert same(typed.search_and_reconstruct(q, 5), floats.search_and_reconstruct(queries, 5))
    radius = float(np.median(floats.search(queries, 20)[0]))
    assert same(typed.range_search(q, radius), floats.range_search(queries, radius))
    assert np.array_equal(typed.reconstruct(7), floats.reconstruct(7))
    assert typed.memory_usage() < floats.memory_usage()


@pytest.mark.parametrize("storage", TYPES)
def test_an_id_map_and_a_transform_take_them_too(storage):
    x = values(TYPES[storage], 600, 1)
    ids = np.arange(len(x)) + 1000
    for parts in ("IDMap2,IVF4,ScaNN,RFlat", "PCA12,IVF4,ScaNN,RFlat", "IVF4,Flat"):
        found = []
        for rows in (x, x.astype(np.float32)):
            index = fx.index_factory(D, parts)
            index.train(rows)
            index.add_with_ids(rows, ids)
            index.update_vectors(ids[:9], rows[9:18])
            found.append(index.search(rows[:20], 5))
        assert same(*found)


@pytest.mark.parametrize("order", ["fortran", "strided", "swapped"])
def test_other_layouts_are_converted(order):
    x = values(np.dtype(np.float16), 600, 1)
    index = filled("RFP16", x)
    if order == "fortran":
        q = np.asfortranarray(x[:30])
    elif order == "strided":
        q = np.repeat(x[:30], 2, axis=0)[::2]
        assert not q.flags.c_contiguous
    else:
        q = x[:30].astype(x.dtype.newbyteorder(">" if np.little_endian else "<"))
    assert same(index.search(q, 5), index.search(x[:30], 5))


def test_what_does_not_fit_is_refused_by_row_and_value():
    x = values(np.dtype(np.uint8), 600, 1)
    index = filled("RU8", x)
    before = index.search(x[:9], 5)
    for wrong in (-1, 256, 0.5):
        rows = x.astype(np.float32)
        rows[321, 7] = wrong
        with pytest.raises(ValueError, match=rf"row 321, dimension 7: {wrong} does not fit.*uint8"):
            index.add(rows)
    assert index.ntotal == 600 and same(index.search(x[:9], 5), before)
    halves = filled("RFP16", values(np.dtype(np.float16), 600, 1))
    rows = values(np.dtype(np.float16), 6000, 1)
    rows[5000, 3] = np.inf
    with pytest.raises(ValueError, match=r"x\[5000, 3\] is inf"):
        halves.add(rows)
    with pytest.raises(ValueError, match=r"x\[5000, 3\] is inf"):
        halves.search(rows, 3)
    with pytest.raises(ValueError, match="65520 does not fit.*float16"):
        halves.add(np.full((1, D), 65520, np.float32))


@pytest.mark.parametrize("dtype", [TYPES["RFP16"], TYPES["RBF16"]], ids=str)
@pytest.mark.parametrize("value, name", [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_a_half_that_is_not_finite_is_found_anywhere(dtype, value, name):
    """Also among the training rows that training does not look at: it takes 100,000."""
    x = np.ones((100_100, D), dtype)
    index = fx.index_factory(D, "IVF4,ScaNN,RFlat")
    for row, dimension in [(0, 0), (50_000, 7), (100_099, D - 1)]:
        x[row, dimension] = value
        with pytest.raises(ValueError, match=rf"x\[{row}, {dimension}\] is {name} \(as float32\)"):
            index.train(x)
        x[row, dimension] = 1
    assert not index.is_trained


def test_rows_are_not_copied_to_float32():
    """200,000 x 24 bytes, 19 MB as float32: peak memory of adding them to an index without raw rows."""
    import resource

    x = np.random.default_rng(1).integers(0, 256, (200_000, D), np.uint8)
    index = fx.index_factory(D, "IVF64,ScaNN(sub_dim=8)")
    index.train(x)
    index.add(x[:100])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    held = index.memory_usage()
    index.add(x)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    # lists and their places; a copy in float32 would be 19.2 MB more
    assert grown < index.memory_usage() - held + 14e6
