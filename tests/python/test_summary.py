"""tests/summary.py: nothing that went wrong in a part of tests/run is lost."""

import pathlib
import re
import subprocess
import sys

import pytest

SUMMARY = pathlib.Path(__file__).resolve().parents[1] / "summary.py"


def cases(*tests, seconds=0.5):
    """JUnit results; a test is (name, what is inside of its element) or, of CTest, with a status too."""
    lines = [f'<testcase name="{name}" classname="{name}" time="{seconds}" status="{status[0] if status else ""}">'
             f"{inside}</testcase>" for name, inside, *status in tests]
    return "<testsuite>" + "".join(lines) + "</testsuite>"


GOOD = ("good", "")
BAD = ("bad", '<failure message=""/>')
SKIP = ("skip", '<skipped message="SKIP_RETURN_CODE=77"/>', "notrun")
LOST = ("lost", '<skipped message="Unable to find executable"/>', "notrun")
ERROR = ("error", '<error message="fixture"/>')


def summary(folder, *parts):
    done = subprocess.run([sys.executable, SUMMARY, folder, *parts], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    counts = re.fullmatch(r"tests: (\d+) passed, (\d+) failed, (\d+) skipped", done.stdout.splitlines()[-1])
    return done.returncode, tuple(map(int, counts.groups())), done.stdout


@pytest.mark.parametrize("report, results, code, counts, text", [
    ("ran\n", cases(GOOD, GOOD, SKIP), 0, (2, 0, 1), "passed: 2 passed"),
    ("tests failed\n", cases(GOOD, BAD), 1, (1, 1, 0), "failed: 1 passed, 1 failed"),
    ("tests failed\n", cases(GOOD, ERROR), 1, (1, 1, 0), "failed"),
    ("tests failed\n", cases(GOOD), 1, (1, 1, 0), "tests failed"),  # the runner knows more than its file
    ("tests failed\n", cases(GOOD, LOST), 1, (1, 1, 0), "failed"),
    ("did not compile (log)\ntests failed\n", cases(GOOD, LOST), 1, (1, 2, 0), "did not compile (log)"),
    ("did not compile (log)\nran\n", cases(GOOD), 1, (1, 1, 0), "did not compile (log)"),
    ("failed without results\n", None, 1, (0, 1, 0), "failed without results"),
    ("could not be set up (log)\n", None, 1, (0, 1, 0), "could not be set up (log)"),
    ("tests failed\n", "<testsuite><testcase", 1, (0, 1, 0), "part.xml: "),
    ("skipped: another machine\n", None, 0, (0, 0, 1), "skipped: another machine"),
    ("ran\n", cases(), 1, (0, 1, 0), "no test ran"),
    ("ran\n", None, 1, (0, 1, 0), "no test ran"),
    ("", None, 1, (0, 1, 0), "ended before its tests"),
    (None, cases(GOOD), 1, (1, 1, 0), "ended before its tests"),
])
def test_one_part(tmp_path, report, results, code, counts, text):
    for name, written in (("part.part", report), ("part.xml", results)):
        if written is not None:
            (tmp_path / name).write_text(written)
    assert summary(tmp_path, "part")[:2] == (code, counts)
    assert text in summary(tmp_path, "part")[2]


def test_a_part_hides_no_other(tmp_path):
    (tmp_path / "a.part").write_text("could not be set up (log)\n")
    (tmp_path / "b.part").write_text("ran\nran\n")
    (tmp_path / "b.xml").write_text(cases(GOOD))
    (tmp_path / "b.more.xml").write_text(cases(("slow", ""), seconds=7))
    code, counts, text = summary(tmp_path, "a", "b")
    assert (code, counts) == (1, (2, 1, 0))
    assert re.search(r"a +failed: 0 passed, 1 failed, 0 skipped; could not be set up", text)
    assert re.search(r"b +passed: 2 passed", text)
    assert re.search(r"7\.0  b +slow\n +0\.5  b +good\n", text)  # slowest first
