"""DiskANN's graph in memory (PyPI diskannpy); its index on disk is in on_disk.py."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np

from bench.datasets import Metric, Rows, floats
from bench.engines.base import Callers, Memory, folder_bytes, of_length_one
from bench.engines.graphs import Graph
from bench.engines.on_disk import refuse_numpy_2
from bench.folders import DISKANN_PYTHON
from bench.points import Parameters


class Vamana(Graph):
    """Build parameters by diskannpy's names; rows of bytes stay bytes for L2."""

    module = package = "diskannpy"
    python = DISKANN_PYTHON

    def __init__(self, params: Parameters):
        refuse_numpy_2()
        super().__init__(params)

    @staticmethod
    def builds(n: int, d: int, metric: Metric) -> list[Parameters]:
        return [{"graph_degree": degree, "complexity": 100, "alpha": 1.2} for degree in (64, 32)]

    def build(self, x: Rows, metric: Metric, threads: int) -> None:
        self.folder = tempfile.mkdtemp()
        rows = np.ascontiguousarray(x) if metric == "l2" else floats(x)
        self.count, self.dtype = len(rows), rows.dtype
        self.lib.build_memory_index(
            rows,
            "l2" if metric == "l2" or of_length_one(x) else "mips",
            self.folder,
            num_threads=threads,
            use_pq_build=False,
            num_pq_bytes=0,
            use_opq=False,
            **self.params,
        )
        widest = self.settings(1)[-1]["ef"]
        self.index = self.lib.StaticMemoryIndex(self.folder, num_threads=1, initial_search_complexity=widest)

    def memory(self) -> Memory:
        return Memory(folder_bytes(self.folder), "stored files")

    def callers(self, k: int, setting: Parameters) -> Callers:
        index, width, kind = self.index, setting["ef"], self.dtype
        return Callers(
            lambda row: index.search(row.astype(kind, copy=False), k, width).identifiers,
            lambda q: index.batch_search(q.astype(kind, copy=False), k, width, 1).identifiers,
        )

    def ids(self, answer: Any) -> Any:
        found = np.asarray(answer, dtype=np.int64)
        return np.where(found < self.count, found, -1)
