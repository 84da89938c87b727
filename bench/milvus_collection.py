"""One collection in a Milvus server, indexed and timed; shared by the commands milvus and demo-server.

In:  a server of faiss_ext.milvus_host, rows, an index type and ways to search
     it. Out: Built (seconds, bytes) and Measured (recall, time of a query).
Every call has a timeout, since pymilvus retries for ever.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, connections, utility

from bench import timing
from bench.datasets import Floats, Ids
from bench.ground_truth import padded, recall
from bench.milvus_files import original_size
from bench.points import Parameters
from faiss_ext.milvus_host import Server

# the server's age needs a client that still has these (cmake/setup.sh)
warnings.filterwarnings("ignore", message=".*ORM-style PyMilvus API")

TIMEOUT = 600.0
WAIT_FOR_OTHERS = 600.0  # seconds: there is one server on a machine
BATCH_BYTES = 16 << 20  # of an insert; Milvus takes 64 MB
# so that 512 MB of rows are one segment and get one index; Milvus' own are 118 MB
ONE_SEGMENT = {"dataCoord.segment.maxSize": 2048, "dataCoord.segment.sealProportion": 1.0}
SINGLES, BATCHES = 300, 7  # calls that are timed


@dataclass(frozen=True)
class IndexType:
    """An index of Milvus: build parameters, and search parameters to choose from."""

    name: str
    build: Parameters
    searches: tuple[Parameters, ...]


@dataclass(frozen=True)
class Built:
    """What an index has cost."""

    seconds: float
    size: int  # bytes of the index as Milvus loads it


@dataclass(frozen=True)
class Tried:
    """One way of searching an index."""

    parameters: Parameters
    recall: float
    seconds: float  # of a call with all queries


@dataclass(frozen=True)
class Measured:
    """Times of an index, searched in one way."""

    parameters: Parameters
    recall: float
    single: float  # seconds of a call with one query, median
    batch: float  # seconds of a call with all queries, median


def scann(nlist: int, nprobes: Sequence[int], reorder_ks: Sequence[int], **build: object) -> IndexType:
    """SCANN, Milvus' own or ours: their parameters have the same names."""
    searches = tuple({"nprobe": nprobe, "reorder_k": reorder_k} for nprobe in nprobes for reorder_k in reorder_ks)
    return IndexType("SCANN", {"nlist": nlist, **build}, searches)


def ivf_flat(nlist: int, nprobes: Sequence[int]) -> IndexType:
    """Every row of the lists that are visited is compared."""
    return IndexType("IVF_FLAT", {"nlist": nlist}, tuple({"nprobe": nprobe} for nprobe in nprobes))


def hnsw(efs: Sequence[int]) -> IndexType:
    """The graph, with the parameters of Milvus' documentation."""
    return IndexType("HNSW", {"M": 16, "efConstruction": 200}, tuple({"ef": ef} for ef in efs))


def connect(server: Server) -> None:
    """All calls go to `server`."""
    connections.connect("default", host=server.host, port=str(server.port), timeout=TIMEOUT)


class Rows:
    """A collection of vectors in one segment: id (the row's number), further columns, vector.

    It is made, or taken as it is if it exists.
    """

    def __init__(self, server: Server, name: str, vectors: Floats, metric: str, **columns: list[Any]) -> None:
        self.server, self.metric = server, metric
        connect(server)
        if utility.has_collection(name, timeout=TIMEOUT):
            self.collection: Any = Collection(name, timeout=TIMEOUT)
            return
        kinds: dict[type, Any] = {int: (DataType.INT64, {}), str: (DataType.VARCHAR, {"max_length": 256})}
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
            inserted = [ids, *(values[part] for values in columns.values()), vectors[part].tolist()]
            self.collection.insert(inserted, timeout=TIMEOUT)
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

    def search(
        self,
        queries: list[Any],
        k: int,
        parameters: Parameters,
        expr: str | None = None,
        output_fields: list[str] | None = None,
    ) -> Any:
        """Hits of every query; `queries` are lists of floats, so that their conversion is not timed."""
        return self.collection.search(
            queries,
            "vector",
            {"metric_type": self.metric, "params": parameters},
            k,
            expr=expr,
            output_fields=output_fields,
            consistency_level="Eventually",
            timeout=TIMEOUT,
        )


def fastest(tried: Sequence[Tried], goal: float) -> Tried:
    """The fastest that reaches the recall `goal`; else the one with most recall."""
    enough = [one for one in tried if one.recall >= goal]
    return min(enough, key=lambda one: one.seconds) if enough else max(tried, key=lambda one: one.recall)


def measure(rows: Rows, kind: IndexType, queries: Floats, truth: Ids, goal: float) -> Measured:
    """Times of the fastest search that reaches the recall `goal`; else of the one with most recall."""
    asked, k = queries.tolist(), truth.shape[1]
    tried = []
    for parameters in kind.searches:
        passes = [timing.timed(partial(rows.search, asked, k, parameters)) for _ in range(2)]
        found = padded([near.ids for near in passes[0].result], k)
        tried.append(Tried(parameters, recall(found, truth, k), min(one.seconds for one in passes)))
    best = fastest(tried, goal)
    single = timing.one_by_one(lambda query: rows.search([query], k, best.parameters), asked[:SINGLES])
    batch = timing.repeated(lambda: rows.search(asked, k, best.parameters), BATCHES)
    return Measured(best.parameters, best.recall, float(np.median(single.micros)) / 1e6, batch.median)
