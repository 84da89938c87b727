"""faiss_ext.knowhere: each index type of the factory beside brute force, and what it refuses."""

import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from reference import clustered, distances, recall

import faiss_ext as fx
from faiss_ext import knowhere

FACTORY = knowhere.IndexFactory()
TYPES = ("FLAT", "HNSW", "IVF_FLAT", "IVF_PQ", "SCANN")
METRICS = ("L2", "IP", "COSINE")
BUILD = {"IVF_FLAT": {"nlist": 16}, "IVF_PQ": {"nlist": 16, "m": 8, "nbits": 5, "num_build_thread": 1},
         "SCANN": {"nlist": 16}, "HNSW": {"M": 16}}  # fmt: skip
ALL = {"IVF_FLAT": {"nprobe": 16}, "IVF_PQ": {"nprobe": 16}, "SCANN": {"nprobe": 16, "reorder_k": 3000},
       "HNSW": {"ef": 400}}  # fmt: skip
# recall@10 of searches that look at everything
FLOORS = {"FLAT": 1, "HNSW": 0.99, "IVF_FLAT": 1, "IVF_PQ": 0.3, "SCANN": 0.999}
N, D, NQ, K = 3000, 24, 40, 10


def larger_is_nearer(distances, metric):
    return -distances if metric == "L2" else distances


@pytest.fixture(scope="module")
def rows():
    return clustered(N + NQ, D, seed=3)


@pytest.fixture(scope="module")
def x(rows):
    return rows[:N].copy()


@pytest.fixture(scope="module")
def q(rows):
    return rows[N:].copy()


class Built:
    def __init__(self, x, q, name, metric):
        self.type, self.metric, self.x, self.q = name, metric, x, q
        self.node = FACTORY.create(name)
        self.node.build(x, metric_type=metric, **BUILD.get(name, {}))
        self.scores = larger_is_nearer(distances(x, q, metric), metric)

    def best(self, k=K, filtered=None):
        scores = self.scores.copy()
        if filtered is not None:
            scores[:, filtered] = -np.inf
        return np.argsort(-scores, axis=1, kind="stable")[:, :k]

    def all(self):
        return ALL.get(self.type, {})

    @property
    def exact(self):
        """Whether distances are those of the rows."""
        return self.type != "IVF_PQ"


@pytest.fixture(scope="module", params=[(t, m) for t in TYPES for m in METRICS], ids="-".join)
def built(request, x, q):
    return Built(x, q, *request.param)


# ------------------------------------------------------------------ factory


def test_names_and_types():
    assert set(TYPES) <= set(FACTORY.names())
    for name in TYPES:
        node = FACTORY.create(name, version=8)
        assert (node.type, node.metric_type, node.dim, node.count, node.size) == (name, None, 0, 0, 0)
        assert repr(node) == f"<faiss_ext.knowhere.IndexNode {name}, empty>"


@pytest.mark.parametrize("version", [-1, 12, 2**40])
def test_unknown_versions(version):
    with pytest.raises(ValueError, match=rf"version = {version}.*0\.\.11"):
        FACTORY.create("SCANN", version)


@pytest.mark.parametrize("name", ["", "scann", "SCANN ", "x" * 1000, "\0"])
def test_unknown_names(name):
    for call in (FACTORY.create, knowhere.parameters):
        with pytest.raises(ValueError, match="known: FLAT, HNSW, IVF_FLAT, IVF_PQ,.* SCANN"):
            call(name)


def test_load(tmp_path):
    with pytest.raises(RuntimeError, match="no-such"):
        FACTORY.load(tmp_path / "no-such.so")
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    root = pathlib.Path(__file__).parents[2]
    module = tmp_path / "own_node.so"
    subprocess.run([compiler, "-std=c++20", "-shared", "-fPIC", "-O0", f"-I{root}", root / "examples" / "own_node.cpp",
                    "-o", module], check=True, timeout=120)  # fmt: skip
    code = (
        "import sys, numpy as np; from faiss_ext import knowhere\n"
        "factory = knowhere.IndexFactory(); factory.load(sys.argv[1]); node = factory.create('ORIGIN')\n"
        "node.build(np.ones((3, 5))); assert (node.count, node.dim, node.type) == (3, 5, 'ORIGIN')\n"
        "assert node.search(np.ones((2, 5)))[1].shape == (2, 0) and knowhere.parameters('ORIGIN') == []\n"
        "try: node.range_search(np.ones((2, 5)))\n"
        "except ValueError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, module], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (0, "ORIGIN: no range search\n"), run.stderr
    (tmp_path / "empty.c").write_text("int nothing;")
    subprocess.run([compiler, "-x", "c", "-shared", tmp_path / "empty.c", "-o", tmp_path / "empty.so"], check=True)
    with pytest.raises(ValueError, match="empty.so has no knowhere_plugin_register"):
        FACTORY.load(tmp_path / "empty.so")


# ------------------------------------------------------------------- schema


def just_outside(p):
    if p.type is int:
        return [p.minimum - 1, p.maximum + 1]
    if p.type is float:
        return [np.nextafter(p.minimum, -np.inf), np.nextafter(p.maximum, np.inf)]
    return ["perhaps", "", 2]


def inside(p):
    if p.type is bool:
        return [True, False, "true", "False"]
    if p.type is str:
        return list(p.words)
    return [p.minimum, p.maximum]


# with which the largest of these is allowed
BESIDE = {"reorder_k": {"k": 1}, "ef": {"k": 1}}


@pytest.mark.parametrize("name", TYPES)
def test_the_schema_is_what_the_node_accepts(name):
    node = FACTORY.create(name)
    schema = knowhere.parameters(name)
    assert len({p.name for p in schema}) == len(schema) >= 8
    for p in schema:
        assert p.help and p.phases and set(p.phases) <= {"build", "search", "range_search", "load"}
        assert p.type in (int, float, bool, str) and (p.default is None or type(p.default) is p.type)
        assert (p.minimum is not None) == (p.type in (int, float)) and bool(p.words) == (p.type is str)
        for phase in p.phases:
            beside = BESIDE.get(p.name, {}) if phase == "search" else {}
            for value in inside(p) + ([] if p.default is None else [p.default]):
                node.check(phase, **{p.name: value}, **beside)
                node.check(phase, **{p.name: f' "{value}" '}, **beside)
            for value in just_outside(p):
                with pytest.raises(ValueError, match=rf"^{p.name} = .*\(allowed: "):
                    node.check(phase, **{p.name: value})
                with pytest.raises(ValueError, match=rf"^{p.name} = .*\(allowed: "):
                    node.build(np.ones((50, 8)), **{p.name: value})
        for phase in {"build", "search", "range_search", "load"} - set(p.phases):
            with pytest.raises(ValueError, match=f"^unknown {phase.replace('_', ' ')} parameter {p.name} = "):
                node.check(phase, **{p.name: inside(p)[0]})
    with pytest.raises(ValueError, match=r'^phase = "training" \(allowed: build\|search\|range_search\|load\)'):
        node.check("training")
    assert node.count == 0 and node.metric_type is None


@pytest.mark.parametrize("name", TYPES)
def test_defaults_are_what_is_used(name, x, q):
    given = {p.name: p.default for p in knowhere.parameters(name) if p.default is not None and "build" in p.phases}
    said = {p.name: p.default for p in knowhere.parameters(name) if p.default is not None and "search" in p.phases}
    a, b = FACTORY.create(name), FACTORY.create(name)
    if name == "IVF_PQ":
        with pytest.raises(ValueError, match=r"m = 32 with dim = 24 \(allowed: divisors of dim\)"):
            a.build(x)
        given.update(m=8, nbits=4, num_build_thread=1)
    a.build(x, **({"m": 8, "nbits": 4, "num_build_thread": 1} if name == "IVF_PQ" else {}))
    b.build(x, **given)
    for one, other in zip(a.search(q), b.search(q, **said)):
        np.testing.assert_array_equal(one, other)


# ----------------------------------------------------------------- searches


def test_search(built):
    distances, ids = built.node.search(built.q, k=K, **built.all())
    assert (distances.dtype, ids.dtype, distances.shape, ids.shape) == (np.float32, np.int64, (NQ, K), (NQ, K))
    assert recall(ids, built.best()) >= FLOORS[built.type]
    nearness = larger_is_nearer(distances, built.metric)
    assert (np.diff(nearness, axis=1) <= 0).all()
    if built.exact:
        np.testing.assert_allclose(nearness, np.take_along_axis(built.scores, ids, 1), rtol=1e-4, atol=1e-3)
    assert all(len(set(row)) == K for row in ids)
    assert repr(built.node).endswith(f"{built.type}: dim={D}, metric_type={built.metric}, count={N}>")
    assert (built.node.dim, built.node.count, built.node.metric_type) == (D, N, built.metric)
    assert built.node.size > N * D / 4


def test_search_leaves_out_what_is_filtered(built):
    filtered = np.random.default_rng(0).random(N) < 0.7
    distances, ids = built.node.search(built.q, filtered=filtered, k=K, **built.all())
    assert not filtered[ids].any()
    assert recall(ids, built.best(filtered=filtered)) >= FLOORS[built.type]
    few = np.ones(N, bool)
    few[[5, 50]] = False
    distances, ids = built.node.search(built.q, filtered=few, k=K, **built.all())
    assert (np.sort(ids[:, :2]) == [5, 50]).all() and (ids[:, 2:] == -1).all()
    # rows beyond the flags are left out, too
    _, ids = built.node.search(built.q, filtered=np.zeros(100, bool), k=K, **built.all())
    assert (ids >= 0).all() and (ids < 100).all()
    _, ids = built.node.search(built.q, filtered=np.ones(N, bool), k=K)
    assert (ids == -1).all()
    for same in (few[::-1][::-1], np.asfortranarray(few), few.tolist(), np.repeat(few, 2)[::2]):
        np.testing.assert_array_equal(built.node.search(built.q, filtered=same, k=2)[1],
                                      built.node.search(built.q, filtered=few, k=2)[1])


def test_batches_are_as_queries_alone(built):
    many = np.concatenate([built.q] * 20)
    distances, ids = built.node.search(many, k=3)
    alone = [built.node.search(built.q[i : i + 1], k=3) for i in range(NQ)]
    np.testing.assert_array_equal(ids, np.concatenate([one[1] for one in alone] * 20))
    np.testing.assert_array_equal(distances, np.concatenate([one[0] for one in alone] * 20))
    radius = {"L2": 20.0, "IP": 5.0, "COSINE": 0.6}[built.metric]
    limits, distances, ids = built.node.range_search(many, radius=radius)
    assert limits.shape == (len(many) + 1,) and limits[0] == 0 and limits[-1] == len(ids) == len(distances)
    np.testing.assert_array_equal(np.diff(limits)[:NQ], np.diff(limits)[-NQ:])
    np.testing.assert_array_equal(ids[: limits[NQ]], ids[limits[-1 - NQ] :])


def test_range_search(built):
    ranked = np.sort(built.scores, axis=1)[:, ::-1]
    for hits in (1, 30):
        # between two scores, so that rounding does not matter
        far, near = (float(np.median((ranked[:, i - 1] + ranked[:, i]) / 2)) for i in (hits, 2))
        far, near = (-far, -near) if built.metric == "L2" else (far, near)
        limits, distances, ids = built.node.range_search(built.q, radius=far, **built.all())
        for i in range(NQ):
            found = slice(limits[i], limits[i + 1])
            nearness = larger_is_nearer(distances[found], built.metric)
            assert (np.diff(nearness) <= 0).all() and (nearness > larger_is_nearer(far, built.metric)).all()
            if built.exact:
                want = np.flatnonzero(built.scores[i] > larger_is_nearer(far, built.metric))
                assert set(ids[found]) == set(want) or built.type == "HNSW" and len(want) <= len(set(ids[found])) + 2
        if hits > 1:
            limits, distances, _ = built.node.range_search(built.q, radius=far, range_filter=near)
            assert ((distances < far) & (distances >= near) if built.metric == "L2" else
                    (distances > far) & (distances <= near)).all()  # fmt: skip
            flags = np.arange(N) % 2 == 0
            assert (built.node.range_search(built.q, filtered=flags, radius=far)[2] % 2 == 1).all()
            with pytest.raises(ValueError, match=r"range_filter = .* with radius = .* \(allowed for"):
                built.node.range_search(built.q, radius=near, range_filter=far)
    with pytest.raises(ValueError, match="radius is missing"):
        built.node.range_search(built.q)


def test_iterators(built):
    flags = np.arange(N) % 3 == 0
    for i, rows in enumerate(built.node.iterate(built.q[:3], filtered=flags)):
        first = [next(rows) for _ in range(K)]
        assert iter(rows) is rows and type(first[0][0]) is int and type(first[0][1]) is float
        if built.exact:
            nearest = built.best(filtered=flags)[i]
            assert len(set(nearest) & {id for id, _ in first}) >= 0.7 * K
        rest = list(rows)
        assert sorted(id for id, _ in first + rest) == np.flatnonzero(~flags).tolist()
        assert list(rows) == [] and next(rows, None) is None
    ordered = built.node.iterate(built.q[:1], retain_iterator_order=True)[0]
    nearness = larger_is_nearer(np.array([next(ordered)[1] for _ in range(500)]), built.metric)
    assert (np.diff(nearness) <= 0).all()


def test_an_iterator_keeps_its_node(x):
    node = FACTORY.create("FLAT")
    node.build(x)
    rows = node.iterate(x[:1])[0]
    del node
    assert next(rows)[0] == 0 and len(list(rows)) == N - 1


def test_rows_come_back_bit_by_bit(built):
    raw = built.node.has_raw_data(built.metric)
    assert raw == (built.type == "SCANN" or built.type != "IVF_PQ" and built.metric != "COSINE")
    if not raw:
        with pytest.raises(ValueError, match="keeps no raw data"):
            built.node.get_vectors([0])
        return
    wanted = np.random.default_rng(5).integers(0, N, 200)
    np.testing.assert_array_equal(built.node.get_vectors(wanted), built.x[wanted])
    assert built.node.get_vectors([]).shape == (0, D)
    for bad in (-1, N, 2**40):
        with pytest.raises(ValueError, match=rf"id = {bad} \(allowed: 0\.\.{N - 1}\)"):
            built.node.get_vectors([0, bad])


@pytest.mark.parametrize("name", TYPES)
def test_rows_whose_distances_are_no_floats(name, x):
    """Faiss' k-means reads memory that is not its own for them; SCANN takes them."""
    node, long = FACTORY.create(name), x[:100] * np.float32(1e37)
    if name == "SCANN":
        node.build(long)
        assert (node.search(long[:5], k=1)[1].ravel() >= 0).all()
        return
    parameters = {**BUILD.get(name, {}), "metric_type": "IP"}
    node.build(x[:100], **parameters)
    for call in (node.build, node.train, node.add, node.search, node.iterate):
        with pytest.raises(ValueError, match=rf"\[0\]: sum of squares = .*e\+7\d \(allowed for {name}: 0\.\.1e\+37\)"):
            call(long, **(parameters if call == node.build else {}))
    assert node.count == 100
    node.build(long, **{**parameters, "metric_type": "COSINE"})
    assert (node.search(long[:5], k=1)[1].ravel() >= 0).all()


def test_few_rows_and_none(built):
    for n in (0, 1, 5):
        node = FACTORY.create(built.type)
        node.build(built.x[:n], metric_type=built.metric, **BUILD.get(built.type, {}))
        distances, ids = node.search(built.q[:2], k=7)
        assert node.count == n and (ids[:, n:] == -1).all() and (np.sort(ids[:, :n]) == np.arange(n)).all()
        assert node.range_search(built.q[:2], radius=1e30 if built.metric == "L2" else -1e30)[0][-1] == 2 * n
    assert built.node.search(built.q[:0])[1].shape == (0, 10)
    assert built.node.range_search(built.q[:0], radius=1)[0].tolist() == [0]
    assert built.node.iterate(built.q[:0]) == []


# -------------------------------------------------------------------- blobs


def answers(node, q):
    return [a.tolist() for a in node.search(q, k=5)] if node.count else None


def test_blobs_and_files(built, tmp_path):
    blob = built.node.serialize()
    assert blob.dtype == np.uint8 and blob.ndim == 1
    path = tmp_path / "node"
    blob.tofile(path)
    want = answers(built.node, built.q)
    for take in (
        lambda n: n.deserialize(blob),
        lambda n: n.deserialize(blob.tobytes()),
        lambda n: n.deserialize(memoryview(blob)),
        lambda n: n.deserialize_from_file(path),
        lambda n: n.deserialize_from_file(str(path), enable_mmap=True),
    ):
        copy = FACTORY.create(built.type)
        take(copy)
        assert answers(copy, built.q) == want
        assert (copy.metric_type, copy.count, copy.dim) == (built.metric, N, D)
        np.testing.assert_array_equal(copy.serialize(), blob)
        # on failure it stays as it was
        damaged = blob.copy()
        damaged[len(damaged) // 2] ^= 0x41
        for bad in (damaged, blob[:-1], blob[:100], b"", b"x" * 500):
            with pytest.raises(RuntimeError, match="not a blob of"):
                copy.deserialize(bad)
        other = FACTORY.create("FLAT" if built.type == "HNSW" else "HNSW")
        other.build(built.x[:10])
        with pytest.raises(RuntimeError, match="not a blob of"):
            copy.deserialize(other.serialize())
        with pytest.raises(RuntimeError, match="no-such-file"):
            copy.deserialize_from_file(tmp_path / "no-such-file")
        with pytest.raises(ValueError, match="data must be bytes or a contiguous"):
            copy.deserialize(blob[::2])
        assert answers(copy, built.q) == want


def test_blobs_of_scann_are_files_of_the_engine(x, q, tmp_path):
    node = FACTORY.create("SCANN")
    node.build(x, nlist=16)
    index = fx.deserialize_index(node.serialize())
    fx.write_index(index, tmp_path / "file")
    other = FACTORY.create("SCANN")
    other.deserialize_from_file(tmp_path / "file")
    assert answers(other, q) == answers(node, q)
    np.testing.assert_array_equal(index.search(q, 5, nprobe=3)[1], node.search(q, k=5, nprobe=3)[1])


# ------------------------------------------------------------------ refusals


def test_bad_rows_and_queries(built):
    want = answers(built.node, built.q)
    nan, inf = built.x[:20].copy(), built.x[:20].copy()
    nan[7, 3], inf[0, 5] = np.nan, -np.inf
    wide = [[1e300] * D]
    for calls, name in (((built.node.search, built.node.range_search, built.node.iterate), "queries"),
                        ((built.node.build, built.node.train, built.node.add), "rows")):  # fmt: skip
        for call in calls:
            for bad, message in (
                (nan, rf"{name}\[7, 3\] = nan \(allowed: finite numbers\)"),
                (inf, rf"{name}\[0, 5\] = -inf \(allowed"),
                (wide, rf"{name}\[0, 0\] = inf \(allowed"),
                (built.x[0], rf"{name} has shape \({D},\)"),
                (None, f"{name} is None"),
                ("text", f"{name} has dtype"),
                (np.ones((2, D), complex), f"{name} has dtype complex128"),
                (np.ones((2, 0)), rf"{name}: dim = 0 \(allowed"),
                (np.ones((2, 65537)), rf"{name}: dim = 65537 \(allowed"),
            ):
                with np.errstate(over="ignore"), pytest.raises(ValueError, match=message):
                    call(bad, **({"radius": 1} if call == built.node.range_search else {}))
    for call in (built.node.search, built.node.add):
        with pytest.raises(ValueError, match=rf"dim = {D + 1} \(allowed: {D}\)"):
            call(np.ones((2, D + 1)))
    for filtered, message in (
        (np.ones(N), r"filtered has dtype float64 \(allowed: bool"),
        (np.ones((N, 1), bool), "filtered has shape"),
        (np.zeros(0, bool), "filtered has 0 flags"),
        (fx.Filter([1]), "filtered has dtype object"),
    ):
        with pytest.raises(ValueError, match=message):
            built.node.search(built.q, filtered=filtered)
    assert answers(built.node, built.q) == want and built.node.count == N


def test_bad_parameters_change_nothing(built):
    want = answers(built.node, built.q)
    other = "IP" if built.metric == "L2" else "L2"
    for call, given, message in (
        (built.node.search, {"k": 0}, r'k = "0" \(allowed: an integer in 1\.\.2147483647\)'),
        (built.node.search, {"k": 2**31 - 1}, rf"k = 2147483647 for {NQ} queries \(allowed: k \* queries <= "),
        (built.node.search, {"k": "many"}, r'k = "many" \(allowed'),
        (built.node.search, {"k": [1]}, r'k = "\[1\]" \(allowed'),
        (built.node.search, {"k": "\udcff"}, "'utf-8' codec can't encode"),
        (built.node.search, {"\udcff": 1}, "'utf-8' codec can't encode"),
        (built.node.search, {"nprobes": 3}, r'unknown parameter nprobes = "3" \(known: metric_type'),
        (built.node.search, {"metric_type": other}, rf'metric_type = "{other}" \(allowed: {built.metric}, which'),
        (built.node.build, {"metric_type": "HAMMING"}, r'metric_type = "HAMMING" \(allowed: L2\|IP\|COSINE\)'),
        (built.node.build, {"dim": D + 1}, rf"dim = {D + 1} \(allowed: {D}, as the rows have\)"),
        (built.node.add, {"metric_type": other}, r"metric_type = "),
        (built.node.build, {"num_build_thread": 0}, r'num_build_thread = "0" \(allowed: an integer in 1\.\.1024\)'),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            call(built.q, **given)
    assert answers(built.node, built.q) == want and built.node.count == N


@pytest.mark.parametrize("name", TYPES)
def test_calls_in_the_wrong_order(name, x):
    node = FACTORY.create(name)
    for call in (lambda: node.search(x), lambda: node.range_search(x, radius=1), lambda: node.iterate(x),
                 lambda: node.get_vectors([0]), node.serialize):  # fmt: skip
        with pytest.raises(ValueError, match=f"{name}: neither built nor loaded"):
            call()
    with pytest.raises(ValueError, match=f"{name}: Add before Train"):
        node.add(x)


@pytest.mark.parametrize("name", TYPES)
def test_train_then_add(name, x, q):
    whole, parts = FACTORY.create(name), FACTORY.create(name)
    whole.build(x, **BUILD.get(name, {}))
    parts.train(x, **BUILD.get(name, {}))
    assert parts.count == 0 and parts.metric_type == "L2"
    for start in range(0, N, 1000):
        parts.add(x[start : start + 1000].tolist() if start else x[:1000].astype(">f8"))
    assert parts.count == N
    if name != "HNSW":  # its graph depends on what was added at once
        assert answers(parts, q) == answers(whole, q)
