"""One collection in a Milvus server, indexed and timed; shared by demo_server.py and bench/milvus.

In:  a server of faiss_ext.milvus_host, rows, an index type with the parameter
     that trades time for recall. Out: Measured: recall, time of a query, bytes,
     time of the build. Every call has a timeout, since pymilvus retries for ever.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Callable

import numpy as np
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, connections, utility

from faiss_ext.milvus_host import Server

TIMEOUT = 300.0
BATCH_BYTES = 16 << 20  # of an insert; Milvus takes 64 MB


def nothing_more(value: int) -> dict:
    """An index type whose search has one parameter."""
    return {}


@dataclass(frozen=True)
class IndexType:
    """An index of Milvus: build parameters, and the search parameter that trades time for recall."""

    name: str
    build: dict
    knob: str
    values: tuple[int, ...]  # of the knob, rising
    further: Callable[[int], dict] = field(default=nothing_more)

    def parameters(self, value: int) -> dict:
        """All search parameters at one value of the knob."""
        return {self.knob: value, **self.further(value)}


@dataclass(frozen=True)
class Built:
    """What an index has cost."""

    seconds: float
    size: int  # bytes of the index as Milvus loads it


@dataclass(frozen=True)
class Measured:
    """Times of an index at one value of its knob."""

    value: int
    recall: float
    single: float  # seconds of a call with one query, median
    batch: float  # seconds of a call with all queries, median


def connect(server: Server) -> None:
    """All calls go to `server`."""
    connections.connect("default", host=server.host, port=str(server.port), timeout=TIMEOUT)


class Rows:
    """A collection of vectors in one segment: id (the row's number), further columns, vector."""

    def __init__(self, server: Server, name: str, vectors: np.ndarray, metric: str, **columns: list) -> None:
        self.server, self.metric = server, metric
        connect(server)
        kinds = {int: (DataType.INT64, {}), str: (DataType.VARCHAR, {"max_length": 256})}
        fields = [FieldSchema("id", DataType.INT64, is_primary=True)]
        for column, values in columns.items():
            kind, options = kinds[type(values[0])]
            fields.append(FieldSchema(column, kind, **options))
        fields.append(FieldSchema("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1]))
        self.collection = Collection(name, CollectionSchema(fields), timeout=TIMEOUT)
        step = max(1, BATCH_BYTES // vectors[0].nbytes)
        for first in range(0, len(vectors), step):
            part = slice(first, first + step)
            ids = list(range(first, first + len(vectors[part])))
            self.collection.insert([ids, *(values[part] for values in columns.values()), vectors[part].tolist()],
                                   timeout=TIMEOUT)
        self.collection.flush(timeout=TIMEOUT)

    def index(self, kind: IndexType) -> Built:
        """Make `kind` the index of the vectors and load it."""
        self.drop_index()
        wanted = {"index_type": kind.name, "metric_type": self.metric, "params": kind.build}
        self.collection.create_index("vector", wanted, timeout=TIMEOUT)
        utility.wait_for_index_building_complete(self.collection.name, timeout=TIMEOUT)
        self.collection.load(timeout=TIMEOUT)
        segments = utility.get_query_segment_info(self.collection.name, timeout=TIMEOUT)
        if len(segments) != 1:
            raise RuntimeError(f"{self.collection.name} has {len(segments)} segments, not one: nothing can be compared")
        builds = (self.server.base_dir / "data" / "index_files").iterdir()
        newest = max(builds, key=lambda folder: int(folder.name))
        size = sum(original_size(file) for file in newest.rglob("*") if file.is_file())
        return Built(self._build_seconds(newest.name), size)

    def _build_seconds(self, build: str) -> float:
        """How long the server says that it has worked at a build; a client sees its schedule too."""
        times = {}
        with open(self.server.logs / "milvus-stdout.log", encoding="utf-8", errors="replace") as log:
            for line in log:
                if f"[buildID={build}]" not in line:
                    continue
                for event in ("index params are ready", "Successfully build index"):
                    if event in line:
                        times[event] = datetime.strptime(line[1:24], "%Y/%m/%d %H:%M:%S.%f")
        begin, end = times["index params are ready"], times["Successfully build index"]
        return (end - begin).total_seconds()

    def drop_index(self) -> None:
        """Release the rows and forget their index, if they have one."""
        if self.collection.has_index(timeout=TIMEOUT):
            self.collection.release(timeout=TIMEOUT)
            self.collection.drop_index(timeout=TIMEOUT)

    def resume(self) -> None:
        """After a restart of the server: it loads by itself what was loaded."""
        connect(self.server)
        utility.wait_for_loading_complete(self.collection.name, timeout=TIMEOUT)

    def search(self, queries: list, k: int, parameters: dict, expr: str | None = None,
               output_fields: list[str] | None = None):
        """Hits of every query; `queries` are lists of floats, so that their conversion is not timed."""
        return self.collection.search(
            queries, "vector", {"metric_type": self.metric, "params": parameters}, k, expr=expr,
            output_fields=output_fields, consistency_level="Eventually", timeout=TIMEOUT)


def original_size(file: Path) -> int:
    """Bytes of an index, or of a part of it, before Milvus has compressed it for its storage."""
    with open(file, "rb") as content:
        return int(re.search(rb'"original_size":"(\d+)"', content.read(4096))[1])


def recall(hits, truth: np.ndarray) -> float:
    """Share of the true neighbours, (nq, k), among the hits."""
    return sum(len(set(found.ids) & set(near.tolist())) for found, near in zip(hits, truth)) / truth.size


def measure(rows: Rows, kind: IndexType, queries: np.ndarray, truth: np.ndarray, goal: float,
            singles: int = 300, batches: int = 7) -> Measured:
    """Times at the first value of the knob that reaches the recall `goal`, or at its last one."""
    asked, k = queries.tolist(), truth.shape[1]
    for value in kind.values:
        parameters = kind.parameters(value)
        reached = recall(rows.search(asked, k, parameters), truth)
        if reached >= goal:
            break
    single = [timed(lambda query=query: rows.search([query], k, parameters)) for query in asked[:singles]]
    batch = [timed(lambda: rows.search(asked, k, parameters)) for _ in range(batches)]
    return Measured(value, reached, float(np.median(single)), float(np.median(batch)))


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
