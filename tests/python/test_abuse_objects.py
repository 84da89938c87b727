"""Objects without their constructor, copies of all kinds: an exception or the right
answer, and an index that is as it was before (abuse.py)."""

import copy
import os
import pickle

import numpy as np
import pytest
from abuse import CLASSES, ERRORS, ROWS, answers, be_child, made, refused, rows, run_here

import faiss_ext as fx
from faiss_ext import knowhere


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
    for cls in (fx.Index, fx.SearchIterator, knowhere.IndexNode, knowhere.RowIterator):
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
    iterators = (made().iterate(rows()[:1]), node.iterate(rows()[:1])[0])
    for thing in (plain, fx.Filter([1, 2]), fx.SearchStats(), factory, node, *iterators):
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


@pytest.mark.parametrize("name", [child.__name__ for child in (unconstructed, copies)])
def test_abuse(name):
    run_here(__file__, name)


if __name__ == "__main__":
    be_child(globals())
