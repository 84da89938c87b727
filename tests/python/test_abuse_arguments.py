"""Arrays and paths as no sane program makes them: an exception or the right answer,
and an index that is as it was before (abuse.py)."""

import os
import pathlib
import tempfile

import numpy as np
import pytest
from abuse import ERRORS, ROWS, D, Raises, answers, be_child, made, refused, rows, run_here

import faiss_ext as fx
from faiss_ext import knowhere


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
        "health": lambda i, x: i.health(x, k=3)["recall"],
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


@pytest.mark.parametrize("name", [child.__name__ for child in (arrays, paths)])
def test_abuse(name):
    run_here(__file__, name)


if __name__ == "__main__":
    be_child(globals())
