"""Build parameters as clients spell them, and what they change."""

import numpy as np
import pytest

pytest.importorskip("pymilvus")
import client  # noqa: E402
import reference  # noqa: E402

ROWS = 4000
NLIST = 32
METRIC = "COSINE"


@pytest.fixture(scope="module")
def x():
    return reference.words(ROWS)


@pytest.fixture(scope="module")
def q():
    return reference.words(100, skip=ROWS)


@pytest.mark.served("builds", "loads", "searches", "vectors")
@pytest.mark.parametrize("spelled", [
    {"nlist": "32", "with_raw_data": "True", "sub_dim": 2.0, "eta": "4", "soar_lambda": 1, "refine_type": "int8"},
    {"nlist": 32, "with_raw_data": "true", "anisotropic_threshold": "0.2"},
])
def test_spellings(server, x, q, spelled):
    repairs = server.statistics()["repairs"]
    collection = client.made(x, METRIC, **spelled)
    assert server.statistics()["repairs"] == repairs, server.messages()
    found = client.ask(collection, q, 10, METRIC, nprobe=NLIST, reorder_k=ROWS)
    client.assert_exact(found, x, q, 10, METRIC)
    row = collection.query("id == 7", output_fields=["vector"], timeout=client.TIMEOUT)[0]
    assert np.array_equal(np.float32(row["vector"]), x[7])
    client.drop(collection)


@pytest.mark.parametrize("more, floor", [({}, 0.75), ({"refine_type": "int8"}, 0.98)])
def test_without_raw_data(server, x, q, more, floor):
    collection = client.made(x, METRIC, nlist=NLIST, with_raw_data="False", **more)
    fetched = server.statistics()["vectors"]
    found = client.ask(collection, q, 10, METRIC, nprobe=NLIST, reorder_k=100, output_fields=["vector"])
    reached = client.recall(found, x, q, 10, METRIC)
    assert floor <= reached < 1, reached
    for hit in found[0]:  # the index has no such rows: Milvus reads its log
        assert np.array_equal(np.float32(hit.entity.get("vector")), x[hit.id])
    assert server.statistics()["vectors"] == fetched
    client.drop(collection)
