"""Alibaba's zvec (PyPI): graphs and IVF in a collection of files, opened to read."""

from __future__ import annotations

import tempfile
from itertools import product
from typing import Any

import numpy as np

from bench.datasets import Metric, Rows, floats
from bench.engines.base import NPROBES, WIDTHS, Callers, Engine, Memory, folder_bytes, usual_nlist
from bench.points import Parameters

INSERTED = 1000  # documents a call; the library refuses more than 1,024
FIELD = "vector"
LEAST_RABITQ = 64  # dimensions


class Zvec(Engine):
    """Build parameter `index`, the beginning of the names of the library's classes; the rest are their arguments."""

    module = package = "zvec"

    @staticmethod
    def builds(n: int, d: int, metric: Metric) -> list[Parameters]:
        # By the library's notes the uniform quantiser is the faster one; it has no inner product.
        codes = "UNIFORM_UINT8" if metric == "l2" else "INT8"
        quantized = {"quantize_type": codes, "use_contiguous_memory": True}
        builds: list[Parameters] = [
            {"index": "Hnsw", "m": 16, "ef_construction": 500, **quantized},
            {"index": "Hnsw", "m": 50, "ef_construction": 500, **quantized},  # the defaults
        ]
        if metric == "l2":  # by inner product its recall stays at .56 where HNSW has 1
            builds.append({"index": "Vamana", "max_degree": 64, "search_list_size": 100, **quantized})
        if d >= LEAST_RABITQ:
            builds.append({"index": "IvfRabitq", "nlist": usual_nlist(n), "total_bits": 7})
        return builds

    def settings(self, k: int) -> list[Parameters]:
        if "nlist" in self.params:
            probes = [p for p in NPROBES if p <= self.params["nlist"]]
            return [{"nprobe": p, "refine": on} for p, on in product(probes, (False, True))]
        return [{"ef": ef, "refine": on} for ef, on in product(WIDTHS, (False, True)) if ef >= k]

    def build(self, x: Rows, metric: Metric, threads: int) -> None:
        lib, p = self.lib, dict(self.params)
        lib.init(query_threads=1, optimize_threads=threads, log_level=lib.LogLevel.ERROR)
        self.name = p.pop("index")
        if "quantize_type" in p:
            p["quantize_type"] = getattr(lib.QuantizeType, p["quantize_type"])
            # of what refines the candidates
            p["flat_data_type"] = lib.DataType.VECTOR_UINT8 if x.dtype == np.uint8 else lib.DataType.VECTOR_FP32
        kind = lib.MetricType.L2 if metric == "l2" else lib.MetricType.IP
        how = getattr(lib, f"{self.name}IndexParam")(metric_type=kind, **p)
        vectors = lib.VectorSchema(FIELD, lib.DataType.VECTOR_FP32, x.shape[1], index_param=how)
        self.folder = tempfile.mkdtemp() + "/collection"
        collection = lib.create_and_open(self.folder, lib.CollectionSchema(name="rows", vectors=vectors))
        for begin in range(0, len(x), INSERTED):
            piece = floats(x[begin : begin + INSERTED])
            for status in collection.insert(
                [lib.Doc(id=str(begin + i), vectors={FIELD: row}) for i, row in enumerate(piece)]
            ):
                if not status.ok():
                    raise RuntimeError(str(status))
        collection.optimize()
        collection.close()
        self.index = lib.open(self.folder, lib.CollectionOption(read_only=True))

    def memory(self) -> Memory:
        return Memory(folder_bytes(self.folder), "stored files, raw rows among them")

    def callers(self, k: int, setting: Parameters) -> Callers:
        width = "ef_search" if self.name == "Vamana" else next(iter(setting))
        given = {width: next(iter(setting.values())), "is_using_refiner": setting["refine"]}
        how = getattr(self.lib, f"{self.name}QueryParam")(**given)
        find, query = self.index.query_internal_ids, self.lib.Query
        return Callers(
            lambda row: find(query(FIELD, vector=row, param=how), topk=k),
            lambda q: [find(query(FIELD, vector=row, param=how), topk=k) for row in q],
        )

    def ids(self, answer: Any) -> Any:
        inner = np.asarray(answer)
        keys = self.index.resolve_internal_ids(inner.ravel())
        return np.array([-1 if key is None else int(key) for key in keys]).reshape(inner.shape)
