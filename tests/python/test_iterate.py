"""Index.iterate: results of one query, batch by batch, until there are no more."""

import gc
import threading

import numpy as np
import pytest
from reference import normal

import faiss_ext as fx

D, N = 24, 2000
KINDS = (
    "IVF20,ScaNN",
    "IVF20,ScaNN,SQ8",
    "IVF20,ScaNN(soar_lambda=1),SQ8,RFlat",
    "IDMap2,IVF20,ScaNN,RFlat",
    "PCA12,IVF20,ScaNN,RFlat",
    "IDMap,L2norm,IVF20,ScaNN,SQ8",
)


@pytest.fixture(scope="module")
def x():
    return normal(N, D, 1)


@pytest.fixture(scope="module")
def q():
    return normal(3, D, 2)


def made(description, x, metric=fx.METRIC_L2):
    index = fx.index_factory(D, description, metric)
    index.train(x)
    if "IDMap" in description:
        index.add_with_ids(x, 7 * np.arange(N) + 3)
    else:
        index.add(x)
    index.nprobe = 4
    return index


@pytest.fixture(scope="module", params=KINDS)
def index(request, x):
    return made(request.param, x)


def ids_of(index):
    return np.sort(np.concatenate([index.list_ids(i) for i in range(index.nlist)]))


def taken(pieces):
    return [np.concatenate(parts) for parts in zip(*pieces)]


def test_every_row_comes_once(index, q):
    for batch in (1, 64, N, 10 * N):
        pieces = list(index.iterate(q[:1], batch))
        assert all(len(ids) == min(batch, N) for _, ids in pieces[:-1])
        distances, ids = taken(pieces)
        assert distances.dtype == np.float32 and ids.dtype == np.int64
        assert np.array_equal(np.sort(ids), ids_of(index))


def test_every_row_that_passes_comes_once(index, q):
    ids = ids_of(index)
    for allowed in (ids[::2], ids[::50], ids[:1], ids[:0]):
        pieces = list(index.iterate(q[:1], 30, filter=allowed))
        found = taken(pieces)[1] if pieces else np.empty(0)
        assert np.array_equal(np.sort(found), np.sort(allowed))


def test_the_first_batch_is_a_search(index, q):
    for one in q:
        distances, ids = next(index.iterate(one[None], 40, nprobe=20))
        want = index.search(one[None], 40, nprobe=20)
        assert np.array_equal(distances, want[0][0]) and np.array_equal(ids, want[1][0])


def test_pieces_are_as_good_as_a_search(index, q):
    for one in q:
        exact = set(index.search(one[None], 200, nprobe=20)[1][0])
        whole = exact & set(index.search(one[None], 200)[1][0])
        pieces = index.iterate(one[None], 20)
        found = exact & {int(i) for _ in range(10) for i in next(pieces)[1]}
        assert len(found) >= len(whole) - 4


def test_types_of_queries(x, q):
    index = made("IVF20,ScaNN,RFlat", x)
    for query in (q[:1].astype(np.float16), q[:1].astype(np.float64), (20 * q[:1]).astype(np.int8), q[:1].tolist()):
        floats = np.asarray(query, dtype=np.float32)
        assert np.array_equal(next(index.iterate(query))[1], next(index.iterate(floats))[1])


def test_the_query_may_go_and_the_index_stays(x, q):
    index = made("IVF20,ScaNN,RFlat", x)
    want = taken(index.iterate(q[:1], 99))
    query = q[:1].copy()
    pieces = index.iterate(query, 99)
    query[:] = 0
    del index, query
    gc.collect()
    assert all(np.array_equal(a, b) for a, b in zip(taken(pieces), want))


def test_parameters_as_objects(x, q):
    index = made("IVF20,ScaNN,SQ8,RFlat", x)
    params = fx.SearchParametersScaNN(nprobe=20, refine_k=N, reorder_k=N, sel=np.arange(100))
    distances, ids = taken(index.iterate(q[:1], 9, params))
    assert np.array_equal(np.sort(ids), np.arange(100)) and (np.diff(distances) >= 0).all()
    with pytest.raises(ValueError, match="nprobe is given by the keyword and by params"):
        index.iterate(q[:1], 9, params, nprobe=3)


def test_changes_are_errors(x, q):
    index = made("IVF20,ScaNN,RFlat", x)
    for change in (
        lambda: index.add(x[:1]),
        lambda: index.remove_ids(np.array([5])),
        lambda: index.update_vectors(np.array([6]), x[:1]),
        index.reset,
    ):
        pieces = index.iterate(q[:1], 10)
        next(pieces)
        change()
        for _ in range(2):
            with pytest.raises(ValueError, match="make another"):
                next(pieces)
    assert list(index.iterate(q[:1])) == []


def test_statistics(x, q):
    index = made("IVF20,ScaNN,RFlat", x)
    stats = fx.SearchStats()
    pieces = index.iterate(q[:1], 10, stats=stats)
    assert stats.lists == 0
    next(pieces)
    assert (stats.nq, stats.lists) == (1, 4)
    assert len(list(pieces)) == N // 10 - 1
    assert (stats.nq, stats.lists, stats.reranked) == (1, 20, N)


def test_bad_calls(x, q):
    index = made("IVF20,ScaNN,RFlat", x)
    for batch in (0, -1, -(2**63)):
        with pytest.raises(ValueError, match=r"batch = .* \(allowed: at least 1\)"):
            index.iterate(q[:1], batch)
    for rows in (q, q[:0]):
        with pytest.raises(ValueError, match=r"allowed: 1, the query"):
            index.iterate(rows)
    with pytest.raises(ValueError, match="d = 24"):
        index.iterate(q[:1, :5])
    with pytest.raises(ValueError, match="nprobe = 21"):
        index.iterate(q[:1], nprobe=21)
    with pytest.raises(ValueError, match="reorder_k = 5 is below"):
        index.iterate(q[:1], 10, reorder_k=5)
    with pytest.raises(ValueError, match="nan"):
        index.iterate(np.full((1, D), np.nan))
    with pytest.raises(ValueError, match="max_codes = 9"):
        index.iterate(q[:1], params=fx.SearchParametersIVF(max_codes=9))
    with pytest.raises(TypeError):
        index.iterate(q[:1], max_codes=9)
    with pytest.raises(ValueError, match="not trained"):
        fx.index_factory(D, "IVF20,ScaNN").iterate(q[:1])
    flat = fx.index_factory(D, "IVF20,Flat")
    flat.train(x)
    with pytest.raises(ValueError, match="needs a ScaNN index"):
        flat.iterate(q[:1])


def test_threads_that_share_one_get_each_batch_once(x, q):
    index = made("IVF20,ScaNN,RFlat", x)
    pieces, seen = index.iterate(q[:1], 7), []

    def take():
        seen.extend(ids for _, ids in pieces)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(N))


def test_files(tmp_path, x, q):
    index = made("IVF20,ScaNN(soar_lambda=1),SQ8,RFlat", x)
    want = taken(index.iterate(q[:1], 77))
    fx.write_index(index, tmp_path / "index")
    for opened in (fx.read_index(tmp_path / "index"), fx.read_index(tmp_path / "index", mmap=True)):
        assert all(np.array_equal(a, b) for a, b in zip(taken(opened.iterate(q[:1], 77)), want))
