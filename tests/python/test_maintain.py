"""Index.maintain, Index.health and auto_maintain, against an index that is trained anew."""

import math

import numpy as np
import pytest

import faiss_ext as fx

D, N, TENTH = 16, 6000, 600


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Rows of 40 clouds, sorted by their distance to the first."""
    rng = np.random.default_rng(3)
    centres = rng.normal(0, 4, (40, D))
    x = (centres[rng.integers(40, size=N)] + rng.normal(0, 1, (N, D))).astype(np.float32)
    return np.ascontiguousarray(x[np.argsort(((x - x[0]) ** 2).sum(1))])


def drifted(rows: np.ndarray, description: str = "IVF48,ScaNN,RFlat") -> fx.Index:
    index = fx.index_factory(D, description)
    index.train(rows[:TENTH])
    for begin in range(0, N, TENTH):
        index.add_with_ids(rows[begin : begin + TENTH], np.arange(begin, begin + TENTH))
    return index


def recall(index: fx.Index, rows: np.ndarray, nprobe: int) -> float:
    """Recall@10 of every 30th row as a query."""
    queries = rows[::30]
    truth = np.argsort(((queries[:, None] - rows[None]) ** 2).sum(2), axis=1)[:, :10]
    _, found = index.search(queries, 10, nprobe=nprobe)
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), truth.tolist())]))


@pytest.mark.parametrize("description", ["IVF48,ScaNN,RFlat", "IDMap2,IVF48,ScaNN(soar_lambda=1),RFlat"])
def test_maintain_brings_recall_back(rows, description):
    index = drifted(rows, description)
    fresh = fx.index_factory(D, description)
    fresh.train(rows)
    fresh.add_with_ids(rows, np.arange(N))
    before = recall(index, rows, 1)
    stages = set()
    done = index.maintain(progress=lambda stage, *_: stages.add(stage))
    assert done["finished"]
    assert N / 2 < done["rows"] < 2 * N
    assert done["lists"] == 48
    assert done["seconds"] > 0
    assert stages == {"k-means", "maintain", "add"}
    reached = recall(index, rows, 1)
    assert reached >= recall(fresh, rows, 1) - 0.03
    assert reached > before + 0.05
    assert index.maintain() == {"rows": 0, "lists": 0, "finished": True, "seconds": pytest.approx(0, abs=1)}
    np.testing.assert_array_equal(index.reconstruct_batch(np.arange(N)), rows)


def test_bounds_are_kept_and_the_next_call_goes_on(rows):
    index = drifted(rows)
    done = index.maintain(rows=1)
    assert not done["finished"]
    assert index.health()["pending_lists"] > 0
    assert "call it again" in index.health()["advice"][0]

    while not index.maintain(rows=1)["finished"]:
        pass
    assert index.health()["pending_lists"] == 0


def test_an_exception_of_progress_ends_the_call(rows):
    index = drifted(rows)

    def stop(stage, done, total):
        if stage == "maintain" and done > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.maintain(progress=stop)
    np.testing.assert_array_equal(index.reconstruct_batch(np.arange(N)), rows)
    assert index.maintain()["finished"]


def test_health_measures(rows):
    index = drifted(rows)
    health = index.health(queries=100)
    assert set(health) == {
        "rows", "lists", "empty_lists", "largest_list", "imbalance", "imbalance_at_fit", "changed_rows",
        "list_error", "list_error_at_fit", "code_error", "code_error_at_training", "rows_apart",
        "unused_bytes", "pending_lists", "recall", "recall_k", "advice",
    }  # fmt: skip
    sizes = np.array([index.get_list_size(i) for i in range(48)])
    assert health["rows"] == health["changed_rows"] == N
    assert health["largest_list"] == sizes.max()
    assert health["imbalance"] == pytest.approx(48 * (sizes**2).sum() / N**2, rel=1e-5)
    assert 0 < health["recall"] <= 1
    assert health["recall_k"] == 10
    assert math.isnan(index.health()["recall"])
    index.nprobe = 48
    assert index.health(rows[:50], k=1)["recall"] > 0.98


def test_auto_maintain_is_an_option_and_a_property(rows):
    plain = drifted(rows)
    kept = drifted(rows, "IVF48,ScaNN(auto_maintain=1),RFlat")
    assert kept.auto_maintain == 1
    assert kept.health()["imbalance"] < 0.8 * plain.health()["imbalance"]
    assert plain.auto_maintain == 0
    plain.auto_maintain = 0.3
    assert plain.auto_maintain == 0.3
    for wrong in (-1, math.nan, math.inf):
        with pytest.raises(ValueError, match="auto_maintain"):
            plain.auto_maintain = wrong
    codes = fx.index_factory(D, "IVF48,ScaNN")
    with pytest.raises(ValueError, match="raw rows or refine codes"):
        codes.auto_maintain = 1


def test_wrong_arguments_say_so(rows):
    index = drifted(rows)
    with pytest.raises(ValueError, match="rows is -1"):
        index.maintain(rows=-1)
    with pytest.raises(ValueError, match="seconds"):
        index.maintain(seconds=math.nan)
    with pytest.raises(TypeError, match="callable"):
        index.maintain(progress=3)
    with pytest.raises(ValueError, match="k = 0"):
        index.health(10, k=0)
    with pytest.raises(ValueError, match="queries"):
        index.health(rows[:3, :5])
    with pytest.raises(ValueError, match="not trained"):
        fx.index_factory(D, "IVF48,ScaNN,RFlat").maintain()
    with pytest.raises(ValueError, match="below a transform"):
        drifted(rows, "IDMap,IVF48,ScaNN,RFlat").health(rows[:5])
    with pytest.raises(ValueError, match="codes alone"):
        drifted(rows, "IVF48,ScaNN").maintain()


def test_a_mapped_file_is_read_only(rows, tmp_path):
    index = drifted(rows)
    fx.write_index(index, tmp_path / "index")
    mapped = fx.read_index(tmp_path / "index", mmap=True)
    with pytest.raises(ValueError, match="mapped from a file"):
        mapped.maintain()
    assert mapped.health()["advice"]
    assert fx.read_index(tmp_path / "index").maintain()["rows"] > 0
