"""faiss_ext.knowhere beside threads: writers, iterators, the interpreter, Ctrl-C."""

import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from reference import clustered

from faiss_ext import knowhere

FACTORY = knowhere.IndexFactory()
N, D = 3000, 24


@pytest.fixture(scope="module")
def x():
    return clustered(N, D, seed=3)


@pytest.fixture(scope="module")
def q():
    return clustered(40, D, seed=4, clouds_seed=3)


def test_searches_beside_a_writer(x, q):
    node = FACTORY.create("SCANN")
    node.build(x[:1000], nlist=16)
    wrong, done = [], threading.Event()

    def search():
        while not done.is_set():
            ids = node.search(q, k=3)[1]
            if not (ids >= 0).all() or node.count < 1000 or "count=" not in repr(node) or node.size <= 0:
                wrong.append(ids)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for start in range(1000, N, 100):
        node.add(x[start : start + 100])
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong and node.count == N
    assert (node.search(x[::100], k=1)[1].ravel() == np.arange(0, N, 100)).all()


def test_one_iterator_in_many_threads(x):
    node = FACTORY.create("SCANN")
    node.build(x, nlist=16)
    rows, seen = node.iterate(x[:1])[0], []
    threads = [threading.Thread(target=lambda: seen.extend(rows)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(id for id, _ in seen) == list(range(N))


def test_the_build_takes_the_threads_of_the_package():
    code = (
        "import numpy as np, faiss_ext as fx, pathlib; from faiss_ext import knowhere\n"
        "count = lambda: len(list(pathlib.Path('/proc/self/task').iterdir()))\n"
        "x = np.random.default_rng(0).random((4000, 32), dtype=np.float32)\n"
        "before = count(); fx.omp_set_num_threads(1)\n"
        "for name in ('SCANN', 'IVF_FLAT', 'HNSW', 'FLAT'):\n"
        "    node = knowhere.IndexFactory().create(name); node.build(x); node.search(x, k=3)\n"
        "    assert count() == before, name\n"
        "knowhere.IndexFactory().create('SCANN').build(x, num_build_thread=3)\n"
        "assert count() == before + 2, count()\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
                         env={"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)})
    assert run.returncode == 0, run.stderr


def test_the_interpreter_goes_on_meanwhile(x):
    node, ticks = FACTORY.create("SCANN"), []
    big = np.concatenate([x] * 20)

    def tick():
        while not ticks or ticks[-1] is not None:
            ticks.append(time.monotonic())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    start = time.monotonic()
    node.build(big, nlist=64)
    node.search(big[:5000], k=10)
    took = time.monotonic() - start
    ticks.append(None)
    thread.join()
    gaps = np.diff([t for t in ticks if t is not None and start <= t <= start + took])
    assert len(gaps) > 10 and gaps.max() < max(0.5 * took, 0.2)


def test_ctrl_c_ends_a_long_search(x):
    node = FACTORY.create("FLAT")
    node.build(np.concatenate([x] * 10))
    big = np.concatenate([x] * 100)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            node.search(big, k=10)
        assert time.monotonic() - start < 10
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert node.search(x[:3], k=1)[1].shape == (3, 1)
