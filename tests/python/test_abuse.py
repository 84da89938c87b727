"""Objects, arrays and callbacks as no sane program makes them: an exception or
the right answer, and an index that is as it was before.

Each test runs as a function of this file in a process of its own, which says
what it is about to call: a crash is a failure with these words."""

import copy
import itertools
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
import pytest

import faiss_ext as fx
from faiss_ext import knowhere

D, ROWS = 8, 300
ERRORS = (TypeError, ValueError, RuntimeError, OverflowError, MemoryError, AttributeError, BufferError)
NODE_CLASSES = (knowhere.IndexFactory, knowhere.IndexNode, knowhere.RowIterator)
CLASSES = (fx.Index, fx.Filter, fx.SearchStats, fx.DirectMap, *NODE_CLASSES)


def run_here(file, name, *arguments, timeout=120):
    """Calls a function of a test file in a new process."""
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", file, name, *arguments],
        cwd=pathlib.Path(file).parent,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
    )
    said = "\n".join(run.stdout.splitlines()[-3:])
    assert run.returncode == 0, f"exit code {run.returncode} of {name}, last calls:\n{said}\n{run.stderr[-3000:]}"


def rows(n=ROWS, seed=0):
    return np.random.default_rng(seed).standard_normal((n, D), dtype=np.float32)


def made(description="IVF4,ScaNN,RFlat"):
    index = fx.index_factory(D, description)
    index.train(rows())
    index.add_with_ids(rows(), np.arange(ROWS)) if "IDMap" in description else index.add(rows())
    return index


def answers(index):
    distances, labels = index.search(rows()[:5], 4)
    return index.ntotal, index.is_trained, distances.tolist(), labels.tolist()


def refused(call, *arguments, allowed=ERRORS, **named):
    print(getattr(call, "__name__", call), [type(a) for a in arguments], named, flush=True)
    try:
        call(*arguments, **named)
    except allowed as error:
        assert str(error), "an error without words"
        str(error).encode()
        return
    raise AssertionError("nothing was raised")


# ------------------------------------------------------- without constructor


def unconstructed_objects():
    for cls in CLASSES:
        yield cls, cls.__new__(cls)
        if cls is not fx.DirectMap:
            sub = type("Sub", (cls,), {"__init__": lambda self: None})
            yield cls, sub.__new__(sub)
            refused(sub)  # pybind11 looks whether super().__init__() was called
    # two at once, one of them made
    both = type("Both", (fx.Filter, fx.SearchStats), {"__init__": lambda self: fx.Filter.__init__(self, [1])})
    yield fx.SearchStats, both.__new__(both)


def unconstructed():
    index = made()
    before = answers(index)
    harmless = {"__class__", "__doc__", "__dict__", "__dir__", "__init_subclass__", "__subclasshook__", "__module__"}
    harmless |= {"__delattr__", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__format__"}
    harmless |= {"__getattribute__", "__hash__", "__new__", "__sizeof__", "__setattr__", "__init__", "__setstate__"}
    harmless |= {"__weakref__", "__members__", "__entries", "__reduce__", "__reduce_ex__", "__getstate__", "__bool__"}
    for cls, thing in unconstructed_objects():
        names = {n for n in dir(cls) if callable(getattr(cls, n, None)) or not n.startswith("__")}
        for name in sorted(names - {"__init__", "__setstate__"}):
            print(cls.__name__, name, flush=True)
            arguments = [(), (thing,), (rows(),), (rows(), 3), (1,), ("x",), (rows(), np.arange(ROWS))]
            if isinstance(getattr(cls, name, None), property):
                if name not in harmless:
                    refused(getattr, thing, name, allowed=TypeError)
                    refused(setattr, thing, name, 1, allowed=(TypeError, AttributeError))
                continue
            for given in arguments:
                print("   ", [type(a) for a in given], flush=True)
                try:
                    getattr(cls, name)(thing, *given)
                except ERRORS:
                    continue
                assert name in harmless or cls is fx.DirectMap and not callable(getattr(cls, name)), name
        for call in (repr, str, len, bool, copy.copy, copy.deepcopy, hash, pickle.dumps, int, list):
            print(call, cls, flush=True)
            try:
                call(thing)
            except ERRORS:
                pass
        if cls is not fx.DirectMap:
            refused(repr if cls is not fx.Index else str, thing, allowed=TypeError)
        # as an argument
        for call in (
            fx.clone_index,
            fx.serialize_index,
            lambda t: fx.write_index(t, "never-written.scann"),
            lambda t: fx.export_to_faiss(t, "never-written.faiss"),
            lambda t: index.search(rows()[:1], 1, filter=t),
            lambda t: index.search(rows()[:1], 1, stats=t),
            lambda t: index.range_search(rows()[:1], 1, stats=t),
            lambda t: index.merge_from(t),
            lambda t: index.copy_subset_to(t, 0, 0, 1),
            lambda t: index.set_direct_map_type(t),
            lambda t: index.train(t),
            lambda t: index.add(t),
            lambda t: fx.Filter(t),
            lambda t: fx.deserialize_index(t),
        ):
            refused(call, thing, allowed=(TypeError, ValueError))
        del thing
    # constructed later, it works
    late = fx.Filter.__new__(fx.Filter)
    late.__init__([3, 4])
    assert len(late) == 2 and set(index.search(rows()[:1], 2, nprobe=4, filter=late)[1][0]) == {3, 4}
    late.__init__([5])
    stats = fx.SearchStats.__new__(fx.SearchStats)
    stats.__init__()
    assert stats.nq == 0
    state = index.__getstate__()
    late = fx.Index.__new__(fx.Index)
    for bad in (None, b"", state[:100], 3, bytearray(state)):
        refused(late.__setstate__, bad)
        refused(repr, late, allowed=TypeError)
    late.__setstate__(state)
    assert answers(late) == before
    index.__setstate__(late.__getstate__())
    assert answers(index) == before
    for cls in CLASSES:
        refused(object.__new__, cls, allowed=TypeError)
    for cls in (fx.Index, knowhere.IndexNode, knowhere.RowIterator):
        refused(cls)
    factory = knowhere.IndexFactory.__new__(knowhere.IndexFactory)
    factory.__init__()
    assert factory.names() == knowhere.IndexFactory().names()
    for value in (-1, 3, 99, 2**31 - 1):
        try:
            wrong = fx.DirectMap(value)
        except ERRORS:
            continue
        refused(index.set_direct_map_type, wrong, allowed=ValueError)
    assert answers(index) == before and not os.path.exists("never-written.scann")


def copies():
    for description in ("IVF4,ScaNN,RFlat", "IDMap2,PCA4,IVF4,ScaNN", "IVF4_HNSW8,ScaNN(soar_lambda=1),SQ8"):
        index = made(description)
        before = answers(index)
        ways = [copy.copy, copy.deepcopy, fx.clone_index, lambda i: fx.deserialize_index(fx.serialize_index(i))]
        ways += [lambda i, p=p: pickle.loads(pickle.dumps(i, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)]
        for way in ways:
            other = way(index)
            assert answers(other) == before
            other.reset()
            assert answers(index) == before
    plain = made("IVF4,Flat")
    factory = knowhere.IndexFactory()
    node = factory.create("FLAT")
    node.build(rows())
    for thing in (plain, fx.Filter([1, 2]), fx.SearchStats(), factory, node, node.iterate(rows()[:1])[0]):
        for way in (copy.copy, copy.deepcopy, pickle.dumps):
            refused(way, thing)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            refused(pickle.dumps, thing, protocol)
    for kind in (fx.DirectMap.NoMap, fx.DirectMap.Array, fx.DirectMap.Hashtable):
        assert copy.deepcopy(kind) == copy.copy(kind) == kind
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert pickle.loads(pickle.dumps(kind, protocol)) == kind
    # what is still used by a search lives on
    index = made()
    mask = np.ones(ROWS, bool)
    filter_ = fx.Filter(mask)
    mask[:] = False
    del mask
    found = index.search(rows()[:3], 1, nprobe=4, filter=filter_)
    del index
    assert found[1].ravel().tolist() == [0, 1, 2]
    data = fx.serialize_index(made())
    index = fx.deserialize_index(data)
    del data
    assert answers(index) == answers(made())
    filtered = np.arange(ROWS) < 5
    iterators = node.iterate(rows()[:2], filtered=filtered)
    filtered[:] = True
    del node, filtered, factory
    assert [next(one)[0] >= 5 for one in iterators] == [True, True]
    assert len(list(iterators[0])) == ROWS - 6


# ------------------------------------------------------------------- arrays


class Raises:
    def __array__(self, *arguments, **named):
        raise ZeroDivisionError("asked for an array")


class Itself:
    def __array__(self, *arguments, **named):
        return self


class Sub(np.ndarray):
    def __array_finalize__(self, other):
        if other is not None:
            self.seen = True


def odd_rows(good):
    """(rows, what they stand for or None)"""
    n = len(good)
    read_only = good.copy()
    read_only.flags.writeable = False
    yield read_only, good
    yield good.astype(">f4"), good
    yield good.astype(">f8"), good
    yield good.astype(np.longdouble), good
    yield np.asfortranarray(good), good
    yield good[::-1], good[::-1].copy()
    yield good[:, ::-1], good[:, ::-1].copy()
    yield np.broadcast_to(good[:1], (n, D)), np.repeat(good[:1], n, 0)
    yield np.broadcast_to(np.float32(2), (n, D)), np.full((n, D), 2, np.float32)
    yield np.lib.stride_tricks.as_strided(good, (n, D), (4, 4)), None
    yield good.view(Sub), good
    yield np.asmatrix(good), good
    yield good.tolist(), good
    yield [list(row) for row in good], good
    yield good.view(np.recarray), good
    packed = np.zeros(n, np.dtype([("pad", "u1"), ("x", "f4", D)]))
    packed["x"] = good
    yield packed["x"], good  # not aligned
    yield packed, None
    yield memoryview(good), good
    yield np.float32(3), None
    yield np.array(3.0), None
    yield np.zeros((0, D), np.float32), None
    yield np.zeros((n, 0), np.float32), None
    yield np.zeros((0, 0)), None
    yield np.zeros((n, D, 0)), None
    yield np.broadcast_to(np.float32(0), (2**44, D)), None
    yield np.broadcast_to(np.float64(0), (2**55, D)), None
    yield np.broadcast_to(np.int8(0), (2**40, D)), None
    yield np.zeros((n, D), "M8[s]"), None
    yield np.zeros((n, D), "V4"), None
    yield np.zeros((n, D), "S3"), None
    yield np.full((n, D), None), None
    objects = np.empty((n, D), object)
    objects[0, 0] = Raises()
    yield objects, None
    yield Raises(), None
    yield Itself(), None
    yield iter([1]), None
    yield {1: 2}, None
    yield "x" * 10**6, None
    yield b"\0" * 64, None
    yield [[1], [1, 2]], None
    yield float("nan"), None
    yield 10**400, None
    yield [[10**400] * D] * n, None
    yield [[1e300] * D] * n, None
    yield [[float("nan")] * D] * n, None
    yield np.ma.masked_array(good, np.ones(good.shape, bool)), None
    yield object(), None
    yield type, None


ALSO = (ZeroDivisionError, RecursionError)  # raised by the arguments themselves


def arrays():
    np.seterr(all="ignore")
    index = made()
    before = answers(index)
    good = rows(6, 1)
    calls = {
        "search": lambda i, x: i.search(x, 3, nprobe=4)[1].tolist(),
        "range": lambda i, x: i.range_search(x, 3.0, nprobe=4)[0].tolist(),
        "both": lambda i, x: i.search_and_reconstruct(x, 2, nprobe=4)[2].tolist(),
        "encode": lambda i, x: i.sa_encode(x).tolist(),
        "calibrate": lambda i, x: i.calibrate(x, k=3)["k"],
    }
    node = knowhere.IndexFactory().create("SCANN")
    node.build(rows())
    nodes = {
        "node.search": lambda x: node.search(x, k=3)[1].tolist(),
        "node.range_search": lambda x: node.range_search(x, radius=3.0)[0].tolist(),
        "node.iterate": lambda x: [next(i) for i in node.iterate(x)],
        "node.build": lambda x: node.build(x),
        "node.add": lambda x: node.add(x),
    }
    changes = {
        "add": lambda i, x: i.add(x),
        "add_with_ids": lambda i, x: i.add_with_ids(x, np.arange(6) + 1000),
        "update": lambda i, x: i.update_vectors(np.arange(6), x),
    }
    for number, (odd, meant) in enumerate(odd_rows(good)):
        for name, call in {**calls, **changes}.items():
            print(number, name, type(odd), getattr(odd, "dtype", None), getattr(odd, "shape", None), flush=True)
            target = fx.clone_index(index) if name in changes or name == "calibrate" else index
            try:
                got = call(target, odd)
            except (*ERRORS, *ALSO) as error:
                assert meant is None, (number, name, error)
                assert answers(target) == before
                continue
            if meant is not None:
                twin = fx.clone_index(index)
                assert got == call(twin, meant), (number, name)
                assert answers(target) == answers(twin)
        for name, call in nodes.items():
            print(number, name, type(odd), getattr(odd, "dtype", None), getattr(odd, "shape", None), flush=True)
            blob = node.serialize()
            if isinstance(odd, np.ndarray) and odd.shape == (0, D) and name not in ("node.build", "node.add"):
                assert call(odd) in ([], [0])  # no queries, no results
                continue
            try:
                got = call(odd)
            except (*ERRORS, *ALSO) as error:
                assert meant is None, (number, name, error)
                assert bytes(node.serialize()) == bytes(blob)
                continue
            if meant is not None:
                state = node.serialize()
                node.deserialize(blob)
                assert got == call(meant), (number, name)
                assert bytes(node.serialize()) == bytes(state)
            node.deserialize(blob)
        untrained = fx.index_factory(D, "IVF2,ScaNN")
        try:
            untrained.train(odd)
        except (*ERRORS, *ALSO):
            assert not untrained.is_trained
    odd_ids = [
        (np.arange(6)[::-1], True), (np.arange(12)[::2], True), (np.arange(6).astype(">i8"), True),
        (np.arange(6, dtype=np.uint8), True), (np.broadcast_to(np.int64(5), 6), False), (list(range(6)), True),
        (np.arange(6, dtype=np.int16).view(Sub), True), (np.array(3), False), (np.zeros((6, 1), int), False),
        (np.arange(6.0), False), (np.array([2**63] * 6, np.uint64), False), ([10**30] * 6, False), ("abcdef", False),
        (Raises(), False), (Itself(), False), (None, False), (np.broadcast_to(np.int64(1), 2**50), False),
        ([None] * 6, False), (np.arange(6) > 2, False), ({1, 2, 3, 4, 5, 6}, False), (range(6), True),
        (np.full(6, -1), False), (np.arange(6) + np.iinfo(int).min, False),
    ]
    for number, (odd, fine) in enumerate(odd_ids):
        for name, call in {
            "update": lambda i, ids: i.update_vectors(ids, good),
            "remove": lambda i, ids: i.remove_ids(ids),
            "reconstruct": lambda i, ids: i.reconstruct_batch(ids),
            "filter": lambda i, ids: i.search(good, 2, nprobe=4, filter=ids),
            "add": lambda i, ids: i.add_with_ids(good, ids),
        }.items():
            print("ids", number, name, flush=True)
            target = fx.clone_index(index)
            try:
                call(target, odd)
            except (*ERRORS, *ALSO) as error:
                assert not fine, (number, name, error)
                assert answers(target) == before
    for bad in (b"", b"x" * 4096, memoryview(bytes(100))[::2], np.zeros((3, 3), np.uint8), np.zeros(3), "text", None):
        refused(fx.deserialize_index, bad)
        refused(node.deserialize, bad)
    for number, (odd, fine) in enumerate(odd_ids):
        print("node ids", number, flush=True)
        try:
            node.get_vectors(odd)
        except (*ERRORS, *ALSO) as error:
            assert not fine, (number, error)
    flags = np.arange(ROWS) % 2 == 0
    for odd in (flags[::-1], np.broadcast_to(np.bool_(True), ROWS), flags.tolist(), flags.view(Sub)):
        np.testing.assert_array_equal(
            node.search(good, filtered=odd)[1], node.search(good, filtered=np.array(odd, bool))[1])
    for odd in (np.broadcast_to(np.bool_(True), 2**50), flags[None], flags.astype("u1"), [], "x", Raises(), 3, [None]):
        try:
            refused(node.search, good, filtered=odd)
        except ALSO:
            pass
    codes = index.sa_encode(good)
    for bad in (np.asfortranarray(codes), codes[::-2], np.broadcast_to(codes[:1], (6, codes.shape[1]))):
        np.testing.assert_array_equal(index.sa_decode(bad), index.sa_decode(bad.copy()))
    wrong = [np.full_like(codes, 255), codes.view(np.int8), codes[:, :-1], codes[0], codes.astype(">u2")]
    for bad in (*wrong, None, codes.tolist()):
        refused(index.sa_decode, bad)
    for k in (0, -1, 2**20 + 1, 2**31, 2**40, 2**63 - 1, 2**64, 1.0, "1", None, np.array([1])):
        refused(index.search, good, k)
        refused(index.search_and_reconstruct, good, k)
    for bad in (2**62, 2**63 - 1, -1, 1e9):
        refused(index.estimate_memory, bad)
    for add_id in (2**63 - 1, 2**63 - ROWS + 1, -1, -ROWS, 2**64):
        other = made()
        refused(index.merge_from, other, add_id)
        assert answers(index) == before == answers(other), add_id
    assert answers(index) == before


def paths():
    index = made()
    before = answers(index)
    with tempfile.TemporaryDirectory() as folder:
        good = pathlib.Path(folder) / "good.scann"
        fx.write_index(index, good)
        odd = [
            "", "\0", "a\0b", folder, folder + "/", "/dev/null/x", "/nowhere/x", folder + "/" + "x" * 300, "x" * 5000,
            b"\xff\xfe", "\udcff", 3, -1, None, 1.5, [], Raises(), b"", "/dev/full/x", pathlib.Path("/"), "~", ".",
        ]
        os.chdir(folder)
        for path in odd:
            for call in (
                lambda p: fx.write_index(index, p),
                lambda p: fx.export_to_faiss(index, p),
                fx.read_index,
                lambda p: fx.read_index(p, mmap=True),
                lambda p: knowhere.IndexFactory().create("SCANN").deserialize_from_file(p),
                lambda p: knowhere.IndexFactory().create("HNSW").deserialize_from_file(p, enable_mmap=True),
                knowhere.IndexFactory().load,
            ):
                print(repr(path)[:60], flush=True)
                try:
                    call(path)
                except (*ERRORS, OSError) as error:
                    str(error).encode()
        fx.write_index(index, os.fsencode(good))
        assert answers(fx.read_index(os.fsencode(good), mmap=True)) == before
        refused(fx.read_index, good, mmap="yes please")
    assert answers(index) == before


# ---------------------------------------------------------------- callbacks


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


CHILDREN = (unconstructed, copies, arrays, paths, callbacks, interrupts)


@pytest.mark.parametrize("name", [child.__name__ for child in CHILDREN])
def test_abuse(name):
    run_here(__file__, name)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    globals()[sys.argv[1]]()
