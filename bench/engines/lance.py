"""LanceDB (PyPI lancedb): indexes in files, raw rows beside them for refining."""

from __future__ import annotations

import importlib
import tempfile
from itertools import product
from math import sqrt
from typing import Any

import numpy as np

from bench.datasets import Metric, Rows, float_pieces
from bench.engines.base import NPROBES, WIDTHS, Callers, Engine, Memory, folder_bytes, stay_on_one_cpu
from bench.points import Parameters

REFINES = (0, 1, 4, 12, 40)  # refine_factor, 0 for none; more would make a sweep of such slow calls long
GRAPH = "HnswSq"


def sub_vectors(d: int) -> int:
    """As many as may have 8 dimensions each, which the manual prefers; 1 where 8 does not divide d."""
    return d // 8 if d % 8 == 0 else 1


class LanceDb(Engine):
    """Build parameter `index`, a class of lancedb.index; the rest are its arguments."""

    module = package = "lancedb"

    @staticmethod
    def builds(n: int, d: int, metric: Metric) -> list[Parameters]:
        lists = {"num_partitions": max(1, round(sqrt(n)))}  # the library's default
        return [
            {"index": GRAPH, "num_partitions": 1},
            {"index": "IvfPq", **lists, "num_sub_vectors": sub_vectors(d)},
            {"index": "IvfRq", **lists, "num_bits": 1},
            {"index": "IvfRq", **lists, "num_bits": 4},
        ]

    def settings(self, k: int) -> list[Parameters]:
        if self.params["index"] == GRAPH:
            return [{"ef": ef, "refine_factor": r} for ef, r in product(WIDTHS, REFINES[:3]) if ef >= k]
        probes = [p for p in NPROBES if p <= self.params["num_partitions"]]
        return [{"nprobes": p, "refine_factor": r} for p, r in product(probes, REFINES)]

    def build(self, x: Rows, metric: Metric, threads: int) -> None:
        pa: Any = importlib.import_module("pyarrow")
        d, self.kind = x.shape[1], "l2" if metric == "l2" else "dot"
        schema = pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float32(), d))])

        def batches() -> Any:
            begin = 0
            for piece in float_pieces(x):
                ids = pa.array(np.arange(begin, begin + len(piece)))
                vectors = pa.FixedSizeListArray.from_arrays(pa.array(piece.ravel()), d)
                yield pa.record_batch([ids, vectors], schema=schema)
                begin += len(piece)

        self.folder = tempfile.mkdtemp()
        reader = pa.RecordBatchReader.from_batches(schema, batches())
        self.index = self.lib.connect(self.folder).create_table("rows", reader)
        p = dict(self.params)
        config = getattr(importlib.import_module("lancedb.index"), p.pop("index"))
        self.index.create_index("vector", config=config(distance_type=self.kind, **p))
        numbers = self.index.search().select(["id", "_rowid"]).limit(len(x)).to_arrow()
        order = np.argsort(numbers["_rowid"].to_numpy())
        self.rowids, self.numbers = numbers["_rowid"].to_numpy()[order], numbers["id"].to_numpy()[order]

    def one_thread(self) -> None:
        stay_on_one_cpu()

    def memory(self) -> Memory:
        return Memory(folder_bytes(self.folder), "stored files, raw rows among them")

    def callers(self, k: int, setting: Parameters) -> Callers:
        def query(q: Any) -> Any:
            asked = self.index.search(q).distance_type(self.kind).limit(k).select(["_rowid", "_distance"])
            asked = asked.ef(setting["ef"]) if "ef" in setting else asked.nprobes(setting["nprobes"])
            asked = asked.refine_factor(setting["refine_factor"]) if setting["refine_factor"] else asked
            return asked.to_arrow()

        return Callers(query, lambda q: (len(q), query(q)))

    def ids(self, answer: Any) -> Any:
        """Of one query all rows of the answer; of many those with its number in `query_index`."""
        count, found = answer if isinstance(answer, tuple) else (1, answer)
        ids = self.numbers[np.searchsorted(self.rowids, found["_rowid"].to_numpy())]
        if not isinstance(answer, tuple):
            return ids
        owner = found["query_index"].to_numpy()
        return [ids[owner == i] for i in range(count)]
