"""The logic of bench/: timing, points, tables and plots."""

import dataclasses
import json
import pathlib
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench import exact_scans, plots, points, speed_tables, tables, timing  # noqa: E402

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


def test_rows_that_are_compared_one_by_one_are_named():
    source = (ROOT / "knowhere_plugin" / "scann_parameters.h").read_text(encoding="utf-8")
    assert f"kExactRows = {exact_scans.OURS};" in source
    scanned = exact_scans.scanned
    assert scanned("SCANN", True, [2000], in_server=False) == 2000
    assert scanned("SCANN", True, [2048, 2049, 900], in_server=True) == 2948
    assert scanned("SCANN", False, [2000, 1023, 1024], in_server=True) == 1023
    assert scanned("IVF_FLAT", True, [2000], in_server=False) == 0
    assert [exact_scans.said(exact, 5000) for exact in (0, 900, 5000)] == ["-", "900 of 5,000 rows", "all 5,000 rows"]


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
