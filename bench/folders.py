"""Folders of the repository that the benchmarks read and write, and what is said where something is missing."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
TEST_DATA = REPOSITORY / "tests" / "data"
RESULTS = REPOSITORY / "build" / "bench"
DISKANN_PYTHON = REPOSITORY / "build" / "venv-diskann" / "bin" / "python"
MILVUS_BINARIES = REPOSITORY / "build" / "milvus"


def default_data() -> Path:
    """The folder of the sets where --data is not given."""
    return Path(os.environ.get("FAISS_EXT_BENCH_DATA") or TEST_DATA)


class Unavailable(RuntimeError):
    """What a command needs is not there; the text says how to get it."""
