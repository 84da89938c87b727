"""The logic of bench/: data sets, truth, recall, sweeps, fronts, tables, the command line."""

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

from bench import cli, datasets, ground_truth, options, plots, points, speed_tables, tables, timing, worker  # noqa: E402
from bench.commands import calibration, codes, curves, growth, stages, threshold  # noqa: E402
from bench.engines import ENGINES  # noqa: E402
from bench.engines.base import usual_nlist, width_settings  # noqa: E402
from bench.folders import Unavailable  # noqa: E402

# ------------------------------------------------------------------ data sets


def save(folder, name, rows, kind):
    """A file of rows as others write it."""
    path = folder / f"{name}.{kind}"
    if kind == "npy":
        np.save(path, rows)
    elif kind == "fvecs":
        heads = np.full((len(rows), 1), rows.shape[1], dtype="<i4")
        path.write_bytes(np.hstack([heads, rows.astype("<f4").view("<i4")]).tobytes())
    else:
        path.write_bytes(np.array(rows.shape, dtype="<u4").tobytes() + rows.tobytes())
    return path


@pytest.mark.parametrize("kind, dtype", [("npy", "f8"), ("fvecs", "f4"), ("hbin", "<f2"), ("u8bin", "u1")])
def test_files_are_read(tmp_path, kind, dtype):
    rows = np.arange(28).reshape(7, 4).astype(dtype)
    got = datasets.read_vectors(save(tmp_path, "x", rows, kind))
    assert got.dtype == np.float32 and got.flags.c_contiguous
    np.testing.assert_array_equal(got, rows)


def test_files_that_are_wrong_are_named(tmp_path):
    cut = save(tmp_path, "cut", np.zeros((3, 4), dtype="<f2"), "hbin")
    cut.write_bytes(cut.read_bytes()[:-2])
    with pytest.raises(ValueError, match="cut.hbin: 11 values, the head says 3 x 4"):
        datasets.read_vectors(cut)
    np.save(tmp_path / "flat.npy", np.zeros(5))
    with pytest.raises(ValueError, match=r"flat.npy: expected a matrix, found shape \(5,\)"):
        datasets.read_vectors(tmp_path / "flat.npy")
    with pytest.raises(ValueError, match=r"x.csv: unknown extension \(allowed: hbin, u8bin, fvecs, npy\)"):
        datasets.read_vectors(tmp_path / "x.csv")


def test_sets_are_pairs_or_cut_in_two(tmp_path):
    rows = np.arange(1, 201, dtype=np.float32).reshape(100, 2)
    save(tmp_path, "whole", rows, "npy")
    whole = datasets.load(tmp_path, "whole")
    np.testing.assert_array_equal(whole.query, rows[::20])
    assert len(whole.base) == 95 and not np.isin(whole.base[:, 0], rows[::20, 0]).any()

    save(tmp_path, "pair.base", rows, "npy")
    save(tmp_path, "pair.query", rows[:30], "fvecs")
    pair = datasets.load(tmp_path, "pair", rows=40, queries=7, metric="l2")
    assert (pair.base.shape, pair.query.shape, pair.metric) == ((40, 2), (7, 2), "l2")
    cosine = datasets.load(tmp_path, "pair", metric="cosine")
    assert cosine.metric == "ip"
    np.testing.assert_allclose(np.linalg.norm(cosine.base, axis=1), 1, rtol=1e-6)

    assert datasets.names(tmp_path) == ["pair", "whole"]
    with pytest.raises(Unavailable, match=r"no set 'other' in .* \(it has: pair, whole\); --data or FAISS_EXT_BENCH"):
        datasets.load(tmp_path, "other")
    with pytest.raises(Unavailable, match=r"\(it has: none\)"):
        datasets.load(tmp_path / "missing", "other")


def test_the_natural_metric_goes_by_the_name(tmp_path):
    rows = np.ones((40, 4), dtype=np.float32)
    for name, metric, length in (("sift-4", "l2", 2), ("glove-4", "ip", 1), ("wordnet-4", "ip", 2), ("x", "ip", 2)):
        save(tmp_path, name, rows, "npy")
        data = datasets.load(tmp_path, name)
        assert data.metric == metric
        np.testing.assert_allclose(np.linalg.norm(data.base, axis=1), length)


# ------------------------------------------------------------ truth and recall


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("block", [7, 64, 1000])
def test_truth_is_exact_and_gives_ties_to_smaller_ids(metric, block):
    """Small integers: every score is exact in float32, and most are shared by several rows."""
    rng = np.random.default_rng(3)
    base = rng.integers(-2, 3, (300, 3)).astype(np.float32)
    query = rng.integers(-2, 3, (40, 3)).astype(np.float32)
    score = query @ base.T
    if metric == "l2":
        score = -((query[:, None] - base[None]) ** 2).sum(2)
    want = np.argsort(-score, axis=1, kind="stable")
    for k in (1, 10, 100, 300):
        found, _ = ground_truth.exact_neighbours(base, query, metric, k, block)
        np.testing.assert_array_equal(found, want[:, :k])


def test_truth_of_fewer_rows_than_neighbours():
    base = np.eye(3, dtype=np.float32)
    found, scores = ground_truth.exact_neighbours(base, base, "ip", 10)
    assert found.shape == scores.shape == (3, 3)
    np.testing.assert_array_equal(found, [[0, 1, 2], [1, 0, 2], [2, 0, 1]])


@pytest.fixture
def small():
    rng = np.random.default_rng(5)
    return datasets.Dataset(
        "small",
        rng.standard_normal((500, 6)).astype(np.float32),
        rng.standard_normal((20, 6)).astype(np.float32),
        "ip",
    )


def test_truth_is_kept_for_the_same_vectors_and_filter_only(small, tmp_path):
    truth = ground_truth.ground_truth(small, tmp_path)
    [path] = tmp_path.glob("*.npy")
    np.save(path, truth[::-1])  # what is kept is taken
    np.testing.assert_array_equal(ground_truth.ground_truth(small, tmp_path), truth[::-1])

    masks = [ground_truth.filter_mask(500, 0.3, seed) for seed in (1, 2)]
    for allowed in masks:
        found = ground_truth.ground_truth(small, tmp_path, allowed)
        want = np.argsort(-np.where(allowed, small.query @ small.base.T, -np.inf), axis=1)[:, : found.shape[1]]
        assert found.shape == (20, 100)
        np.testing.assert_array_equal(found, want)

    changed = dataclasses.replace(small, base=small.base.copy())
    changed.base[3, 1] += 1  # one number of a row that no sample would have seen
    score = changed.query @ changed.base.T
    np.testing.assert_array_equal(ground_truth.ground_truth(changed, tmp_path)[:, 0], score.argmax(1))
    assert len(list(tmp_path.glob("*.npy"))) == 4


def test_a_filter_is_drawn_by_its_seed():
    a, b, c = (ground_truth.filter_mask(10_000, 0.2, seed) for seed in (1, 1, 2))
    assert (a == b).all() and (a != c).any() and 0.18 < a.mean() < 0.22
    assert ground_truth.filter_mask(10, 1.0) is None


def test_recall():
    truth = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert ground_truth.recall(truth, truth, 4) == 1
    assert ground_truth.recall(truth[:, ::-1], truth, 4) == 1  # in any order
    assert ground_truth.recall(truth[:, ::-1], truth, 2) == 0
    assert ground_truth.recall(np.array([[1, 1, 1, 1], [-1, -1, 8, 9]]), truth, 4) == 2 / 8  # once each
    assert ground_truth.recall(np.full((2, 10), 1), np.array([[1], [2]]), 10) == 1 / 2  # there are fewer than k
    with pytest.raises(ValueError, match="1 answers, 2 queries"):
        ground_truth.recall(truth[:1], truth, 4)


def test_padding():
    got = ground_truth.padded([[1, 2, 3], [], np.array([[4]])], 2)
    np.testing.assert_array_equal(got, [[1, 2], [-1, -1], [4, -1]])


# --------------------------------------------------------------------- timing


def test_actions_are_timed_in_turn():
    order = []
    times = timing.in_turn({name: lambda name=name: order.append(name) for name in "abc"}, 3)
    assert "".join(order) == "abcabcabc"
    assert all(len(t.seconds) == 3 and t.minimum <= t.median for t in times.values())


def test_minimum_and_median():
    times = timing.Times([4.0, 1.0, 3.0])
    assert (times.minimum, times.median, str(times)) == (1, 3, "1.0000 / 3.0000")
    assert times.per(2).seconds == [2, 0.5, 1.5]


def test_groups_alternate():
    assert timing.alternated([[1, 2, 3], [], [4], [5, 6]]) == [1, 4, 5, 2, 6, 3]
    assert timing.alternated([]) == []


def test_single_calls_stop_when_the_time_is_over():
    asked = []
    assert timing.one_by_one(asked.append, [1, 2, 3], at_most=-1).answers == [None]
    found = timing.one_by_one(lambda x: 2 * x, [1, 2, 3])
    assert found.answers == [2, 4, 6] and len(found.micros) == 3 and found.wall_seconds > 0
    assert asked == [1]


# ---------------------------------------------------------------- points


@dataclasses.dataclass(frozen=True)
class Spot:
    recall: float
    qps: float


def test_the_front_has_what_no_other_beats():
    spots = [Spot(0.9, 100), Spot(0.8, 100), Spot(0.8, 300), Spot(0.95, 95), Spot(0.7, 299), Spot(0.99, 10)]
    assert points.front(spots) == [Spot(0.8, 300), Spot(0.9, 100), Spot(0.95, 95), Spot(0.99, 10)]
    assert points.front(spots, slack=0.1) == [
        Spot(0.7, 299),
        Spot(0.8, 300),
        Spot(0.9, 100),
        Spot(0.95, 95),
        Spot(0.99, 10),
    ]
    assert points.front([]) == []


def test_thinning_keeps_the_ends():
    spots = [Spot(r, 1) for r in np.linspace(0.5, 0.999, 50)]
    chosen = points.thin(spots, 5)
    assert len(chosen) == 5 and chosen[0] == spots[0] and chosen[-1] == spots[-1]
    assert sum(spot.recall > 0.9 for spot in chosen) >= 3  # where tables look
    assert points.thin(spots[:3], 5) == spots[:3] and len(points.thin(spots, 1)) == 1


def test_speed_at_a_recall_is_interpolated_on_logarithms():
    spots = [Spot(0.8, 1000), Spot(0.9, 100), Spot(0.85, 50)]
    assert points.qps_at(spots, 0.85) == pytest.approx(np.sqrt(1000 * 100))
    assert points.qps_at(spots, 0.9) == pytest.approx(100)
    assert points.qps_at(spots, 0.5) == 1000  # it delivers more than was asked
    assert points.qps_at(spots, 0.95) is None and points.qps_at([], 0.5) is None
    assert points.point_at(spots, 0.85) == Spot(0.9, 100)
    assert points.point_at(spots, 0.99) == Spot(0.9, 100) and points.point_at([], 0.5) is None


RUN = points.RunFacts("small", 1.0, "ip", 10, "a processor", "wall", "2026-01-01")
FACTS = points.BuildFacts(2.5, 4.0, 2, 5_000_000, "reported", 6_000_000, "1.0", 500, 6)


def point(engine, recall, qps, mode="single", **changes):
    given = dict(p50_us=10.0, p99_us=20.0) if mode == "single" else dict(p50_us=None, p99_us=None)
    made = points.Point(
        engine=engine,
        mode=mode,
        build={"factory": "IVF4,Flat"},
        setting={"nprobe": 2, "share": 0.5},
        recall=recall,
        qps=qps,
        qps_best=qps,
        qps_worst=qps,
        qps_wall=qps,
        qps_cpu=qps,
        cpu_per_wall=1.0,
        repetitions=5,
        queries=10,
        facts=FACTS,
        run=RUN,
        **given,
    )
    return dataclasses.replace(made, **changes)


def test_points_come_back_from_their_lines(tmp_path):
    path = tmp_path / "folder" / "points.jsonl"
    made = [point("ours", 0.9, 100.0), point("scann", 0.8, 50.0, mode="batch")]
    points.write(path, map(points.as_line, made))
    lines = points.read(path)
    assert lines[0]["build_seconds"] == 2.5 and lines[0]["set"] == "small" and "p50_us" not in lines[1]
    assert [points.point_of(line) for line in lines] == made
    points.append(path, [points.as_line(made[0])])
    assert len(points.read(path)) == 3
    for build in (points.BuildLine("ours", {"M": 1}, RUN, FACTS), points.BuildLine("x", {}, RUN, None, "crashed")):
        assert points.build_of(json.loads(json.dumps(points.as_line(build)))) == build


# --------------------------------------------------------------------- tables


def test_tables_are_aligned():
    assert tables.table(["name", "n"], [["a", 1], ["longer", None]]) == (
        "| name   | n |\n|--------|---|\n| a      | 1 |\n| longer | - |"
    )
    assert tables.screen_table(["name", "n"], [["a", "1"], ["b", "100"]]) == (
        "  name     n\n  ----   ---\n  a        1\n  b      100"
    )


def test_parameters_in_words():
    assert tables.parameters({"factory": "IVF4,Flat"}) == "IVF4,Flat"
    assert tables.parameters({"M": 16, "eta": None, "soar": 1.50}) == "M 16 soar 1.5"
    assert tables.whole(None) == "-" and tables.whole(1234.4) == "1234" and tables.megabytes(1.25e7) == "12.5"


def test_reasons_fit_into_a_table():
    text = tables.failure_table([("x", {"M": 1}, "a|b\n" + "c" * 500)])
    assert "a/b c" in text and len(text.splitlines()) == 3 and "c" * 200 not in text


def test_tables_of_a_run():
    measured = [
        point("ours", 0.85, 4000.0),
        point("ours", 0.96, 2000.0),
        point("scann", 0.90, 1000.0),
        point("scann", 0.97, 500.0),
        point("svs", 0.5, 10.0),
        point("ours", 0.96, 8000.0, mode="batch"),
    ]
    speed, ratio, settings = speed_tables.speed_tables(measured, "single").split("\n\n")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in speed.splitlines()]
    assert rows[0] == ["single: QPS at recall", "0.80", "0.90", "0.95", "0.98", "0.99", "build s", "memory MB"]
    assert [row[0] for row in rows[2:]] == ["ours", "scann", "svs"]  # fastest first
    assert rows[2][1] == "4000" and rows[2][4] == "-" and rows[2][6:] == ["2", "5"] and rows[4][1] == "-"
    assert "| scann" in ratio and "4.00" in ratio
    assert "nprobe 2 share 0.5" in settings and "0.9600" in settings
    assert "/ peer" not in speed_tables.speed_tables(measured, "batch")  # alone
    builds = [points.BuildLine("ours", {"M": 1}, RUN, FACTS), points.BuildLine("x", {}, RUN, None, "crashed")]
    assert len(speed_tables.build_table(builds).splitlines()) == 3


def test_a_report_says_machine_and_date(tmp_path, capsys):
    tables.publish(tmp_path / "new" / "x.md", "Title", ["one", "two"], "a processor, 2026-01-01.")
    text = (tmp_path / "new" / "x.md").read_text()
    assert text == "# Title\n\na processor, 2026-01-01.\n\none\n\ntwo\n" and text in capsys.readouterr().out


def test_plots_are_written(tmp_path):
    pytest.importorskip("matplotlib", reason="PyPI matplotlib is not installed")
    groups = {"ours": [Spot(0.8, 900), Spot(0.99, 100)], "scann": [Spot(0.9, 300)], "slow": [Spot(0.1, 5)]}
    written = plots.speed_curves(groups, plots.Titles("t", "x", "y"), tmp_path / "new" / "speed")
    assert [path.suffix for path in written] == [".png", ".svg"]
    svg = written[1].read_text()
    assert ">ours<" in svg and ">scann<" in svg and ">slow<" not in svg  # below the axis
    assert plots.speed_curves({"slow": groups["slow"]}, plots.Titles("t", "x", "y"), tmp_path / "none") == []
    series = {"a": plots.Series([1, 2, 4], [0.1, 0.5, 0.3])}
    for draw in (plots.lines, plots.growth):
        assert all(p.stat().st_size > 1000 for p in draw(series, plots.Titles("t", "x", "y"), tmp_path / "more"))


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
    for command in ("curves", "codes", "threshold", "calibration", "stages", "threads"):
        assert cli.main([command, "--data", str(tmp_path), "--set", "none", "--out", str(tmp_path / "out")]) == 2
        assert f"error: no set 'none' in {tmp_path} (it has: none); --data" in capsys.readouterr().err
    assert cli.main(["curves", "--redraw", "--set", "none", "--out", str(tmp_path)]) == 2
    assert "no earlier run to draw" in capsys.readouterr().err


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
    rng = np.random.default_rng(11)
    centers = rng.standard_normal((30, 16)).astype(np.float32)
    rows = centers[rng.integers(30, size=1500)] + 0.3 * rng.standard_normal((1500, 16)).astype(np.float32)
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
    )
    assert "recall@10 " in printed and all(f"| {name}" in printed for name in ("partition", "scan", "rerank", "all"))


def test_growth_runs_at_every_size(tmp_path):
    pytest.importorskip("faiss", reason="PyPI faiss-cpu is not installed")
    given = ["--rows", "1000,2000", "--engines", "ours", "--repetitions", "1", "--recall", ".8"]
    printed = ran(sys.executable, str(ROOT / "bench" / "growth"), *given, "--out", str(tmp_path))
    table = (tmp_path / "growth.md").read_text()
    assert "| ours" in table and "1,000 | 2,000" in table and table in printed


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
