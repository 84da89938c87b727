"""Google's ScaNN: tree, 4-bit codes of 2 dimensions, exact reordering."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from bench.datasets import Metric, Rows, floats
from bench.engines.base import NPROBES, REORDERS, Callers, Engine, Memory, stored_bytes, usual_nlist
from bench.points import Parameters


def threshold(eta: float, d: int, length: float = 1.0) -> float:
    """ScaNN's T that means eta for vectors of this length: limit formula."""
    return length * float(np.sqrt(eta / (d - 1 + eta)))


class GoogleScann(Engine):
    """For L2 the library has neither residual codes, eta nor SOAR."""

    module = package = "scann"

    @staticmethod
    def builds(n: int, d: int, metric: Metric) -> list[Parameters]:
        leaves = usual_nlist(n)
        if metric == "l2":
            return [{"leaves": m, "eta": None, "soar": None} for m in (leaves // 2, leaves)]
        return [
            {"leaves": leaves, "eta": 4, "soar": 1.5},
            {"leaves": leaves // 2, "eta": 4, "soar": 1.5},
            {"leaves": leaves, "eta": 4, "soar": None},
        ]

    def setting(self, k: int, leaves: int, candidates: int) -> Parameters:
        return {"leaves": leaves, "reorder": candidates}

    def settings(self, k: int) -> list[Parameters]:
        leaves = self.params["leaves"]
        return [self.setting(k, p, r) for p, r in product(NPROBES, REORDERS) if p <= leaves and r >= k]

    def builder(self, x: Rows, metric: Metric, threads: int) -> Any:
        """Of an index of x."""
        p, d = self.params, x.shape[1]
        # T is meant for vectors of one length; ours have length 1 under "ip".
        t = threshold(p["eta"], d) if p["eta"] else float("nan")
        measure = "squared_l2" if metric == "l2" else "dot_product"
        builder = self.lib.scann_ops_pybind.builder(floats(x), 10, measure)
        builder = builder.set_n_training_threads(threads)
        builder = builder.tree(p["leaves"], 16, training_sample_size=min(len(x), 250000), soar_lambda=p["soar"])
        builder = builder.score_ah(p.get("dims", 2), anisotropic_quantization_threshold=t)
        return builder.reorder(100)

    def build(self, x: Rows, metric: Metric, threads: int) -> None:
        self.index = self.builder(x, metric, threads).build()

    def one_thread(self) -> None:
        self.index.set_num_threads(1)

    def memory(self) -> Memory:
        return Memory(stored_bytes(self.index.serialize), "stored files")

    def callers(self, k: int, setting: Parameters) -> Callers:
        # The bound object below the wrapper saves a Python frame a query.
        searcher: Any = self.index.searcher
        reorder, leaves = setting["reorder"], setting["leaves"]
        return Callers(
            lambda row: searcher.search(row, k, reorder, leaves),
            lambda q: searcher.search_batched(q, k, reorder, leaves, False, 0),
        )
