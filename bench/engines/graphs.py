"""Graphs: hnswlib, usearch, Intel's scalable-vs."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.datasets import Metric, Rows, float_pieces
from bench.engines.base import Callers, Engine, Memory, stored_bytes, width_settings
from bench.points import Parameters


class Graph(Engine):
    """Base: searches have one parameter, `ef`, the width."""

    def setting(self, k: int, ef: int, candidates: int) -> Parameters:
        return {"ef": ef}

    def settings(self, k: int) -> list[Parameters]:
        return width_settings(k)


class Hnswlib(Graph):
    """hnswlib."""

    module = package = "hnswlib"

    @staticmethod
    def builds(n: int, d: int, metric: Metric) -> list[Parameters]:
        return [{"M": m, "efConstruction": 200} for m in (16, 24)]

    def empty(self, d: int, metric: Metric, rows: int, **more: bool) -> Any:
        """An index with room for `rows`."""
        index = self.lib.Index(space=metric, dim=d)
        index.init_index(rows, M=self.params["M"], ef_construction=self.params["efConstruction"], **more)
        return index

    def build(self, x: Rows, metric: Metric, threads: int) -> None:
        self.index = self.empty(x.shape[1], metric, len(x))
        for piece in float_pieces(x):
            self.index.add_items(piece, num_threads=threads)

    def one_thread(self) -> None:
        self.index.set_num_threads(1)

    def memory(self) -> Memory:
        return Memory(self.index.index_file_size(), "reported file size")

    def callers(self, k: int, setting: Parameters) -> Callers:
        query = self.index.knn_query
        self.index.set_ef(setting["ef"])
        return Callers(lambda row: query(row, k), lambda q: query(q, k))


class Usearch(Graph):
    """usearch; i8 normalises every vector, so under L2 lengths are lost."""

    module = "usearch.index"
    package = "usearch"

    @staticmethod
    def builds(n: int, d: int, metric: Metric) -> list[Parameters]:
        return [{"dtype": t, "M": 16, "expansion_add": 128} for t in ("f32", "bf16", "i8")]

    def empty(self, d: int, metric: Metric, lookups: bool = False) -> Any:
        """An index without rows; `lookups`: of rows by their keys, which removing needs."""
        p = self.params
        return self.lib.Index(
            ndim=d,
            metric="l2sq" if metric == "l2" else "ip",
            dtype=p["dtype"],
            connectivity=p["M"],
            expansion_add=p["expansion_add"],
            enable_key_lookups=lookups,
        )

    def build(self, x: Rows, metric: Metric, threads: int) -> None:
        self.index = self.empty(x.shape[1], metric)
        begin = 0
        for piece in float_pieces(x):
            self.index.add(np.arange(begin, begin + len(piece)), piece, threads=threads)
            begin += len(piece)

    def memory(self) -> Memory:
        return Memory(self.index.memory_usage, "reported")

    def callers(self, k: int, setting: Parameters) -> Callers:
        self.index.expansion_search = setting["ef"]
        # The wrapper's search() costs more than some answers: call what it calls.
        query: Any = self.index._compiled.search_many
        return Callers(lambda row: query(row[None], k, False, 1), lambda q: query(q, k, False, 1))


class Svs(Graph):
    """Intel scalable-vs, Vamana graph; its LVQ codes refuse CPUs of others."""

    module = "svs"
    package = "scalable-vs"

    @staticmethod
    def builds(n: int, d: int, metric: Metric) -> list[Parameters]:
        common = {"window": 128, "alpha": 1.2 if metric == "l2" else 0.95}
        return [
            {"dtype": "float32", "degree": 64, **common},
            {"dtype": "float16", "degree": 32, **common},
            {"dtype": "float16", "degree": 64, **common},
        ]

    def build(self, x: Rows, metric: Metric, threads: int) -> None:
        p, lib = self.params, self.lib
        build = lib.VamanaBuildParameters(alpha=p["alpha"], graph_max_degree=p["degree"], window_size=p["window"])
        kind = lib.DistanceType.L2 if metric == "l2" else lib.DistanceType.MIP
        self.index = lib.Vamana.build(build, x.astype(p["dtype"]), kind, threads)

    def one_thread(self) -> None:
        self.index.num_threads = 1

    def memory(self) -> Memory:
        save = self.index.save
        size = stored_bytes(lambda folder: save(folder + "/config", folder + "/graph", folder + "/data"))
        return Memory(size, "stored files")

    def callers(self, k: int, setting: Parameters) -> Callers:
        self.index.search_window_size = setting["ef"]
        query = self.index.search
        return Callers(lambda row: query(row, k), lambda q: query(q, k))
