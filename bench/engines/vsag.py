"""VSAG's graph over codes (PyPI pyvsag).

Its Python calls give no error: a build or search that fails leaves the answer as it was allocated. It takes memory,
and writes it, in blocks of up to 128 MB.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bench.datasets import Metric, Rows, floats
from bench.engines.base import Callers, Memory, stored_bytes
from bench.engines.graphs import Graph
from bench.points import Parameters

# What the library's own benchmark gives SIFT and GIST; "nsw" is its default.
ODESCENT = {"graph_type": "odescent", "alpha": 1.2, "graph_iter_turn": 50, "neighbor_sample_rate": 0.2}
RERANKED = {"use_reorder": True, "precise_quantization_type": "fp32"}


class Vsag(Graph):
    """hgraph; build parameters are its index_param."""

    module = package = "pyvsag"

    @staticmethod
    def builds(n: int, d: int, metric: Metric) -> list[Parameters]:
        inserted = {"max_degree": 32, "ef_construction": 400}
        # By inner product ODescent with uniform codes (0.18.5) finds a third at ef = 100 where the others find .94.
        codes = "sq8_uniform" if metric == "l2" else "sq8"
        return [
            {"base_quantization_type": "sq8", **inserted},
            {"base_quantization_type": codes, "max_degree": 64, **ODESCENT},
            {"base_quantization_type": "sq4_uniform", **inserted, **RERANKED},
            {"base_quantization_type": "rabitq", "rabitq_use_fht": True, **inserted, **RERANKED},
        ]

    def build(self, x: Rows, metric: Metric, threads: int) -> None:
        self.count, d = x.shape
        asked = {"dtype": "float32", "metric_type": metric, "dim": d}
        self.index = self.lib.Index(
            "hgraph", json.dumps({**asked, "index_param": {**self.params, "build_thread_count": threads}})
        )
        self.index.build(floats(x).ravel(), np.arange(self.count), self.count, d)
        k = min(10, self.count)
        found = self.ids(self.callers(k, {"ef": 100}).one(floats(x[0])))
        if len(set(found[found >= 0])) < k:
            raise RuntimeError(f"pyvsag built no index of {self.params}")

    def memory(self) -> Memory:
        save = self.index.save
        return Memory(stored_bytes(lambda folder: save(str(Path(folder) / "index"))), "stored files")

    def callers(self, k: int, setting: Parameters) -> Callers:
        query, given = self.index.knn_search, json.dumps({"hgraph": {"ef_search": setting["ef"]}})
        return Callers(lambda row: query(row, k, given)[0], lambda q: [query(row, k, given)[0] for row in q])

    def ids(self, answer: Any) -> Any:
        found = np.asarray(answer)
        return np.where((found >= 0) & (found < self.count), found, -1)
