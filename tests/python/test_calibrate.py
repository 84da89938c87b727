"""Index.calibrate: what it chooses, keeps and refuses."""

import numpy as np
import pytest
from conftest import made
from reference import brute_force, recall

import faiss_ext as fx


@pytest.mark.parametrize("given", [False, True])
def test_reaches_the_target_on_new_queries(index, x, q, given):
    half = len(q) // 2
    steps = []
    chosen = index.calibrate(q[:half] if given else None, target_recall=0.9, progress=lambda *step: steps.append(step))
    assert chosen["recall"] >= 0.9
    assert chosen["nprobe"] == index.nprobe and chosen["reorder_k"] >= 10 and chosen["refine_k"] == 0
    truth = brute_force(x, q[half:], 10, fx.METRIC_L2)[1]
    assert recall(index.search(q[half:], 10)[1], truth) >= 0.87  # 50 queries
    assert steps and all(step[0] == "calibrate" for step in steps)


def test_saved_with_the_index(index, q, tmp_path):
    assert index.calibration is None
    chosen = index.calibrate(target_recall=0.8)
    fx.write_index(index, tmp_path / "a.scann")
    loaded = fx.read_index(tmp_path / "a.scann")
    assert loaded.nprobe == index.nprobe and loaded.calibration == index.calibration == chosen
    assert chosen["k"] == 10 and chosen["target_recall"] == 0.8
    np.testing.assert_array_equal(loaded.search(q, 10)[1], index.search(q, 10)[1])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"target_recall": 0}, "target_recall = 0"),
        ({"target_recall": 1.0}, "target_recall = 1"),
        ({"k": 0}, "k = 0"),
        ({"k": 10**9}, "k = 1000000000"),
        ({"queries": np.zeros((3, 2), np.float32)}, r"\(3, 2\)"),
        ({"progress": 3}, "progress"),
    ],
)
def test_refuses(index, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        index.calibrate(**arguments)
    assert index.nprobe == 1


def test_needs_raw_rows_or_queries(x, q):
    index = fx.index_factory(x.shape[1], "IVF32,ScaNN", fx.METRIC_L2)
    with pytest.raises(ValueError, match="not trained"):
        index.calibrate()
    index = made("IVF32,ScaNN", x)
    with pytest.raises(ValueError, match="raw rows"):
        index.calibrate()
    assert index.calibrate(q, target_recall=0.9)["recall"] >= 0.9


def test_any_recall_for_any_k_after_one_calibration(index, x, q, tmp_path):
    with pytest.raises(ValueError, match="never calibrated: call calibrate"):
        index.search(q, 10, target_recall=0.9)
    assert np.isnan(index.search(q, 10, return_recall=True)[2])
    index.calibrate(q[:50])
    fx.write_index(index, tmp_path / "a.scann")
    loaded = fx.read_index(tmp_path / "a.scann")
    mask = np.arange(len(x)) % 10 == 0
    for k, target in ((1, 0.8), (7, 0.95), (50, 0.9)):
        for passing in (None, mask):
            truth = brute_force(x if passing is None else x[passing], q[50:], k, fx.METRIC_L2)[1]
            truth = truth if passing is None else np.flatnonzero(passing)[truth]
            D, I, expected = loaded.search(q[50:], k, target_recall=target, return_recall=True, filter=passing)
            assert recall(I, truth) >= target - 0.1  # 50 queries
            assert np.isnan(expected) if passing is not None else abs(expected - recall(I, truth)) < 0.15
    lists = []
    for target in (0.5, 0.9, 0.999):
        stats = fx.SearchStats()
        index.search(q, 10, fx.SearchParametersScaNN(target_recall=target), stats=stats)
        lists.append(stats.lists)
        assert stats.expected_recall > target - 0.05
    assert lists == sorted(lists) and lists[0] < lists[-1]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"target_recall": 0.49}, r"target_recall = 0.49 \(allowed: 0.5..0.999\)"),
        ({"target_recall": float("nan")}, r"allowed: 0.5..0.999"),
        ({"target_recall": 0.9, "nprobe": 4}, r"target_recall = 0.9 with nprobe"),
        ({"target_recall": 0.9, "k": 1001}, r"k = 1001 with target_recall \(allowed: 1..1000\)"),
    ],
)
def test_targets_that_cannot_be(index, q, arguments, message):
    index.calibrate(q)
    with pytest.raises(ValueError, match=message):
        index.search(q, **{"k": 10, **arguments})
