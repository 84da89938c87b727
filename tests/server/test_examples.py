"""The programs for users of Milvus work with the server of these tests, and print what they say."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "scann_in_milvus.py"
TUTORIAL = ROOT / "docs" / "tutorials" / "8_in_milvus.py"
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def run(program, server):
    done = subprocess.run([sys.executable, program, server.uri], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_prints_what_it_says(server):
    assert run(EXAMPLE, server) == "nearest to row 0: 0\n"


def shown(program):
    """Lines of the blocks of output in the program's comments."""
    lines, inside = [], False
    for line in program.read_text(encoding="utf-8").splitlines():
        if line == "# .. code-block:: none":
            inside = True
        elif inside and line.startswith("#     "):
            lines.append(line[6:])
        elif line != "#":
            inside = False
    return lines


def test_the_tutorial_prints_what_its_page_shows(server):
    """The same words; figures may differ as far as sums do in another order."""
    printed, expected = run(TUTORIAL, server).splitlines(), shown(TUTORIAL)
    assert [NUMBER.sub("", line) for line in printed] == [NUMBER.sub("", line) for line in expected]
    for line, wanted in zip(printed, expected):
        figures, those = ([float(f) for f in NUMBER.findall(text)] for text in (line, wanted))
        assert figures == pytest.approx(those, abs=0.02), line
    assert len(expected) > 8
