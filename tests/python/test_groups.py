"""Tags, and searches of at most so many results of a tag."""

import numpy as np
import pytest

import faiss_ext as fx

D, N = 16, 1500


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return np.random.default_rng(7).normal(0, 1, (N, D)).astype(np.float32)


@pytest.fixture(scope="module")
def tags() -> np.ndarray:
    return np.random.default_rng(8).integers(-50, 50, N)


@pytest.fixture
def index(rows, tags) -> fx.Index:
    index = fx.index_factory(D, "IVF16,ScaNN(tags=1),RFlat")
    index.train(rows)
    index.add(rows, tags=tags)
    return index


def greedy(distances: np.ndarray, tags: np.ndarray, k: int, most: int, groups: int = 0) -> list[int]:
    counts: dict[int, int] = {}
    best: list[int] = []
    for row in np.argsort(distances, kind="stable"):
        tag = int(tags[row])
        if len(best) < k and counts.get(tag, 0) < most and (tag in counts or not groups or len(counts) < groups):
            counts[tag] = counts.get(tag, 0) + 1
            best.append(int(row))
    return best


@pytest.mark.parametrize(("most", "groups"), [(1, None), (3, None), (2, 4)])
def test_groups_are_those_of_brute_force(index, rows, tags, most, groups):
    queries = rows[:20] + np.float32(0.1)
    wide = {"nprobe": 16, "reorder_k": N}
    found, labels = index.search(queries, 12, **wide, max_per_group=most, groups=groups)
    for q, query in enumerate(queries):
        distances = ((rows - query) ** 2).sum(1)
        wanted = greedy(distances, tags, 12, most, groups or 0)
        assert labels[q][labels[q] >= 0].tolist() == wanted
        np.testing.assert_allclose(found[q][: len(wanted)], distances[wanted], rtol=1e-5)
    params = fx.SearchParametersScaNN(**wide, max_per_group=most, groups=groups)
    np.testing.assert_array_equal(index.search(queries, 12, params)[1], labels)
    _, same, vectors = index.search_and_reconstruct(queries, 12, **wide, max_per_group=most, groups=groups)
    np.testing.assert_array_equal(same, labels)
    np.testing.assert_array_equal(vectors[0, 0], rows[labels[0, 0]])


def test_tags_are_set_and_kept(index, rows, tags, tmp_path):
    assert index.with_tags
    np.testing.assert_array_equal(index.get_tags(np.arange(N)), tags)
    index.set_tags([5, 3], [2**63 - 1, -(2**63)])
    index.update_vectors([5], rows[:1])
    assert index.get_tags([3, 5]).tolist() == [-(2**63), 2**63 - 1]
    index.add_with_ids(rows[:2], [9000, 9001], tags=[7, 8])
    index.add_with_ids(rows[:1], [9002])
    fx.write_index(index, tmp_path / "index")
    for other in (fx.clone_index(index), fx.read_index(tmp_path / "index", mmap=True)):
        assert other.get_tags([9001, 9000, 9002, 5]).tolist() == [8, 7, 0, 2**63 - 1]


def test_wrong_arguments_say_so(index, rows):
    for call, words in {
        lambda: index.search(rows[:1], 3, max_per_group=-1): "max_per_group = -1",
        lambda: index.search(rows[:1], 3, groups=3): "without max_per_group",
        lambda: index.search(rows[:1], 3, max_per_group=1, max_codes=10): "max_codes",
        lambda: index.set_tags([1, 1], [2, 3]): "given twice",
        lambda: index.set_tags([1, 5000], [2, 3]): "not in the index",
        lambda: index.set_tags([1, 2], [2]): "tags",
        lambda: index.add(rows, tags=np.zeros(3, int)): "tags",
        lambda: index.range_search(rows[:1], 1.0, fx.SearchParametersScaNN(max_per_group=1)): "max_per_group",
    }.items():
        with pytest.raises(ValueError, match=words):
            call()
    assert index.ntotal == N
    plain = fx.index_factory(D, "IVF16,ScaNN,RFlat")
    plain.train(rows)
    plain.add(rows)
    for call in (
        lambda: plain.add(rows, tags=np.zeros(N, int)),
        lambda: plain.set_tags([1], [1]),
        lambda: plain.get_tags([1]),
        lambda: plain.search(rows[:1], 3, max_per_group=1),
    ):
        with pytest.raises(ValueError, match="tags=1"):
            call()
    below = fx.index_factory(D, "IDMap,IVF16,ScaNN(tags=1),RFlat")
    below.train(rows)
    with pytest.raises(ValueError, match="by itself"):
        below.add_with_ids(rows, np.arange(N), tags=np.zeros(N, int))
    shards = fx.IndexShards(D, successive_ids=False)
    shards.add_shard(index)
    with pytest.raises(ValueError, match="without max_per_group"):
        shards.search(rows[:1], 3, max_per_group=1)
