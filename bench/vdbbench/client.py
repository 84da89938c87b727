"""The client of VectorDBBench 2 for indexes in process: ours, and others beside it.

It is the one of integrations/vectordbbench, for every type of indexes.py.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from vectordb_bench.backend.clients.api import DBCaseConfig, MetricType

from bench.datasets import Flags, Floats
from bench.vdbbench.indexes import TYPES, Searcher
from integrations.vectordbbench.scann_faiss.config import ScannFaissConfig as Config
from integrations.vectordbbench.scann_faiss.scann_faiss import RowFile, ScannFaiss

__all__ = ["CaseConfig", "Client", "Config", "RowFile"]


class CaseConfig(BaseModel, DBCaseConfig):
    """A type of indexes.TYPES and its parameters, by Milvus' names."""

    index: str = "SCANN"
    build: dict[str, Any] = {}
    search: dict[str, Any] = {}
    build_threads: int = 0  # 0: as many as there are processors
    metric_type: MetricType | None = None  # set by VectorDBBench, from the data

    def index_param(self) -> dict[str, Any]:
        return {"index_type": self.index, "params": self.build}

    def search_param(self) -> dict[str, Any]:
        return {"params": self.search}


class Client(ScannFaiss):
    """The same folder of files with an index of any type."""

    def build(self, rows: Floats, metric: str, threads: int) -> None:
        case = self.case_config
        TYPES[case.index].build(rows, metric, case.build, threads, self.index_file)

    def searcher(self, allowed: Flags | None) -> Searcher:
        case = self.case_config
        return TYPES[case.index].open(self.index_file, case.search, allowed)
