"""A client's side of the server tests: collections, searches, brute force.

Every call has a timeout, since pymilvus would retry for ever; waiting is
asking again until a deadline.
"""

from __future__ import annotations

import itertools
import time

import numpy as np
import reference  # tests/python, see pyproject.toml
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, connections, utility

TIMEOUT = 120.0  # seconds, of a call
BACKGROUND = 300.0  # seconds until Milvus does by itself what it has to, on a busy machine
BATCH = 10_000  # rows an insert: a message to the server is limited to 64 MB

_numbers = itertools.count()


def connect(server) -> None:
    """Make `server` the one that all calls go to."""
    connections.connect("default", host=server.host, port=str(server.port), timeout=TIMEOUT)


def wait_until(condition, what: str, timeout: float = BACKGROUND):
    """The first true answer of `condition`, asked until the deadline."""
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"after {timeout:g} s still not: {what}"
        time.sleep(0.05)
    return answer


def empty(d: int) -> Collection:
    """A new collection: id (primary), tag, vector."""
    schema = CollectionSchema([
        FieldSchema("id", DataType.INT64, is_primary=True),
        FieldSchema("tag", DataType.INT64),
        FieldSchema("vector", DataType.FLOAT_VECTOR, dim=d),
    ])
    return Collection(f"test_{next(_numbers)}", schema, consistency_level="Strong", timeout=TIMEOUT)


def insert(collection: Collection, x: np.ndarray, first: int = 0, flush: bool = True) -> None:
    """Rows with ids first, first + 1, ...; tag = id % 10. One flush makes one segment."""
    for start in range(0, len(x), BATCH):
        rows = x[start : start + BATCH]
        ids = list(range(first + start, first + start + len(rows)))
        collection.insert([ids, [i % 10 for i in ids], rows.tolist()], timeout=TIMEOUT)
    if flush:
        collection.flush(timeout=TIMEOUT)


def build(collection: Collection, metric: str, index_type: str = "SCANN", **params) -> None:
    """The index of the vectors, finished."""
    wanted = {"index_type": index_type, "metric_type": metric, "params": params}
    # not sync: its wait starts anew after its timeout, and a build that fails is repeated for ever
    collection.create_index("vector", wanted, timeout=TIMEOUT, sync=False)

    def done():
        progress = utility.index_building_progress(collection.name, timeout=TIMEOUT)
        return progress["pending_index_rows"] == 0 and progress["indexed_rows"] == progress["total_rows"]

    wait_until(done, f"{index_type} {params} is built")


def made(x: np.ndarray, metric: str, index_type: str = "SCANN", **params) -> Collection:
    """A loaded collection of one indexed segment."""
    collection = empty(x.shape[1])
    try:
        insert(collection, x)
        build(collection, metric, index_type, **params)
        collection.load(timeout=TIMEOUT)
    except BaseException:
        collection.drop(timeout=TIMEOUT)  # else Milvus goes on trying, beside all tests that follow
        raise
    return collection


def drop(collection: Collection) -> None:
    """Without the release, the next test would share its memory."""
    collection.release(timeout=TIMEOUT)
    collection.drop(timeout=TIMEOUT)


def ask(collection: Collection, q: np.ndarray, k: int, metric: str, expr: str | None = None, output_fields=None,
        **params):
    """The hits of every query; `params` are those of the index."""
    search = {"metric_type": metric, "params": params}
    return collection.search(q.tolist(), "vector", search, k, expr=expr, output_fields=output_fields, timeout=TIMEOUT)


def ids_of(hits) -> list[list[int]]:
    """Ids of every query."""
    return [list(found.ids) for found in hits]


def assert_exact(hits, x: np.ndarray, q: np.ndarray, k: int, metric: str, allowed=None, ids=None) -> None:
    """The hits are those of brute force: the same distances, and ids that have them."""
    ids = np.arange(len(x)) if ids is None else np.asarray(ids)
    rows = {int(i): row for row, i in enumerate(ids)}
    expected, _ = reference.brute_force(x, q, k, metric, allowed)
    for found, best, query in zip(hits, expected, q):
        assert len(found) == len(best)
        assert len(set(found.ids)) == len(found.ids), "an id twice"
        places = [rows[i] for i in found.ids]
        np.testing.assert_allclose(found.distances, best, rtol=2e-5, atol=2e-4)
        own = reference.distances(x[places], query[None], metric)[0]
        np.testing.assert_allclose(own, best, rtol=2e-5, atol=2e-4, err_msg="ids and distances do not belong together")
        if allowed is not None:
            assert allowed[places].all(), "a filtered row was found"


def recall(hits, x: np.ndarray, q: np.ndarray, k: int, metric: str) -> float:
    """Share of the true k nearest among the hits."""
    return reference.recall([list(found.ids) for found in hits], reference.brute_force(x, q, k, metric)[1])


def drop_all() -> None:
    """What a failed test left: Milvus would go on with it beside all tests that follow."""
    for name in utility.list_collections(timeout=TIMEOUT):
        drop(Collection(name))


def segments(collection: Collection) -> list:
    """The segments that serve searches."""
    return list(utility.get_query_segment_info(collection.name, timeout=TIMEOUT))


def wait_until_loaded(collection: Collection) -> None:
    """After a restart Milvus loads by itself what was loaded before."""
    utility.wait_for_loading_complete(collection.name, timeout=TIMEOUT)
