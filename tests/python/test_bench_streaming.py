"""bench/streaming: runbooks, scenarios, adapters whose rows change, tables, the whole command."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from reference import brute_force, clustered, normal, recall  # noqa: E402

from bench import cli, plots, points, stream_points  # noqa: E402
from bench.datasets import Dataset  # noqa: E402
from bench.engines.ours import Ours  # noqa: E402
from bench.engines.streaming import STREAMING, Room, maintained_factory  # noqa: E402
from bench.runbooks import (  # noqa: E402
    LiveRows,
    Runbook,
    Step,
    most_rows,
    permutation,
    read_runbook,
    write_runbook,
)
from bench.scenarios import SCENARIOS, cut, runbook_of  # noqa: E402
from bench.stream_points import ChangePoint, IndexLine, Results, SearchPoint, StreamFacts  # noqa: E402
from bench.stream_worker import Changed, true_tags  # noqa: E402

# ------------------------------------------------------------------- runbooks

STEPS = (
    Step.insert(range(0, 60)),
    Step.search(),
    Step.delete(range(10, 20)),
    Step.replace(range(20, 30), range(60, 70)),
    Step.search(),
)
ENTRIES = {
    "1": {"operation": "insert", "start": 0, "end": 60},
    "2": {"operation": "search"},
    "3": {"operation": "delete", "start": 10, "end": 20},
    "4": {"operation": "replace", "tags_start": 20, "tags_end": 30, "ids_start": 60, "ids_end": 70},
    "5": {"operation": "search"},
}


def in_file(tmp_path, steps, name="words", **more):
    path = tmp_path / "book.json"
    path.write_text(json.dumps({name: {"max_pts": 60, **more, **steps}}))
    return path


def test_a_runbook_is_read(tmp_path):
    path = in_file(tmp_path, ENTRIES, gt_url="none", order="random", seed=7)
    assert read_runbook(path, "words", 100) == Runbook("book", STEPS, "random", 7)
    assert read_runbook(in_file(tmp_path, ENTRIES), "words", 100) == Runbook("book", STEPS)


@pytest.mark.parametrize("suffix", ["json", "yaml", "yml"])
def test_a_runbook_that_was_written_is_read(suffix, tmp_path):
    if suffix != "json":
        pytest.importorskip("yaml", reason="PyPI pyyaml is not installed")
    path, book = tmp_path / "folder" / f"book.{suffix}", Runbook("book", STEPS, "similar", 3)
    write_runbook(path, book, "words", 100)
    assert read_runbook(path, "words", 100) == book


def test_a_written_runbook_is_what_others_read(tmp_path):
    """big-ann-benchmarks: whole numbers as keys of the set."""
    yaml = pytest.importorskip("yaml", reason="PyPI pyyaml is not installed")
    path = tmp_path / "book.yaml"
    write_runbook(path, Runbook("book", STEPS), "words", 100)
    found = yaml.safe_load(path.read_text())["words"]
    assert found["max_pts"] == 60
    assert {str(key): value for key, value in found.items() if isinstance(key, int)} == ENTRIES


def test_yaml_without_its_library(tmp_path, monkeypatch):
    path = tmp_path / "book.yaml"
    path.write_text("words:\n")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"book.yaml: PyPI pyyaml is not installed \(allowed without it: .*json"):
        read_runbook(path, "words", 100)


def insert(start, end):
    return {"operation": "insert", "start": start, "end": end}


def delete(start, end):
    return {"operation": "delete", "start": start, "end": end}


def replace(tags_start, tags_end, ids_start, ids_end):
    ends = {"tags_start": tags_start, "tags_end": tags_end, "ids_start": ids_start, "ids_end": ids_end}
    return {"operation": "replace", **ends}


SEARCH = {"operation": "search"}
WRONG = [
    ([{"operation": "upsert"}], r"step 1: operation 'upsert' \(allowed: insert, delete, replace, search\)"),
    (["search"], r"step 1: operation None \(allowed"),
    ([insert(0, 101)], r"step 1: end 101 \(allowed: 0\.\.100\)"),
    ([insert(-1, 10)], r"step 1: start -1 \(allowed: 0\.\.100\)"),
    ([insert("0", 10)], r"step 1: start '0' \(allowed: 0\.\.100\)"),
    ([insert(True, 10)], r"step 1: start True \(allowed"),
    ([insert(10, 10)], r"step 1: end 10 \(allowed: above start, 10, to 100\)"),
    ([{"operation": "insert", "start": 1}], r"step 1: insert without end \(it has: operation, start\)"),
    ([insert(0, 10), delete(5, 15)], r"step 2: delete of 5\.\.14: 5 of them are not there \(allowed: rows that are\)"),
    ([insert(0, 10), insert(9, 15)], r"step 2: insert of 9\.\.14: 1 of them are there \(allowed: rows that are not\)"),
    ([insert(0, 10), replace(8, 12, 20, 24)], r"step 2: replace of 8\.\.11: 2 of them are not there"),
    ([insert(0, 10), replace(0, 4, 20, 23)], r"step 2: replace of 0\.\.3 by 3 rows \(allowed: 4\)"),
    ([insert(0, 10), replace(0, 4, 8, 12)], r"step 2: replace of 0\.\.3: 2 of the new rows are there"),
    (
        [insert(0, 10), replace(0, 2, 20, 22), insert(20, 21)],
        r"step 3: insert of 20\.\.20: 1 of the new rows are there",
    ),
    ([SEARCH], r"step 1: search of no rows \(allowed: after an insert\)"),
    ([insert(0, 10), delete(0, 10), SEARCH], r"step 3: search of no rows"),
    ([insert(0, 10)], r"no step is a search \(allowed: one and more\)"),
    ([], r"steps none \(allowed: 1, 2, 3 and so on\)"),
]


@pytest.mark.parametrize("steps, said", WRONG, ids=[said[:40] for _, said in WRONG])
def test_a_runbook_that_cannot_be_done_is_refused(steps, said, tmp_path):
    path = in_file(tmp_path, {str(i): step for i, step in enumerate(steps, 1)})
    with pytest.raises(ValueError, match=f"^{path}: {said}"):
        read_runbook(path, "words", 100)


def test_a_file_that_is_no_runbook_is_refused(tmp_path):
    for text, said in (
        ("[1]", r"no steps for the set 'words' \(it has: none\)"),
        ('{"words": 1, "sift": {}}', r"no steps for the set 'words' \(it has: words, sift\)"),
        ("{", "Expecting property name"),
        ('{"words": {"1": {}, "3": {}}}', r"steps 1, 3 \(allowed: 1, 2, 3 and so on\)"),
    ):
        path = tmp_path / "book.json"
        path.write_text(text)
        with pytest.raises(ValueError, match=f"^{path}: {said}"):
            read_runbook(path, "words", 100)
    for more, said in (
        ({"order": "sorted"}, r"order 'sorted' \(allowed: given, random, similar\)"),
        ({"seed": -1}, "seed -1"),
    ):
        with pytest.raises(ValueError, match=said):
            read_runbook(in_file(tmp_path, ENTRIES, **more), "words", 100)
    for path in (tmp_path / "book", tmp_path / "book.txt"):
        with pytest.raises(ValueError, match=r"suffix '.*' \(allowed: .json, .yaml, .yml\)"):
            read_runbook(path, "words", 100)
        with pytest.raises(ValueError, match=r"suffix '.*' \(allowed: .json, .yaml, .yml\)"):
            write_runbook(path, Runbook("book", STEPS), "words", 100)


def test_wrong_yaml_is_one_line(tmp_path):
    pytest.importorskip("yaml", reason="PyPI pyyaml is not installed")
    (tmp_path / "book.yaml").write_text("words: [\n")
    with pytest.raises(ValueError, match="^[^\n]*book.yaml: while parsing [^\n]*$"):
        read_runbook(tmp_path / "book.yaml", "words", 100)


# ------------------------------------------------------------------ scenarios


def followed(steps, n):
    """Rows that are there at each search."""
    live, found = LiveRows(n), []
    for step in steps:
        live.apply(step)
        if step.operation == "search":
            found.append(len(live))
    return live, found


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("n, changes", [(1000, 20), (997, 7), (40, 100), (10, 1)])
def test_scenarios_can_be_done(name, n, changes):
    book = runbook_of(name, n, changes, 1)
    assert book.order == SCENARIOS[name].order and runbook_of(name, n, changes, 1, "given").order == "given"
    assert 0 < most_rows(book.steps, n) <= n
    operations = [step.operation for step in book.steps]
    assert operations[0] == "insert" and operations[-1] == "search"
    assert book.steps == runbook_of(name, n, changes, 2).steps


def test_what_scenarios_do():
    live, found = followed(runbook_of("sliding-window", 1000, 20, 1).steps, 1000)
    assert found == [500] * 21 and live.tags.tolist() == list(range(500, 1000))
    for name in ("growth", "clustered"):
        live, found = followed(runbook_of(name, 1000, 20, 1).steps, 1000)
        assert found == list(range(100, 1001, 45)) and len(live) == 1000
    live, found = followed(runbook_of("churn", 1000, 20, 1).steps, 1000)
    assert found == [500] * 21 and live.tags.tolist() == list(range(500))
    assert live.row_of[:500].tolist() == list(range(500, 1000))  # 100 % of them
    _, found = followed(runbook_of("expiration", 6000, 20, 1).steps, 6000)
    assert found[0] == 300 and found[:4] == sorted(found[:4]) and found[4] < 5 * 300  # some have gone
    assert 20 * 50 < found[-1] < 6000 / 2  # those that stay, and those of the last steps
    assert cut(range(3, 10), 3) == [range(3, 5), range(5, 7), range(7, 10)]
    assert cut(range(2), 5) == [range(0, 1), range(1, 2)]


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_orders_of_rows(metric):
    x = normal(200, 8, seed=3)
    data = Dataset("x", x, x[:1], metric)
    assert permutation(data, "given", 1).tolist() == list(range(200))
    shuffled = permutation(data, "random", 1)
    assert sorted(shuffled) == list(range(200)) and shuffled.tolist() != permutation(data, "random", 2).tolist()
    alike = permutation(data, "similar", 1)
    assert sorted(alike) == list(range(200))
    start = np.random.default_rng(1).integers(200)
    _, nearest = brute_force(x, x[start : start + 1], 200, metric.upper())
    assert (alike == nearest[0]).mean() > 0.95  # but for equal values


# ------------------------------------------------------------- rows and truth


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_truth_is_that_of_the_rows_that_are_there(metric, tmp_path):
    x, q = normal(300, 8, seed=4), normal(20, 8, seed=5)
    data, live = Dataset("x", x, q, metric), LiveRows(300)
    held = {}
    steps = [
        Step.insert(range(0, 150)),
        Step.delete(range(20, 80)),
        Step.replace(range(100, 140), range(200, 240)),
        Step.insert(range(30, 40)),
        Step.replace(range(100, 110), range(100, 110)),
    ]
    for step in steps:
        live.apply(step)
        for tag, row in zip(step.tags, step.rows):
            held[tag] = row
        if step.operation == "delete":
            for tag in step.tags:
                del held[tag]
        tags = np.array(sorted(held))
        assert live.tags.tolist() == tags.tolist() and len(live) == len(held)
        assert set(np.flatnonzero(live.flags)) == set(held.values())
        _, places = brute_force(x[[held[tag] for tag in tags]], q, 10, metric.upper())
        for _ in range(2):  # the second comes from the cache
            assert recall(true_tags(data, tmp_path, live)[:, :10], tags[places]) > 0.99


# ------------------------------------------------------------------- adapters

# faiss-pq: FastScan of Faiss 1.15 loses rows that are added after removals
FLOORS = {"faiss-pq": 0.6}


def installed(engine):
    module = STREAMING[engine].module.partition(".")[0]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("engine", STREAMING)
def test_an_index_follows_its_rows(engine, metric):
    """Inserts, removals, updates, tags that come back: what is found is what is there."""
    installed(engine)
    x, q = normal(2600, 32, seed=8), normal(50, 32, seed=9)
    if metric == "ip":
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    kind, held = STREAMING[engine], {}
    index = kind(kind.usual(x[:1500], metric))
    width = 128 if engine not in ("hnswlib", "usearch") else 400
    setting = index.setting(10, width, 400)

    def given(tags, rows):
        held.update(zip(tags.tolist(), rows.tolist()))
        return tags, x[rows]

    def check():
        index.one_thread()
        tags = np.array(sorted(held))
        _, places = brute_force(x[[held[tag] for tag in tags]], q, 10, metric.upper())
        calls = index.callers(10, setting)
        for found in (index.search(q, 10, setting), [np.ravel(index.ids(calls.one(row)))[:10] for row in q]):
            assert set(np.ravel(found).tolist()) <= set(tags.tolist()) | {-1}
            assert recall(found, tags[places]) > FLOORS.get(engine, 0.95)
        index.many_threads()

    index.begin(*given(np.arange(1000), np.arange(1000)), metric, Room(1500, 2000))
    check()
    index.insert(*given(np.arange(1200, 1700), np.arange(1200, 1700)))
    check()
    index.remove(np.arange(100, 600))
    for tag in range(100, 600):
        del held[tag]
    check()
    index.replace(*given(np.arange(1300, 1500), np.arange(2000, 2200)))
    index.insert(*given(np.arange(200, 300), np.arange(2300, 2400)))  # tags that were removed
    check()
    if kind.maintains:
        assert index.maintain().rows >= 0
        check()
    assert (index.imbalance() or 1) >= 1 and (index.imbalance() is None) != issubclass(kind, Ours)


def test_the_options_of_the_factory_string_stay():
    for factory, expected in (
        ("IVF4,ScaNN,RFlat", "IVF4,ScaNN(auto_maintain=1),RFlat"),
        ("IVF4,ScaNN96x4", "IVF4,ScaNN96x4(auto_maintain=1)"),
        ("IVF4,ScaNN(sub_dim=4,eta=2),SQ8", "IVF4,ScaNN(sub_dim=4,eta=2,auto_maintain=1),SQ8"),
        ("ScaNN", "ScaNN(auto_maintain=1)"),
    ):
        assert maintained_factory(factory) == expected


# --------------------------------------------------------------------- tables

FACTS = StreamFacts("words", "growth", "random", "ip", 10, 100, 8, 1, 50, 3, "a CPU", "2026-01-01")


def search(engine, step, nprobe, found, us):
    imbalance = step / 2 if engine == "ours" else None
    return SearchPoint(engine, step, 10 * step, {"nprobe": nprobe}, found, us, us, FACTS, imbalance)


def change(engine, step, operation, rows, seconds, *maintained):
    return ChangePoint(engine, step, Changed(operation, rows, seconds, *maintained), FACTS)


RESULTS = Results(
    [
        *(search("ours", 2, 4, 0.90, 10), search("ours", 2, 8, 0.99, 20)),
        *(search("ours", 4, 4, 0.70, 30), search("ours", 4, 8, 0.93, 50)),
        *(search("ours-maintained", 2, 4, 0.90, 10), search("ours-maintained", 2, 8, 0.99, 20)),
        *(search("ours-maintained", 4, 4, 0.88, 11), search("ours-maintained", 4, 8, 0.98, 22)),
        *(search("rebuilt", 2, 4, 0.90, 10), search("rebuilt", 2, 8, 0.99, 20)),
        *(search("rebuilt", 4, 4, 0.91, 10), search("rebuilt", 4, 8, 0.99, 20)),
    ],
    [
        *(change("ours", 1, "train", 100, 1.0), change("ours", 3, "insert", 50, 0.5)),
        *(change("ours-maintained", 1, "train", 100, 1.0), change("ours-maintained", 3, "insert", 50, 0.5, 0.1, 7, 2)),
        *(change("rebuilt", 2, "rebuild", 100, 1.0), change("rebuilt", 4, "rebuild", 150, 1.5)),
        *(change("ours-auto", 1, "train", 100, 1.0), change("ours-auto", 3, "insert", 50, 0.65)),
    ],
    [IndexLine("ours", {}, FACTS, "1")],
)


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_table_has_a_line_a_search():
    head, _, first, second = map(cells, stream_points.index_table(RESULTS, "ours-maintained").splitlines())
    assert head[:6] == ["step", "rows", "recall nprobe=4", "recall nprobe=8", "us nprobe=4", "us nprobe=8"]
    assert head[6:] == ["train us/row", "insert us/row", "maintain us/row", "of adds"]
    assert first == ["2", "20", "0.9000", "0.9900", "10.0", "20.0", "10000.0", "-", "-", "-"]
    assert second == ["4", "40", "0.8800", "0.9800", "11.0", "22.0", "-", "10000.0", "2000.0", "0.20"]
    ours = [cells(line)[6] for line in stream_points.index_table(RESULTS, "ours").splitlines()]
    assert ours[0] == "imbalance" and ours[2:] == ["1.00", "2.00"]
    rebuilt = stream_points.index_table(RESULTS, "rebuilt")
    assert cells(rebuilt.splitlines()[0])[6:] == ["rebuild us/row"]


def test_the_summary_compares_with_the_rebuilt_index():
    lines = stream_points.summary(RESULTS, 0.95).splitlines()
    ours, maintained, rebuilt = map(cells, lines[-3:])
    assert ours == ["ours", "0.2100", "4", "3.00", "4", "not reached", "not reached", "0.2000", "-"]
    assert maintained[:5] == ["ours-maintained", "0.0300", "4", "1.10", "4"]
    assert 1.1 < float(maintained[5]) < 1.5 and maintained[5] == maintained[6] and maintained[8] == "0.20"
    assert rebuilt[1:7] == ["-"] * 6 and rebuilt[8] == "5.00"  # 2.5 s for adds of .5
    assert stream_points.maintenance(RESULTS, "ours-auto") == "0.30"


def test_curves_are_of_one_setting():
    curves = stream_points.drawn(RESULTS, 0.95)
    assert set(curves.widths.values()) == {"nprobe=8"} and curves.recalls["ours"].y == [0.99, 0.93]
    assert stream_points.drawn(RESULTS, 0.9).times["ours-maintained"] == plots.Series([2, 4], [10, 11])
    assert set(stream_points.drawn(RESULTS, 1).widths.values()) == {"nprobe=8"}  # none has it: the widest


def test_a_plot_names_its_curves(tmp_path):
    pytest.importorskip("matplotlib", reason="PyPI matplotlib is not installed")
    curves = stream_points.drawn(RESULTS, 0.95)
    panels = [plots.Panel("recall@10", curves.recalls, curves.widths), plots.Panel("us", curves.times, from_zero=True)]
    files = plots.over_steps(panels, plots.Titles("words, growth", "step", ""), tmp_path / "plot")
    assert [path.suffix for path in files] == [".png", ".svg"]
    drawing = files[1].read_text()
    for text in ("words, growth", "recall@10", "us", "step", "ours-maintained  nprobe=8", ">ours<", ">rebuilt<"):
        assert text in drawing, text


# -------------------------------------------------------------- whole command


@pytest.fixture
def given(tmp_path):
    rows = clustered(700, 16, seed=11, clouds=30, width=0.3)
    np.save(tmp_path / "words.base.npy", rows[:600])
    np.save(tmp_path / "words.query.npy", rows[600:640])
    folder = str(tmp_path)
    return ["--data", folder, "--set", "words", "--out", f"{folder}/out", "--cache", f"{folder}/out"]


def ran(*arguments):
    program = [sys.executable, str(ROOT / "bench" / "streaming")]
    done = subprocess.run([*program, *arguments], cwd="/", capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def test_ours_follow_a_scenario(given, tmp_path):
    mine = "ours,ours-maintained,ours-auto,rebuilt"
    more = ["--engines", mine, "--steps", "3", "--nprobe", "4,16", "--repetitions", "1", "--scenario", "sliding-window"]
    printed = ran(*given, *more, "--factory", "IVF16,ScaNN,RFlat")
    stem = tmp_path / "out" / "streaming-words-sliding-window"
    table = pathlib.Path(f"{stem}.md").read_text()
    assert "# words, sliding-window, recall@10" in table and table in printed and "FAILED" not in printed
    found = points.read(pathlib.Path(f"{stem}.jsonl"))
    assert [line["live"] for line in found] == [300] * len(found) and len(found) == 4 * 4 * 2
    assert {line["engine"] for line in found} == set(mine.split(","))
    assert min(line["recall"] for line in found if line["setting"]["nprobe"] == 16) > 0.97
    changes = points.read(pathlib.Path(f"{stem}.changes.jsonl"))
    done = {name: [c["operation"] for c in changes if c["engine"] == name] for name in mine.split(",")}
    assert done["ours"] == ["train", *["delete", "insert"] * 3] and done["rebuilt"] == ["rebuild"] * 4
    assert all(line["imbalance"] >= 1 for line in found)
    assert all(c["maintain_seconds"] > 0 for c in changes if c["engine"] == "ours-maintained")
    assert not list((tmp_path / "out").glob("*/base.npy"))  # of the processes
    redrawn = ran("--redraw", "--scenario", "sliding-window", *given)
    assert redrawn.strip() == table.strip() and pathlib.Path(f"{stem}.md").read_text() == table


def test_a_runbook_of_a_file_is_followed(given, tmp_path):
    book = tmp_path / "made.json"
    said = ran(*given, "--write-runbook", str(book), "--scenario", "churn", "--steps", "2", "--order", "similar")
    assert said == f"{book}: 6 steps\n" and not (tmp_path / "out").exists()
    ran(*given, "--runbook", str(book), "--engines", "ours,hnswlib", "--nprobe", "16", "--repetitions", "1")
    table = (tmp_path / "out" / "streaming-words-made.md").read_text()
    assert "rows in the order 'similar'" in table and "replace us/row" in table
    if importlib.util.find_spec("hnswlib") is None:
        assert "hnswlib: hnswlib is not installed" in table


def test_an_index_that_fails_costs_its_own_points(given, tmp_path):
    more = ["--engines", "ours,rebuilt", "--factory", "IVF16,NoSuchCodes", "--steps", "2", "--scenario", "growth"]
    printed = ran(*given, *more, "--nprobe", "4")
    assert "ours: FAILED change: " in printed and "rebuilt: FAILED ready: " in printed
    assert "NoSuchCodes" in (tmp_path / "out" / "streaming-words-growth.md").read_text()


@pytest.mark.parametrize(
    "arguments, said",
    [
        ("--engines theirs", "--engines theirs (allowed: ours, ours-maintained,"),
        ("--scenario flood", "--scenario flood (allowed: sliding-window, expiration, clustered, growth, churn)"),
        ("--nprobe 0,8", "--nprobe 0 (allowed: 1 and more)"),
        ("--ef 5,20", "--ef 5 (allowed: 10, which is k, and more)"),
        ("--candidates 9", "--candidates 9 (allowed: 10, which is k, and more)"),
        ("--steps 0", "--steps 0 (allowed: 1 and more)"),
        ("--recall 2", "--recall 2 (allowed: 0..1)"),
        ("--order sorted", "invalid choice: 'sorted'"),
        ("--write-runbook x.json", "--write-runbook x.json (allowed: with one --scenario and one --set)"),
        ("--write-runbook x.json --runbook y.json", "--write-runbook x.json (allowed: with one"),
    ],
)
def test_what_cannot_be_is_refused(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["streaming", *arguments.split()])
    assert ended.value.code == 2 and said in capsys.readouterr().err


def test_what_is_missing_or_does_not_fit_is_one_line(given, tmp_path, capsys):
    for more, said in (
        (["--runbook", str(tmp_path / "none.json")], "none.json"),
        (["--redraw", "--scenario", "growth"], "streaming-words-growth.jsonl is missing: no earlier run to draw"),
        (["--nprobe", "8,500"], "--nprobe 500: the indexes have 64 lists (allowed: 1..64)"),
    ):
        assert cli.main(["streaming", *given, "--engines", "ours", *more]) in (1, 2)
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and said in line
