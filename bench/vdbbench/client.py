"""The client of VectorDBBench 2 that drives indexes in process, without a server.

VectorDBBench inserts, optimises and searches in processes of their own, so all
goes over a folder: inserting processes write rows, `optimize` builds one file of
them, searching processes open that file.
"""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from vectordb_bench.backend.clients.api import DBCaseConfig, DBConfig, MetricType, VectorDB
from vectordb_bench.backend.filter import FilterOp
from vectordb_bench.backend.payload import PayloadProfile

from bench.datasets import Flags, Floats, Ids
from bench.vdbbench.indexes import TYPES, Searcher


class Config(DBConfig):
    """Where the files are."""

    path: str

    def to_dict(self) -> dict[str, Any]:
        return {"path": self.path}


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


@dataclass(frozen=True)
class Inserted:
    """Rows of all inserting processes, by rising id; labels may be missing."""

    ids: Ids
    rows: Floats
    labels: NDArray[np.str_]


class RowFile:
    """Rows as one process inserts them: ids, vectors, labels, whole when closed.

    A process that dies leaves files ending in .part, which `read_all` refuses.
    """

    KINDS = ("ids", "rows", "labels")

    def __init__(self, folder: Path):
        self.stem = folder / f"insert-{os.getpid()}-{uuid.uuid4().hex}"
        self.files = {kind: open(f"{self.stem}.{kind}.part", "wb") for kind in self.KINDS}
        self.lock = threading.Lock()

    def append(self, rows: Floats, ids: Ids, labels: list[str]) -> None:
        with self.lock:
            self.files["rows"].write(np.ascontiguousarray(rows, dtype="<f4").tobytes())
            self.files["ids"].write(ids.astype("<i8").tobytes())
            self.files["labels"].write("".join(f"{label}\n" for label in labels).encode())

    def close(self) -> None:
        for kind, file in self.files.items():
            file.close()
            os.replace(f"{self.stem}.{kind}.part", f"{self.stem}.{kind}")

    @staticmethod
    def read_all(folder: Path, dim: int) -> Inserted:
        """What all processes have inserted."""
        broken = sorted(folder.glob("insert-*.part"))
        if broken:
            raise RuntimeError(f"an inserting process has died: {broken[0]} is not whole")
        stems = [path.with_suffix("") for path in sorted(folder.glob("insert-*.ids"))]
        if not stems:
            raise RuntimeError(f"nothing was inserted into {folder}")
        ids = np.concatenate([np.fromfile(f"{stem}.ids", dtype="<i8") for stem in stems])
        rows = np.concatenate([np.fromfile(f"{stem}.rows", dtype="<f4") for stem in stems]).reshape(-1, dim)
        labels = "".join(Path(f"{stem}.labels").read_text(encoding="utf-8") for stem in stems).splitlines()
        order = np.argsort(ids, kind="stable")
        if (np.diff(ids[order]) == 0).any():
            raise RuntimeError(f"an id was inserted twice into {folder}")
        return Inserted(ids[order], rows[order], np.asarray(labels)[order] if labels else np.empty(0, dtype=str))


class Client(VectorDB):
    """VectorDBBench's face of a folder with one index."""

    name = "ScannFaiss"
    thread_safe = True
    supported_filter_types = [FilterOp.NonFilter, FilterOp.NumGE, FilterOp.StrEqual]

    def __init__(
        self,
        dim: int,
        db_config: dict[str, Any],
        db_case_config: CaseConfig,
        collection_name: str = "collection",
        drop_old: bool = False,
        with_scalar_labels: bool = False,
        **_: object,
    ):
        self.dim = dim
        self.case_config = db_case_config
        self.folder = Path(db_config["path"]) / collection_name
        self.index_file = self.folder / "index"
        self.filters: Any = None
        self._close()
        if drop_old:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)

    def _close(self) -> None:
        self._inserted: RowFile | None = None
        self._search: Searcher | None = None
        self._ids: Ids | None = None  # of positions; None: ids are positions

    def __getstate__(self) -> dict[str, Any]:
        if self._inserted is not None or self._search is not None:
            raise TypeError("an open client does not go to another process")
        return dict(self.__dict__, _inserted=None, _search=None, _lock=None)

    @contextmanager
    def init(self) -> Iterator[None]:
        self._lock = threading.Lock()
        try:
            if self.index_file.exists():
                self._open()
            yield
            if self._inserted is not None:
                self._inserted.close()  # not after an error: the file stays .part
        finally:
            self._close()

    def need_normalize_cosine(self) -> bool:
        return True  # and the inner product of what comes then is the cosine

    def insert_embeddings(
        self, embeddings: list[list[float]], metadata: list[int], labels_data: list[str] | None = None, **_: object
    ) -> tuple[int, Exception | None]:
        try:
            with self._lock:
                if self._inserted is None:
                    self._inserted = RowFile(self.folder)
            rows = np.asarray(embeddings, dtype=np.float32).reshape(-1, self.dim)
            self._inserted.append(rows, np.asarray(metadata), list(labels_data or []))
        except (OSError, ValueError) as error:
            return 0, error
        return len(metadata), None

    def optimize(self, data_size: int | None = None) -> None:
        inserted = RowFile.read_all(self.folder, self.dim)
        if data_size is not None and len(inserted.ids) != data_size:
            raise RuntimeError(f"{len(inserted.ids)} rows were inserted, the data set has {data_size}")
        threads = self.case_config.build_threads or os.cpu_count() or 1
        metric = "L2" if self.case_config.metric_type == MetricType.L2 else "IP"
        params = self.case_config.build
        TYPES[self.case_config.index].build(inserted.rows, metric, params, threads, self.index_file)
        np.save(self.folder / "ids.npy", inserted.ids)
        np.save(self.folder / "labels.npy", inserted.labels)
        for path in self.folder.glob("insert-*"):
            path.unlink()

    def prepare_filter(self, filters: Any) -> None:
        """Called before `init` and inside."""
        self.filters = filters
        if self._search is not None:
            self._open()

    def _open(self) -> None:
        ids = np.load(self.folder / "ids.npy", mmap_mode="r")
        self._ids = None if ids[0] == 0 and ids[-1] == len(ids) - 1 else ids
        self._search = TYPES[self.case_config.index].open(self.index_file, self.case_config.search, self._allowed(ids))

    def _allowed(self, ids: Ids) -> Flags | None:
        kind = FilterOp.NonFilter if self.filters is None else self.filters.type
        if kind == FilterOp.NonFilter:
            return None
        if kind == FilterOp.NumGE:
            return np.asarray(np.asarray(ids) >= self.filters.int_value)
        labels = np.load(self.folder / "labels.npy")
        if len(labels) != len(ids):
            raise RuntimeError(f"{self.folder} was loaded without labels")
        return np.asarray(labels == self.filters.label_value)

    def search_embedding(
        self,
        query: list[float],
        k: int = 100,
        payload_profile: PayloadProfile = PayloadProfile.IDS_ONLY,
        tenant: str | None = None,
    ) -> list[int]:
        if self._search is None:
            raise RuntimeError(f"no index in {self.folder}: optimize builds it")
        found = self._search(np.asarray(query, dtype=np.float32), k)
        found = found[found >= 0]
        ids: list[int] = (found if self._ids is None else self._ids[found]).tolist()
        return ids
