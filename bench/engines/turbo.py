"""turbovec (PyPI): TurboQuant codes of all rows, scanned; no partition, no raw rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.datasets import Metric, Rows, float_pieces, floats
from bench.engines.base import Callers, Engine, Memory, of_length_one, stay_on_one_cpu
from bench.folders import Unavailable
from bench.points import Parameters

SAMPLE = 2048  # random rows that calibrate() wants, by the manual


class Turbovec(Engine):
    """Build parameter `bit_width`; a search has no parameters."""

    module = package = "turbovec"

    @staticmethod
    def builds(n: int, d: int, metric: Metric) -> list[Parameters]:
        return [{"bit_width": bits} for bits in (4, 2)]

    def settings(self, k: int) -> list[Parameters]:
        return [{"k": k}]

    def build(self, x: Rows, metric: Metric, threads: int) -> None:
        n, d = x.shape
        if metric == "l2" and not of_length_one(x):
            raise Unavailable("turbovec has inner products only")
        if d % 8:
            raise Unavailable(f"turbovec has no codes of {d} dimensions (allowed: multiples of 8)")
        self.index = self.lib.TurboQuantIndex(dim=d, bit_width=self.params["bit_width"])
        sample = np.sort(np.random.default_rng(1).choice(n, min(n, SAMPLE), replace=False))
        self.index.calibrate(floats(x[sample]))
        for piece in float_pieces(x):
            self.index.add(piece)
        self.index.prepare()

    def one_thread(self) -> None:
        stay_on_one_cpu()

    def memory(self) -> Memory:
        return Memory(len(self.index.to_bytes()), "stored bytes")

    def callers(self, k: int, setting: Parameters) -> Callers:
        search = self.index.search
        return Callers(lambda row: search(row[None], k), lambda q: search(q, k))

    def ids(self, answer: Any) -> Any:
        return answer[1]
