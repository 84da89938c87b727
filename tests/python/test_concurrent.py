"""index.concurrent: searches, files and copies beside changes, from Python threads."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import faiss_ext as fx

D = 16
N = 3000
KINDS = ("IVF40,ScaNN,RFlat", "IVF40,ScaNN(soar_lambda=1,tags=1),SQ8,RFlat", "IVF40,ScaNN")


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(3).standard_normal((N, D), dtype=np.float32)


def filled(rows, kind=KINDS[0]):
    index = fx.index_factory(D, kind)
    index.train(rows)
    index.add(rows)
    index.nprobe = 8
    return index


@pytest.fixture(params=KINDS)
def index(request, rows):
    index = filled(rows, request.param)
    index.concurrent = True
    return index


class Held:
    """A change that goes on until it is let go, in a thread of its own: `within`."""

    def __init__(self, index, rows):
        self.inside, self.go = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.add, args=(index, rows))

    def add(self, index, rows):
        def progress(stage, done, total):
            self.inside.set()
            assert self.go.wait(60)

        index.add(rows, progress=progress)

    def __enter__(self):
        self.thread.start()
        assert self.inside.wait(60)

    def __exit__(self, *args):
        self.go.set()
        self.thread.join()


def test_it_is_set_once_on_a_trained_index(rows):
    index = fx.index_factory(D, KINDS[0])
    assert index.concurrent is False
    index.concurrent = False
    with pytest.raises(ValueError, match="not trained"):
        index.concurrent = True
    index.train(rows)
    index.concurrent = True
    index.concurrent = True
    assert index.concurrent is True
    with pytest.raises(ValueError, match="concurrent = False"):
        index.concurrent = False
    assert fx.clone_index(index).concurrent is False


def test_wrapped_and_foreign_indexes_are_refused(rows):
    for kind in ("IDMap2,IVF40,ScaNN,RFlat", "PCA8,IVF40,ScaNN"):
        index = fx.index_factory(D, kind)
        index.train(rows)
        with pytest.raises(ValueError, match="a ScaNN index by itself"):
            index.concurrent = True
        assert not index.concurrent


def test_it_does_what_an_index_does(index, rows):
    """All changes, one after the other, beside an index that is not concurrent."""
    plain = fx.clone_index(index)
    more = rows[:500] + 1
    ids = np.arange(N, N + 500)

    def same():
        for a, b in zip(plain.search(rows[:50], 10), index.search(rows[:50], 10)):
            np.testing.assert_array_equal(a, b)
        assert plain.ntotal == index.ntotal == len(index)
        assert plain.nprobe == index.nprobe
        assert str(plain) == str(index)
        assert (fx.serialize_index(plain) == fx.serialize_index(index)).all()

    changes = [
        lambda i: i.add(more),
        lambda i: i.remove_ids(np.arange(0, 900, 3)),
        lambda i: i.add_with_ids(more, ids + 1000),
        lambda i: setattr(i, "nprobe", 5),
        lambda i: i.set_index_parameters("nprobe=11,max_codes=100000"),
        lambda i: setattr(i, "reorder_k", 50),
        lambda i: i.calibrate(rows[:20], 0.8, 5),
        lambda i: i.add_sa_codes(plain.sa_encode(more[:7]), np.arange(7) + 90000),
        lambda i: i.reset(),
        lambda i: i.add(rows[:200]),
    ]
    if index.with_raw_data:
        changes[2:2] = [
            lambda i: i.update_vectors(np.arange(1, 300, 3), more[:100]),
            lambda i: i.maintain(),
            lambda i: setattr(i, "auto_maintain", 0.5),
        ]
    if index.with_tags:
        changes.insert(1, lambda i: i.set_tags(np.arange(10), np.arange(10)))
    same()
    for change in changes:
        change(plain)
        change(index)
        same()


def test_searches_do_not_wait_for_a_change(index, rows, tmp_path):
    before = index.search(rows[:20], 10)
    pieces = index.iterate(rows[:1], 50)
    first = next(pieces)
    with Held(index, rows):
        assert index.ntotal == N
        for got, wanted in zip(index.search(rows[:20], 10), before):
            np.testing.assert_array_equal(got, wanted)
        index.search(rows[:20], 10, filter=np.arange(100))
        index.range_search(rows[:2], 1.0)
        index.search_and_reconstruct(rows[:2], 3)
        index.search_preassigned(rows[:2], 3, [[1, 2], [3, 4]], [[0.0, 0.0], [0.0, 0.0]])
        fx.write_index(index, tmp_path / "index")
        assert fx.read_index(tmp_path / "index").ntotal == N
        assert fx.clone_index(index).ntotal == N
        assert index.health()["rows"] == N
        assert index.memory_usage() > 0 and isinstance(index.notes, list)
        assert f"ntotal={N}" in repr(index)
    assert index.ntotal == 2 * N
    # an iterator keeps its rows
    rest = [len(I) for _, I in pieces]
    assert len(first[1]) + sum(rest) == N


def test_a_second_change_is_refused_and_a_setting_waits(index, rows):
    with ThreadPoolExecutor() as pool:
        with Held(index, rows):
            for change in (
                lambda: index.add(rows[:1]),
                lambda: index.remove_ids([1]),
                lambda: index.reset(),
                lambda: index.calibrate(rows[:5]),
            ):
                with pytest.raises(RuntimeError, match="another thread changes the index"):
                    change()
            waiting = pool.submit(setattr, index, "nprobe", 3)
            time.sleep(0.05)
            assert not waiting.done() and index.nprobe == 8
        waiting.result()
    assert index.nprobe == 3 and index.ntotal == 2 * N
    index.add(rows[:1])


def test_a_change_that_fails_is_not_seen(index, rows):
    before = index.search(rows[:20], 10)
    wrong = rows.copy()
    wrong[1234, 5] = np.nan
    with pytest.raises(ValueError, match="1234"):
        index.add(wrong)
    with pytest.raises(ZeroDivisionError):
        index.add(rows, progress=lambda *args: 1 / 0)
    assert index.ntotal == N
    for got, wanted in zip(index.search(rows[:20], 10), before):
        np.testing.assert_array_equal(got, wanted)


def test_a_progress_callback_may_search(index, rows):
    seen = []
    index.add(rows, progress=lambda *args: seen.append(index.search(rows[:3], 2)[1][:, 0]))
    assert seen and all((labels == [0, 1, 2]).all() for labels in seen)


def test_rows_are_there_once_while_they_are_updated(rows):
    """No search misses a row or has it twice, whatever is written."""
    index = filled(rows)
    index.concurrent = True
    index.set_direct_map_type(fx.DirectMap.Hashtable)
    everything = {"nprobe": 40, "reorder_k": 4 * N}
    stop = threading.Event()

    def write():
        rng = np.random.default_rng(1)
        while not stop.is_set():
            ids = rng.choice(N, 40, replace=False)
            index.update_vectors(ids, rows[ids] + rng.standard_normal((40, D), np.float32) / 10)
            extra = np.arange(10 * N, 10 * N + 30)
            index.add_with_ids(rows[:30], extra)
            index.remove_ids(extra)

    with ThreadPoolExecutor() as pool:
        writing = pool.submit(write)

        def read(seed):
            rng = np.random.default_rng(seed)
            for _ in range(40):
                labels = index.search(rows[[rng.integers(N)]], N + 30, **everything)[1][0]
                labels = labels[labels >= 0]
                assert len(set(labels.tolist())) == len(labels)
                assert set(range(N)) <= set(labels.tolist())
                assert len(labels) in (N, N + 30)

        try:
            list(pool.map(read, range(3)))
        finally:
            stop.set()
        writing.result()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_searches_what_its_parent_had(index, rows):
    wanted = index.search(rows[:5], 3)[1]
    child = os.fork()
    if child == 0:
        same = (index.search(rows[:5], 3)[1] == wanted).all()
        index.add(rows[:1])
        os._exit(0 if same and index.ntotal == N + 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert index.ntotal == N
