"""The logic of bench/: sweeps, the command line, whole commands, workers."""

import dataclasses
import importlib
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from reference import clustered  # noqa: E402
from test_bench_results import FACTS, RUN  # noqa: E402

from bench import cli, datasets, options, points, worker  # noqa: E402
from bench.commands import calibration, codes, curves, growth, stages, threshold  # noqa: E402
from bench.engines import ENGINES  # noqa: E402
from bench.engines.base import usual_nlist, width_settings  # noqa: E402

# --------------------------------------------------------------------- sweeps


def test_a_sweep_leaves_out_what_can_only_cost_more():
    """Recall by (nprobe, reorder_k); what stands still, and what follows a perfect group, is not measured."""
    recalls = {
        (1, 10): 0.5,
        (1, 20): 0.6,
        (1, 40): 0.6,
        (1, 80): 0.9,
        (2, 10): 0.7,
        (2, 20): 0.9985,
        (4, 10): 0.9,
        (8, 10): 1.0,
    }
    pruning, measured = curves.Pruning(), []
    for (nprobe, reorder_k), recall in recalls.items():
        if pruning.wants({"nprobe": nprobe, "reorder_k": reorder_k}):
            measured.append((nprobe, reorder_k))
            pruning.saw(recall)
    assert measured == [(1, 10), (1, 20), (1, 40), (2, 10), (2, 20)]
    assert pruning.wants({"nprobe": 1, "reorder_k": 10})  # another sweep begins


class ScriptedWorker:
    """In the place of worker.Worker: recall rises with nprobe, speed falls; one setting crashes the process."""

    def __init__(self, crash_at=None):
        self.crash_at, self.asked, self.closed = crash_at, [], False

    def measure(self, request, timeout):
        self.asked.append(request)
        nprobe = request.setting["nprobe"]
        if nprobe == self.crash_at:
            raise worker.Failed("worker ended with SIGSEGV")
        return points.Measurement(1000 / nprobe, 900 / nprobe, min(1.0, 0.7 + nprobe / 40), 1.0, 10)

    def close(self):
        self.closed = True


def scripted(engine="ours", crash_at=None, **changes):
    chosen = curves.Options(mode=("batch",), **changes)
    build = curves.Build(engine, {"factory": engine}, chosen, ScriptedWorker(crash_at), FACTS)
    build.settings = [{"nprobe": n} for n in (1, 2, 4, 8, 16, 32)]
    return build


def test_candidates_are_the_front_of_the_coarse_sweep():
    build = scripted(points=3, coarse=50, clock="cpu")
    coarse = curves.sweep(build, build.options)
    assert [p.setting["nprobe"] for p in coarse] == [1, 2, 4, 8, 16]  # 16 finds everything
    assert coarse[0].qps == 900 and {r.half for r in build.worker.asked} == {"tune"}
    assert {r.limit for r in build.worker.asked} == {50}
    chosen = curves.candidates([build], coarse, build.options)
    assert len(chosen) == 3 and chosen[-1].setting == {"nprobe": 16}


def test_a_build_that_crashed_has_no_candidates_and_a_reason():
    dead, alive = scripted(crash_at=4), scripted("ours")
    alive.params = {"factory": "other"}
    coarse = curves.sweep(dead, dead.options) + curves.sweep(alive, alive.options)
    assert dead.worker.closed and dead.failure == "worker ended with SIGSEGV"
    assert all(c.build is alive for c in curves.candidates([dead, alive], coarse, alive.options))
    assert dead.measure({"nprobe": 1}, "batch", "report") is None and len(dead.worker.asked) == 3
    line = dead.line(RUN)
    assert line.reason == "worker ended with SIGSEGV" and line.facts == FACTS


def test_a_point_has_the_medians_of_its_repetitions():
    candidate = curves.Candidate(scripted(), {"nprobe": 1}, "single")
    candidate.runs = [points.Measurement(q, q / 2, 0.9, 1.0, 10, 5.0 * q, 9.0 * q) for q in (30.0, 10.0, 20.0)]
    got = candidate.point(dataclasses.replace(RUN, clock="cpu"))
    assert (got.qps, got.qps_best, got.qps_worst, got.qps_wall) == (10, 15, 5, 20)
    assert (got.p50_us, got.p99_us, got.repetitions) == (100, 180, 3)


@pytest.mark.parametrize("name", ENGINES)
def test_builds_and_settings_of_every_engine_are_worth_trying(name):
    """Without its library: what is tried does not depend on it."""
    kind = ENGINES[name]
    for n, d, metric in ((1000, 50, "ip"), (1_000_000, 384, "l2")):
        builds = kind.builds(n, d, metric)
        assert builds and all(isinstance(build, dict) for build in builds)
        assert len({json.dumps(build, sort_keys=True) for build in builds}) == len(builds)
        engine = kind.__new__(kind)
        engine.params, engine.filter = builds[0], None
        engine.index = type("Index", (), {"nlist": usual_nlist(n)})()
        for k in (1, 10, 100):
            settings = engine.settings(k)
            assert settings
            for setting in settings:
                assert setting.get("ef", k) >= k and setting.get("reorder_k", k) >= k
                assert setting.get("reorder", k) >= k and setting.get("k_factor", 1) >= 1
                assert setting.get("nprobe", 1) <= max(usual_nlist(n), 512)


def test_rows_of_bytes_are_kept_as_bytes():
    ours = ENGINES["ours"]
    of_floats = ours.builds_of(np.zeros((1000, 128), np.float32), "l2")
    of_bytes = ours.builds_of(np.zeros((1000, 128), np.uint8), "l2")
    assert of_floats == ours.builds(1000, 128, "l2")
    assert [{"factory": b["factory"].replace("RU8", "RFlat")} for b in of_bytes] == of_floats
    assert any(b["factory"].endswith(",RU8") for b in of_bytes)


def test_usual_parameters():
    assert [usual_nlist(n) for n in (1000, 100_000, 1_000_000)] == [128, 1024, 4096]
    assert width_settings(100)[0] == {"ef": 120}


def test_the_grid_of_calibration():
    assert calibration.spaced(1, 10, 2) == [1, 2, 4, 8]
    assert calibration.spaced(5, 4, 2) == []
    plain = calibration.grid(8, 10, refine=False, spacing=2)
    assert {s["nprobe"] for s in plain} == {1, 2, 4} and all(20 <= s["reorder_k"] <= 200 for s in plain)
    assert all(10 <= s["reorder_k"] <= s["refine_k"] for s in calibration.grid(8, 10, refine=True, spacing=2))


def test_codes_are_compared_at_equal_bytes():
    found = codes.indexes(64, 50, ["rotation=none"])
    peers = {c.code_bytes for c in found if c.engine == "faiss-pq"}
    own = {c.factory: c.code_bytes for c in found if c.engine == "ours"}
    assert peers == {13} and own["IVF64,ScaNN20x4"] == 12 and own["IVF64,ScaNN"] == 16
    assert own["IVF64,ScaNN(rotation=none)"] == 16 and own["IVF64,ScaNN,SQ8"] == 74
    assert not any(c.engine == "faiss-pq" for c in codes.indexes(64, 51, []))  # no pairs


def test_misses_are_told_against_the_best_peer():
    def made(engine, recall):
        return codes.CodePoint("s", engine, "f", 1, 10, "all", {}, 1.0, "1", recall, None)

    group = [made("faiss-pq", 0.5), made("faiss-pq", 0.6), made("ours", 0.8)]
    assert [codes.misses(p, group) for p in group] == ["1.25", "1.00", "0.50"]
    assert codes.misses(group[2], group[2:]) is None
    assert codes.misses(group[2], [made("faiss-pq", 1.0), group[2]]) is None  # nothing is missed
    assert [row[-1] for row in codes.rows_of([*group, made("ours", None)])] == ["1.25", "1.00", "0.50"]


def test_thresholds_follow_the_length_of_the_vectors():
    chosen = threshold.Options(etas=(2.0,), thresholds=(0.5,), more="rotation=none")
    found = threshold.variants(16, 10.0, chosen)
    assert [v.factory for v in found] == ["IVF16,ScaNN(eta=2,rotation=none)", "IVF16,ScaNN(threshold=5,rotation=none)"]
    rows = np.full((50, 4), 3.0, dtype=np.float32)
    assert threshold.typical_length(datasets.Dataset("x", rows, rows, "l2")) == pytest.approx(6)
    assert threshold.typical_length(datasets.Dataset("x", rows, rows, "ip")) == 1
    assert threshold.value_table("eta", {"a": {1.0: 0.5, 2.0: 0.75}}).splitlines()[-1] == "| 2   | **0.7500** |"


def test_bytes_of_codes_in_a_list():
    assert stages.code_bytes("IVF4,ScaNN96x4", 384, 2) == 50
    assert stages.code_bytes("IVF4,ScaNN", 50, 2) == 16


def test_growth():
    assert growth.slope([10, 100, 1000], [2, 2 * 10**0.5, 20]) == pytest.approx(0.5)
    a, b, c = growth.synthetic(100, 1, growth.ROWS), growth.synthetic(50, 1, growth.ROWS), growth.synthetic(100, 2, 1)
    assert a.shape == (100, growth.DIMENSIONS) and a.dtype == np.float32
    assert not np.array_equal(a, c) and not np.array_equal(a[:50], growth.synthetic(50, 1, growth.ASKED))
    assert b.shape[0] == 50
    assert growth.growth_table("s", [10, 100], {"x": [1.0, 10.0], "y": [1.0, float("nan")]}).splitlines()[2:] == [
        "| x | 1.0 | 10.0 | 1.00     |",
        "| y | 1.0 | -    | -        |",
    ]


# -------------------------------------------------------------- command line


def read(command, *arguments):
    """Options as a command line gives them."""
    given = cli.parser_for([command, *arguments]).parse_args([command, *arguments])
    return options.read_options(importlib.import_module(f"bench.commands.{command}").Options, given)


def test_options_become_a_dataclass():
    got = read(
        "curves",
        *"--set a,b --engines ours,scann --pass .01 --mode single --repetitions 3".split(),
        *"--data /data --threads 1 --k 5".split(),
        *["--build", "ours=IVF4,ScaNN", "--build", 'scann={"leaves": 8, "eta": null, "soar": null}', "--redraw"],
    )
    assert (got.sets, got.engines, got.share, got.mode) == (("a", "b"), ("ours", "scann"), 0.01, ("single",))
    assert (got.repetitions, got.data, got.threads, got.k, got.redraw) == (3, pathlib.Path("/data"), 1, 5, True)
    assert got.able_engines() == ["ours"]  # scann has no filter
    assert [curves.chosen_build(text).params for text in got.build] == [
        {"factory": "IVF4,ScaNN"},
        {"leaves": 8, "eta": None, "soar": None},
    ]
    plain = read("stages", "--setting", "nprobe=4,reorder_k=20", "--setting", "nprobe=8")
    assert plain.settings() == ({"nprobe": 4, "reorder_k": 20}, {"nprobe": 8})
    assert read("stages").settings() == ({"nprobe": 16, "reorder_k": 100},)
    assert read("stages").pieces is None and read("stages", "--pieces", "7").pieces == 7


def test_builds_of_the_command_line_replace_those_of_their_engine(small):
    chosen = curves.Options(engines=("ours", "faiss-pq"), build=("ours=IVF4,ScaNN", "ours=IVF8,ScaNN"))
    plans = curves.planned(small, chosen)
    assert plans["ours"] == [{"factory": "IVF4,ScaNN"}, {"factory": "IVF8,ScaNN"}]
    assert plans["faiss-pq"] == ENGINES["faiss-pq"].builds(500, 6, "ip")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["curves", "--k", "101"], r"--k 101 \(allowed: 1\.\.100\)"),
        (["curves", "--k", "0"], r"--k 0 \(allowed: 1\.\.100\)"),
        (["codes", "--threads", "0"], r"--threads 0 \(allowed: 1 and more\)"),
        (["threads", "--repetitions", "0"], r"--repetitions 0 \(allowed: 1 and more\)"),
        (["curves", "--pass", "1.5"], r"--pass 1.5 \(allowed: above 0, to 1\)"),
        (["curves", "--pass", "0"], r"--pass 0 \(allowed: above 0, to 1\)"),
        (["curves", "--engines", "ours,theirs"], "unknown engine or mode theirs"),
        (["curves", "--build", "theirs=x"], "--build theirs=x: expected ENGINE=PARAMETERS"),
        (["curves", "--build", "ours={"], r"--build ours=\{: "),
        (["stages", "--setting", "reorder_k=4"], r"--setting: nprobe=\.\. is missing"),
        (["vectordbbench", "--removed", "1"], r"--removed 1 \(allowed: between 0 and 1\)"),
        (["stages", "--setting", "nprobe"], r"'nprobe' \(allowed: such as nprobe=8,reorder_k=60\)"),
        (["codes", "--nprobes", "32,all"], r"'32,all' \(allowed: whole numbers with commas"),
        (["calibration", "--targets", "high"], r"'high' \(allowed: numbers with commas"),
        (["curves", "--set", ","], r"',' \(allowed: words with commas\)"),
        (["curves", "--out", __file__], r"--out .*\.py is a file \(allowed: a folder"),
        (["curves", "--timeout", "nan"], r"--timeout nan \(allowed: 0 and more\)"),
        (["growth", "--engines", "theirs"], r"--engines theirs \(allowed: ours"),
        (["growth", "--rows", "0"], r"--rows 0 \(allowed: 1 and more\)"),
        (["siftset", "--rows", "0"], r"--rows 0 \(allowed: 1..1e\+08\)"),
        (["siftset", "--packages", "a,-x"], r"--packages -x \(allowed: names of Debian packages\)"),
        (["siftset", "--per-picture", "60000"], r"--per-picture 60000 \(allowed: 1..50000\)"),
        (["vectordbbench", "--indexes", "ours;FAST"], r"--indexes: FAST \(allowed, with semicolons: .*IVF_FLAT"),
        (["vectordbbench", "--only", "nowhere"], r"--only nowhere \(allowed: client, server\)"),
        (["curves", "--rows", "many"], "invalid int value"),
        (["nothing"], "invalid choice"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error


def test_a_missing_set_is_said_plainly(tmp_path, capsys):
    of_sets = ("curves", "codes", "threshold", "calibration", "promise", "stages", "threads", "tiers", "concurrent")
    for command in of_sets:
        assert cli.main([command, "--data", str(tmp_path), "--set", "none", "--out", str(tmp_path / "out")]) == 2
        assert f"error: no set 'none' in {tmp_path} (it has: none); --data" in capsys.readouterr().err
    assert cli.main(["curves", "--redraw", "--set", "none", "--out", str(tmp_path)]) == 2
    assert "no earlier run to draw" in capsys.readouterr().err


def test_what_the_library_refuses_is_one_line(written_set, capsys):
    assert cli.main(["stages", *written_set, "--factory", "IVF4,NoSuchCodes"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "NoSuchCodes" in line


def test_the_folder_of_the_sets_comes_from_the_environment(tmp_path):
    code = "from bench.folders import default_data; print(default_data())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("FAISS_EXT_BENCH_DATA", None)

    def folder(**more):
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env={**environment, **more}, capture_output=True, text=True).stdout.strip()

    assert folder() == str(ROOT / "tests" / "data")
    assert folder(FAISS_EXT_BENCH_DATA=str(tmp_path)) == str(tmp_path)


def test_every_command_explains_itself(capsys):
    """Those whose libraries are not here say which one is missing."""
    for command in cli.COMMANDS:
        if command == "kernels":  # a script, which sets up and builds
            continue
        try:
            code = cli.main([command, "--help"])
        except SystemExit as ended:
            assert ended.code == 0
            assert "usage: python -m bench" in capsys.readouterr().out
        else:
            assert code == 2 and "is not installed" in capsys.readouterr().err


def test_a_python_without_numpy_hands_over(monkeypatch, tmp_path):
    python = tmp_path / "build" / "venv" / "bin" / "python"
    started = []
    monkeypatch.setattr(cli, "REPOSITORY", tmp_path)
    monkeypatch.setattr(cli.os, "execve", lambda *given: started.append(given))
    cli._go_on_in_venv(["curves"])  # numpy is here
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    cli._go_on_in_venv(["curves"])  # there is no environment
    assert started == []
    python.parent.mkdir(parents=True)
    python.touch()
    cli._go_on_in_venv(["curves", "--k", "5"])
    [(program, arguments, environment)] = started
    assert program == python and arguments[1:] == ["-m", "bench", "curves", "--k", "5"]
    assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(tmp_path)


# ------------------------------------------------------------- whole commands


@pytest.fixture
def written_set(tmp_path):
    rows = clustered(1500, 16, seed=11, clouds=30, width=0.3)
    np.save(tmp_path / "words.base.npy", rows[:1400])
    np.save(tmp_path / "words.query.npy", rows[1400:])
    folder = str(tmp_path)
    return ["--data", folder, "--set", "words", "--out", f"{folder}/out", "--cache", f"{folder}/out"]


def ran(*arguments):
    """A command, as a user starts it from anywhere."""
    done = subprocess.run(arguments, cwd="/", capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def test_curves_measure_and_draw(written_set, tmp_path):
    given = [*written_set, "--engines", "ours,scann", "--build", "ours=IVF16,ScaNN,RFlat", "--repetitions", "2"]
    given += ["--build", 'scann={"leaves": 8, "eta": null, "soar": null}', "--coarse", "20", "--points", "3"]
    printed = ran(sys.executable, str(ROOT / "bench" / "curves"), *given)
    stem = tmp_path / "out" / "curves-words"
    measured = [points.point_of(line) for line in points.read(pathlib.Path(f"{stem}.jsonl"))]
    ours = [p for p in measured if p.engine == "ours"]
    assert {p.mode for p in ours} == {"single", "batch"} and max(p.recall for p in ours) > 0.97
    assert all(p.repetitions == 2 and p.queries == 50 and p.facts.n == 1400 for p in ours)
    builds = [points.build_of(line) for line in points.read(pathlib.Path(f"{stem}.builds.jsonl"))]
    assert {b.engine for b in builds} == {"ours", "scann"}
    table = pathlib.Path(f"{stem}.md").read_text()
    assert "# words, recall@10, ip" in table and "IVF16,ScaNN,RFlat" in table and table in printed
    if importlib.util.find_spec("scann") is None:
        assert "No module named 'scann'" in table  # costs its own points only
    again = ran(sys.executable, str(ROOT / "bench" / "curves"), "--redraw", "--set", "words", *written_set[4:])
    assert pathlib.Path(f"{stem}.md").read_text() == table and table in again


def test_a_filter_lowers_nothing(written_set, tmp_path):
    given = [*written_set, "--engines", "ours", "--build", "ours=IVF16,ScaNN,RFlat", "--repetitions", "1"]
    ran(sys.executable, str(ROOT / "bench" / "curves"), *given, "--pass", ".1", "--mode", "batch", "--coarse", "20")
    measured = points.read(tmp_path / "out" / "curves-words-pass0.1.jsonl")
    assert max(p["recall"] for p in measured) > 0.97 and {p["share"] for p in measured} == {0.1}


SHORT = {
    "codes": (["--nlist", "16", "--nprobes", "4,0"], "codes.md", "IVF16,ScaNN,SQ8"),
    "threshold": (["--nlist", "16", "--etas", "1,4", "--thresholds", ".2"], "threshold.md", "| eta | words"),
    "calibration": (
        ["--factory", "IVF16,ScaNN,RFlat", "--targets", ".9", "--spacing", "4", "--repetitions", "1"],
        "calibration.md",
        "queries",
    ),
    "promise": (
        ["--factory", "IVF16,ScaNN,RFlat", "--targets", ".9", "--spacing", "4", "--repetitions", "1"]
        + ["--ks", "10", "--shares", "1,.1", "--from", "queries"],
        "promise.md",
        "| 0.1 ",
    ),
    "concurrent": (
        ["--factory", "IVF16,ScaNN,RFlat", "--per-call", "3,50", "--seconds", ".3", "--repetitions", "1"],
        "concurrent.md",
        "| remove | 50     | versions |",
    ),
    "threads": (["--added", "200", "--repetitions", "1"], "threads.md", "100 calls"),
}


@pytest.mark.parametrize("command", SHORT)
def test_commands_write_their_tables(command, written_set, tmp_path):
    if command in ("codes", "threads"):
        pytest.importorskip("faiss", reason="PyPI faiss-cpu is not installed")
    more, file, expected = SHORT[command]
    printed = ran(sys.executable, str(ROOT / "bench" / command), *written_set, *more)
    table = (tmp_path / "out" / file).read_text()
    assert expected in table and table in printed and "failed" not in table


def test_stages_are_told(written_set):
    printed = ran(
        sys.executable,
        str(ROOT / "bench" / "stages"),
        *written_set,
        *["--factory", "IVF16,ScaNN,RFlat", "--setting", "nprobe=8,reorder_k=40", "--repetitions", "2"],
        *["--pieces", "20"],
    )
    assert "\n200 rows at once " in printed and "; in pieces " in printed and ", 10 of 20: " in printed
    assert "recall@10 " in printed and all(f"| {name}" in printed for name in ("partition", "scan", "rerank", "all"))


def test_tiers_answer_alike(written_set, tmp_path):
    printed = ran(
        sys.executable,
        str(ROOT / "bench" / "tiers"),
        *written_set,
        *["--factory", "IVF16,ScaNN,SQ8,RFlat", "--setting", "nprobe=8,reorder_k=40", "--repetitions", "1"],
    )
    assert "recall@10 " in printed and "failed" not in printed
    assert all(f"\n| {name} " in printed for name in ("all", "codes, ids, refine", "codes, ids", "nothing, mapped"))
    assert not list((tmp_path / "out").glob("*.scann"))


def test_growth_runs_at_every_size(tmp_path):
    pytest.importorskip("faiss", reason="PyPI faiss-cpu is not installed")
    given = ["--rows", "1000,2000", "--engines", "ours", "--repetitions", "1", "--recall", ".8"]
    printed = ran(sys.executable, str(ROOT / "bench" / "growth"), *given, "--out", str(tmp_path))
    table = (tmp_path / "growth.md").read_text()
    assert "| ours" in table and "1,000 | 2,000" in table and table in printed


def test_growth_takes_the_first_rows_of_a_set(written_set, tmp_path, capsys):
    given = ["--set", "words", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    sizes = ["--rows", "700,1400", "--engines", "ours", "--repetitions", "1"]
    ran(sys.executable, str(ROOT / "bench" / "growth"), *given, *sizes)
    table = (tmp_path / "out" / "growth.md").read_text()
    assert "Growth, first rows of words x 16, ip" in table and "700 | 1,400" in table
    for n in (700, 1400):
        measured = points.read(tmp_path / "out" / f"words-{n}" / "curves-words.jsonl")
        assert {points.point_of(line).facts.n for line in measured} == {n}
    assert cli.main(["growth", *given, "--rows", "700,1401"]) == 2
    assert "--rows 1401: words has 1400 (allowed: 1..1400)" in capsys.readouterr().err


# -------------------------------------------------------------------- workers


def test_a_worker_measures_and_its_death_is_told(written_set, tmp_path):
    task = worker.Task(str(tmp_path), "words", str(tmp_path / "out"), threads=1, k=10)
    with open(tmp_path / "log", "w") as log, worker.Worker("ours", {"factory": "IVF16,ScaNN,RFlat"}, 1, log) as asked:
        built = asked.build(task, 60)
        assert built.facts.n == 1400 and built.settings and built.facts.memory_bytes > 0
        every = {"nprobe": 16, "reorder_k": 100}
        for mode in ("single", "batch"):
            got = asked.measure(worker.Request(every, mode, "report", 10))
            assert got.recall > 0.98 and got.timed == 50 and (got.p50_us is not None) == (mode == "single")
        assert asked.measure(worker.Request(every, "batch", "all", 10, limit=7)).timed == 7
        with pytest.raises(worker.Failed, match="measure: .*nprobe"):
            asked.measure(worker.Request({"nprobe": 0}, "batch", "all", 10))
        assert asked.measure(worker.Request(every, "batch", "all", 10)).recall > 0.98  # it goes on
        asked.process.kill()
        with pytest.raises(worker.Failed, match="worker ended with SIGKILL"):
            asked.measure(worker.Request(every, "batch", "all", 10))


@pytest.mark.parametrize("engine, factory", [("ours", "IVF16,ScaNN,RFlat"), ("faiss-pq", "IVF16,PQ16x4fsr,RFlat")])
def test_a_worker_takes_bytes(engine, factory, tmp_path):
    if engine != "ours":
        pytest.importorskip("faiss", reason="PyPI faiss-cpu is not installed")
    rows = np.clip(clustered(1500, 32, seed=12, clouds=30, width=0.3) * 30 + 128, 0, 255).astype(np.uint8)
    for part, some in (("base", rows[:1400]), ("query", rows[1400:])):
        head = np.array(some.shape, dtype="<u4").tobytes()
        (tmp_path / f"sift-32.{part}.u8bin").write_bytes(head + some.tobytes())
    task = worker.Task(str(tmp_path), "sift-32", str(tmp_path / "out"), threads=1, k=10)
    every = {"nprobe": 16, "reorder_k": 100} if engine == "ours" else {"nprobe": 16, "k_factor": 10}
    got = worker.recalls(engine, factory, task, [every], 60, tmp_path / "log")
    assert got.reason is None and got.found[0] > 0.98 and got.facts.rss_delta_bytes > 1400 * 32


def test_a_worker_that_hangs_is_ended(tmp_path):
    with open(tmp_path / "log", "w") as log, worker.Worker("ours", {}, 1, log) as asked:
        with pytest.raises(worker.Failed, match="build: no answer within 0 s"):
            asked.ask({"do": "build"}, 0)
        assert asked.process.poll() is not None


def test_recalls_say_what_failed(written_set, tmp_path):
    task = worker.Task(str(tmp_path), "words", str(tmp_path / "out"), threads=1, k=10)
    log = tmp_path / "logs" / "log"
    good = worker.recalls("ours", "IVF16,ScaNN,RFlat", task, [{"nprobe": 16}, {"nprobe": 1}], 60, log)
    assert good.reason is None and good.found[0] > good.found[1] > 0.2
    bad = worker.recalls("ours", "IVF16,Nonsense", task, [{"nprobe": 16}], 60, log)
    assert bad.facts is None and bad.found == [] and "Nonsense" in bad.reason
