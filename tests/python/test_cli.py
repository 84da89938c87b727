"""The command line: each command by its result, each mistake by its line and exit code."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import faiss_ext as fx
from faiss_ext._cli.main import main
from faiss_ext._descriptions import normalized

PACKAGE = pathlib.Path(fx.__file__).resolve().parents[1]
K = 5


def make_rows(n, seed):
    centres = np.random.default_rng(1).normal(0, 2, (20, 8))
    random = np.random.default_rng(seed)
    return (centres[random.integers(0, 20, n)] + random.normal(0, 1, (n, 8))).astype(np.float32)


X, Q = make_rows(1500, 2), make_rows(40, 3)
SQUARES = ((Q[:, None, :] - X[None]) ** 2).sum(-1)
TRUTH = np.argsort(SQUARES, axis=1)[:, :20].astype(np.int32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    np.save("q.npy", Q)
    np.save("truth.npy", TRUTH)
    return tmp_path


def run(capsys, *words):
    """Exit code, what was printed, what was complained."""
    try:
        code = main([str(word) for word in words])
    except SystemExit as leaving:
        code = leaving.code
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def facts(capsys, *words):
    code, out, err = run(capsys, *words, "--json")
    assert code == 0, err
    return json.loads(out)


def build(capsys, *more):
    return facts(capsys, "build", "x.npy", "--output", "x.scann", "--description", "IVF16,ScaNN,RFlat", *more)


def test_build_and_search(folder, capsys):
    built = build(capsys, "--threads", 1)
    assert (built["rows"], built["dimensions"], built["nlist"], built["metric"]) == (1500, 8, 16, "l2")
    assert built["file_bytes"] == (folder / "x.scann").stat().st_size
    found = facts(capsys, "search", "x.scann", "q.npy", "-k", K, "--nprobe", 16, "--ground-truth", "truth.npy")
    assert found[f"recall@{K}"] == 1 and found["queries"] == 40 and found["queries_per_second"] > 0
    less = facts(capsys, "search", "x.scann", "q.npy", "-k", K, "--nprobe", 1, "--ground-truth", "truth.npy")
    wanted = fx.read_index("x.scann").search(Q, K, nprobe=1)[1]
    hits = sum(np.intersect1d(a, b).size for a, b in zip(wanted, TRUTH[:, :K]))
    assert less[f"recall@{K}"] == pytest.approx(hits / wanted.size, abs=1e-4) and hits < wanted.size
    code, out, _ = run(capsys, "search", "x.scann", "q.npy", "-k", K, "--nprobe", 16, "--ground-truth", "truth.npy")
    assert code == 0 and f"recall@{K}: 1\n" in out


def test_seed_and_description_reach_the_index(folder, capsys):
    build(capsys, "--seed", 7)
    assert facts(capsys, "info", "x.scann")["seed"] == 7
    facts(capsys, "build", "x.npy", "-o", "y.scann")
    assert facts(capsys, "info", "y.scann")["with_raw_data"] is True


def test_metrics(folder, capsys):
    cosines = (Q / np.linalg.norm(Q, axis=1, keepdims=True)) @ (X / np.linalg.norm(X, axis=1, keepdims=True)).T
    for metric, best in (("cosine", cosines), ("ip", Q @ X.T), ("l2", -SQUARES)):
        np.save("best.npy", np.argsort(-best, axis=1)[:, :K])
        facts(capsys, "build", "x.npy", "-o", "m.scann", "--metric", metric, "--description", "IVF4,ScaNN,RFlat")
        assert facts(capsys, "info", "m.scann")["metric"] == metric
        found = facts(capsys, "search", "m.scann", "q.npy", "-k", K, "--nprobe", 4, "--ground-truth", "best.npy")
        assert found[f"recall@{K}"] > 0.98


def test_normalized_descriptions():
    for given, wanted in (
        ("ScaNN", "ScaNN(normalize=1)"),
        ("IVF4,ScaNN10x4,RFlat", "IVF4,ScaNN10x4(normalize=1),RFlat"),
        ("IVF4,ScaNN10x4(eta=2),SQ8", "IVF4,ScaNN10x4(normalize=1,eta=2),SQ8"),
        ("ScaNN(normalize=1)", "ScaNN(normalize=1)"),
        ("Flat", "Flat"),
    ):
        assert normalized(given) == wanted


@pytest.mark.parametrize("name", ["found.npy", "found.ivecs", "found.json", "found.hdf5", "found.h5"])
def test_results(folder, capsys, name):
    if name.endswith("5"):
        h5py = pytest.importorskip("h5py")
    build(capsys)
    assert facts(capsys, "search", "x.scann", "q.npy", "-k", K, "-o", name)["output"] == name
    D, I = fx.read_index("x.scann").search(Q, K)
    if name.endswith("npy"):
        found = np.load(name)
    elif name.endswith("ivecs"):
        found = np.fromfile(name, "<i4").reshape(-1, K + 1)[:, 1:]
    elif name.endswith("json"):
        rows = json.loads(pathlib.Path(name).read_text())
        found = [row["ids"] for row in rows]
        np.testing.assert_allclose([row["distances"] for row in rows], D, rtol=1e-6)
    else:
        with h5py.File(name) as file:
            found = file["neighbors"][()]
            np.testing.assert_array_equal(file["distances"][()], D)
    np.testing.assert_array_equal(found, I)


def test_results_that_are_printed(folder, capsys):
    build(capsys)
    D, I = fx.read_index("x.scann").search(Q, 2)
    code, out, _ = run(capsys, "search", "x.scann", "q.npy", "-k", 2)
    assert code == 0
    lines = [[place.split(":") for place in line.split()] for line in out.splitlines()]
    np.testing.assert_array_equal([[int(id) for id, _ in line] for line in lines], I)
    np.testing.assert_allclose([[float(near) for _, near in line] for line in lines], D, rtol=1e-6)
    assert [row["ids"] for row in facts(capsys, "search", "x.scann", "q.npy", "-k", 2)["results"]] == I.tolist()


def test_places_where_nothing_was_found(folder, capsys):
    np.save("few.npy", X[:20])
    facts(capsys, "build", "few.npy", "-o", "few.scann", "--description", "IVF5,ScaNN,RFlat")
    rows = facts(capsys, "search", "few.scann", "q.npy", "-k", 15, "--nprobe", 1)["results"]
    assert all(len(row["ids"]) == len(row["distances"]) < 15 and -1 not in row["ids"] for row in rows)


def test_ann_benchmarks_file(folder, capsys):
    h5py = pytest.importorskip("h5py")
    cosines = (Q / np.linalg.norm(Q, axis=1, keepdims=True)) @ (X / np.linalg.norm(X, axis=1, keepdims=True)).T
    with h5py.File("set.hdf5", "w") as file:
        file.attrs["distance"] = "angular"
        file["train"], file["test"], file["neighbors"] = X, Q, np.argsort(-cosines, axis=1)[:, :10]
    built = facts(capsys, "build", "set.hdf5", "-o", "s.scann", "--description", "IVF16,ScaNN,RFlat")
    assert built["metric"] == "cosine"
    found = facts(capsys, "search", "s.scann", "set.hdf5", "-k", K, "--nprobe", 16, "--ground-truth", "set.hdf5")
    assert found[f"recall@{K}"] > 0.98


def test_vectordbbench_files_keep_their_ids(folder, capsys):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"id": np.arange(1500) + 100, "emb": pa.array(list(X))}), "train.parquet")
    parquet.write_table(pa.table({"id": np.arange(40), "emb": pa.array(list(Q))}), "test.parquet")
    near = pa.table({"id": np.arange(40), "neighbors_id": pa.array(list(TRUTH.astype(np.int64) + 100))})
    parquet.write_table(near, "neighbors.parquet")
    facts(capsys, "build", "train.parquet", "-o", "t.scann", "--description", "IVF16,ScaNN,RFlat")
    words = ["t.scann", "test.parquet", "-k", K, "--nprobe", 16, "--ground-truth", "neighbors.parquet"]
    assert facts(capsys, "search", *words)[f"recall@{K}"] > 0.98


def test_info(folder, capsys):
    build(capsys)
    shown = json.loads(run(capsys, "info", "x.scann")[1])
    assert (shown["rows"], shown["dimensions"], shown["nlist"], shown["metric"]) == (1500, 8, 16, "l2")
    assert shown["calibration"] is None and shown["notes"] == [] or isinstance(shown["notes"], list)


def test_calibrate_saves_what_it_chose(folder, capsys):
    build(capsys)
    chosen = facts(capsys, "calibrate", "x.scann", "--target-recall", "0.9", "-k", K)
    assert chosen["target_recall"] == 0.9 and chosen["k"] == K and chosen["recall"] >= 0.9
    shown = facts(capsys, "info", "x.scann")
    assert shown["calibration"]["nprobe"] == chosen["nprobe"]
    facts(capsys, "calibrate", "x.scann", "--queries", "q.npy", "-o", "other.scann", "--target-recall", "0.5")
    assert facts(capsys, "info", "x.scann")["calibration"] == shown["calibration"]
    assert facts(capsys, "info", "other.scann")["calibration"]["target_recall"] == 0.5


def test_a_failed_calibration_leaves_the_file(folder, capsys):
    build(capsys)
    before = pathlib.Path("x.scann").read_bytes()
    code, _, err = run(capsys, "calibrate", "x.scann", "-k", 5000)
    assert code == 1 and "5000" in err and pathlib.Path("x.scann").read_bytes() == before


def test_export_and_back(folder, capsys):
    faiss = pytest.importorskip("faiss")
    build(capsys)
    facts(capsys, "export", "x.scann", "plain.faiss")
    assert faiss.read_index("plain.faiss").ntotal == 1500
    back = facts(capsys, "convert", "plain.faiss", "back.scann")
    assert (back["rows"], back["nlist"]) == (1500, 16)
    code, _, err = run(capsys, "info", "plain.faiss")
    assert code == 1 and "index file of Faiss" in err and "convert" in err
    code, _, err = run(capsys, "convert", "plain.faiss", "b.scann", "--description", "IVF3,ScaNN")
    assert code == 1 and "allowed: IVF16" in err and not pathlib.Path("b.scann").exists()


def test_convert_vectors(folder, capsys):
    for name in ("a.fvecs", "b.fbin", "c.hbin", "d.npy"):
        assert facts(capsys, "convert", "x.npy", name)["rows"] == 1500
    np.testing.assert_array_equal(np.fromfile("a.fvecs", "<f4").reshape(-1, 9)[:, 1:], X)
    code, _, err = run(capsys, "convert", "x.npy", "e.u8bin")
    assert code == 1 and "integers of 0..255" in err and not pathlib.Path("e.u8bin").exists()


WRONG = [
    ([], 2, "COMMAND"),
    (["frobnicate"], 2, "build"),
    (["build"], 2, "required: rows"),
    (["build", "x.npy"], 2, "--output"),
    (["build", "x.npy", "-o", "no/such/a.scann"], 2, "no/such: no such folder"),
    (["build", "x.npy", "-o", "."], 2, "not a regular file"),
    (["build", "x.npy", "-o", "x.npy"], 2, "would be overwritten"),
    (["build", "x.npy", "-o", "a", "--metric", "hamming"], 2, "cosine"),
    (["build", "x.npy", "-o", "a", "--description", "IVF4,Flat"], 2, "no ScaNN"),
    (["build", "x.npy", "-o", "a", "--description", "IVF4,ScaNN(eta=0)x"], 2, "allowed"),
    (["build", "x.npy", "-o", "a", "--seed", "-1"], 2, "2^64-1"),
    (["build", "x.npy", "-o", "a", "--threads", "0"], 2, "'0' (allowed: 1..2147483647)"),
    (["build", "missing.npy", "-o", "a"], 1, "missing.npy: no such file"),
    (["build", "x.txt", "-o", "a"], 2, "unknown format '.txt' (known: .npy"),
    (["build", "nan.npy", "-o", "a"], 1, "must be finite"),
    (["search", "x.scann", "q.npy", "-k", "0"], 2, "allowed"),
    (["search", "x.scann", "q.npy", "-o", "a.csv"], 2, ".ivecs"),
    (["search", "x.scann", "wide.npy"], 1, "9 dimensions (the index has 8)"),
    (["search", "x.scann", "q.npy", "-k", "10", "--reorder-k", "5"], 2, "reorder_k"),
    (["search", "x.scann", "q.npy", "-k", "30", "--ground-truth", "truth.npy"], 1, "20 neighbours"),
    (["search", "x.scann", "x.npy", "--ground-truth", "truth.npy"], 1, "40 rows, there are 1500 queries"),
    (["search", "missing", "q.npy"], 1, "missing: no such file"),
    (["info", "x.npy"], 1, "x.npy: cannot read the index"),
    (["info", "."], 1, "."),
    (["calibrate", "x.scann", "--target-recall", "1.5"], 2, "above 0, below 1"),
    (["convert", "x.npy", "a.fvecs", "--description", "ScaNN"], 2, "holds vectors"),
    (["convert", "x.npy", "a.csv"], 2, "unknown format '.csv'"),
    (["convert", "x.npy", "a.npy", "--column", "emb"], 2, "a column is named"),
]


@pytest.fixture(scope="module")
def built_once(tmp_path_factory):
    path = tmp_path_factory.mktemp("built")
    np.save(path / "x.npy", X)
    np.save(path / "q.npy", Q)
    np.save(path / "truth.npy", TRUTH)
    np.save(path / "wide.npy", np.ones((2, 9), np.float32))
    np.save(path / "nan.npy", np.where(X > 4, np.nan, X))
    index = fx.index_factory(8, "IVF16,ScaNN,RFlat")
    index.train(X)
    index.add(X)
    fx.write_index(index, path / "x.scann")
    return path


@pytest.mark.parametrize("words, code, message", WRONG, ids=[" ".join(case[0]) or "nothing" for case in WRONG])
def test_wrong(built_once, monkeypatch, capsys, words, code, message):
    monkeypatch.chdir(built_once)
    before = sorted(os.listdir())
    found, out, err = run(capsys, *words)
    assert found == code and out == "" and message in err, err
    assert err.count("\n") == 1 and "Traceback" not in err and sorted(os.listdir()) == before


def test_packages_that_are_missing(built_once, monkeypatch, capsys):
    monkeypatch.chdir(built_once)
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name, package in (("a.hdf5", "h5py"), ("a.parquet", "pyarrow")):
        pathlib.Path(name).write_bytes(b"")
        code, _, err = run(capsys, "build", name, "-o", "a.scann")
        assert code == 1 and f"pip install {package}" in err
        pathlib.Path(name).unlink()


def program(*words, **more):
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "faiss_ext", *words], env=environment, stderr=subprocess.PIPE, text=True, **more
    )


def test_ctrl_c_leaves_no_half_file(tmp_path):
    rows = np.random.default_rng(1).normal(size=(60000, 32)).astype(np.float32)
    np.save(tmp_path / "x.npy", rows)
    running = program("build", "x.npy", "-o", "x.scann", cwd=tmp_path, stdout=subprocess.DEVNULL)
    maps = pathlib.Path(f"/proc/{running.pid}/maps")
    for _ in range(600):  # until the rows are read
        if running.poll() is not None or "x.npy" in maps.read_text():
            break
        time.sleep(0.1)
    time.sleep(0.3)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130 and err == "faiss_ext: error: interrupted\n"
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_a_closed_pipe_is_quiet(built_once):
    running = program("search", "x.scann", "x.npy", "-k", "50", cwd=built_once, stdout=subprocess.PIPE)
    assert running.stdout.readline()
    running.stdout.close()
    assert running.stderr.read() == ""
    assert running.wait(timeout=60) == 1


def test_progress_on_a_terminal(built_once, monkeypatch, capsys):
    monkeypatch.chdir(built_once)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    code, out, err = run(capsys, "build", "x.npy", "-o", "bar.scann", "--json")
    assert code == 0 and json.loads(out) and "100 %" in err and "add" in err
    pathlib.Path("bar.scann").unlink()


def test_build_within_memory(folder, capsys):
    build(capsys, "--seed", 7)
    wanted = (folder / "x.scann").read_bytes()
    built = build(capsys, "--seed", 7, "--memory", "200MB")
    assert built["rows"] == 1500 and built["description"] == "IVF16,ScaNN(seed=7),RFlat" and built["nlist"] == 16
    assert (folder / "x.scann").read_bytes() == wanted
    assert built["file_bytes"] == len(wanted) and not (folder / "x.scann.build").exists()
    cosine = facts(capsys, "build", "x.npy", "-o", "y.scann", "--metric", "cosine", "--memory", "200MB")
    assert cosine["description"] == "ScaNN(normalize=1)" and cosine["metric"] == "cosine"
    for memory, message in (("1MB", "memory = 1000000 bytes (allowed: >= "), ("x", "memory = 'x'")):
        code, out, err = run(capsys, "build", "x.npy", "-o", "z.scann", "--memory", memory)
        assert code == 1 and out == "" and message in err and err.count("\n") == 1
    code, _, err = run(capsys, "build", "x.parquet", "-o", "z.scann", "--memory", "1GB")
    assert code == 2 and "Parquet" in err
    assert not (folder / "z.scann.build").exists()
