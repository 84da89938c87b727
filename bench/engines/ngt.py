"""Yahoo's NGT (PyPI ngt): ANNG and ONNG.

QG and QBG, its graphs over codes, are made by programs that the package does not have.
"""

from __future__ import annotations

import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from bench.datasets import Metric, Rows, float_pieces
from bench.engines.base import Callers, Engine, Memory, folder_bytes, of_length_one
from bench.points import Parameters

EPSILONS = (-0.2, -0.1, -0.05, -0.02, 0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.2, 0.3)
ALL_EDGES, BY_DEPTH = 0, -2  # edge_size of a search
DEFAULT_EDGES = 40


class Ngt(Engine):
    """Build parameters: `graph`, `edges` of a new node, `object`, the type of rows; rows of bytes stay bytes."""

    module, package = "ngtpy", "ngt"

    @staticmethod
    def builds(n: int, d: int, metric: Metric) -> list[Parameters]:
        # ONNG as in the library's manual: -E 100, then -o 10 -i 120
        onng = {"graph": "ONNG", "edges": 100, "outgoing": 10, "incoming": 120}
        return [{**onng, "object": "Float"}, {**onng, "object": "Float16"}, {"graph": "ANNG", "edges": 10}]

    def settings(self, k: int) -> list[Parameters]:
        edges = (ALL_EDGES if self.params["graph"] == "ONNG" else DEFAULT_EDGES, BY_DEPTH)
        return [{"edge_size": e, "epsilon": epsilon} for e, epsilon in product(edges, EPSILONS)]

    def build(self, x: Rows, metric: Metric, threads: int) -> None:
        p, d = self.params, x.shape[1]
        onng = p["graph"] == "ONNG"
        folder = Path(tempfile.mkdtemp())
        self.path = folder / "anng"
        self.lib.create(
            str(self.path),
            d,
            edge_size_for_creation=p["edges"],
            edge_size_for_search=ALL_EDGES if onng else DEFAULT_EDGES,
            distance_type="L2" if metric == "l2" or of_length_one(x) else "Inner Product",
            object_type="Byte" if x.dtype == np.uint8 and metric == "l2" else p.get("object", "Float"),
        )
        index = self.lib.Index(str(self.path), log_disabled=True)
        for piece in float_pieces(x):
            index.batch_insert(piece, num_threads=threads)
        index.save()
        index.close()
        if onng:
            optimizer = self.lib.Optimizer(
                num_of_outgoings=p["outgoing"], num_of_incomings=p["incoming"], log_disabled=True
            )
            # The rest fits defaults of searches, which every search here replaces.
            optimizer.set_processing_modes(True, False, False, False)
            optimizer.execute(str(self.path), str(folder / "onng"))
            self.path = folder / "onng"
        self.index = self.lib.Index(str(self.path), read_only=True, log_disabled=True)

    def memory(self) -> Memory:
        return Memory(folder_bytes(self.path), "stored files")

    def callers(self, k: int, setting: Parameters) -> Callers:
        self.index.set(epsilon=setting["epsilon"], edge_size=setting["edge_size"])
        query = self.index.search
        return Callers(
            lambda row: query(row, k, with_distance=False),
            lambda q: [query(row, k, with_distance=False) for row in q],
        )

    def ids(self, answer: Any) -> Any:
        return answer
