"""Folders of the repository that the benchmarks read and write, files that appear whole, and what is said where
something is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

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


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write that has its name only when all of it is on the disk; none is left after an error."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
