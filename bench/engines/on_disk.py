"""Indexes whose rows stay on disk: ours, Faiss' OnDiskInvertedLists, DiskANN (PyPI faiss-cpu, diskannpy).

In:  a base (n, d), a metric, a folder. Out: files in the folder; opened, one query a call.
Next: disk_worker.py builds and opens each in a process of its own and times it.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bench.datasets import Floats, Metric, Rows, floats
from bench.engines import faiss_indexes, ours
from bench.engines.base import NPROBES, WIDTHS, of_length_one, usual_nlist
from bench.folders import Unavailable
from bench.points import Parameters

REORDERS = (10, 16, 25, 40, 60, 100)
REFINES = (25, 50, 100, 200)
BEAMS = (2, 4, 8)
PREFETCHERS = (0, 4, 32)  # threads that Faiss starts in each search to touch the lists; its default is 32
GB = 1 << 30
INDEX, LISTS = "index", "lists"  # files in the folder


class OnDisk(ABC):
    """A library behind one face; `params` say how to build and how to open."""

    module: ClassVar[str]
    package: ClassVar[str] = ""  # to ask for the version; the module where empty

    def __init__(self, params: Parameters):
        self.params = params
        self.index: Any = None
        self.lib: Any = importlib.import_module(self.module)

    @abstractmethod
    def build(self, x: Rows, metric: Metric, threads: int, folder: Path) -> None:
        """Writes the files."""

    @abstractmethod
    def open(self, folder: Path) -> None:
        """Makes self.index, for one thread."""

    @abstractmethod
    def settings(self, k: int) -> list[list[Parameters]]:
        """Groups of search parameters worth trying, each by rising cost."""

    @abstractmethod
    def caller(self, k: int, setting: Parameters) -> Callable[[Any], Any]:
        """The call that is timed, of one query (d,); it answers ids."""

    def queries(self, rows: Floats) -> Any:
        """Queries (nq, d) as the call of the open index takes them."""
        return rows

    def version(self) -> str:
        return metadata.version(self.package or self.module)


def bound_without_rows(path: Path) -> int:
    """Bytes of memory in which all of our file fits but its raw rows."""
    columns = ours.library().column_bytes(path)
    model = path.stat().st_size - sum(column.memory for column in columns)
    return int(model + sum(column.memory for column in columns if column.column != "raw"))


class Ours(OnDisk):
    """Parameter `factory`; all but raw rows comes into memory."""

    module = "faiss_ext"

    def build(self, x: Rows, metric: Metric, threads: int, folder: Path) -> None:
        self.lib.write_index(ours.build_index(x, self.params["factory"], metric, threads), folder / INDEX)

    def open(self, folder: Path) -> None:
        self.lib.omp_set_num_threads(1)
        self.index = self.lib.read_index(folder / INDEX, memory=bound_without_rows(folder / INDEX))

    def settings(self, k: int) -> list[list[Parameters]]:
        refines = REFINES if ",SQ" in self.params["factory"] else (0,)
        pairs = [(r, f) for r, f in product(REORDERS, refines) if r >= k and (f == 0 or f >= 2 * r)]
        return [[self._setting(probe, f, r) for probe in NPROBES if probe <= self.index.nlist] for r, f in pairs]

    @staticmethod
    def _setting(nprobe: int, refine_k: int, reorder_k: int) -> Parameters:
        return {"nprobe": nprobe, **({"refine_k": refine_k} if refine_k else {}), "reorder_k": reorder_k}

    def caller(self, k: int, setting: Parameters) -> Callable[[Any], Any]:
        search = self.index.search
        return lambda row: search(row[None], k, **setting)[1][0]

    def version(self) -> str:
        return str(self.lib.__version__)


class FaissOnDisk(OnDisk):
    """IndexIVFFlat with OnDiskInvertedLists; memory has the centroids."""

    module, package = "faiss", "faiss-cpu"

    def build(self, x: Rows, metric: Metric, threads: int, folder: Path) -> None:
        merge = importlib.import_module("faiss.contrib.ondisk").merge_ondisk
        index = faiss_indexes.build_index(self.lib, x, f"IVF{usual_nlist(len(x))},Flat", metric, threads, {})
        part = folder / "part"
        self.lib.write_index(index, str(part))
        index.reset()
        merge(index, [str(part)], str(folder / LISTS))
        self.lib.write_index(index, str(folder / INDEX))
        part.unlink()

    def open(self, folder: Path) -> None:
        self.lib.omp_set_num_threads(1)
        self.index = self.lib.read_index(str(folder / INDEX), self.lib.IO_FLAG_READ_ONLY)

    def settings(self, k: int) -> list[list[Parameters]]:
        probes = [probe for probe in NPROBES if probe <= self.index.nlist]
        return [[{"nprobe": probe, "prefetch": threads} for probe in probes] for threads in PREFETCHERS]

    def caller(self, k: int, setting: Parameters) -> Callable[[Any], Any]:
        self.lib.downcast_InvertedLists(self.index.invlists).prefetch_nthread = setting["prefetch"]
        params = self.lib.SearchParametersIVF(nprobe=setting["nprobe"])
        return lambda row: self.index.search(row[None], k, params=params)[1][0]


def refuse_numpy_2() -> None:
    """diskannpy 0.7.0 then answers wrong ids without an error."""
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        raise Unavailable(f"diskannpy is built for numpy 1.25, not {np.__version__}")


class DiskAnn(OnDisk):
    """Parameters `pq_bytes` of all codes in memory, `cache_bytes` for nodes of the graph in memory."""

    module = "diskannpy"
    degree, complexity = 64, 100

    def __init__(self, params: Parameters):
        refuse_numpy_2()
        super().__init__(params)

    def build(self, x: Rows, metric: Metric, threads: int, folder: Path) -> None:
        # Rows of length 1 are ordered alike by both; "mips" would add a dimension.
        alike = metric == "ip" and of_length_one(x)
        rows = x if metric == "l2" else floats(x)
        np.save(folder / "type.npy", np.empty((0, x.shape[1]), rows.dtype))
        self.lib.build_disk_index(
            np.ascontiguousarray(rows),
            "l2" if alike or metric == "l2" else "mips",
            str(folder),
            complexity=self.complexity,
            graph_degree=self.degree,
            search_memory_maximum=self.params["pq_bytes"] / GB,
            build_memory_maximum=64.0,  # below what it needs it would build from parts
            num_threads=threads,
        )

    def open(self, folder: Path) -> None:
        rows = np.load(folder / "type.npy")
        node = rows.dtype.itemsize * rows.shape[1] + 4 * (self.degree + 1)
        # Given one thread 0.7.0 waits for ever in opening; a call uses one of the two.
        self.index = self.lib.StaticDiskIndex(
            str(folder), num_threads=2, num_nodes_to_cache=int(self.params["cache_bytes"] / node)
        )
        self.dtype = rows.dtype

    def queries(self, rows: Floats) -> Any:
        return rows.astype(self.dtype, copy=False)

    def settings(self, k: int) -> list[list[Parameters]]:
        widths = [width for width in WIDTHS if width >= k]
        return [[{"complexity": width, "beam_width": beam} for width in widths] for beam in BEAMS]

    def caller(self, k: int, setting: Parameters) -> Callable[[Any], Any]:
        search, complexity, beam = self.index.search, setting["complexity"], setting["beam_width"]
        return lambda row: search(row, k, complexity, beam).identifiers


ON_DISK: dict[str, type[OnDisk]] = {"ours": Ours, "faiss": FaissOnDisk, "diskann": DiskAnn}
