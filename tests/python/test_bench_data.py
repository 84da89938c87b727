"""The logic of bench/: data sets, truth, recall."""

import dataclasses
import pathlib
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench import datasets, ground_truth  # noqa: E402
from bench.folders import Unavailable  # noqa: E402

# ------------------------------------------------------------------ data sets


def save(folder, name, rows, kind):
    """A file of rows as others write it."""
    path = folder / f"{name}.{kind}"
    if kind == "npy":
        np.save(path, rows)
    elif kind == "fvecs":
        heads = np.full((len(rows), 1), rows.shape[1], dtype="<i4")
        path.write_bytes(np.hstack([heads, rows.astype("<f4").view("<i4")]).tobytes())
    else:
        path.write_bytes(np.array(rows.shape, dtype="<u4").tobytes() + rows.tobytes())
    return path


@pytest.mark.parametrize("kind, dtype", [("npy", "f8"), ("fvecs", "f4"), ("hbin", "<f2"), ("u8bin", "u1")])
def test_files_are_read(tmp_path, kind, dtype):
    rows = np.arange(28).reshape(7, 4).astype(dtype)
    got = datasets.read_vectors(save(tmp_path, "x", rows, kind))
    assert got.dtype == np.float32 and got.flags.c_contiguous
    np.testing.assert_array_equal(got, rows)


def test_bytes_stay_bytes(tmp_path):
    rows = np.random.default_rng(1).integers(0, 256, (300, 8), dtype=np.uint8)
    for stem in ("sift-x.base", "sift-x.query", "y"):
        save(tmp_path, stem, rows, "u8bin")
    data = datasets.load(tmp_path, "sift-x", rows=100, queries=9)
    assert data.base.dtype == np.uint8 and type(data.base) is np.ndarray and data.base.flags.c_contiguous
    np.testing.assert_array_equal(data.base, rows[:100])
    np.testing.assert_array_equal(data.query, rows[:9].astype(np.float32))
    assert data.query.dtype == np.float32 and datasets.load(tmp_path, "y").base.dtype == np.uint8
    assert datasets.load(tmp_path, "y", metric="cosine").base.dtype == np.float32

    pieces = list(datasets.float_pieces(data.base, piece=30))
    assert [len(piece) for piece in pieces] == [30, 30, 30, 10] and all(p.dtype == np.float32 for p in pieces)
    np.testing.assert_array_equal(np.concatenate(pieces), rows[:100])
    [whole] = datasets.float_pieces(data.query, piece=2)
    assert np.shares_memory(whole, data.query)


def test_truth_of_bytes_is_that_of_floats(tmp_path):
    rng = np.random.default_rng(2)
    base, query = rng.integers(0, 256, (500, 16), dtype=np.uint8), rng.random((20, 16), dtype=np.float32)
    for metric in ("ip", "l2"):
        found, scores = ground_truth.exact_neighbours(base, query, metric, 10, block=64)
        want, wanted_scores = ground_truth.exact_neighbours(base.astype(np.float32), query, metric, 10, block=64)
        np.testing.assert_array_equal(found, want)
        np.testing.assert_array_equal(scores, wanted_scores)


def test_files_that_are_wrong_are_named(tmp_path):
    cut = save(tmp_path, "cut", np.zeros((3, 4), dtype="<f2"), "hbin")
    cut.write_bytes(cut.read_bytes()[:-2])
    with pytest.raises(ValueError, match="cut.hbin: 11 values, the head says 3 x 4"):
        datasets.read_vectors(cut)
    cut.write_bytes(b"1234")
    with pytest.raises(ValueError, match="cut.hbin: 0 values, there is no head"):
        datasets.read_vectors(cut)
    np.save(tmp_path / "flat.npy", np.zeros(5))
    with pytest.raises(ValueError, match=r"flat.npy: expected a matrix, found shape \(5,\)"):
        datasets.read_vectors(tmp_path / "flat.npy")
    with pytest.raises(ValueError, match=r"x.csv: unknown extension \(allowed: hbin, u8bin, fvecs, npy\)"):
        datasets.read_vectors(tmp_path / "x.csv")


def test_sets_are_pairs_or_cut_in_two(tmp_path):
    rows = np.arange(1, 201, dtype=np.float32).reshape(100, 2)
    save(tmp_path, "whole", rows, "npy")
    whole = datasets.load(tmp_path, "whole")
    np.testing.assert_array_equal(whole.query, rows[::20])
    assert len(whole.base) == 95 and not np.isin(whole.base[:, 0], rows[::20, 0]).any()

    save(tmp_path, "pair.base", rows, "npy")
    save(tmp_path, "pair.query", rows[:30], "fvecs")
    pair = datasets.load(tmp_path, "pair", rows=40, queries=7, metric="l2")
    assert (pair.base.shape, pair.query.shape, pair.metric) == ((40, 2), (7, 2), "l2")
    cosine = datasets.load(tmp_path, "pair", metric="cosine")
    assert cosine.metric == "ip"
    np.testing.assert_allclose(np.linalg.norm(cosine.base, axis=1), 1, rtol=1e-6)

    assert datasets.names(tmp_path) == ["pair", "whole"]
    with pytest.raises(Unavailable, match=r"no set 'other' in .* \(it has: pair, whole\); --data or FAISS_EXT_BENCH"):
        datasets.load(tmp_path, "other")
    with pytest.raises(Unavailable, match=r"\(it has: none\)"):
        datasets.load(tmp_path / "missing", "other")


def test_the_natural_metric_goes_by_the_name(tmp_path):
    rows = np.ones((40, 4), dtype=np.float32)
    for name, metric, length in (("sift-4", "l2", 2), ("glove-4", "ip", 1), ("wordnet-4", "ip", 2), ("x", "ip", 2)):
        save(tmp_path, name, rows, "npy")
        data = datasets.load(tmp_path, name)
        assert data.metric == metric
        np.testing.assert_allclose(np.linalg.norm(data.base, axis=1), length)


# ------------------------------------------------------------ truth and recall


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("block", [7, 64, 1000])
def test_truth_is_exact_and_gives_ties_to_smaller_ids(metric, block):
    """Small integers: every score is exact in float32, and most are shared by several rows."""
    rng = np.random.default_rng(3)
    base = rng.integers(-2, 3, (300, 3)).astype(np.float32)
    query = rng.integers(-2, 3, (40, 3)).astype(np.float32)
    score = query @ base.T
    if metric == "l2":
        score = -((query[:, None] - base[None]) ** 2).sum(2)
    want = np.argsort(-score, axis=1, kind="stable")
    for k in (1, 10, 100, 300):
        found, _ = ground_truth.exact_neighbours(base, query, metric, k, block)
        np.testing.assert_array_equal(found, want[:, :k])


def test_truth_of_fewer_rows_than_neighbours():
    base = np.eye(3, dtype=np.float32)
    found, scores = ground_truth.exact_neighbours(base, base, "ip", 10)
    assert found.shape == scores.shape == (3, 3)
    np.testing.assert_array_equal(found, [[0, 1, 2], [1, 0, 2], [2, 0, 1]])


def test_truth_is_kept_for_the_same_vectors_and_filter_only(small, tmp_path):
    truth = ground_truth.ground_truth(small, tmp_path)
    [path] = tmp_path.glob("*.npy")
    np.save(path, truth[::-1])  # what is kept is taken
    np.testing.assert_array_equal(ground_truth.ground_truth(small, tmp_path), truth[::-1])

    masks = [ground_truth.filter_mask(500, 0.3, seed) for seed in (1, 2)]
    for allowed in masks:
        found = ground_truth.ground_truth(small, tmp_path, allowed)
        want = np.argsort(-np.where(allowed, small.query @ small.base.T, -np.inf), axis=1)[:, : found.shape[1]]
        assert found.shape == (20, 100)
        np.testing.assert_array_equal(found, want)

    changed = dataclasses.replace(small, base=small.base.copy())
    changed.base[3, 1] += 1  # one number of a row that no sample would have seen
    score = changed.query @ changed.base.T
    np.testing.assert_array_equal(ground_truth.ground_truth(changed, tmp_path)[:, 0], score.argmax(1))
    assert len(list(tmp_path.glob("*.npy"))) == 4


def test_a_filter_is_drawn_by_its_seed():
    a, b, c = (ground_truth.filter_mask(10_000, 0.2, seed) for seed in (1, 1, 2))
    assert (a == b).all() and (a != c).any() and 0.18 < a.mean() < 0.22
    assert ground_truth.filter_mask(10, 1.0) is None


def test_recall():
    truth = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert ground_truth.recall(truth, truth, 4) == 1
    assert ground_truth.recall(truth[:, ::-1], truth, 4) == 1  # in any order
    assert ground_truth.recall(truth[:, ::-1], truth, 2) == 0
    assert ground_truth.recall(np.array([[1, 1, 1, 1], [-1, -1, 8, 9]]), truth, 4) == 2 / 8  # once each
    assert ground_truth.recall(np.full((2, 10), 1), np.array([[1], [2]]), 10) == 1 / 2  # there are fewer than k
    with pytest.raises(ValueError, match="1 answers, 2 queries"):
        ground_truth.recall(truth[:1], truth, 4)


def test_padding():
    got = ground_truth.padded([[1, 2, 3], [], np.array([[4]])], 2)
    np.testing.assert_array_equal(got, [[1, 2], [-1, -1], [4, -1]])
