"""Threads, the GIL, Ctrl-C."""

import concurrent.futures
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from conftest import made

import faiss_ext as fx


def test_searches_side_by_side(shared_l2, q):
    want = shared_l2.search(q, 10, nprobe=8)
    mask = np.arange(len(shared_l2)) % 3 == 0
    want_filtered = shared_l2.search(q, 10, nprobe=8, filter=mask)
    stats = fx.SearchStats()

    def work(i):
        if i % 2:
            return shared_l2.search(q, 10, nprobe=8, filter=mask)
        if i % 4:
            rows = [shared_l2.search(row[None], 10, nprobe=8, stats=stats) for row in q]
            return tuple(np.concatenate(part) for part in zip(*rows))
        return shared_l2.search(q, 10, nprobe=8, stats=stats)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for i, (D, I) in enumerate(pool.map(work, range(40))):
            np.testing.assert_array_equal(I, (want_filtered if i % 2 else want)[1])
            np.testing.assert_array_equal(D, (want_filtered if i % 2 else want)[0])
    assert stats.nq == 20 * len(q)


def test_changes_wait_for_searches(index, x, q):
    """Adding, removing and searching at once: no crash, whole answers."""
    stop = threading.Event()
    failures = []

    def search():
        while not stop.is_set():
            try:
                D, I = index.search(q, 10, nprobe=8)
                assert (I >= 0).all() and np.isfinite(D).all()
            except Exception as e:  # noqa: BLE001
                failures.append(e)
                return

    threads = [threading.Thread(target=search) for _ in range(3)]
    for t in threads:
        t.start()
    for i in range(10):
        ids = 10**6 + np.arange(500) + 1000 * i
        index.add_with_ids(x[:500], ids)
        index.reconstruct(int(ids[0]))
        assert index.remove_ids(ids) == 500
    stop.set()
    for t in threads:
        t.join()
    assert not failures and index.ntotal == len(x)


def test_gil_is_released(x):
    """Python code runs while another thread trains."""
    index = fx.index_factory(50, "IVF128,ScaNN,RFlat")
    index.kmeans_rounds = 40
    done = threading.Event()
    counted = 0

    def train():
        index.train(x)
        done.set()

    thread = threading.Thread(target=train)
    thread.start()
    while not done.is_set():
        counted += 1
        time.sleep(0.001)
    thread.join()
    assert index.is_trained and counted >= 10


def test_callback_runs_in_this_thread_with_the_gil(x):
    seen = set()
    index = fx.index_factory(50, "IVF16,ScaNN")
    index.train(x, progress=lambda *a: seen.add(threading.get_ident()))
    assert seen == {threading.get_ident()}


def test_exceptions_of_the_callback_come_out(index, x, q):
    class Stop(Exception):
        pass

    def stop_at(stage, at=0):
        def progress(name, done, total):
            if name == stage and done >= at:
                raise Stop(f"{name} {done}")

        return progress

    fresh = fx.index_factory(50, "IVF16,ScaNN,RFlat")
    for stage in ("k-means", "codebook"):
        with pytest.raises(Stop, match=stage):
            fresh.train(x, progress=stop_at(stage, 1))
        assert not fresh.is_trained
    fresh.train(x)
    want = index.search(q, 10, nprobe=8)
    for at in (0, 5000):
        with pytest.raises(Stop, match="add"):
            index.add(np.concatenate([x] * 4), progress=stop_at("add", at))
        assert index.ntotal == len(x)
        np.testing.assert_array_equal(index.search(q, 10, nprobe=8)[1], want[1])
    index.add(x)
    assert index.ntotal == 2 * len(x)


def test_callback_may_not_use_the_index_it_is_called_for(index, x, q):
    def progress(*_):
        index.search(q, 1)

    with pytest.raises(RuntimeError, match="being changed"):
        index.add(x, progress=progress)
    assert index.search(q, 1)[1].shape == (len(q), 1)
    other = fx.clone_index(index)
    index.add(x[:10], progress=lambda *_: other.search(q, 1))


def test_number_of_threads_holds_in_every_thread():
    before = fx.omp_get_max_threads()
    try:
        fx.omp_set_num_threads(1)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            assert pool.submit(fx.omp_get_max_threads).result() == 1
    finally:
        fx.omp_set_num_threads(before)
    assert fx.omp_get_max_threads() == before


def test_same_index_for_any_number_of_threads(x, q):
    before = fx.omp_get_max_threads()
    answers = []
    try:
        for n in (1, 3):
            fx.omp_set_num_threads(n)
            answers.append(made("IVF16,ScaNN", x[:3000]).search(q, 5, nprobe=4))
    finally:
        fx.omp_set_num_threads(before)
    np.testing.assert_array_equal(answers[0][1], answers[1][1])
    np.testing.assert_array_equal(answers[0][0], answers[1][0])


INTERRUPTED = """
    import _thread, sys, threading, time
    import numpy as np
    import faiss_ext as fx

    x = np.random.default_rng(0).standard_normal((20000, 64), dtype=np.float32)
    small = x[:2000]
    index = fx.index_factory(64, "IVF200,ScaNN,RFlat")
    index.kmeans_rounds = 5
    index.train(small)
    index.add(small)
    want = index.search(small[:50], 5, nprobe=50)[1]
    fx.omp_set_num_threads(1)

    def interrupted(call, most=5.0):
        timer = threading.Timer(0.3, _thread.interrupt_main)
        timer.start()
        start = time.monotonic()
        try:
            call()
        except KeyboardInterrupt:
            took = time.monotonic() - start
            assert took < most, took
            return
        raise AssertionError("ended before the interrupt")

    def train():
        fresh.kmeans_rounds = 100000
        fresh.max_points_per_centroid = 10**6
        fresh.train(x)

    def search():
        index.search(np.tile(x, (40, 1)), 100, nprobe=200)

    def range_search():
        index.range_search(np.tile(x, (40, 1)), 60.0, nprobe=200)

    def add():
        copy = index
        while True:
            copy.add(np.tile(x, (20, 1)))

    fresh = fx.index_factory(64, "IVF256,ScaNN,RFlat")
    interrupted(train)
    assert not fresh.is_trained
    fresh.kmeans_rounds = 2
    fresh.max_points_per_centroid = 256
    fresh.train(small)
    interrupted(search)
    interrupted(range_search)
    assert (index.search(small[:50], 5, nprobe=50)[1] == want).all()
    interrupted(add)
    index.remove_ids(np.arange(2000, index.ntotal))
    assert index.ntotal == 2000
    assert (index.search(small[:50], 5, nprobe=50)[1] == want).all()

    # waiting for another thread's change can be interrupted too
    index.reset()
    worker = fx.index_factory(64, "IVF256,ScaNN,RFlat")
    worker.kmeans_rounds = 100000
    worker.max_points_per_centroid = 10**6
    threading.Thread(target=worker.train, args=(x,), daemon=True).start()
    time.sleep(0.3)
    interrupted(worker.memory_usage)
    print("all interrupted")
    sys.stdout.flush()
    import os
    os._exit(0)
"""


def test_keyboard_interrupt():
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED)], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0 and "all interrupted" in run.stdout, run.stderr


FORKED = """
import multiprocessing, sys
import numpy as np
import faiss_ext as fx

fx.omp_set_num_threads(2)
x = np.random.default_rng(0).standard_normal((6000, 32), dtype=np.float32)
index = fx.index_factory(32, {factory!r})
index.train(x)
index.add(x)
want = index.search(x[:500], 5)


def work():
    for got, wanted in zip(index.search(x[:500], 5), want):
        np.testing.assert_array_equal(got, wanted)
    index.range_search(x[:20], 1.0)
    index.add(x[:2000])
    assert len(index) == 8000
    other = fx.index_factory(32, {factory!r})
    other.train(x)
    other.add(x)
    np.testing.assert_array_equal(other.search(x[:500], 5)[1], want[1])


for _ in range(2):
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(60)
    if child.is_alive():
        child.kill()
        sys.exit("the child hangs")
    assert child.exitcode == 0
    index.search(x[:500], 5)
"""


@pytest.mark.parametrize(
    "factory",
    ["IVF64,ScaNN,RFlat", "IVF64,ScaNN(soar_lambda=1),SQ8", "IVF64_HNSW8,ScaNN,RFlat", "IVF64,Flat"],
)
def test_a_forked_child_searches_and_builds(factory):
    """gunicorn --preload, multiprocessing, data loaders."""
    code = FORKED.format(factory=factory)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
