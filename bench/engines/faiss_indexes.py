"""Faiss' own indexes: 4-bit FastScan, IVF with raw rows, HNSW (PyPI faiss-cpu)."""

from __future__ import annotations

from abc import abstractmethod
from itertools import product
from typing import Any

import numpy as np

from bench.datasets import Flags, Floats, Metric, Rows, float_pieces, floats
from bench.engines.base import (
    NPROBES,
    REORDERS,
    Callers,
    Engine,
    Memory,
    stored_bytes,
    usual_nlist,
    width_settings,
)
from bench.points import Parameters

TRAINING = 256  # rows a list, as many as Faiss' k-means takes


def training_rows(x: Rows) -> Floats:
    """What an index is trained on: x, and of bytes no more than Faiss takes of them."""
    most = TRAINING * usual_nlist(len(x))
    if x.dtype == np.float32 or len(x) <= most:
        return floats(x)
    return floats(x[np.sort(np.random.default_rng(1).choice(len(x), most, replace=False))])


def trained_index(lib: Any, x: Rows, factory: str, metric: Metric, threads: int, params: Parameters) -> Any:
    """Trained on x, without rows; `params` may have HNSW's efConstruction."""
    lib.omp_set_num_threads(threads)
    index = lib.index_factory(x.shape[1], factory, lib.METRIC_L2 if metric == "l2" else lib.METRIC_INNER_PRODUCT)
    if "efConstruction" in params:
        index.hnsw.efConstruction = int(params["efConstruction"])
    index.train(training_rows(x))
    return index


def build_index(lib: Any, x: Rows, factory: str, metric: Metric, threads: int, params: Parameters) -> Any:
    """Trained on x, with x added."""
    index = trained_index(lib, x, factory, metric, threads, params)
    for piece in float_pieces(x):
        index.add(piece)
    return index


def selector(lib: Any, allowed: Flags | None) -> Any:
    """Faiss' selector of the rows whose flag is true; None for all."""
    return None if allowed is None else lib.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))


class Faiss(Engine):
    """Base of the three: build parameter `factory`."""

    module, package = "faiss", "faiss-cpu"
    filters = True

    @abstractmethod
    def parameters(self, setting: Parameters) -> Any:
        """Faiss' search parameters."""

    def set_filter(self, allowed: Flags) -> None:
        self.filter = selector(self.lib, allowed)

    def build(self, x: Rows, metric: Metric, threads: int) -> None:
        self.index = build_index(self.lib, x, self.params["factory"], metric, threads, self.params)

    def one_thread(self) -> None:
        self.lib.omp_set_num_threads(1)

    def memory(self) -> Memory:
        write = self.lib.write_index
        return Memory(stored_bytes(lambda folder: write(self.index, folder + "/index")), "stored files")

    def callers(self, k: int, setting: Parameters) -> Callers:
        # search_c skips the wrapper's checks and allocations, several us a query.
        index, pointer, params = self.index, self.lib.swig_ptr, self.parameters(setting)
        distance = np.empty(k, dtype=np.float32)
        distance_pointer = pointer(distance)

        def one(row: Floats, kept: Floats = distance) -> Any:  # `kept`: swig's pointers own nothing
            ids = np.empty(k, dtype=np.int64)
            index.search_c(1, pointer(row), k, distance_pointer, pointer(ids), params)
            return ids

        return Callers(one, lambda q: index.search(q, k, params=params)[1])

    def ids(self, answer: Any) -> Any:
        return answer


class FaissPQ(Faiss):
    """IVF, 4-bit PQ FastScan, raw rows reranked ("fsr": residual codes)."""

    @staticmethod
    def builds(n: int, d: int, metric: Metric) -> list[Parameters]:
        nlist = usual_nlist(n)
        factories = [f"IVF{nlist},PQ{d // 2}x4fsr", f"IVF{nlist},PQ{d // 2}x4fs", f"IVF{nlist // 2},PQ{d // 2}x4fsr"]
        return [{"factory": f"{factory},RFlat"} for factory in factories]

    def setting(self, k: int, nprobe: int, candidates: int) -> Parameters:
        more = {"k_factor": candidates / k} if "RFlat" in self.params["factory"] else {}
        return {"nprobe": nprobe, **more}

    def settings(self, k: int) -> list[Parameters]:
        factory = self.params["factory"]
        # Asked for more lists than there are, residual FastScan finds next to nothing.
        probes = [p for p in NPROBES if p <= int(factory.partition(",")[0].removeprefix("IVF"))]
        if "RFlat" not in factory:
            return [self.setting(k, p, k) for p in probes]
        return [self.setting(k, p, r) for p, r in product(probes, REORDERS) if r >= k]

    def parameters(self, setting: Parameters) -> Any:
        lists = self.lib.SearchParametersIVF(nprobe=setting["nprobe"], sel=self.filter)
        if "k_factor" not in setting:
            return lists
        return self.lib.IndexRefineSearchParameters(k_factor=setting["k_factor"], base_index_params=lists)


class FaissIVFFlat(FaissPQ):
    """IVF with raw rows."""

    @staticmethod
    def builds(n: int, d: int, metric: Metric) -> list[Parameters]:
        nlist = usual_nlist(n)
        return [{"factory": f"IVF{m},Flat"} for m in (nlist, nlist // 2)]


class FaissHNSW(Faiss):
    """Faiss' HNSW, 32 links."""

    @staticmethod
    def builds(n: int, d: int, metric: Metric) -> list[Parameters]:
        return [{"factory": "HNSW32,Flat", "efConstruction": 200}]

    def settings(self, k: int) -> list[Parameters]:
        return width_settings(k)

    def parameters(self, setting: Parameters) -> Any:
        return self.lib.SearchParametersHNSW(efSearch=setting["ef"], sel=self.filter)
