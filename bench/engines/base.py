"""What every adapter of a library gives, and the parameters that are tried.

In:  a base (n, d) of float32 or bytes, a metric ("ip" or "l2"), build parameters.
Out: an index that answers one query a call or all in one call, on one thread.
Next: worker.py runs an adapter in a process of its own and times it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bench.datasets import Flags, Floats, Ids, Metric, Rows, floats
from bench.ground_truth import padded
from bench.points import Parameters

# Values of the sweeps: lists probed, candidates rescored, width of a graph search.
NPROBES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
REORDERS = (10, 20, 40, 70, 100, 200, 400, 800)
WIDTHS = (10, 14, 20, 28, 40, 56, 80, 120, 160, 240, 320, 480, 640, 1000)


def usual_nlist(n: int) -> int:
    """The power of two nearest to 4 sqrt(n), the rule of IVF's users."""
    return int(2 ** round(np.log2(4 * np.sqrt(n))))


def width_settings(k: int) -> list[Parameters]:
    """Settings of a graph search."""
    return [{"ef": ef} for ef in WIDTHS if ef >= k]


def folder_bytes(folder: str | Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def stored_bytes(save: Callable[[str], object]) -> int:
    """Bytes of the files that save(folder) writes."""
    with tempfile.TemporaryDirectory() as folder:
        save(folder)
        return folder_bytes(folder)


def of_length_one(x: Rows) -> bool:
    """Whether the rows, as far as 1,000 of them tell, have length 1: inner product and L2 then order them alike."""
    sample = floats(x[:: max(1, len(x) // 1000)])
    return bool(np.allclose(np.linalg.norm(sample, axis=1), 1, atol=1e-3))


def stay_on_one_cpu() -> None:
    """For libraries whose pool of threads keeps the size it had in the build: all of them share one CPU from now on."""
    if not hasattr(os, "sched_setaffinity"):  # not Linux
        return
    cpu = max(os.sched_getaffinity(0))
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(thread), {cpu})


@dataclass(frozen=True)
class Memory:
    """Bytes of an index, and how they were found."""

    size: int
    kind: str


@dataclass(frozen=True)
class Callers:
    """The calls that are timed; what they answer, `Engine.ids` turns into ids afterwards."""

    one: Callable[[Floats], Any]  # of one query (d,)
    many: Callable[[Floats], Any]  # of all queries (nq, d)


class Engine(ABC):
    """A library behind one face."""

    module: ClassVar[str]  # to import
    package: ClassVar[str] = ""  # to ask for the version; the module where empty
    filters: ClassVar[bool] = False  # whether set_filter exists
    python: ClassVar[Path | None] = None  # of an environment of its own, if it needs one and the user has made it

    def __init__(self, params: Parameters):
        self.params = params
        self.index: Any = None
        self.filter: Any = None
        self.lib: Any = importlib.import_module(self.module)

    @staticmethod
    @abstractmethod
    def builds(n: int, d: int, metric: Metric) -> list[Parameters]:
        """Build parameters worth trying."""

    @classmethod
    def builds_of(cls, x: Rows, metric: Metric) -> list[Parameters]:
        """The same for these rows; a library that keeps bytes as bytes says so here."""
        return cls.builds(len(x), x.shape[1], metric)

    @abstractmethod
    def settings(self, k: int) -> list[Parameters]:
        """Search parameters worth trying, the first one outermost, each by rising cost."""

    @abstractmethod
    def build(self, x: Rows, metric: Metric, threads: int) -> None:
        """Makes self.index; a library that takes no bytes is given pieces of x as floats, if it can be."""

    def one_thread(self) -> None:  # noqa: B027 (most libraries need no call)
        """Called between build and search."""

    def set_filter(self, allowed: Flags) -> None:
        """From now on only rows whose flag in `allowed` (n,) is true may be found."""
        raise NotImplementedError(f"{type(self).__name__} has no filter")

    @abstractmethod
    def memory(self) -> Memory:
        """Size of the index; how much the process grew is measured outside."""

    @abstractmethod
    def callers(self, k: int, setting: Parameters) -> Callers:
        """The calls of a setting."""

    def ids(self, answer: Any) -> Any:
        """Ids in an answer of a call: (k,) or (nq, k)."""
        return answer[0]

    def version(self) -> str:
        return metadata.version(self.package or self.module)

    def search(self, q: Floats, k: int, setting: Parameters) -> Ids:
        """ids (nq, k), -1 where a library found fewer; untimed."""
        return padded(self.ids(self.callers(k, setting).many(q)), k)
