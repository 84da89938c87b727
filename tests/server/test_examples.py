"""examples/scann_in_milvus.py works with the server of these tests."""

import pathlib
import subprocess
import sys

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "scann_in_milvus.py"


def test_prints_what_it_says(server):
    done = subprocess.run([sys.executable, EXAMPLE, server.uri], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "nearest to row 0: 0\n"
