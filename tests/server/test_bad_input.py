"""What a user sees who asks for something that cannot be."""

import contextlib
import io
import re
import struct

import numpy as np
import pytest

pytest.importorskip("pymilvus")
import client  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import reference  # noqa: E402
from pymilvus import MilvusException  # noqa: E402

ROWS = 3000
NLIST = 32
METRIC = "L2"


@pytest.fixture(scope="module")
def x():
    return reference.words(ROWS)


@pytest.fixture(scope="module")
def q():
    return reference.words(5, skip=ROWS)


@pytest.fixture(scope="module")
def collection(server, x):
    made = client.made(x, METRIC, nlist=NLIST)
    yield made
    client.drop(made)


@contextlib.contextmanager
def refused(text):
    """The call fails, with this in what the user sees."""
    with pytest.raises(MilvusException) as error:
        yield
    assert re.search(text, error.value.message), error.value.message


def still_right(collection, x, q):
    found = client.ask(collection, q, 10, METRIC, nprobe=NLIST, reorder_k=ROWS)
    client.assert_exact(found, x, q, 10, METRIC)


# ------------------------------------------------------------------- search


@pytest.mark.parametrize("k, params, text", [
    (10, {"reorder_k": 5}, r"reorder_k = 5 is below k = 10 \(allowed: >= k\)"),
    (10, {"reorder_k": 0}, r'reorder_k = "0" \(allowed: an integer in 1\.\.2147483647\)'),
    (10, {"nprobe": 0}, r'nprobe = "0" \(allowed: an integer in 1\.\.65536\)'),
    (10, {"nprobe": "65537"}, r'nprobe = "65537" \(allowed: an integer in 1\.\.65536\)'),
    # no number: Knowhere itself stops at it, before the node
    (10, {"nprobe": "abc"}, "invalid value in json: stoi"),
    (10, {"reorder_k": "many"}, "invalid value in json: stoi"),
    (16385, {}, r"topk \[16385\] is invalid, top k should be in range \[1, 16384\]"),
])
def test_search_parameters(collection, x, q, k, params, text):
    with refused(text):
        client.ask(collection, q, k, METRIC, **params)
    still_right(collection, x, q)


def test_more_probes_than_lists(collection, x, q):
    found = client.ask(collection, q, 10, METRIC, nprobe=60000, reorder_k=ROWS)
    client.assert_exact(found, x, q, 10, METRIC)


def test_unknown_search_parameter(collection, x, q):
    with refused(r'unknown parameter ef = "10" \(known: .*nprobe'):
        client.ask(collection, q, 10, METRIC, ef=10)
    # Knowhere 2.2.3 shows a node only parameters that the node has named: those of
    # other indexes, so that a wrong one is refused, but not every slip
    found = client.ask(collection, q, 10, METRIC, nprobe=NLIST, reorder_k=ROWS, nprob=1, colour="blue")
    client.assert_exact(found, x, q, 10, METRIC)


@pytest.mark.parametrize("queries", [np.zeros((1, 51), np.float32), np.zeros((1, 49), np.float32)])
def test_wrong_dimension(collection, x, q, queries):
    with refused("vector dimension mismatch"):
        client.ask(collection, queries, 10, METRIC)
    still_right(collection, x, q)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_queries_that_are_no_numbers(collection, x, q, value):
    bad = q.copy()
    bad[2, 7] = value
    with refused(rf"queries\[2, 7\] = {value} \(allowed: finite numbers\)"):
        client.ask(collection, bad, 10, METRIC)
    still_right(collection, x, q)


def test_range_the_wrong_way_round(collection, x, q):
    with refused("range_filter must be less than radius"):
        client.ask(collection, q, 10, METRIC, radius=1.0, range_filter=2.0)
    still_right(collection, x, q)


# -------------------------------------------------------------------- build


@pytest.mark.served()
@pytest.mark.parametrize("nlist", [0, 65537, "abc"])
def test_nlist_that_milvus_refuses(server, nlist):
    collection = client.empty(50)
    with refused(r"nlist out of range: \[1, 65536\]"):
        client.build(collection, METRIC, nlist=nlist)
    client.drop(collection)


@pytest.mark.served()
def test_rows_that_are_no_numbers(server):
    collection = client.empty(50)
    x = reference.words(10)
    x[3, 3] = np.nan
    with refused("value 'NaN' is not a number or infinity"):
        client.insert(collection, x)
    client.drop(collection)


def test_rows_and_queries_of_zeros(server, x, q):
    """No direction: Milvus scores them 0, with everything."""
    zeros = x.copy()
    zeros[[5, 77]] = 0
    collection = client.made(zeros, "COSINE", nlist=NLIST)
    everything = client.ask(collection, q[:1], ROWS, "COSINE", nprobe=NLIST, reorder_k=ROWS)[0]
    score = dict(zip(everything.ids, everything.distances))
    assert len(score) == ROWS and abs(score[5]) < 1e-6 and abs(score[77]) < 1e-6
    _, best = reference.brute_force(x, q[:1], 10, "COSINE")
    assert set(everything.ids[:10]) == set(best[0].tolist())
    nothing = client.ask(collection, 0 * q[:1], 10, "COSINE", nprobe=NLIST, reorder_k=ROWS)[0]
    assert len(nothing.ids) == 10 and np.abs(nothing.distances).max() < 1e-6
    client.drop(collection)


@pytest.mark.parametrize("metric", ["L2", "IP", "COSINE"])
def test_any_finite_row_is_built_and_found(server, x, q, metric):
    """A build that fails would be repeated for ever."""
    extreme = x.copy()
    extreme[3], extreme[4], extreme[5] = 1e-42, 3e38, 0
    collection = client.made(extreme, metric, nlist=NLIST)
    if metric == "IP":  # the longest row is the answer wherever it points the way of the query
        assert client.ask(collection, np.abs(q[:1]), 5, metric, nprobe=NLIST)[0].ids[0] == 4
    else:
        for row in (3, 4, 7):
            assert row in client.ask(collection, extreme[row : row + 1], 5, metric, nprobe=NLIST)[0].ids
    client.drop(collection)


@pytest.mark.served("builds", "repairs", "searches")
def test_build_values_are_repaired_and_said(server, x, q):
    bad = {"sub_dim": 51, "eta": -3, "soar_lambda": "much", "refine_type": "int7", "with_raw_data": "perhaps"}
    said = len(server.messages())
    collection = client.made(x, METRIC, nlist=NLIST, **bad)
    messages = server.messages()[said:]
    for key in bad:
        lines = [line for line in messages if f" build: {key} = " in line]
        assert lines and all("(allowed: " in line and ": using " in line for line in lines), (key, messages)
    described = collection.index(timeout=client.TIMEOUT).params["params"]
    assert described["sub_dim"] == 51, "Milvus shows what was asked"
    still_right(collection, x, q)
    client.drop(collection)


# -------------------------------------------------------------------- blobs


def does_not_load(server, collection):
    """load() fails in the time given, and the plug-in says why in the log."""
    failures = server.statistics()["load_failures"]
    with pytest.raises(MilvusException):
        collection.load(timeout=5)
    assert server.statistics()["load_failures"] > failures
    assert "load failed: not a blob of SCANN: " in server.messages()[-1]


@pytest.mark.served("load_failures", "searches")
def test_index_of_the_own_scann(server, collection, x, q):
    """An index that the server's own SCANN has built does not load, and harms nobody."""
    collection.release(timeout=client.TIMEOUT)
    server.restart(plugin=False)
    client.connect(server)
    foreign = client.made(x, METRIC, nlist=NLIST)
    assert server.serving() is None
    foreign.release(timeout=client.TIMEOUT)
    server.restart(plugin=True)
    client.connect(server)
    does_not_load(server, foreign)
    collection.load(timeout=client.TIMEOUT)
    still_right(collection, x, q)
    client.drop(foreign)


def index_file(server):
    """The newest index in the server's storage."""
    return max((server.base_dir / "data").rglob("index_files/**/SCANN*"), key=lambda path: path.stat().st_mtime_ns)


def change_blob(path, change):
    """Change the index inside its envelope: a head of Milvus with two lengths, then a compressed Parquet column."""
    content = path.read_bytes()
    start = content.index(b"PAR1")
    blob = bytearray(pq.read_table(io.BytesIO(content[start:]))["val"].to_numpy().tobytes())
    change(blob)
    column = pa.table({"val": pa.array(np.frombuffer(blob, np.int8))})
    parquet = io.BytesIO()
    pq.write_table(column, parquet, compression="zstd")
    head = bytearray(content[:start])
    event = start - 33  # uint64 time, uint8 type, uint32 length, uint32 end, two uint64 times
    head[event + 9 : event + 17] = struct.pack("<II", 33 + len(parquet.getvalue()), start + len(parquet.getvalue()))
    path.write_bytes(bytes(head) + parquet.getvalue())


def flip(blob):
    blob[len(blob) // 2] ^= 0x10


def cut(blob):
    del blob[len(blob) * 2 // 3 :]


@pytest.mark.served("load_failures", "searches")
@pytest.mark.parametrize("damage", [flip, cut])
def test_damaged_index(server, collection, x, q, damage):
    damaged = client.made(x, METRIC, nlist=NLIST)
    damaged.release(timeout=client.TIMEOUT)
    change_blob(index_file(server), lambda blob: None)
    damaged.load(timeout=client.TIMEOUT)  # the envelope is right
    damaged.release(timeout=client.TIMEOUT)
    change_blob(index_file(server), damage)
    does_not_load(server, damaged)
    still_right(collection, x, q)
    client.drop(damaged)
