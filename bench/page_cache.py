"""What the system has of a file in memory, and how it loses that (Linux)."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

MADV_DONTNEED = 4


def _mapped(path: Path) -> Iterator[tuple[int, int]]:
    """(address, bytes) where this process maps the file."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and fields[5].rstrip("\n") == str(path):
                begin, end = (int(part, 16) for part in fields[0].split("-"))
                yield begin, end - begin


def forget(path: Path) -> None:
    """The system has nothing of the file in memory any more, unless another process maps it."""
    path = path.resolve()
    # The system keeps pages that are mapped; what is unmapped here comes back from the file.
    for address, size in _mapped(path):
        ctypes.CDLL(None).madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), MADV_DONTNEED)
    with open(path, "rb") as file:
        os.fdatasync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached_bytes(path: Path) -> int:
    """Bytes of the file that the system has in memory."""
    size = path.stat().st_size
    if size == 0:
        return 0
    with open(path, "rb") as file, mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) as mapped:
        page = mmap.PAGESIZE
        flags = np.zeros(-(-size // page), dtype=np.uint8)
        view = np.frombuffer(mapped, dtype=np.uint8)
        ctypes.CDLL(None).mincore(
            ctypes.c_void_p(view.ctypes.data), ctypes.c_size_t(size), ctypes.c_void_p(flags.ctypes.data)
        )
        del view  # or the mapping could not end
    return int((flags & 1).sum()) * page
