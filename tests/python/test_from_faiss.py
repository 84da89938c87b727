"""Indexes of faiss-cpu become ScaNN indexes with the same lists, ids and metric, and no less recall."""

import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import pytest

faiss = pytest.importorskip("faiss")
fx = pytest.importorskip("faiss_ext")

D, ROWS, QUERIES, K = 40, 2000, 100, 10


def make_rows(n, seed):
    centres = np.random.default_rng(1).normal(0, 2, (60, D))
    random = np.random.default_rng(seed)
    x = centres[random.integers(0, 60, n)] + random.normal(0, 1, (n, D))
    return x.astype(np.float32)


X, Q = make_rows(ROWS, 2), make_rows(QUERIES, 3)


def plain_index(description, metric=faiss.METRIC_L2, ids=None):
    index = faiss.index_factory(D, description, metric)
    leaf = plain_ivf(index)
    for part in (leaf, getattr(leaf, "pq", None)):
        if hasattr(part, "cp"):
            part.cp.niter = 4
            part.cp.min_points_per_centroid = 1
    index.train(X)
    index.add(X) if ids is None else index.add_with_ids(X, ids)
    return index


def taken_over(index, *arguments, **named):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return fx.from_faiss(index, *arguments, **named)


def plain_ivf(index):
    """The index with lists inside of wrappers."""
    while True:
        index = faiss.downcast_index(index)
        if hasattr(index, "base_index"):
            index = index.base_index
        elif isinstance(index, (faiss.IndexPreTransform, faiss.IndexIDMap)):
            index = index.index
        else:
            return index


def exact(metric):
    scores = Q @ X.T
    if metric == faiss.METRIC_L2:
        scores = 2 * scores - (X**2).sum(1)
    return np.argsort(-scores, axis=1)[:, :K]


def recall(found, truth):
    return sum(len(np.intersect1d(a, b)) for a, b in zip(found, truth)) / truth.size


def our_lists(index):
    """The ids of each list, as sets, by way of an export."""
    with tempfile.TemporaryDirectory() as folder:
        fx.export_to_faiss(index, f"{folder}/plain.faiss")
        return their_lists(faiss.read_index(f"{folder}/plain.faiss"))


def their_lists(index):
    lists = plain_ivf(index).invlists
    return [
        set(faiss.rev_swig_ptr(lists.get_ids(number), lists.list_size(number)).tolist())
        if lists.list_size(number)
        else set()
        for number in range(lists.nlist)
    ]


L2, IP = faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT
CASES = [
    ("IVF32,Flat", L2),
    ("IVF32,Flat", IP),
    ("IVF32_HNSW8,Flat", L2),
    ("IVF32,PQ20x4fs,RFlat", L2),
    ("IVF32,PQ20x4fsr,RFlat", IP),
    ("IVF32,PQ10x4np,Refine(SQ8)", L2),
    ("IVF32,PQ20x5np", L2),
    ("IVF32,PQ20x5np", IP),
    ("IVF32,PQ10x4fsr", L2),
    ("IVF32,SQ8", L2),
    ("IVF32,SQfp16", IP),
    ("RR40,IVF32,PQ20x5np", L2),
    ("RR40,IVF32,PQ20x4fs,RFlat", L2),
    ("PCA20,IVF32,Flat", L2),
    ("PCA20,IVF32,PQ10x4np,RFlat", L2),
    ("PCAR20,IVF32,SQ8,RFlat", IP),
    ("L2norm,IVF32,Flat", IP),
]


@pytest.mark.parametrize("description, metric", CASES)
def test_lists_are_the_same_and_recall_is_no_less(description, metric):
    plain = plain_index(description, metric)
    plain_ivf(plain).nprobe = 6
    index = taken_over(plain)
    assert (index.d, index.ntotal, index.nlist, index.nprobe) == (D, ROWS, 32, 6)
    assert index.metric_type == metric and index.is_trained
    if "PCA" not in description and "RR" not in description and "L2norm" not in description:
        assert our_lists(index) == their_lists(plain)

    truth = exact(metric)
    theirs = recall(plain.search(Q, K)[1], truth)
    assert recall(index.search(Q, K)[1], truth) >= theirs - 0.01


@pytest.mark.parametrize("description", ["Flat", "HNSW16", "PQ20x4np", "SQ8", "IDMap,Flat"])
def test_indexes_without_lists(description):
    ids = np.arange(ROWS) * 3 + 7 if "IDMap" in description else None
    plain = plain_index(description, ids=ids)
    index = taken_over(plain)
    assert index.ntotal == ROWS and index.nlist > 1
    index.nprobe = index.nlist
    theirs = recall(plain.search(Q, K)[1], plain.search(Q, K)[1] if ids is not None else exact(L2))
    found = index.search(Q, K)[1]
    assert recall((found - 7) // 3 if ids is not None else found, exact(L2)) >= theirs - 0.02


@pytest.mark.parametrize(
    "description",
    ["IDMap,IVF32,Flat", "IDMap2,IVF32,Flat", "IVF32,Flat", "IDMap,IVF32,PQ20x5np", "IDMap,RR40,IVF32,PQ20x5np"],
)
def test_ids_stay(description):
    ids = np.random.default_rng(1).permutation(ROWS) * 7 - 5
    plain = plain_index(description, ids=ids)
    index = taken_over(plain)
    assert (index.direct_map_type.name == "Hashtable") == ("IDMap2" in description)
    index.nprobe = 32
    D_, I = index.search(index.reconstruct_batch(ids[:50]), 1)
    assert (I[:, 0] == ids[:50]).mean() > 0.9
    np.testing.assert_allclose(index.reconstruct(int(ids[3])), X[3], atol=2.5 if "PQ" in description else 1e-6)
    assert index.remove_ids(ids[:10]) == 10 and index.ntotal == ROWS - 10


def test_removed_rows_and_a_direct_map():
    plain = faiss.index_factory(D, "IVF32,Flat")
    plain.train(X)
    plain.add(X)
    plain.remove_ids(np.arange(0, ROWS, 2))
    plain.set_direct_map_type(faiss.DirectMap.Hashtable)
    index = taken_over(plain, "ScaNN20x4")
    assert index.ntotal == ROWS // 2 and index.direct_map_type.name == "Hashtable"
    assert our_lists(index) == their_lists(plain)


@pytest.mark.parametrize("bbs", [32, 64, 96])
def test_blocks_of_any_size_decode_alike(bbs):
    quantizer = faiss.IndexFlatL2(D)
    plain = faiss.IndexIVFPQFastScan(quantizer, D, 32, 10, 4, L2, bbs)
    plain.by_residual = True
    plain.train(X)
    plain.add(X)
    flat = faiss.IndexIVFPQ(quantizer, D, 32, 10, 4)
    flat.by_residual, flat.pq, flat.is_trained = True, plain.pq, True
    flat.add(X)
    index = taken_over(plain, "ScaNN,RFlat")
    wanted = flat.sa_decode(flat.sa_encode(X))
    np.testing.assert_allclose(index.reconstruct_n(0, ROWS), wanted, atol=1e-5)


def test_rows_that_are_decoded_codes_are_said_to_be():
    with pytest.warns(UserWarning, match="no raw rows.*IndexIVFPQ decode"):
        index = fx.from_faiss(plain_index("IVF32,PQ20x5np"))
    assert index.refine_type == "int8" and not index.with_raw_data
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index = fx.from_faiss(plain_index("IVF32,PQ20x4fs,RFlat"))
    assert index.with_raw_data
    np.testing.assert_array_equal(index.reconstruct_n(0, 20), X[:20])


def test_paths_and_bytes(tmp_path):
    plain = plain_index("IVF32,Flat")
    faiss.write_index(plain, str(tmp_path / "plain.faiss"))
    wanted = fx.from_faiss(plain).search(Q, K, nprobe=4)
    for source in (
        tmp_path / "plain.faiss",
        str(tmp_path / "plain.faiss"),
        faiss.serialize_index(plain),
        faiss.serialize_index(plain).tobytes(),
    ):
        found = fx.from_faiss(source).search(Q, K, nprobe=4)
        np.testing.assert_array_equal(found[1], wanted[1])


def test_back_and_forth(tmp_path):
    """Our own export: rotated codes inside of an IndexRefineFlat."""
    index = fx.index_factory(D, "IVF32,ScaNN,RFlat")
    index.train(X)
    index.add(X)
    fx.export_to_faiss(index, tmp_path / "plain.faiss")
    again = fx.from_faiss(tmp_path / "plain.faiss")
    assert our_lists(again) == our_lists(index)
    for nprobe in (2, 8):
        ours = recall(index.search(Q, K, nprobe=nprobe)[1], exact(L2))
        theirs = recall(again.search(Q, K, nprobe=nprobe)[1], exact(L2))
        assert abs(ours - theirs) <= 0.01


def test_what_is_made_is_an_index_as_any(tmp_path):
    index = taken_over(plain_index("RR40,IVF32,PQ20x5np"))
    fx.write_index(index, tmp_path / "ours.scann")
    again = fx.read_index(tmp_path / "ours.scann")
    np.testing.assert_array_equal(again.search(Q, K)[1], index.search(Q, K)[1])
    index.add(X[:5])
    assert index.ntotal == ROWS + 5
    index = taken_over(plain_index("IVF32,Flat"))
    assert index.calibrate(Q, 0.9, K)["recall"] >= 0.9


def test_description_chooses_codes_and_storage():
    plain = plain_index("IVF32,Flat")
    index = fx.from_faiss(plain, "IVF32,ScaNN10x4,SQ8")
    assert index.refine_type == "int8" and not index.with_raw_data and index.sub_dim == 4
    index = fx.from_faiss(plain, "ScaNN(soar_lambda=1),RFlat")
    assert index.soar_lambda == 1 and our_lists(index) == their_lists(plain)
    assert fx.from_faiss(plain_index("Flat"), "IVF16,ScaNN").nlist == 16
    for wrong, message in (
        ("IVF16,ScaNN", "16 lists.*32.*allowed: IVF32"),
        ("IDMap,ScaNN", r"allowed: \[IVF<nlist>,\]ScaNN"),
        ("Flat", r"allowed: \[IVF<nlist>,\]ScaNN"),
        ("IVF32,ScaNN(eta=0.5)", "eta"),
    ):
        with pytest.raises(ValueError, match=message):
            fx.from_faiss(plain, wrong)


def test_faiss_default_of_one_probe_is_not_taken():
    assert fx.from_faiss(plain_index("IVF128,Flat")).nprobe > 1


def test_progress_and_interrupt():
    seen = []
    fx.from_faiss(plain_index("IVF32,Flat"), progress=lambda *step: seen.append(step))
    assert {"codebook", "add"} <= {stage for stage, *_ in seen} and "k-means" not in {stage for stage, *_ in seen}
    assert seen[-1][1:] == (ROWS, ROWS)

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fx.from_faiss(plain_index("IVF32,Flat"), progress=stop)
    with pytest.raises(TypeError, match="progress"):
        fx.from_faiss(plain_index("IVF32,Flat"), progress=3)


def test_inner_product_rows_keep_lists_that_are_not_the_nearest():
    """Faiss assigns by the product, so that long centroids take the rows of short ones."""
    x = (X * np.exp(np.random.default_rng(4).normal(0, 1, (ROWS, 1)))).astype(np.float32)
    plain = faiss.index_factory(D, "IVF32,Flat", IP)
    plain.train(x)
    plain.add(x)
    index = fx.from_faiss(plain)
    assert our_lists(index) == their_lists(plain)
    truth = np.argsort(-(Q @ x.T), axis=1)[:, :K]
    for nprobe in (4, 16):
        plain.nprobe = nprobe
        assert recall(index.search(Q, K, nprobe=nprobe)[1], truth) >= recall(plain.search(Q, K)[1], truth) - 0.02


def empty(description):
    index = faiss.index_factory(D, description)
    if not index.is_trained:
        index.train(X)
    return index


REFUSED = [
    (lambda: faiss.index_factory(D, "IVF32,Flat"), ValueError, "not trained"),
    (lambda: empty("IVF32,Flat"), ValueError, "no rows"),
    (lambda: empty("Flat"), ValueError, "no rows"),
    (lambda: plain_index("IVF32,RQ2x3"), ValueError, "not read here.*IndexIVFFlat"),
    (lambda: plain_index("LSH"), ValueError, "not read here"),
    (lambda: plain_index("Flat", faiss.METRIC_L1), ValueError, "metric|not read here"),
    (lambda: plain_index("IVF32,Flat", faiss.METRIC_Linf), ValueError, "metric"),
    (lambda: faiss.IndexBinaryFlat(64), TypeError, "IndexBinaryFlat"),
    (lambda: fx.index_factory(D, "IVF1,ScaNN"), TypeError, "clone_index"),
    (lambda: X, ValueError, "data"),
    (lambda: 3, TypeError, "int.*index of faiss-cpu"),
    (lambda: None, TypeError, "NoneType"),
    (lambda: b"", ValueError, "end early"),
    (lambda: b"nonsense, but long enough", ValueError, "nons"),
    (lambda: "/no/such/file", RuntimeError, "/no/such/file"),
]


@pytest.mark.parametrize("make, error, message", REFUSED)
def test_refused(make, error, message):
    with pytest.raises(error, match=message):
        fx.from_faiss(make())


def test_damaged_bytes_are_refused_or_safe():
    random = np.random.default_rng(9)
    for description in ("IVF8,PQ10x4fs,RFlat", "IDMap,IVF8,PQ10x4np", "IVF8,SQ8", "RR40,IVF8_HNSW8,Flat"):
        plain = faiss.index_factory(D, description)
        plain.train(X[:1000])
        plain.add_with_ids(X[:300], np.arange(300)) if "IDMap" in description else plain.add(X[:300])
        whole = faiss.serialize_index(plain)
        for end in [*random.integers(0, len(whole), 15), len(whole) - 1]:
            with pytest.raises(ValueError):
                fx.from_faiss(whole[:end])
        for _ in range(40):
            damaged = whole.copy()
            damaged[random.integers(0, len(whole))] ^= np.uint8(1 << random.integers(0, 8))
            try:
                index = taken_over(damaged)
            except ValueError:
                continue
            index.search(Q[:2], 3)


def test_importing_the_package_does_not_import_faiss():
    code = "import sys, faiss_ext; sys.exit('faiss' in sys.modules)"
    path = str(pathlib.Path(fx.__file__).resolve().parents[1])
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": path}, timeout=60)
