"""What happens to the rows of a collection over time: segments, growth, deletes, compaction, crashes."""

import numpy as np
import pytest

pytest.importorskip("pymilvus")
import client  # noqa: E402
import reference  # noqa: E402

METRIC = "L2"
EXACT = {"nprobe": 64, "reorder_k": 4000}


@pytest.fixture(scope="module")
def x():
    return reference.words(4000)


@pytest.fixture(scope="module")
def q():
    return reference.words(20, skip=4000)


def exact(collection, x, q, ids=None):
    client.assert_exact(client.ask(collection, q, 10, METRIC, **EXACT), x, q, 10, METRIC, ids=ids)


@pytest.mark.served("builds", "loads", "searches", "filtered")
def test_deleted_and_growing_rows(server, x, q):
    collection = client.made(x[:2000], METRIC, nlist=32)
    exact(collection, x[:2000], q)

    _, near = reference.brute_force(x[:2000], q, 3, METRIC)
    deleted = np.unique(near)
    collection.delete(f"id in {deleted.tolist()}", timeout=client.TIMEOUT)
    kept = np.setdiff1d(np.arange(2000), deleted)
    exact(collection, x[kept], q, kept)

    # rows of no sealed segment: Milvus searches them by itself and merges
    builds = server.statistics()["builds"]
    client.insert(collection, x[2000:2300], first=2000, flush=False)
    kept = np.concatenate([kept, np.arange(2000, 2300)])
    exact(collection, x[kept], q, kept)
    collection.delete("id in [2000, 2001]", timeout=client.TIMEOUT)
    kept = np.setdiff1d(kept, [2000, 2001])
    exact(collection, x[kept], q, kept)
    assert server.statistics()["builds"] == builds
    client.drop(collection)


@pytest.mark.served()
def test_small_segments_have_no_index(server, x, q):
    # below 1024 rows Milvus builds none, of any type
    before = server.statistics()
    collection = client.made(x[:1000], METRIC, nlist=32)
    exact(collection, x[:1000], q)
    after = server.statistics()
    assert (after["builds"], after["searches"]) == (before["builds"], before["searches"])
    client.drop(collection)


@pytest.mark.served("builds", "loads", "searches")
def test_several_segments_and_compaction(server, x, q):
    before = server.statistics()
    collection = client.empty(x.shape[1])
    for start in range(0, 3600, 1200):
        client.insert(collection, x[start : start + 1200], first=start)
    client.build(collection, METRIC, nlist=16)
    collection.load(timeout=client.TIMEOUT)
    after = server.statistics()
    assert after["builds"] - before["builds"] == 3 and after["loads"] - before["loads"] == 3
    assert after["build_rows"] - before["build_rows"] == 3600
    exact(collection, x[:3600], q)
    assert server.statistics()["searches"] - after["searches"] == 3, "one search a segment"

    deleted = np.arange(0, 3600, 3)
    collection.delete(f"id in {deleted.tolist()}", timeout=client.TIMEOUT)
    collection.flush(timeout=client.TIMEOUT)
    collection.compact(timeout=client.TIMEOUT)
    collection.wait_for_compaction_completed(timeout=client.TIMEOUT)
    kept = np.setdiff1d(np.arange(3600), deleted)
    exact(collection, x[kept], q, kept)
    # the merged segment gets an index of its own and replaces the three
    client.wait_until(lambda: [s.num_rows for s in client.segments(collection)] == [len(kept)], "one segment is left")
    client.wait_until(lambda: server.statistics()["loads"] > after["loads"], "the merged segment's index is loaded")
    exact(collection, x[kept], q, kept)
    client.drop(collection)


@pytest.mark.served("loads", "searches")
def test_killed_and_started_again(server, x, q):
    collection = client.made(x[:2000], METRIC, nlist=32)
    client.insert(collection, x[2000:2100], first=2000, flush=False)
    collection.delete("id in [5, 2005]", timeout=client.TIMEOUT)
    kept = np.setdiff1d(np.arange(2100), [5, 2005])
    exact(collection, x[kept], q, kept)
    assert server.statistics()["searches"] >= 1
    server.kill()
    assert server.statistics()["searches"] >= 1, "the counters survive the process"
    server.start()
    client.connect(server)
    client.wait_until_loaded(collection)
    exact(collection, x[kept], q, kept)
    client.drop(collection)
