"""faiss_ext, the index of this repository."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.datasets import Flags, Metric, Rows
from bench.engines.base import NPROBES, REORDERS, Callers, Engine, Memory, usual_nlist
from bench.folders import Unavailable
from bench.points import Parameters

if TYPE_CHECKING:
    import faiss_ext as fx


def library() -> Any:
    """The installed package; beside it the folder of its sources would pass for one that is empty."""
    import faiss_ext

    if faiss_ext.__file__ is None:
        raise Unavailable("faiss_ext is not installed: bench/demo sets up build/venv with it")
    return faiss_ext


def trained_index(x: Rows, factory: str, metric: Metric, threads: int) -> fx.Index:
    """Trained on x, without rows."""
    lib = library()
    lib.omp_set_num_threads(threads)
    index: fx.Index = lib.index_factory(
        x.shape[1], factory, lib.METRIC_L2 if metric == "l2" else lib.METRIC_INNER_PRODUCT
    )
    index.train(x)
    return index


def build_index(x: Rows, factory: str, metric: Metric, threads: int) -> fx.Index:
    """Trained on x, with x added."""
    index = trained_index(x, factory, metric, threads)
    index.add(x)
    return index


class Ours(Engine):
    """Build parameter `factory`."""

    module = "faiss_ext"
    filters = True

    @staticmethod
    def builds(n: int, d: int, metric: Metric) -> list[Parameters]:
        # rescored candidates forgive coarser codes where there are many dimensions,
        # and copies in a second list then cost little
        coarse = "ScaNN(sub_dim={},soar_lambda=1)"
        usual, other = (8, 4) if d >= 512 else (4, 6)
        tails = [
            coarse.format(usual) + ",SQ8,RFlat",
            coarse.format(other) + ",SQ8,RFlat",
            coarse.format(usual) + ",RFlat",
        ]
        tails = (tails if d >= 128 else []) + ["ScaNN,SQ8,RFlat", "ScaNN,RFlat", "ScaNN,SQ8"]
        return [{"factory": f"IVF{usual_nlist(n)},{tail}"} for tail in tails]

    @classmethod
    def builds_of(cls, x: Rows, metric: Metric) -> list[Parameters]:
        builds = super().builds_of(x, metric)
        if x.dtype == np.uint8:
            return [{"factory": build["factory"].replace(",RFlat", ",RU8")} for build in builds]
        return builds

    def setting(self, k: int, nprobe: int, candidates: int) -> Parameters:
        # refine_k: candidates the 8-bit codes rescore; reorder_k: raw rows read.
        # With both stages the second reads a fifth of what the first passed.
        refine = ",SQ" in self.params["factory"]
        share = 5 if refine and self.params["factory"].endswith((",RFlat", ",RU8")) else 1
        return {"nprobe": nprobe, "refine_k": candidates, "reorder_k": max(k, candidates // share)}

    def settings(self, k: int) -> list[Parameters]:
        settings = [self.setting(k, p, r) for p, r in product(NPROBES, REORDERS) if p <= self.index.nlist and r >= k]
        if self.filter is None:
            return settings
        # 8 bytes a row: filters that few rows pass are then answered from these
        return [{**s, "direct_map": on} for on, s in product((False, True), settings)]

    def build(self, x: Rows, metric: Metric, threads: int) -> None:
        self.index = build_index(x, self.params["factory"], metric, threads)

    def one_thread(self) -> None:
        self.lib.omp_set_num_threads(1)

    def memory(self) -> Memory:
        return Memory(int(self.index.memory_usage()), "reported")

    def set_filter(self, allowed: Flags) -> None:
        self.filter = self.lib.Filter(allowed)

    def callers(self, k: int, setting: Parameters) -> Callers:
        search, setting = self.index.search, {**setting, "filter": self.filter}
        if "direct_map" in setting:
            self.index.make_direct_map(setting.pop("direct_map"))
        return Callers(lambda row: search(row[None], k, **setting), lambda q: search(q, k, **setting))

    def ids(self, answer: Any) -> Any:
        return answer[1]

    def version(self) -> str:
        return str(getattr(self.lib, "__version__", "unknown"))
