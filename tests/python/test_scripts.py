"""Scripts of the tree: a wrong argument is answered by a line that says what is right, before any work."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

WRONG = [
    ("bench/demo --fast", "unknown option '--fast' (allowed: words"),
    ("bench/demo coffee -x", "unknown option '-x'"),
    ("bench/kernels everything", "unknown argument 'everything' (allowed: options of Google Benchmark"),
    ("bench/siftset here", "unknown argument 'here' (allowed: --rows"),
    ("bench/siftset --rows 0", "--rows 0 (allowed: 1 and more)"),
    ("bench/siftset --side high", "--side 'high' (allowed: a whole number)"),
    ("bench/siftset --packages", "--packages needs a value"),
    ("bench/textset --data", "unknown argument '--data' (allowed: --model, a folder"),
    ("bench/textset a b", "2 folders (allowed: one)"),
    ("bench/textset --model", "--model '' (allowed: minilm, mpnet)"),
    ("bench/textset --model bert", "--model 'bert' (allowed: minilm, mpnet)"),
    ("bench/vectordbbench --only nowhere", "--only 'nowhere' (allowed: client, server"),
    ("bench/vectordbbench --only", "--only needs client, server"),
    ("bench/vectordbbench --wheel none.whl", "--wheel 'none.whl' is no file"),
    ("docs/build --online", "unknown argument '--online'"),
    ("docs/build --offline --here", "unknown argument '--here'"),
    ("docs/build a b", "2 folders (allowed: one)"),
    ("integrations/milvus/check", "usage: check LIBRARY..."),
    ("integrations/milvus/check none.so", "none.so: no such file"),
    ("integrations/make_dataset.py . none/x.hdf5 --set x", "none: no such folder"),
    ("integrations/make_dataset.py . x.hdf5 --set x --rows -1", "--rows -1 --queries 0 (allowed: >= 0)"),
    ("integrations/milvus/smoke.py http://localhost --dim 3", "an even number of dimensions"),
    ("integrations/milvus/smoke.py http://localhost --metrics L7", "--metrics L7 (allowed: some of COSINE,L2,IP)"),
    ("integrations/vectordbbench/apply.py tests", "tests holds no folder vectordb_bench"),
    ("packaging/check_wheel.py none.whl", "none.whl: no such file"),
    ("packaging/check_wheel.py README.md", "README.md: no wheel"),
    ("packaging/chroot bookworm", "usage: packaging/chroot"),
    ("packaging/chroot buster true", "unknown suite 'buster': bookworm or trixie"),
    ("packaging/chroot --file none bookworm true", "--file needs a file that exists, not 'none'"),
    ("packaging/chroot --get x bookworm true", "--get needs PATH=TO, not 'x'"),
    ("packaging/deb --output", "--output needs a folder"),
    ("packaging/deb here", "unknown argument 'here'"),
    ("packaging/release --output", "--output needs a folder"),
    ("packaging/release python7", "'python7' is no Python"),
    ("packaging/repair-wheel a.whl", "usage: packaging/repair-wheel WHEEL OUTPUT [TOOLS]"),
    ("packaging/repair-wheel none.whl out", "'none.whl' is no wheel"),
    ("packaging/sdist --test", "--test '' (allowed: bookworm, trixie)"),
    ("packaging/sdist --test buster", "--test 'buster' (allowed: bookworm, trixie)"),
    ("packaging/test-deb buster", "unknown suite 'buster' (allowed: bookworm, trixie)"),
    ("packaging/test-deb --packages", "--packages needs a folder"),
    ("packaging/test-deb --packages docs", "no .deb files in docs"),
    ("packaging/test-wheel", "usage: packaging/test-wheel"),
    ("packaging/test-wheel README.md", "'README.md' is no wheel"),
    ("packaging/test-wheel --suite buster", "--suite 'buster' (allowed: bookworm, trixie)"),
    ("packaging/wheel python7", "'python7' is no Python 3.9 or newer"),
    ("packaging/wheel --output", "--output needs a folder"),
    ("tests/fuzz/run", "how many minutes?"),
    ("tests/fuzz/run 0", "0 minutes (allowed: 1 and more)"),
    ("tests/fuzz/run 1 everything", "unknown argument 'everything' (allowed: minutes; index_file"),
    ("tests/run --only", "--only needs parts, such as cpp,python"),
    ("tests/run --only=,", "--only needs parts, such as cpp,python"),
    ("tests/run --only c", "unknown part 'c'; parts: cpp, python"),
    ("tests/tidy --junit", "--junit needs a file"),
    ("tests/tidy everything", "unknown argument 'everything'"),
]


@pytest.mark.parametrize("command, said", WRONG, ids=[command for command, _ in WRONG])
def test_a_wrong_argument_gets_a_line(command, said):
    script, *arguments = command.split()
    program = [sys.executable] if script.endswith(".py") else []
    done = subprocess.run([*program, ROOT / script, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert done.returncode in (1, 2) and said in done.stderr, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""


SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for folder in ("bench", "docs", "packaging", "tests", "tests/fuzz")
    for path in (ROOT / folder).iterdir()
    if path.is_file() and not path.suffix and path.read_bytes().startswith(b"#!/usr/bin/env bash")
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_explains_itself(script):
    done = subprocess.run([ROOT / script, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert script in done.stdout and len(done.stdout.splitlines()) > 4, done.stdout
