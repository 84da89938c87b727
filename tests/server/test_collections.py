"""What a user does with a collection whose index is SCANN, against brute force."""

import numpy as np
import pytest

pytest.importorskip("pymilvus")
import client  # noqa: E402
import reference  # noqa: E402

ROWS = 4000
NLIST = 64
EXACT = {"nprobe": NLIST, "reorder_k": ROWS}  # all lists, every candidate rescored
METRICS = ["L2", "IP", "COSINE"]


@pytest.fixture(scope="module")
def x():
    return reference.words(ROWS)


@pytest.fixture(scope="module")
def q():
    return reference.words(100, skip=ROWS)


@pytest.fixture(scope="module", params=METRICS)
def metric(request):
    return request.param


@pytest.fixture(scope="module")
def collection(server, x, metric):
    before = server.statistics()
    made = client.made(x, metric, nlist=NLIST, with_raw_data=True)
    after = server.statistics()
    for counter, more in {"builds": 1, "build_rows": ROWS, "serializes": 1, "loads": 1, "load_rows": ROWS}.items():
        assert after[counter] - before[counter] == more, counter
    yield made
    client.drop(made)


def test_describes_what_was_asked(collection, x, q, metric):
    described = collection.index(timeout=client.TIMEOUT).params
    assert described["index_type"] == "SCANN" and described["metric_type"] == metric
    counted = collection.query("", output_fields=["count(*)"], timeout=client.TIMEOUT)
    assert counted[0]["count(*)"] == ROWS
    client.assert_exact(client.ask(collection, q[:1], 1, metric, **EXACT), x, q[:1], 1, metric)


@pytest.mark.parametrize("queries", [1, 5, 100])
def test_all_lists_find_what_brute_force_finds(server, collection, x, q, metric, queries):
    asked = server.statistics()["queries"]
    client.assert_exact(client.ask(collection, q[:queries], 10, metric, **EXACT), x, q[:queries], 10, metric)
    assert server.statistics()["queries"] - asked == queries


def test_few_lists_find_nearly_all(collection, x, q, metric):
    found = client.ask(collection, q, 10, metric, nprobe=24, reorder_k=100)
    assert client.recall(found, x, q, 10, metric) >= 0.95
    fewer = client.ask(collection, q, 10, metric, nprobe=1, reorder_k=100)
    assert client.recall(fewer, x, q, 10, metric) < 0.9, "nprobe does not reach the index"


def test_values_may_be_strings(collection, x, q, metric):
    texts = {name: str(value) for name, value in EXACT.items()}
    client.assert_exact(client.ask(collection, q[:5], 10, metric, **texts), x, q[:5], 10, metric)


def test_more_neighbours_than_rows(collection, x, q, metric):
    found = client.ask(collection, q[:2], 16384, metric, nprobe=NLIST, reorder_k=16384)
    client.assert_exact(found, x, q[:2], ROWS, metric)


@pytest.mark.served("searches", "filtered")
@pytest.mark.parametrize("expr, share", [("tag == 3", 0.1), ("tag != 3", 0.9), ("id in [17, 1234, 3999]", 0.001)])
def test_filter(collection, x, q, metric, expr, share):
    ids = np.arange(ROWS)
    allowed = {"tag == 3": ids % 10 == 3, "tag != 3": ids % 10 != 3}.get(expr, np.isin(ids, [17, 1234, 3999]))
    assert abs(allowed.mean() - share) < 0.001
    k = min(10, int(allowed.sum()))
    client.assert_exact(client.ask(collection, q, 10, metric, expr=expr, **EXACT), x, q, k, metric, allowed)


def test_filter_that_nothing_passes(collection, q, metric):
    # Milvus sees by itself that no row is left, so another search has to reach the index
    assert client.ids_of(client.ask(collection, q[:3], 10, metric, expr="tag == 77", **EXACT)) == [[], [], []]
    assert len(client.ask(collection, q[:1], 10, metric, **EXACT)[0]) == 10


@pytest.mark.served("ranges")
def test_range(collection, x, q, metric):
    every = reference.distances(x, q[:20], metric)
    # the 5th to the 30th neighbour of the first query, as limits for all
    best = np.sort(every[0])[::-1] if reference.LARGER_IS_BETTER[metric] else np.sort(every[0])
    inner, outer = float(best[4] + best[3]) / 2, float(best[29] + best[30]) / 2
    inside = (every > outer) & (every <= inner) if reference.LARGER_IS_BETTER[metric] else (
        (every < outer) & (every >= inner))
    found = client.ask(collection, q[:20], 1000, metric, radius=outer, range_filter=inner, nprobe=NLIST)
    assert inside[0].sum() == 26
    for hits, expected in zip(found, inside):
        assert set(hits.ids) == set(np.flatnonzero(expected).tolist())
        ordered = sorted(hits.distances, reverse=reference.LARGER_IS_BETTER[metric])
        assert list(hits.distances) == ordered


@pytest.mark.served("ranges")
def test_range_without_nprobe(collection, x, q, metric):
    every = np.sort(reference.distances(x, q[:1], metric)[0])
    ranks = every[::-1] if reference.LARGER_IS_BETTER[metric] else every
    for hits in (5, 300, 3000):
        radius = float(ranks[hits - 1] + ranks[hits]) / 2
        found = client.ask(collection, q[:1], ROWS, metric, radius=radius)[0]
        assert abs(len(found.ids) - hits) <= 1  # where rounding decides


@pytest.mark.served("searches", "ranges")
def test_iterator_without_nprobe_comes_to_the_end(collection, x, q, metric):
    iterator = collection.search_iterator(
        q[:1].tolist(), "vector", {"metric_type": metric, "params": {}}, batch_size=500, limit=ROWS,
        timeout=client.TIMEOUT)
    ids = []
    while len(page := iterator.next()):
        ids += page.ids()
    iterator.close()
    assert len(ids) == len(set(ids)) and len(ids) >= ROWS - 8  # the first page is a search by codes


@pytest.mark.served("ranges")
def test_cosines_of_one_are_within_ranges_up_to_one(collection, x, q, metric):
    if metric == "COSINE":
        found = client.ask(collection, x[:300], 5, metric, radius=0.6, range_filter=1.0)
        assert all(i in hits.ids and max(hits.distances) <= 1 for i, hits in enumerate(found))
    else:
        client.ask(collection, q[:1], 5, metric, radius=-1e30 if metric == "IP" else 1e30)


@pytest.mark.served("searches", "ranges")
def test_iterator(collection, x, q, metric):
    params = {"metric_type": metric, "params": {"nprobe": NLIST, "reorder_k": ROWS}}
    iterator = collection.search_iterator(
        q[:1].tolist(), "vector", params, batch_size=100, limit=350, timeout=client.TIMEOUT)
    ids, distances = [], []
    while len(page := iterator.next()):
        ids += page.ids()
        distances += page.distances()
    iterator.close()
    best, expected = reference.brute_force(x, q[:1], 350, metric)
    assert len(ids) == 350 and len(set(ids)) == 350
    np.testing.assert_allclose(distances, best[0], rtol=2e-5, atol=2e-4)
    assert set(ids[:340]) <= set(expected[0].tolist())


@pytest.mark.served("searches", "vectors")
def test_raw_vectors(collection, x, q, metric):
    hits = client.ask(collection, q[:3], 5, metric, output_fields=["vector", "tag"], **EXACT)
    for found in hits:
        for hit in found:
            assert np.array_equal(np.float32(hit.entity.get("vector")), x[hit.id]), "not the bits that were inserted"
            assert hit.entity.get("tag") == hit.id % 10
    rows = collection.query("id in [0, 99, 3999]", output_fields=["vector"], timeout=client.TIMEOUT)
    assert sorted(row["id"] for row in rows) == [0, 99, 3999]
    for row in rows:
        assert np.array_equal(np.float32(row["vector"]), x[row["id"]])


@pytest.mark.served("searches", "loads")
def test_release_and_load(server, collection, x, q, metric):
    alive = server.statistics()["live_nodes"]
    collection.release(timeout=client.TIMEOUT)
    client.wait_until(lambda: server.statistics()["live_nodes"] < alive, "the released index is freed")
    collection.load(timeout=client.TIMEOUT)
    client.assert_exact(client.ask(collection, q[:5], 10, metric, **EXACT), x, q[:5], 10, metric)
