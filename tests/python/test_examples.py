"""Each program in examples/ prints what its docstring says."""

import ast
import importlib.util
import pathlib
import re
import subprocess
import sys
import textwrap

import pytest

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
NEEDS = {"scann_in_milvus_lite": "milvus_lite", "scann_in_milvus": None}  # the latter runs in tests/server


def printed_by(docstring):
    found = re.search(r"^Prints::\n\n((?:    .*\n?)+)", docstring, re.M)
    assert found, "the docstring does not say what is printed"
    return textwrap.dedent(found[1]).strip()


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_prints_what_it_says(name, tmp_path):
    needed = NEEDS.get(name, "faiss_ext")
    if needed is None:
        pytest.skip("needs a server: tests/server/test_examples.py")
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"needs {needed}")
    path = EXAMPLES / f"{name}.py"
    # to files: a server that an example starts keeps its end of a pipe for a while
    printed, wrong = tmp_path / "stdout", tmp_path / "stderr"
    with printed.open("w") as out, wrong.open("w") as err:
        status = subprocess.run([sys.executable, path], cwd=tmp_path, stdout=out, stderr=err, timeout=300).returncode
    assert status == 0, wrong.read_text()
    assert printed.read_text().strip() == printed_by(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))))
