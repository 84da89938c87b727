"""All Python is as ruff and mypy want it (pyproject.toml); neither needs a network."""

import ast
import importlib.util
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FORMATTED = [
    "bench",
    "docs",
    "faiss_ext/python",
    "integrations",
    "packaging",
    "tests/package/wheel",
    "tests/python/test_bench.py",
    "tests/python/test_style.py",
]
# without .py
PROGRAMS = {
    "calibration",
    "codes",
    "concurrent",
    "curves",
    "growth",
    "promise",
    "stages",
    "streaming",
    "threads",
    "threshold",
    "tiers",
}


def run(tool, *arguments):
    if importlib.util.find_spec(tool) is None:
        pytest.skip(f"PyPI {tool} is not installed")
    done = subprocess.run(
        [sys.executable, "-m", tool, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    return done.returncode, done.stdout + done.stderr


def test_ruff_has_no_complaint():
    programs = [f"bench/{name}" for name in sorted(PROGRAMS)]
    code, text = run(
        "ruff",
        "check",
        "--output-format",
        "concise",
        "bench",
        "docs",
        "examples",
        "faiss_ext",
        "integrations",
        "packaging",
        "tests",
        *programs,
    )
    assert code == 0, text


def test_ruff_would_format_nothing():
    code, text = run("ruff", "format", "--check", *FORMATTED)
    assert code == 0, text


def test_mypy_finds_no_error():
    code, text = run("mypy")
    assert code == 0, text
    assert "no issues found in" in text


def test_mypy_finds_errors(tmp_path):
    """The options of pyproject.toml are read: what has no types is an error."""
    (tmp_path / "wrong.py").write_text("def f(x):\n    return x\n\n\nf(1) + ''\n")
    code, text = run("mypy", str(tmp_path / "wrong.py"))
    assert code == 1 and "no-untyped-def" in text, text


def test_programs_without_a_suffix_are_known():
    """Those that ruff would not find by itself."""
    heads = {path.name: path.read_bytes()[:40] for path in (ROOT / "bench").iterdir() if path.is_file()}
    assert {name for name, head in heads.items() if head.startswith(b"#!") and b"python" in head} == PROGRAMS


def functions_of(path):
    """(name, number of lines) of each function in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, node.end_lineno - node.lineno + 1


def test_files_and_functions_of_bench_are_short():
    for path in (ROOT / "bench").rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 500, path
        for name, lines in functions_of(path):
            assert lines <= 60, f"{path}: {name} has {lines} lines"
