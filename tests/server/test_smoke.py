"""integrations/milvus/smoke.py: what a user runs against a server of any version."""

import pathlib
import subprocess
import sys

import pytest

SMOKE = pathlib.Path(__file__).parents[2] / "integrations" / "milvus" / "smoke.py"


def run(*arguments):
    return subprocess.run([sys.executable, SMOKE, *arguments], capture_output=True, text=True, timeout=600)


@pytest.mark.served("searches", "filtered", "ranges")
def test_every_step_passes(server):
    done = run(server.uri, "--rows", "5000", "--dim", "32", "--metrics", "L2,COSINE")
    assert done.returncode == 0, done.stdout + done.stderr
    *steps, last = done.stdout.splitlines()
    assert last == "2 of 2 metrics passed"
    assert [step.split()[0] for step in steps] == ["ok"] * (1 + 2 * 8), done.stdout
    assert done.stderr == ""
