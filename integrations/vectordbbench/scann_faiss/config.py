from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from vectordb_bench.backend.clients.api import DBCaseConfig, DBConfig, MetricType


class ScannFaissConfig(DBConfig):
    """Where the files are."""

    path: str

    def to_dict(self) -> dict[str, Any]:
        return {"path": self.path}


class ScannFaissIndexConfig(BaseModel, DBCaseConfig):
    """Parameters of SCANN by Milvus' names; what is None is left to the index."""

    nlist: int = 1024
    with_raw_data: bool = True
    sub_dim: int | None = None
    refine_type: str | None = None
    soar_lambda: float | None = None
    nprobe: int = 32
    reorder_k: int | None = None
    target_recall: float | None = None  # instead of nprobe and reorder_k
    build_threads: int = 0  # 0: as many as there are processors
    metric_type: MetricType | None = None  # set by VectorDBBench, from the data

    def _given(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def index_param(self) -> dict[str, Any]:
        params = self._given("nlist", "with_raw_data", "sub_dim", "refine_type", "soar_lambda", "target_recall")
        return {"index_type": "SCANN", "params": params}

    def search_param(self) -> dict[str, Any]:
        names = ("nprobe", "reorder_k") if self.target_recall is None else ("target_recall",)
        return {"params": self._given(*names)}
