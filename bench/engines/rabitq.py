"""The RaBitQ library (PyPI rabitqlib): SymphonyQG and IVF with RaBitQ codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.datasets import Metric, Rows, floats
from bench.engines.base import NPROBES, Callers, Engine, Memory, stored_bytes, usual_nlist
from bench.engines.graphs import Graph
from bench.points import Parameters

NONE = np.iinfo(np.uint32).max  # in the place of an id


class Rabitq(Engine):
    """Base of both: how they are stored, what they answer."""

    module = package = "rabitqlib"

    def memory(self) -> Memory:
        save = self.index.save
        return Memory(stored_bytes(lambda folder: save(str(Path(folder) / "index"))), "stored files")

    def searching(self, k: int, width: int) -> Callers:
        """Calls with one parameter beside k; their default is one thread."""
        search = self.index.search
        return Callers(lambda row: search(row[None], k, width), lambda q: search(q, k, width))

    def ids(self, answer: Any) -> Any:
        found = np.asarray(answer[0], dtype=np.int64)
        return np.where(found == NONE, -1, found)


class SymphonyQg(Rabitq, Graph):
    """Build parameters `max_degree`, a multiple of 32, `ef_construction` and `bits` of a stored value (0: float)."""

    @staticmethod
    def builds(n: int, d: int, metric: Metric) -> list[Parameters]:
        tried = ((32, 200, 0), (32, 400, 0), (64, 400, 0), (32, 400, 8))
        return [{"max_degree": links, "ef_construction": width, "bits": bits} for links, width, bits in tried]

    def build(self, x: Rows, metric: Metric, threads: int) -> None:
        p = self.params
        self.index = self.lib.SymqgIndex(x.shape[1], p["max_degree"], metric, p["bits"])
        self.index.build(floats(x), p["ef_construction"], threads)

    def callers(self, k: int, setting: Parameters) -> Callers:
        return self.searching(k, setting["ef"])


class RabitqIvf(Rabitq):
    """Build parameters `clusters`, by the library's own k-means, and `bits`; 32 are raw rows behind one bit."""

    @staticmethod
    def builds(n: int, d: int, metric: Metric) -> list[Parameters]:
        return [{"clusters": usual_nlist(n), "bits": bits} for bits in (4, 7, 32)]

    def settings(self, k: int) -> list[Parameters]:
        return [{"nprobe": probe} for probe in NPROBES if probe <= self.params["clusters"]]

    def build(self, x: Rows, metric: Metric, threads: int) -> None:
        lib, rows, clusters = self.lib, floats(x), self.params["clusters"]
        n, d = rows.shape
        exact = lib.FinalAssignmentMode.Exact
        partition = lib.RaBitQKMeans(d, clusters, num_threads=threads, final_assignment=exact)
        partition.train(rows)
        self.index = lib.IvfIndex(d, n, clusters, self.params["bits"], metric)
        self.index.build(rows, partition.centroids, partition.assignments, num_threads=threads)

    def callers(self, k: int, setting: Parameters) -> Callers:
        return self.searching(k, setting["nprobe"])
