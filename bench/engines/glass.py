"""Zilliz' Glass: HNSW over codes.

Built by the user from zilliztech/pyglass: `pip install .` in its folder python, with pybind11 below 3. The glass of
PyPI makes catalogues of galaxies.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.datasets import Metric, Rows, floats
from bench.engines.base import Callers, Memory, stored_bytes
from bench.engines.graphs import Graph
from bench.folders import Unavailable
from bench.points import Parameters

BITS = {"": 0, "SQ4U": 4, "SQ8": 8, "SQ8U": 8, "FP16": 16}  # a dimension of a row's codes


class Glass(Graph):
    """Build parameters: `quant` while the graph is built, `search_quant`, `refine_quant` of candidates if not empty."""

    module = package = "glass"

    def __init__(self, params: Parameters):
        super().__init__(params)
        if not hasattr(self.lib, "Searcher"):
            raise Unavailable("this glass is not that of zilliztech/pyglass")

    @staticmethod
    def builds(n: int, d: int, metric: Metric) -> list[Parameters]:
        def of(links: int, search: str, refine: str) -> Parameters:
            return {"R": links, "L": 200, "quant": "SQ8U", "search_quant": search, "refine_quant": refine}

        # the last one is the configuration of the library's own example
        return [of(32, "SQ8", ""), of(32, "SQ8U", "FP16"), of(32, "SQ4U", "FP16"), of(48, "SQ4U", "FP16")]

    def build(self, x: Rows, metric: Metric, threads: int) -> None:
        p, rows = self.params, floats(x)
        self.lib.set_num_threads(threads)
        graph = self.lib.Index("HNSW", metric.upper(), p["quant"], p["R"], p["L"]).build(rows)
        # The searcher takes the graph away, and reports no bytes.
        links = stored_bytes(lambda folder: graph.save(str(Path(folder) / "graph")))
        codes = (BITS[p["search_quant"]] + BITS[p["refine_quant"]]) * rows.size // 8
        self.size = links + codes
        self.index = self.lib.Searcher(graph, rows, metric.upper(), p["search_quant"], p["refine_quant"])
        self.index.optimize(threads)

    def one_thread(self) -> None:
        self.lib.set_num_threads(1)

    def memory(self) -> Memory:
        return Memory(self.size, "stored graph, and codes by their width")

    def callers(self, k: int, setting: Parameters) -> Callers:
        self.index.set_ef(setting["ef"])
        index: Any = self.index
        return Callers(lambda row: index.search(row, k), lambda q: index.batch_search(q, k, 1))
