"""index_type="SCANN" in Milvus Lite, from create_index to a damaged file, through pymilvus.

Each test sees by `activity()` that the index of this package answered.
"""

import importlib.metadata
import subprocess
import sys

import numpy as np
import pytest
from reference import brute_force, recall

import faiss_ext.milvus_lite as adapter
from faiss_ext.milvus_lite import activity

milvus_lite = pytest.importorskip("milvus_lite", reason="PyPI milvus-lite is not installed")
pymilvus = pytest.importorskip("pymilvus", reason="PyPI pymilvus is not installed")
if importlib.metadata.version("milvus-lite") not in adapter.SUPPORTED_VERSIONS:
    pytest.skip(f"milvus-lite {milvus_lite.__version__} is not supported", allow_module_level=True)

K = 10
TIMEOUT = 60
NAME = "words"
METRICS = ("L2", "IP", "COSINE")


@pytest.fixture
def scann():
    """SCANN is known while the test runs."""
    adapter.install()
    yield
    adapter.uninstall()


class Database:
    """A data directory and a client of it; `reopen` shuts the server down first."""

    def __init__(self, path):
        self.path, self.client = str(path), None
        self.reopen()

    def reopen(self):
        self.close()
        self.client = pymilvus.MilvusClient(self.path, timeout=TIMEOUT)
        return self.client

    def close(self):
        if self.client is not None:
            self.client.close()
            milvus_lite.server_manager_instance.release_server(self.path)
            self.client = None


@pytest.fixture
def database(scann, tmp_path):
    opened = Database(tmp_path / "words.db")
    yield opened
    opened.close()


@pytest.fixture
def client(database):
    return database.client


def insert(client, rows, start=0):
    data = [{"id": start + i, "tag": (start + i) % 10, "v": row} for i, row in enumerate(rows.tolist())]
    for first in range(0, len(data), 2000):
        client.insert(NAME, data[first : first + 2000], timeout=TIMEOUT)


def create(client, rows, dim=50):
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", pymilvus.DataType.INT64, is_primary=True)
    schema.add_field("tag", pymilvus.DataType.INT64)
    schema.add_field("v", pymilvus.DataType.FLOAT_VECTOR, dim=dim)
    client.create_collection(NAME, schema=schema, timeout=TIMEOUT)
    insert(client, rows)
    client.flush(NAME, timeout=TIMEOUT)


def index(client, metric="COSINE", kind="SCANN", **params):
    wanted = client.prepare_index_params()
    wanted.add_index("v", index_type=kind, metric_type=metric, params=params)
    client.create_index(NAME, wanted, timeout=TIMEOUT)


def load(client):
    client.load_collection(NAME, timeout=TIMEOUT)


def search(client, q, k=K, params=None, **more):
    """ids and scores, (nq, k) if every query found k."""
    hits = client.search(
        NAME, data=q.tolist(), limit=k, search_params={"params": params or {}}, timeout=TIMEOUT, **more
    )
    return (
        np.array([[hit["id"] for hit in row] for row in hits]),
        np.array([[hit["distance"] for hit in row] for row in hits]),
    )


def truth(x, q, metric, allowed=None):
    return brute_force(x, q, K, metric, allowed)


def done_since(before):
    now = activity()
    return {name: getattr(now, name) - getattr(before, name) for name in ("builds", "loads", "queries")}


EXACT = {"nprobe": 64, "reorder_k": 4000}


@pytest.mark.parametrize("metric", METRICS)
def test_end_to_end(client, x, q, metric):
    before = activity()
    create(client, x)
    index(client, metric, nlist=32, with_raw_data=True)  # builds at once: the collection is loaded
    load(client)
    assert done_since(before) == {"builds": 1, "loads": 0, "queries": 0}

    described = client.describe_index(NAME, "v", timeout=TIMEOUT)
    assert described["index_type"] == "SCANN" and described["metric_type"] == metric
    assert described["params"] == {"nlist": "32", "with_raw_data": "True"}

    scores, ids = truth(x, q, metric)
    found, distances = search(client, q, params=EXACT)
    assert recall(found, ids) > 0.995
    np.testing.assert_allclose(distances, scores, rtol=1e-3, atol=1e-3)
    assert recall(search(client, q)[0], ids) > 0.8  # default parameters
    assert done_since(before) == {"builds": 1, "loads": 0, "queries": 2 * len(q)}


@pytest.mark.parametrize("metric", METRICS)
def test_the_same_answers_as_flat(client, x, q, metric):
    create(client, x)
    index(client, metric, nlist=32)
    load(client)
    ours = search(client, q, params=EXACT)
    client.release_collection(NAME, timeout=TIMEOUT)
    client.drop_index(NAME, "v", timeout=TIMEOUT)
    index(client, metric, kind="FLAT")
    load(client)
    before = activity()
    flat = search(client, q)
    assert done_since(before)["queries"] == 0
    assert recall(ours[0], flat[0]) > 0.995
    np.testing.assert_allclose(ours[1], flat[1], rtol=1e-3, atol=1e-3)


def test_search_parameters_arrive(client, x, q):
    create(client, x)
    index(client, nlist=32)
    load(client)
    _, ids = truth(x, q, "COSINE")
    found = {}
    for nprobe in (1, 4, 32):
        found[nprobe] = recall(search(client, q, params={"nprobe": nprobe, "reorder_k": 200})[0], ids)
        assert activity().last_search == {"nprobe": nprobe, "reorder_k": 200}
    assert found[1] < found[4] < found[32]
    # pymilvus also takes them without "params"
    client.search(NAME, data=q.tolist(), limit=K, search_params={"nprobe": "7"}, timeout=TIMEOUT)
    assert activity().last_search == {"nprobe": "7"}


def test_hybrid_search_takes_the_parameters_of_each_part(client, x, q):
    create(client, x)
    index(client, nlist=32)
    load(client)
    parts = [
        pymilvus.AnnSearchRequest(data=q[:1].tolist(), anns_field="v", limit=K, param={"params": {"nprobe": nprobe}})
        for nprobe in (2, 3)
    ]
    before = activity()
    hits = client.hybrid_search(NAME, parts, pymilvus.RRFRanker(), limit=K, timeout=TIMEOUT)
    assert len(hits[0]) == K and done_since(before)["queries"] == 2
    assert activity().last_search == {"nprobe": 3}


def test_filter_delete_upsert_and_growing_rows(client, x, q):
    create(client, x)
    index(client, "L2", nlist=32)
    load(client)
    before = activity()

    third = np.arange(len(x)) % 10 == 3
    found, _ = search(client, q, filter="tag == 3", params=EXACT)
    assert recall(found, truth(x, q, "L2", third)[1]) > 0.995

    assert search(client, x[:1])[0][0, 0] == 0
    client.delete(NAME, ids=[0], timeout=TIMEOUT)
    assert 0 not in search(client, x[:1])[0]

    client.upsert(NAME, [{"id": 1, "tag": 1, "v": x[0].tolist()}], timeout=TIMEOUT)
    assert search(client, x[:1])[0][0, 0] == 1

    insert(client, x[:1] * 1.0, start=len(x))  # not flushed: beside the index
    assert len(x) in search(client, x[:1], k=2)[0]
    assert done_since(before) == {"builds": 0, "loads": 0, "queries": len(q) + 4}


def test_range_search_and_iterator(client, x, q):
    create(client, x)
    index(client, "L2", nlist=32)
    load(client)
    scores, _ = truth(x, q[:1], "L2")
    near, far = float(scores[0, 1]) * 0.999, float(scores[0, 7]) * 1.001
    ids, distances = search(client, q[:1], params={**EXACT, "radius": far, "range_filter": near})
    assert ids.shape == (1, 7) and (distances >= near).all() and (distances < far).all()

    before = activity()
    pages = client.search_iterator(
        NAME, data=q[:1].tolist(), batch_size=50, limit=200, search_params={"params": {"nprobe": 32}}, timeout=TIMEOUT
    )
    seen = []
    while page := pages.next():
        seen += [hit["id"] for hit in page]
    pages.close()
    assert len(seen) == len(set(seen)) == 200 and done_since(before)["queries"] > 0


@pytest.mark.parametrize("metric", METRICS)
def test_ranges_without_nprobe_find_all(client, x, q, metric):
    """Ranges with many rows nearer than they begin, too: Milvus Lite alone would fetch only those."""
    create(client, x)
    index(client, metric)
    load(client)
    allowed = np.arange(len(x))
    rows, one = (x, q[:1]) if metric != "COSINE" else (r / np.linalg.norm(r, axis=1, keepdims=True) for r in (x, q[:1]))
    exact = ((rows - one) ** 2).sum(axis=1) if metric == "L2" else rows @ one[0]
    order = np.argsort(exact if metric == "L2" else -exact)
    between = [float(exact[order[i - 1]] + exact[order[i]]) / 2 for i in (0, 5, 900, 1400)]
    for near, far, ranks in ((None, between[1], order[:5]), (between[2], between[3], order[900:1400])):
        limits = {"radius": far} if near is None else {"radius": far, "range_filter": near}
        found, _ = search(client, q[:1], k=1000, params=limits)
        wanted = set(allowed[ranks].tolist())
        assert len(wanted ^ set(found[0].tolist())) <= 2  # where rounding decides

    few, _ = search(client, q[:1], k=1000, params={"radius": between[3], "nprobe": 1})
    assert 0 < few.shape[1] < 1000  # what nprobe says holds


def test_an_iterator_comes_to_the_end(client, x, q):
    create(client, x)
    index(client, "L2")
    load(client)
    pages = client.search_iterator(NAME, data=q[:1].tolist(), batch_size=500, limit=len(x), timeout=TIMEOUT)
    seen = []
    while page := pages.next():
        seen += [hit["id"] for hit in page]
    pages.close()
    assert len(seen) == len(set(seen)) == len(x)


def test_cosines_of_one_are_within_ranges_up_to_one(client, x):
    create(client, x)
    index(client, "COSINE")
    load(client)
    _, distances = search(client, x[:300], k=3)
    assert distances.max() <= 1
    hits = client.search(
        NAME,
        data=x[:300].tolist(),
        limit=3,
        search_params={"params": {"radius": 0.6, "range_filter": 1.0}},
        timeout=TIMEOUT,
    )
    assert all(i in [hit["id"] for hit in row] for i, row in enumerate(hits))


def test_several_segments(client, x, q):
    create(client, x[:2500])
    index(client, nlist=32)
    load(client)
    before = activity()
    insert(client, x[2500:], start=2500)
    client.flush(NAME, timeout=TIMEOUT)
    found, _ = search(client, q, params=EXACT)
    assert recall(found, truth(x, q, "COSINE")[1]) > 0.995
    client.release_collection(NAME, timeout=TIMEOUT)
    load(client)
    before_search = activity()
    assert done_since(before)["builds"] + done_since(before)["loads"] >= 2
    np.testing.assert_array_equal(search(client, q, params=EXACT)[0], found)
    assert done_since(before_search)["queries"] >= 2 * len(q)  # every segment is asked


@pytest.mark.parametrize("metric", METRICS)
def test_reopened_from_disk(database, x, q, metric):
    client = database.client
    create(client, x)
    index(client, metric, nlist=32, refine_type="int8", search_params={"nprobe": 5})
    load(client)
    before_close = search(client, q)
    client = database.reopen()
    before = activity()
    load(client)
    assert done_since(before) == {"builds": 0, "loads": 1, "queries": 0}
    for a, b in zip(search(client, q), before_close):
        np.testing.assert_array_equal(a, b)


OTHER_PROCESS = """
import sys, pymilvus
if sys.argv[2] == "install":
    import faiss_ext.milvus_lite
    faiss_ext.milvus_lite.install()
client = pymilvus.MilvusClient(sys.argv[1], timeout=60)
try:
    client.load_collection("words", timeout=60)
    print(client.search("words", data=[[1.0] * 50], limit=3, timeout=60)[0].ids)
except pymilvus.MilvusException as error:
    print(error.message)
"""


def test_another_process(database, x):
    create(database.client, x)
    index(database.client, nlist=32)
    load(database.client)
    want = search(database.client, np.ones((1, 50), dtype=np.float32), k=3)[0][0].tolist()
    database.close()

    def run(how):
        command = [sys.executable, "-c", OTHER_PROCESS, database.path, how]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.strip()

    assert run("install") == str(want)
    assert "unknown index_type: 'SCANN'" in run("plain")


def test_embedded_without_pymilvus(scann, tmp_path, x, q):
    schema = milvus_lite.CollectionSchema(
        fields=[
            milvus_lite.FieldSchema(name="id", dtype=milvus_lite.DataType.INT64, is_primary=True),
            milvus_lite.FieldSchema(name="v", dtype=milvus_lite.DataType.FLOAT_VECTOR, dim=50),
        ]
    )
    with milvus_lite.MilvusLite(str(tmp_path / "embedded")) as db:
        words = db.create_collection(NAME, schema)
        words.insert([{"id": i, "v": row} for i, row in enumerate(x.tolist())])
        words.flush()
        params = {"nlist": 32}
        wanted = {"index_type": "scann", "metric_type": "L2", "params": params, "search_params": {"nprobe": 6}}
        with pytest.raises(milvus_lite.SchemaValidationError, match=r'nlist = "0" \(allowed'):
            words.create_index("v", {**wanted, "params": {"nlist": 0}})
        words.create_index("v", wanted)
        words.load()
        before = activity()
        hits = words.search(q.tolist(), top_k=K, metric_type="L2")
        assert recall([[h["id"] for h in row] for row in hits], truth(x, q, "L2")[1]) > 0.8
        assert done_since(before)["queries"] == len(q)
        assert activity().last_search == {"nprobe": 6}
        with pytest.raises(
            milvus_lite.SchemaValidationError, match=r'metric_type = "IP" \(allowed: L2, which'
        ):
            words.search(q.tolist(), top_k=K, metric_type="IP")


# ------------------------------------------------------------------ bad input

BAD_INDEX = [
    ({"nlist": 0}, 'nlist = "0" (allowed: an integer in 1..65536)'),
    ({"nlist": 65537}, 'nlist = "65537" (allowed: an integer in 1..65536)'),
    ({"nlist": "abc"}, 'nlist = "abc" (allowed: an integer in 1..65536)'),
    ({"sub_dim": 9}, 'sub_dim = "9" (allowed: an integer in 1..8)'),
    ({"with_raw_data": "perhaps"}, 'with_raw_data = "perhaps" (allowed: true or false)'),
    ({"refine_type": "int4"}, 'refine_type = "int4" (allowed: none|int8|fp16|bf16)'),
    ({"nlits": 8}, 'unknown build parameter nlits = "8" (known: metric_type, dim, num_build_thread, nlist, '),
    ({"nprobe": 8}, 'unknown build parameter nprobe = "8"'),
    ({"eta": 2, "anisotropic_threshold": 0.2}, "eta = 2 and anisotropic_threshold = 0.2 (allowed: one of them)"),
    ({"target_recall": 0.9, "with_raw_data": False}, "target_recall = 0.9 with with_raw_data = false"),
    ({"metric_type": "HAMMING"}, 'metric_type = "HAMMING" (allowed: L2|IP|COSINE)'),
]


@pytest.mark.parametrize("bad, message", BAD_INDEX, ids=[str(b) for b, _ in BAD_INDEX])
def test_bad_build_parameters_are_refused_at_once(client, x, q, bad, message):
    create(client, x[:100])
    bad = dict(bad)
    metric = bad.pop("metric_type", "L2")
    with pytest.raises(pymilvus.MilvusException) as refused:
        index(client, metric, **bad)
    assert message in refused.value.message
    assert not client.list_indexes(NAME, timeout=TIMEOUT)
    index(client, "L2", nlist="32", with_raw_data="True")  # what a client sends now
    load(client)
    before = activity()
    assert search(client, q)[0].shape == (len(q), K)
    assert done_since(before)["queries"] == len(q)


BAD_SEARCH = [
    ({"nprobe": 0}, 'nprobe = "0" (allowed: an integer in 1..65536)'),
    ({"nprobe": "many"}, 'nprobe = "many" (allowed: an integer in 1..65536)'),
    ({"reorder_k": 5}, "reorder_k = 5 is below k = 10 (allowed: >= k)"),
    ({"ef": 64}, 'unknown search parameter ef = "64" (known: metric_type, k, '),
    ({"k": 5}, 'k = "5" among the parameters (allowed: as k of the request)'),
    ({"radius": 1, "range_filter": 2}, "range_filter = 2 with radius = 1 (allowed for L2: range_filter < radius)"),
]


def test_bad_searches_say_what_is_allowed(client, x, q):
    create(client, x)
    index(client, "L2", nlist=32)
    load(client)
    for bad, message in BAD_SEARCH:
        with pytest.raises(pymilvus.MilvusException) as refused:
            search(client, q, params=bad)
        assert message in refused.value.message
    with pytest.raises(pymilvus.MilvusException, match=r"metric_type = .* \(allowed: L2, which the index"):
        client.search(NAME, data=q.tolist(), limit=K, search_params={"metric_type": "IP"}, timeout=TIMEOUT)
    with pytest.raises(pymilvus.MilvusException, match=r"queries: dim = 49 \(allowed: 50\)"):
        search(client, q[:, :49])
    with pytest.raises(pymilvus.MilvusException, match=r"queries\[0, 7\] = nan \(allowed: finite numbers\)"):
        search(client, np.where(np.arange(50) == 7, np.nan, q[:1]))
    with pytest.raises(pymilvus.MilvusException, match="reorder_k = 15 is below k = 20"):
        search(client, q, params={"reorder_k": 15}, offset=10)
    # the limit of the user counts, not the fivefold that a range search fetches
    ids, _ = search(client, q[:1], params={"reorder_k": 20, "radius": 1e9})
    assert ids.shape == (1, K)
    before = activity()
    assert search(client, q, params={"nprobe": 65536})[0].shape == (len(q), K)  # more than there are: all
    assert done_since(before)["queries"] == len(q)


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[len(data) // 2] ^= 0x40
    path.write_bytes({"flipped": data, "truncated": data[: len(data) // 2], "empty": b"", "foreign": b"IxSC" * 99}[how])


@pytest.mark.parametrize("how", ["flipped", "truncated", "empty", "foreign"])
def test_a_damaged_file_is_named_and_the_server_lives(database, tmp_path, x, q, how):
    create(database.client, x)
    index(database.client, nlist=32)
    load(database.client)
    database.close()
    [path] = (tmp_path / "words.db").rglob("*scann*.idx")
    damage(path, how)
    client = database.reopen()
    before = activity()
    with pytest.raises(pymilvus.MilvusException) as refused:
        load(client)
    assert path.name in refused.value.message and "drop_index, then create_index" in refused.value.message
    assert done_since(before) == {"builds": 0, "loads": 0, "queries": 0}
    client.drop_index(NAME, "v", timeout=TIMEOUT)
    client.release_collection(NAME, timeout=TIMEOUT)
    index(client, nlist=32)
    load(client)
    assert recall(search(client, q, params=EXACT)[0], truth(x, q, "COSINE")[1]) > 0.995
    assert done_since(before) == {"builds": 1, "loads": 0, "queries": len(q)}


def test_other_indexes_are_left_alone(client, x, q):
    create(client, x[:500])
    index(client, "L2", kind="HNSW", M=8)
    load(client)
    before = activity()
    assert search(client, q, params={"ef": 64})[0].shape == (len(q), K)
    assert done_since(before) == {"builds": 0, "loads": 0, "queries": 0}
