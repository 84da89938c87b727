"""ScaNN for Faiss (PyPI faiss_ext) in process, without a server.

VectorDBBench inserts, optimises and searches in processes of their own, so all
goes over a folder: inserting processes write rows, `optimize` builds one file of
them, searching processes map that file.
"""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from vectordb_bench.backend.clients.api import DBCaseConfig, MetricType, VectorDB
from vectordb_bench.backend.filter import FilterOp

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]
Searcher = Callable[[Floats, int], Ids]  # a query (d,), k -> positions, -1 where there are fewer


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


class ScannFaiss(VectorDB):
    """VectorDBBench's face of a folder with one index."""

    name = "ScannFaiss"
    thread_safe = True
    supported_filter_types = [FilterOp.NonFilter, FilterOp.NumGE, FilterOp.StrEqual]

    def __init__(
        self,
        dim: int,
        db_config: dict[str, Any],
        db_case_config: DBCaseConfig,
        collection_name: str = "collection",
        drop_old: bool = False,
        with_scalar_labels: bool = False,
        **_: object,
    ):
        self.dim = dim
        self.case_config: Any = db_case_config
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
        self.build(inserted.rows, metric, threads)
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
        self._search = self.searcher(self._allowed(ids))

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

    def search_embedding(self, query: list[float], k: int = 100, *_: object, **__: object) -> list[int]:
        if self._search is None:
            raise RuntimeError(f"no index in {self.folder}: optimize builds it")
        found = self._search(np.asarray(query, dtype=np.float32), k)
        found = found[found >= 0]
        ids: list[int] = (found if self._ids is None else self._ids[found]).tolist()
        return ids

    def build(self, rows: Floats, metric: str, threads: int) -> None:
        """Builds and writes `index_file`."""
        from faiss_ext import knowhere

        params = self.case_config.index_param()["params"]
        node = knowhere.IndexFactory().create("SCANN")
        node.check("build", **params)  # a search parameter among them is a mistake
        node.build(rows, metric_type=metric, num_build_thread=threads, **params)
        part = self.index_file.with_suffix(".part")
        node.serialize().tofile(part)
        part.replace(self.index_file)

    def searcher(self, allowed: Flags | None) -> Searcher:
        """Of rows whose flag in `allowed` is true; the file is mapped: processes share one copy of it."""
        from faiss_ext import knowhere

        params = self.case_config.search_param()["params"]
        node = knowhere.IndexFactory().create("SCANN")
        node.deserialize_from_file(self.index_file, enable_mmap=True)
        node.check("search", k=1, **params)  # VectorDBBench passes over queries that fail
        filtered = None if allowed is None else ~allowed

        def search(query: Floats, k: int) -> Ids:
            return node.search(query[None], filtered=filtered, k=k, **params)[1][0]

        return search
