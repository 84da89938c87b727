"""Callbacks that throw or call back, Ctrl-C at any moment: an exception or the right
answer, and an index that is as it was before (abuse.py)."""

import itertools
import pickle
import signal
import threading
import time

import numpy as np
import pytest
from abuse import ERRORS, D, answers, be_child, made, refused, rows, run_here

import faiss_ext as fx
from faiss_ext import knowhere


class Stop(Exception):
    pass


def callbacks():
    index = made()
    before = answers(index)
    x = rows(2000, 3)
    jobs = {
        "train": lambda i, p: i.train(x, progress=p),
        "add": lambda i, p: i.add(x, progress=p),
        "add_with_ids": lambda i, p: i.add_with_ids(x, np.arange(2000) + 10**6, progress=p),
        "calibrate": lambda i, p: i.calibrate(x[:50], progress=p),
    }

    def fresh(name):
        return fx.index_factory(D, "IVF16,ScaNN,RFlat") if name == "train" else fx.clone_index(index)

    for name, job in jobs.items():
        for error in (Stop, KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration, RecursionError, MemoryError):
            for at in (0, 1, 5):
                target, calls = fresh(name), itertools.count()

                def progress(*given, error=error, at=at, calls=calls):
                    if next(calls) == at:
                        raise error("from the callback")

                print(name, error, at, flush=True)
                try:
                    job(target, progress)
                except error as raised:
                    assert raised.args == ("from the callback",)
                    if name == "train":
                        assert not target.is_trained
                        target.train(x)
                    else:
                        assert answers(target) == before
        # the index that is being changed, from inside
        target, said = fresh(name), []

        def inside(*given, target=target, said=said, name=name):
            for call in (
                lambda: target.search(x[:1], 1),
                lambda: target.add(x[:1]),
                lambda: target.train(x),
                lambda: target.reset(),
                lambda: fx.serialize_index(target),
                lambda: fx.clone_index(target),
                lambda: target.merge_from(target),
                lambda: target.merge_from(index),
                lambda: index.merge_from(target),
                lambda: target.remove_ids([1]),
                lambda: target.memory_usage(),
                lambda: target.reconstruct(1),
                lambda: target.set_direct_map_type(fx.DirectMap.Hashtable),
                lambda: pickle.dumps(target),
            ):
                refused(call, allowed=(RuntimeError, ValueError, AttributeError))
            said.append((repr(target), target.ntotal, len(target), target.d, target.nprobe))
            index.search(x[:1], 1)  # another one is free
            small = fx.index_factory(D, "IVF2,ScaNN")
            if len(said) < 3:
                small.train(x[:64], progress=lambda *given: None)

        print(name, "from inside", flush=True)
        job(target, inside)
        assert said and target.is_trained
        # and from another thread, which waits
        target, threads = fresh(name), []

        def beside(*given, target=target, threads=threads):
            if not threads:
                threads.append(threading.Thread(target=lambda: threads.append(answers(target))))
                threads[0].start()
                time.sleep(0.05)

        print(name, "from a thread", flush=True)
        job(target, beside)
        threads[0].join(20)
        if name.startswith("add"):
            assert threads[1] == answers(target)
        for odd in (lambda: 1, lambda a: 1, lambda *a: a, lambda *a: fx, print, 3, "x", (), Stop):
            try:
                job(fresh(name), odd)
            except ERRORS:
                pass
        bomb = fresh(name)
        holder = [bomb]
        del bomb
        job(holder[0], lambda *given, holder=holder: holder.clear())
    assert answers(index) == before


def interrupts():
    """Ctrl-C at random moments of long calls."""
    random = np.random.default_rng(5)
    x = random.standard_normal((20000, D), dtype=np.float32)
    index = fx.index_factory(D, "IVF64,ScaNN(soar_lambda=1),RFlat")
    index.train(x)
    index.add(x)
    before = answers(index)
    kept = fx.clone_index(index)
    calibrated = fx.clone_index(index)
    calibrated.calibrate(x[:500])
    blank = fx.index_factory(D, "IVF64,ScaNN(soar_lambda=1),RFlat")
    node = knowhere.IndexFactory().create("SCANN")
    node.build(x, nlist=64)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    jobs = [
        lambda: blank.train(x),
        lambda: index.add(x),
        lambda: index.calibrate(x[:500]),
        lambda: index.search(x, 100, nprobe=64),
        lambda: index.range_search(x[:2000], 4.0, nprobe=64),
        lambda: index.search_and_reconstruct(x, 20, nprobe=64),
        lambda: index.update_vectors(np.arange(20000), x),
        lambda: fx.clone_index(index),
        lambda: fx.serialize_index(index),
        lambda: node.build(x, nlist=64, soar_lambda=1),
        lambda: node.search(x, k=100, nprobe=64),
        lambda: node.range_search(x[:2000], radius=4.0),
        lambda: list(node.iterate(x[:1])[0]),
    ]
    stopped = 0
    start = time.monotonic()
    while time.monotonic() - start < 6:
        for number, job in enumerate(jobs):
            print("job", number, flush=True)
            signal.setitimer(signal.ITIMER_REAL, float(random.uniform(0.001, 0.15)))
            try:
                job()
                for _ in range(10):
                    time.sleep(0.02)
            except KeyboardInterrupt:
                stopped += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            if index.ntotal != len(x):
                assert index.ntotal == 2 * len(x)  # it was through
                index.reset()
                index.add(x)
            if answers(index) == answers(calibrated):  # so was this
                index = fx.clone_index(kept)
            assert answers(index) == before
            assert node.count == len(x) and node.search(x[:1], k=1)[1][0, 0] == 0
            if blank.is_trained:
                blank = fx.index_factory(D, "IVF64,ScaNN(soar_lambda=1),RFlat")
    assert stopped > len(jobs)
    blank.train(x)


@pytest.mark.parametrize("name", [child.__name__ for child in (callbacks, interrupts)])
def test_abuse(name):
    run_here(__file__, name)


if __name__ == "__main__":
    be_child(globals())
