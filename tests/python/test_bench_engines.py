"""Adapters of bench/engines: every library that is installed here builds, answers with the right ids, says its size."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from reference import normal  # noqa: E402

from bench import worker  # noqa: E402
from bench.engines import ENGINES, base, glass, lance, python_for, rabitq, vsag, zvec  # noqa: E402
from bench.folders import Unavailable  # noqa: E402

ROWS, QUERIES, D, K = 1400, 60, 64, 10
# codes of 2 and 4 bits at the least; Glass refines no more than 1.5 k candidates
FLOORS = {"turbovec": 0.55, "rabitq-ivf": 0.78, "glass": 0.35}
FLOOR = 0.93


def write_set(folder, name, as_bytes):
    """Rows without clusters: no graph falls apart."""
    rows = normal(ROWS + QUERIES, D, seed=5)
    for part, some in (("base", rows[:ROWS]), ("query", rows[ROWS:])):
        if as_bytes:
            some = np.clip(some * 30 + 128, 0, 255).astype(np.uint8)
            head = np.array(some.shape, dtype="<u4").tobytes()
            (folder / f"{name}.{part}.u8bin").write_bytes(head + some.tobytes())
        else:
            np.save(folder / f"{name}.{part}.npy", some)


def installed(engine):
    """Skips where the library is not here."""
    module = ENGINES[engine].module.partition(".")[0]
    if python_for(engine) == sys.executable and importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


@pytest.mark.parametrize("name", ["words-64", "glove-64", "sift-64"])  # inner product, cosine, L2 of bytes
@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "ours"])
def test_every_build_of_a_peer_finds_the_neighbours(engine, name, tmp_path):
    installed(engine)
    if engine == "turbovec" and name == "sift-64":
        pytest.skip("turbovec has inner products only")
    write_set(tmp_path, name, as_bytes=name == "sift-64")
    task = worker.Task(str(tmp_path), name, str(tmp_path / "out"), threads=2, k=K)
    for params in ENGINES[engine].builds(ROWS, D, "l2" if name == "sift-64" else "ip"):
        with open(tmp_path / "log", "a") as log, worker.Worker(engine, params, 2, log, python_for(engine)) as asked:
            built = asked.build(task, 120)
            facts = built.facts
            assert (facts.n, facts.d) == (ROWS, D) and facts.version and facts.memory_kind
            assert facts.memory_bytes > ROWS * D / 8, params
            for mode in ("single", "batch"):
                got = asked.measure(worker.Request(built.settings[-1], mode, "all", K))
                assert got.recall > FLOORS.get(engine, FLOOR), (params, built.settings[-1], mode)
                assert got.timed == QUERIES


def test_what_turbovec_cannot_do_is_said(tmp_path):
    installed("turbovec")
    write_set(tmp_path, "sift-64", as_bytes=True)
    np.save(tmp_path / "words.base.npy", normal(50, 12))
    np.save(tmp_path / "words.query.npy", normal(5, 12))
    for name, said in (("sift-64", "inner products only"), ("words", "12 dimensions .allowed: multiples of 8")):
        task = worker.Task(str(tmp_path), name, str(tmp_path / "out"), threads=1, k=K)
        with open(tmp_path / "log", "a") as log, worker.Worker("turbovec", {"bit_width": 4}, 1, log) as asked:
            with pytest.raises(worker.Failed, match=said):
                asked.build(task, 60)


def test_a_worker_leaves_no_files(tmp_path):
    with open(tmp_path / "log", "w") as log:
        asked = worker.Worker("ours", {}, 1, log)
        folder = pathlib.Path(asked.files.name)
        (folder / "index").mkdir()
        (folder / "index" / "rows").write_text("x")
        asked.close()
        asked.close()
    assert not folder.exists()


# ------------------------------------------------------- without the libraries


def bare(kind, **fields):
    """An engine that has not loaded its library."""
    engine = kind.__new__(kind)
    for name, value in fields.items():
        setattr(engine, name, value)
    return engine


def test_rows_of_length_one():
    rows = normal(3000, 8)
    assert not base.of_length_one(rows)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert base.of_length_one(rows)
    rows[2000] *= 2  # one of many is not looked at; all of a part are
    rows[:500] *= 2
    assert not base.of_length_one(rows)


def test_one_cpu_for_all_threads():
    """In a process of its own, which it changes."""
    code = (
        "import os, threading; from bench.engines.base import stay_on_one_cpu as stay;"
        "end = threading.Event(); threads = [threading.Thread(target=end.wait) for _ in range(3)];"
        "[t.start() for t in threads]; stay();"
        "print({len(os.sched_getaffinity(int(t))) for t in os.listdir('/proc/self/task')}); end.set()"
    )
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system binds no threads to CPUs")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "{1}", done.stderr


def test_a_library_with_an_environment_of_its_own(monkeypatch, tmp_path):
    kind, python = ENGINES["diskann"], tmp_path / "python"
    monkeypatch.setattr(kind, "python", python)
    assert python_for("diskann") == python_for("ours") == sys.executable
    python.touch()
    assert (python_for("diskann"), python_for("ours")) == (str(python), sys.executable)


def test_pools_of_a_worker_have_its_threads():
    given = worker.environment(3)
    assert {given[name] for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "LANCE_CPU_THREADS")} == {"3"}


def test_ids_that_were_not_found_are_minus_one():
    engine = bare(rabitq.SymphonyQg)
    assert engine.ids((np.array([[3, 0, 2**32 - 1]], np.uint32), None)).tolist() == [[3, 0, -1]]
    engine = bare(vsag.Vsag, count=10)
    assert engine.ids([np.array([3, -(2**60), 10]), np.array([9, 0, 1])]).tolist() == [[3, -1, -1], [9, 0, 1]]

    class Collection:
        def resolve_internal_ids(self, ids):
            return [None if i < 0 else str(100 - i) for i in ids]

    engine = bare(zvec.Zvec, index=Collection())
    assert engine.ids([np.array([0, 4]), np.array([2, -1])]).tolist() == [[100, 96], [98, -1]]
    assert engine.ids(np.array([1, -1])).tolist() == [99, -1]


class Column(list):
    def to_numpy(self):
        return np.array(self)


def test_answers_of_lancedb_are_split_by_query():
    """Row ids have the number of the file in their upper half."""
    engine = bare(lance.LanceDb, rowids=np.array([0, 1, 1 << 32, (1 << 32) + 1]), numbers=np.arange(4))
    found = {"_rowid": Column([1 << 32, 0, 1]), "query_index": Column([0, 0, 2])}
    assert engine.ids(found).tolist() == [2, 0, 1]
    assert [ids.tolist() for ids in engine.ids((3, found))] == [[2, 0], [], [1]]
    assert [lance.sub_vectors(d) for d in (128, 50)] == [16, 1]


def test_another_glass_is_not_taken_for_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "glass", types.ModuleType("glass"))
    with pytest.raises(Unavailable, match="this glass is not that of zilliztech/pyglass"):
        glass.Glass({})


def test_every_code_of_glass_has_a_width():
    for build in glass.Glass.builds(1000, 8, "l2"):
        assert {build["search_quant"], build["refine_quant"]} <= set(glass.BITS)


def test_faiss_is_asked_for_no_more_lists_than_there_are():
    for name in ("faiss-pq", "faiss-ivfflat"):
        engine = bare(ENGINES[name], params=ENGINES[name].builds(1000, 64, "ip")[0])
        assert max(setting["nprobe"] for setting in engine.settings(10)) == 128


def test_builds_that_a_peer_would_refuse_are_not_tried():
    assert not any("nlist" in build for build in ENGINES["zvec"].builds(1000, 50, "ip"))
    for metric, codes in (("l2", "UNIFORM_UINT8"), ("ip", "INT8")):
        builds = ENGINES["zvec"].builds(1000, 64, metric)
        assert codes in json.dumps(builds) and any("nlist" in build for build in builds)
