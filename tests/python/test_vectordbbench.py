"""bench/vectordbbench: how a run is judged, and a small real run of each kind.

The real runs need PyPI's vectordb-bench in environments that bench/vectordbbench
makes, and a wheel in build/dist; without them they are skipped, with the reason.
"""

import json
import os
import pathlib
import re
import signal
import stat
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench"
sys.path.insert(0, str(ROOT))

from bench import datasets, ground_truth  # noqa: E402
from bench.vdbbench import dataset, rows, runs  # noqa: E402

CLIENT_PYTHON = ROOT / "build" / "venv-vectordbbench2" / "bin" / "python"
SMOKE_SECONDS = 1500  # the first run installs packages


def task(**changes):
    given = {
        "label": "t",
        "client": "faiss_ext",
        "index": "SCANN",
        "build": {"nlist": 16},
        "search": {"nprobe": 4},
        "db": {"path": "p"},
        "data": {"name": "n", "dir": "d", "size": 10, "dim": 2, "metric_type": "IP"},
        "k": 10,
        "clients": [1, 4],
        "seconds": 1,
        "load": True,
    }
    return runs.Task(**{**given, **changes})


def result(label=":)", **changes):
    metrics = {
        "recall": 0.9,
        "serial_latency_p99": 0.002,
        "conc_num_list": [1, 4],
        "conc_qps_list": [100.0, 300.0],
        "conc_latency_p99_list": [0.004, 0.008],
        "insert_duration": 3.0,
        "optimize_duration": 5.0,
    }
    return {"results": [{"label": label, "metrics": {**metrics, **changes}}]}


# ------------------------------------------------------------------- judging


def test_a_good_result():
    outcome = runs.judged(result(), task())
    assert (outcome.recall, outcome.qps, outcome.p99_ms) == (0.9, [100.0, 300.0], 4.0)
    assert (outcome.insert_seconds, outcome.build_seconds) == (3.0, 5.0)


LOG = "x: Failed to run performance case, reason = nprobe = 0\nINFO: Success to finish task\n"
BAD = [
    (result(label="x"), "", r"case failed \(label 'x'\)$"),
    (result(label="x"), LOG, r"case failed \(label 'x'\) \(nprobe = 0\)"),
    (result(label="?"), "", r"ran into its time limit \(label '\?'\)"),
    (result(label="!"), "", r"unknown label \(label '!'\)"),
    (result(conc_num_list=[1]), "", r"clients \[1\] were measured, \[1, 4\] asked for"),
    (result(conc_qps_list=[100.0, 0.0]), "", "nothing was measured for QPS of 4"),
    (result(recall=0.0), "", "nothing was measured for recall"),
    (result(recall=1.5), "", "recall 1.5 above 1"),
    (result(conc_latency_p99_list=[]), "", "nothing was measured for p99"),
    (result(optimize_duration=0.0), "", "nothing was measured for optimize_duration"),
    (result(), "WARNING VectorDB search_embedding error: no such list\n" * 3, "3 queries failed.*no such list"),
    ({"results": []}, "", "0 cases in the result file"),
    ({"results": result()["results"] * 2}, "", "2 cases in the result file"),
]


@pytest.mark.parametrize("found, log, message", BAD, ids=[m for _, _, m in BAD])
def test_what_vectordbbench_calls_a_success_may_be_none(found, log, message):
    with pytest.raises(runs.Failed, match=message):
        runs.judged(found, task(), log)


def test_a_search_without_loading_has_no_build_time():
    assert runs.judged(result(optimize_duration=0.0), task(load=False)).build_seconds == 0


def interpreter(tmp_path, body):
    """A program in the place of VectorDBBench's Python."""
    path = tmp_path / "python"
    path.write_text(f"#!{sys.executable}\nimport json, os, subprocess, sys, time\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_run_writes_its_task_and_reads_the_result(tmp_path):
    body = f"""
task = json.load(open(sys.argv[3]))
assert sys.argv[1:3] == ["-m", "bench.vdbbench.task"] and task["stages"][:2] == ["drop_old", "load"]
folder = os.path.join(os.environ["RESULTS_LOCAL_DIR"], "ScannFaiss")
os.makedirs(folder)
json.dump({result()!r}, open(os.path.join(folder, "result_1_t.json"), "w"))
"""
    outcome = runs.run(interpreter(tmp_path, body), task(), tmp_path / "run", timeout=60)
    assert outcome.recall == 0.9 and outcome.files["result"].endswith("ScannFaiss/result_1_t.json")
    with pytest.raises(runs.Failed, match="exit code 1.*FileExistsError"):  # and the old result does not count
        runs.run(interpreter(tmp_path, body), task(), tmp_path / "run", timeout=60)


def test_a_run_that_hangs_is_ended_with_its_children(tmp_path):
    body = """
child = subprocess.Popen(["sleep", "300"])
print(f"child {child.pid}\\nwaiting for a dead process", flush=True)
time.sleep(300)
"""
    start = time.monotonic()
    with pytest.raises(
        runs.Failed, match=r"no end within 2 s \(waiting for a dead process\); log: .*vectordbbench.log"
    ):
        runs.run(interpreter(tmp_path, body), task(), tmp_path / "run", timeout=2)
    assert time.monotonic() - start < 30
    child = re.search(r"child (\d+)", (tmp_path / "run" / "vectordbbench.log").read_text())[1]
    status = pathlib.Path(f"/proc/{child}/status")
    deadline = time.monotonic() + 20
    while status.exists() and "zombie" not in status.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not status.exists() or "zombie" in status.read_text()


def test_a_run_that_dies_is_named(tmp_path):
    with pytest.raises(runs.Failed, match=r"exit code 3 \(no such module\)"):
        runs.run(interpreter(tmp_path, "print('no such module'); sys.exit(3)"), task(), tmp_path / "a", timeout=60)
    silent = interpreter(tmp_path, "print('task running failed: A process was terminated abruptly')")
    with pytest.raises(runs.Failed, match=r"0 result files \(.*terminated abruptly\)"):
        runs.run(silent, task(), tmp_path / "b", timeout=60)


# ------------------------------------------------------- rows and data sets


@pytest.mark.parametrize("n, d", [(100, 50), (2000, 50), (117648, 384), (389000, 127)])
@pytest.mark.parametrize("where", ["client", "server"])
@pytest.mark.parametrize("k", [1, 10, 100])
def test_rows_have_parameters_that_hosts_take(where, n, d, k):
    for row in rows.rows(where, n, d, k):
        nlist = row.build.get("nlist", 1)
        assert 1 <= nlist <= max(1, n // 39) and d % row.build.get("m", 1) == 0
        for setting in row.settings:
            assert 1 <= setting.get("nprobe", 1) <= nlist
            assert setting.get("reorder_k", k) >= k and setting.get("ef", k) >= k
    names = [row.name for row in rows.rows(where, n, d, k)]
    assert len(set(names)) == len(names)


def test_a_data_set_becomes_parquet_files(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="PyPI pyarrow is not installed")
    x = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)
    data = datasets.Dataset("small", x, x[:20] + 0.01, "l2")
    truth, _ = ground_truth.exact_neighbours(data.base, data.query, "l2", 30)
    facts = dataset.write(tmp_path, data, truth, [0.5, 0.995])
    assert (facts["size"], facts["dim"], facts["metric_type"]) == (500, 8, "L2")

    def column(file, name):
        return np.array(pq.read_table(tmp_path / f"{file}.parquet").column(name).to_pylist())

    np.testing.assert_array_equal(column("train", "emb"), x)
    np.testing.assert_array_equal(column("train", "id"), np.arange(500))
    np.testing.assert_array_equal(column("test", "emb"), data.query)
    np.testing.assert_array_equal(column("neighbors", "neighbors_id"), truth)
    half = column("neighbors_int_50p", "neighbors_id")
    assert half.min() >= 250 and half.shape == (20, 100)
    assert column("neighbors_int_99.5p", "neighbors_id").shape == (20, 3)
    assert (
        np.sort(half[:5, :10])
        == np.sort([t[t >= 250][:10] for t in ground_truth.exact_neighbours(x, data.query[:5], "l2", 500)[0]])
    ).all()

    written = (tmp_path / "train.parquet").stat().st_mtime_ns
    assert dataset.write(tmp_path, data, truth, [0.5, 0.995]) == facts
    assert (tmp_path / "train.parquet").stat().st_mtime_ns == written  # not again
    dataset.write(tmp_path, datasets.Dataset("small", x + 1, data.query, "l2"), truth, [0.5])
    assert (tmp_path / "train.parquet").stat().st_mtime_ns != written


# ------------------------------------------------------------- the real thing


def smoke(only, out):
    wheels = sorted((ROOT / "build" / "dist").glob("*.whl"))
    if not wheels:
        pytest.skip("no wheel in build/dist: tests/run makes it")
    command = [str(BENCH / "vectordbbench"), "--smoke", "--only", only, "--wheel", str(wheels[-1])]
    done = subprocess.run(
        [*command, "--out", str(out), "--cache", str(out)], capture_output=True, text=True, timeout=SMOKE_SECONDS
    )
    if done.returncode == 77:
        pytest.skip((done.stderr.strip() or done.stdout.strip()).splitlines()[-1])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    stem = out / "vectordbbench-glove-50-frequent-smoke"
    return stem, [json.loads(line) for line in stem.with_suffix(".jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def client_smoke(tmp_path_factory):
    return smoke("client", tmp_path_factory.mktemp("client"))


def test_smoke_in_process(client_smoke):
    stem, points = client_smoke
    assert {(p["engine"], p["removed"]) for p in points} == {(e, r) for e in ("ours", "IVF_FLAT") for r in (0.0, 0.5)}
    for point in points:
        assert point["clients"] == [2] and len(point["qps_of_clients"]) == 1 and point["qps_of_clients"][0] > 0
        assert point["memory_bytes"] > 2000 * 50 and point["rows"] == 2000
        stored = json.loads(pathlib.Path(point["files"]["result"]).read_text())
        assert stored["results"][0]["label"] == ":)"
        assert stored["results"][0]["task_config"]["db"] == "ScannFaiss"
        if point["engine"] == "ours":
            assert point["recall"] == 1.0  # so few rows are served exactly
        assert point["exact_rows"] == (2000 if point["engine"] == "ours" else 0)
    table = stem.with_suffix(".md").read_text()
    assert "all 2,000 rows" in table
    assert "| ours " in table and "filter removes 50 %" in table and "failed" not in table
    assert pathlib.Path(f"{stem}-client-2.png").stat().st_size > 10000


def test_a_case_that_fails_is_found(client_smoke, tmp_path):
    data = json.loads(next(client_smoke[0].parent.glob("runs/*/data/dataset.json")).read_text())
    data = {key: data[key] for key in ("name", "dir", "size", "dim", "metric_type")}
    wrong = task(data=data, db={"path": str(tmp_path)}, search={"nprobe": 0}, clients=[1])
    with pytest.raises(runs.Failed, match=r'nprobe = "0" \(allowed: an integer in 1\.\.65536\)'):
        runs.run(CLIENT_PYTHON, wrong, tmp_path / "run", timeout=300)


def processes(pattern):
    """Process ids by command line."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if pattern in path.read_bytes().replace(b"\0", b" ").decode(errors="replace"):
                found.append(int(path.parent.name))
        except OSError:
            pass  # it has ended
    return found


def test_a_dead_process_of_vectordbbench_is_found(client_smoke, tmp_path):
    """Its own command line waits for ever then; with Python 3.13 its pool of processes sometimes, too."""
    limit = 100
    data = json.loads(next(client_smoke[0].parent.glob("runs/*/data/dataset.json")).read_text())
    data = {key: data[key] for key in ("name", "dir", "size", "dim", "metric_type")}
    long = task(data=data, db={"path": str(tmp_path / "index")}, clients=[1], seconds=600)
    folder = tmp_path / "run"
    failures = []

    def run():
        try:
            runs.run(CLIENT_PYTHON, long, folder, timeout=limit)
        except runs.Failed as failed:
            failures.append(str(failed))

    thread = threading.Thread(target=run)
    thread.start()
    log = folder / "vectordbbench.log"
    while thread.is_alive() and not (log.exists() and "start concurrency search" in log.read_text(errors="replace")):
        thread.join(0.2)
    [driver] = processes(str(folder / "task.json"))
    children = pathlib.Path(f"/proc/{driver}/task/{driver}/children").read_text().split()
    [worker] = [int(pid) for pid in children if "spawn_main" in pathlib.Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(worker, signal.SIGKILL)
    thread.join(limit + 20)
    assert not thread.is_alive()
    assert re.match(rf"0 result files \(.*terminated abruptly|no end within {limit} s", failures[0]), failures
    assert not processes(str(folder / "task.json")), "none is left"


IN_ENVIRONMENT = """
import pickle, sys
import numpy as np
import bench.vdbbench.register as register
from vectordb_bench.backend.clients import DB
from vectordb_bench.backend.filter import LabelFilter, NewIntFilter, NonFilter
from bench.vdbbench.client import CaseConfig, Client, Config, RowFile

member = DB["ScannFaiss"]
assert register.register() is member and pickle.loads(pickle.dumps(member)) is member
assert (member.init_cls, member.config_cls, member.case_config_cls()) == (Client, Config, CaseConfig)
assert DB.Milvus.init_cls.__name__ == "Milvus" and pickle.loads(pickle.dumps(DB.Milvus)) is DB.Milvus

x = np.random.default_rng(0).standard_normal((3000, 16)).astype(np.float32)
ids = np.random.default_rng(1).permutation(3000) + 7000
labels = np.where(np.arange(3000) % 2 == 0, "label_50p", "other")

def client(index="SCANN", drop_old=False):
    parameters = {"SCANN": {"nprobe": 32}, "HNSW": {"ef": 200}, "FASTSCAN": {"nprobe": 32, "reorder_k": 200}}
    build = {"HNSW": {"M": 16, "efConstruction": 100}}.get(index, {"nlist": 32})
    case = CaseConfig(index=index, build=build, search=parameters[index], metric_type="L2")
    return pickle.loads(pickle.dumps(Client(16, {"path": sys.argv[1]}, case, drop_old=drop_old)))

for index in ("SCANN", "HNSW", "FASTSCAN"):
    writer = client(index, drop_old=True)
    with writer.init():
        for part in np.array_split(np.arange(3000), 7):
            done = writer.insert_embeddings(x[part].tolist(), ids[part].tolist(), labels[part].tolist())
            assert done == (len(part), None), done
        try:
            writer.search_embedding(x[0].tolist(), 5)
            raise SystemExit("searched without an index")
        except RuntimeError as error:
            assert "optimize builds it" in str(error)
    with client(index).init():
        client(index).optimize(3000)
    for filters, allowed in (
        (NonFilter(), np.ones(3000, dtype=bool)),
        (NewIntFilter(filter_rate=0.9, int_value=9700), ids >= 9700),
        (LabelFilter(label_percentage=0.5), labels == "label_50p"),
    ):
        reader = client(index)
        reader.prepare_filter(filters)
        hits = 0
        with reader.init():
            reader.prepare_filter(filters)
            for q in range(100):
                found = reader.search_embedding(x[q].tolist(), 10)
                assert len(set(found)) == 10 and all(type(i) is int for i in found)
                distance = np.where(allowed, ((x - x[q]) ** 2).sum(1), np.inf)
                hits += len(set(found) & set(ids[np.argsort(distance)[:10]].tolist()))
                assert set(found) <= set(ids[allowed].tolist())
        assert hits > 930, (index, filters, hits)

broken = client(drop_old=True)
try:
    with broken.init():
        broken.insert_embeddings(x[:5].tolist(), [1, 2, 3, 4, 5])
        raise KeyError("the process dies")
except KeyError:
    pass
try:
    RowFile.read_all(broken.folder, 16)
    raise SystemExit("read what is not whole")
except RuntimeError as error:
    assert "is not whole" in str(error)
print("fine")
"""


def test_registration_and_client(client_smoke, tmp_path):
    done = subprocess.run(
        [str(CLIENT_PYTHON), "-c", IN_ENVIRONMENT, str(tmp_path)],
        env={"PYTHONPATH": str(ROOT), "LOG_FILE": str(tmp_path / "log"), "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.strip() == "fine", done.stderr[-3000:]


def test_the_command_line(client_smoke, tmp_path):
    data = json.loads(next(client_smoke[0].parent.glob("runs/*/data/dataset.json")).read_text())
    command = [str(CLIENT_PYTHON), "-m", "bench.vdbbench", "scannfaiss", "--path", str(tmp_path / "index")]
    command += ["--nlist", "32", "--nprobe", "8", "--reorder-k", "50", "--k", "10"]
    command += ["--case-type", "PerformanceCustomDataset"]
    command += ["--num-concurrency", "1", "--concurrency-duration", "1", "--custom-dataset-with-gt"]
    for key in ("name", "dir", "size", "dim"):
        command += [f"--custom-dataset-{key}", str(data[key])]
    command += ["--custom-dataset-metric-type", data["metric_type"], "--custom-dataset-file-count", "1"]
    command += ["--custom-case-name", "words", "--task-label", "words", "--db-label", "ours"]
    environment = {"PYTHONPATH": str(ROOT), "LOG_FILE": str(tmp_path / "log"), "HOME": str(tmp_path)}
    environment["RESULTS_LOCAL_DIR"] = str(tmp_path / "results")
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    [path] = (tmp_path / "results").glob("ScannFaiss/result_*_words_scannfaiss.json")
    read_back = (
        "import sys, pathlib, bench.vdbbench.register; from vectordb_bench.models import TestResult;"
        "r = TestResult.read_file(pathlib.Path(sys.argv[1])).results[0]; print(r.label.value, r.metrics.recall)"
    )
    done = subprocess.run(
        [str(CLIENT_PYTHON), "-c", read_back, str(path)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == [":)", "1.0"], done.stderr[-2000:]


def test_smoke_in_the_server(tmp_path):
    _, points = smoke("server", tmp_path)
    libraries = {point["engine"]: point["library"] for point in points}
    assert libraries["ours"].startswith("libknowhere_scann.so, ")
    assert int(libraries["ours"].split()[1]) > 100
    assert libraries["SCANN"] == "libknowhere.so of the server"
    assert {p["removed"] for p in points} == {0.0, 0.5}
    for point in points:
        assert point["recall"] > 0.5 and min(point["qps_of_clients"]) > 0, point
        # 2,000 rows are less than what the server's own memory moves by: then the index counts
        assert point["memory_bytes"] > 2000 * 50 / 2, point
        assert point["memory_kind"] in ("RSS by load", "indexes as loaded"), point
        assert point["exact_rows"] == (2000 if point["engine"] == "ours" else 0), point
