"""The RaBitQ library: SymphonyQG and IVF with RaBitQ codes.

Built by the user from VectorDB-NTU/RaBitQ-Library: `pip install .` there.
"""

from __future__ import annotations

import importlib
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from bench.datasets import Floats, Metric, Rows, floats
from bench.engines.base import NPROBES, Callers, Engine, Memory, stored_bytes, usual_nlist
from bench.engines.graphs import Graph
from bench.folders import Unavailable
from bench.points import Parameters

LEAST_DIMENSION, MOST_DIMENSION = 64, 4095  # of its rotation: else it ends the process


class Rabitq(Engine):
    """Base of both: how they are stored, what they answer."""

    module = package = "rabitqlib"

    def build(self, x: Rows, metric: Metric, threads: int) -> None:
        d = x.shape[1]
        if not LEAST_DIMENSION <= d <= MOST_DIMENSION:
            raise Unavailable(f"rabitqlib rotates no {d} dimensions (allowed: {LEAST_DIMENSION}..{MOST_DIMENSION})")
        self.make(floats(x), metric, threads)

    @abstractmethod
    def make(self, rows: Floats, metric: Metric, threads: int) -> None:
        """Makes self.index."""

    def memory(self) -> Memory:
        save = self.index.save
        return Memory(stored_bytes(lambda folder: save(str(Path(folder) / "index"))), "stored files")

    def searching(self, k: int, width: int, *more: Any) -> Callers:
        """Calls with one parameter beside k."""
        search = self.index.search
        return Callers(lambda row: search(row[None], k, width, *more), lambda q: search(q, k, width, *more))

    def ids(self, answer: Any) -> Any:
        """Of rows that were not found the library says 0, so of each id only the first counts."""
        found = np.asarray(answer[0], dtype=np.int64)
        for row in found:
            first = np.unique(row, return_index=True)[1]
            row[~np.isin(np.arange(len(row)), first)] = -1
        return found


class SymphonyQg(Rabitq, Graph):
    """Build parameters `max_degree`, a multiple of 32, and `ef_construction`."""

    @staticmethod
    def builds(n: int, d: int, metric: Metric) -> list[Parameters]:
        return [{"max_degree": links, "ef_construction": width} for links, width in ((32, 200), (32, 400), (64, 400))]

    def make(self, rows: Floats, metric: Metric, threads: int) -> None:
        self.index = self.lib.SymqgIndex(rows.shape[1], self.params["max_degree"], metric)
        self.index.build(rows, self.params["ef_construction"], threads)

    def callers(self, k: int, setting: Parameters) -> Callers:
        return self.searching(k, setting["ef"], 1)


class RabitqIvf(Rabitq):
    """Build parameters `clusters`, by Faiss' k-means (faiss-cpu) as the library's samples do, and `bits`."""

    @staticmethod
    def builds(n: int, d: int, metric: Metric) -> list[Parameters]:
        return [{"clusters": usual_nlist(n), "bits": bits} for bits in (4, 5, 7)]

    def settings(self, k: int) -> list[Parameters]:
        return [{"nprobe": probe} for probe in NPROBES if probe <= self.params["clusters"]]

    def make(self, rows: Floats, metric: Metric, threads: int) -> None:
        faiss: Any = importlib.import_module("faiss")
        faiss.omp_set_num_threads(threads)
        (n, d), clusters = rows.shape, self.params["clusters"]
        kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
        partition = faiss.index_factory(d, f"IVF{clusters},Flat", kind)
        partition.train(rows)
        centroids = partition.quantizer.reconstruct_n(0, clusters)
        nearest = partition.quantizer.search(rows, 1)[1].ravel().astype(np.uint32)
        self.index = self.lib.IvfIndex(d, n, clusters, self.params["bits"], metric)
        self.index.build(rows, centroids, nearest)

    def callers(self, k: int, setting: Parameters) -> Callers:
        return self.searching(k, setting["nprobe"], True, 1)
