"""Indexes whose rows come and go, known by tags: the adapters beside this one, with calls that change rows.

In:  the first rows (n, d), then rows with tags, tags to remove; build parameters.
Out: after each change an index that answers one query a call, on one thread, by tags.
Next: stream_worker.py does the steps of a runbook.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bench.datasets import Ids, Metric, Rows, floats
from bench.engines import faiss_indexes, ours
from bench.engines.base import Engine
from bench.engines.faiss_indexes import FaissIVFFlat, FaissPQ
from bench.engines.google_scann import GoogleScann
from bench.engines.graphs import Hnswlib, Usearch
from bench.engines.ours import Ours
from bench.points import Parameters


@dataclass(frozen=True)
class Room:
    """What an index must hold at most."""

    rows: int  # at a time
    tags: int  # all are below


@dataclass(frozen=True)
class Maintained:
    """What maintenance has done."""

    rows: int = 0  # encoded anew
    lists: int = 0  # changed


class Streaming(Engine):
    """A library behind one face; changes are made by `threads` threads."""

    maintains: ClassVar[bool] = False
    rebuilds: ClassVar[bool] = False  # made anew of all rows before each search, instead of being changed
    threads: int = 1

    @classmethod
    def usual(cls, x: Rows, metric: Metric) -> Parameters:
        """Build parameters for as many rows as x has."""
        return cls.builds_of(x, metric)[0]

    @abstractmethod
    def setting(self, k: int, width: int, candidates: int) -> Parameters:
        """Search parameters; `width`: lists probed, or the width of a graph search."""

    def many_threads(self) -> None:  # noqa: B027 (not all libraries need a call)
        """Called before changes, as one_thread before searches."""

    @abstractmethod
    def begin(self, tags: Ids, x: Rows, metric: Metric, room: Room) -> None:
        """Makes self.index of the first rows."""

    @abstractmethod
    def insert(self, tags: Ids, x: Rows) -> None:
        """Rows whose tags are not there."""

    @abstractmethod
    def remove(self, tags: Ids) -> None:
        """Rows that are there."""

    def replace(self, tags: Ids, x: Rows) -> None:
        """Other rows for tags that are there."""
        self.remove(tags)
        self.insert(tags, x)

    def maintain(self) -> Maintained:
        """Called after each change of one that `maintains`."""
        raise NotImplementedError(f"{type(self).__name__} has no maintenance")

    def imbalance(self) -> float | None:
        """So many times as many rows are scanned as with lists of equal sizes; None where a library does not say."""
        return None


class OmpThreads(Streaming):
    """Of libraries whose threads are OpenMP's."""

    def many_threads(self) -> None:
        self.lib.omp_set_num_threads(self.threads)


class StreamingOurs(Ours, OmpThreads):
    """Without maintenance."""

    def begin(self, tags: Ids, x: Rows, metric: Metric, room: Room) -> None:
        self.index = ours.trained_index(x, self.params["factory"], metric, self.threads)
        self.index.set_direct_map_type(self.lib.DirectMap.Hashtable)
        self.index.add_with_ids(x, tags)

    def insert(self, tags: Ids, x: Rows) -> None:
        self.index.add_with_ids(x, tags)

    def remove(self, tags: Ids) -> None:
        self.index.remove_ids(tags)

    def replace(self, tags: Ids, x: Rows) -> None:
        self.index.update_vectors(tags, x)

    def imbalance(self) -> float | None:
        return float(self.index.health()["imbalance"])


class MaintainedOurs(StreamingOurs):
    """maintain() after each change."""

    maintains = True

    def maintain(self) -> Maintained:
        done = self.index.maintain()
        return Maintained(done["rows"], done["lists"])


class AutomaticOurs(StreamingOurs):
    """Maintained by the calls that change rows."""

    def __init__(self, params: Parameters):
        super().__init__({**params, "factory": maintained_factory(params["factory"])})


class RebuiltOurs(StreamingOurs):
    """What the others are compared with."""

    rebuilds = True


def maintained_factory(factory: str) -> str:
    """'IVF4,ScaNN(sub_dim=4),RFlat' -> 'IVF4,ScaNN(sub_dim=4,auto_maintain=1),RFlat'."""
    with_options = re.sub(r"(ScaNN\w*)\(([^)]*)\)", r"\1(\2,auto_maintain=1)", factory)
    if with_options != factory:
        return with_options
    return re.sub(r"ScaNN\w*", r"\g<0>(auto_maintain=1)", factory)


class StreamingIVFFlat(FaissIVFFlat, OmpThreads):
    """A hash table says where a row is, as ours has one."""

    def begin(self, tags: Ids, x: Rows, metric: Metric, room: Room) -> None:
        self.index = faiss_indexes.trained_index(self.lib, x, self.params["factory"], metric, self.threads, self.params)
        self.index.set_direct_map_type(self.lib.DirectMap.Hashtable)
        self.insert(tags, x)

    def insert(self, tags: Ids, x: Rows) -> None:
        self.index.add_with_ids(floats(x), tags)

    def remove(self, tags: Ids) -> None:
        self.index.remove_ids(tags)


class StreamingPQ(FaissPQ, OmpThreads):
    """Faiss' refining index removes nothing: its codes are changed, and its raw rows, which lie at their tags.

    In 1.15.1 rows that are added to lists of FastScan after removals get wrong codes: 3,000 rows, of which 1,000 are
    removed and 1,000 added, all lists probed: recall@10 of 100 candidates from .995 to .77.
    """

    def begin(self, tags: Ids, x: Rows, metric: Metric, room: Room) -> None:
        lib, d = self.lib, x.shape[1]
        self.index = faiss_indexes.trained_index(lib, x, self.params["factory"], metric, self.threads, self.params)
        self.codes, raw = lib.downcast_index(self.index.base_index), lib.downcast_index(self.index.refine_index)
        raw.add(np.zeros((room.tags, d), dtype=np.float32))
        self.index.ntotal = room.tags
        self.rows = lib.rev_swig_ptr(raw.get_xb(), room.tags * d).reshape(room.tags, d)
        self.insert(tags, x)

    def insert(self, tags: Ids, x: Rows) -> None:
        self.codes.add_with_ids(floats(x), tags)
        self.rows[tags] = x

    def remove(self, tags: Ids) -> None:
        self.codes.remove_ids(tags)


class StreamingScann(GoogleScann, Streaming):
    """Rows are known by docids; searches answer with places, which `ids` translates."""

    @classmethod
    def usual(cls, x: Rows, metric: Metric) -> Parameters:
        return {**cls.builds_of(x, metric)[0], "soar": None}  # with SOAR, removing rows ends the process (1.4.2)

    def many_threads(self) -> None:
        if self.index is not None:
            self.index.set_num_threads(self.threads)

    def begin(self, tags: Ids, x: Rows, metric: Metric, room: Room) -> None:
        self.index = self.builder(x, metric, self.threads).build(docids=tags.tolist())

    def insert(self, tags: Ids, x: Rows) -> None:
        self.index.upsert(tags.tolist(), floats(x), batch_size=len(tags))

    def remove(self, tags: Ids) -> None:
        self.index.delete(tags.tolist())

    def replace(self, tags: Ids, x: Rows) -> None:
        self.insert(tags, x)

    def ids(self, answer: Any) -> Any:
        places, tag_of = np.asarray(answer[0]), self.index.docids
        return np.array([tag_of[place] for place in places.ravel().tolist()]).reshape(places.shape)


class StreamingHnswlib(Hnswlib, Streaming):
    """Removed rows are marked, and new ones take their place, each with a new label."""

    def begin(self, tags: Ids, x: Rows, metric: Metric, room: Room) -> None:
        self.index = self.empty(x.shape[1], metric, room.rows, allow_replace_deleted=True)
        self.label_of = np.full(room.tags, -1, dtype=np.int64)
        self.tag_of = np.empty(0, dtype=np.int64)
        self.insert(tags, x)

    def insert(self, tags: Ids, x: Rows) -> None:
        labels = len(self.tag_of) + np.arange(len(tags))
        self.index.add_items(floats(x), labels, num_threads=self.threads, replace_deleted=True)
        self.label_of[tags] = labels
        self.tag_of = np.concatenate([self.tag_of, tags])

    def remove(self, tags: Ids) -> None:
        for label in self.label_of[tags].tolist():
            self.index.mark_deleted(label)

    def ids(self, answer: Any) -> Any:
        return self.tag_of[answer[0].astype(np.int64)]


class StreamingUsearch(Usearch, Streaming):
    """Tags are keys."""

    def begin(self, tags: Ids, x: Rows, metric: Metric, room: Room) -> None:
        self.index = self.empty(x.shape[1], metric, lookups=True)
        self.insert(tags, x)

    def insert(self, tags: Ids, x: Rows) -> None:
        self.index.add(tags, floats(x), threads=self.threads)

    def remove(self, tags: Ids) -> None:
        self.index.remove(tags, threads=self.threads)


STREAMING: dict[str, type[Streaming]] = {
    "ours": StreamingOurs,
    "ours-maintained": MaintainedOurs,
    "ours-auto": AutomaticOurs,
    "rebuilt": RebuiltOurs,
    "scann": StreamingScann,
    "faiss-pq": StreamingPQ,
    "faiss-ivfflat": StreamingIVFFlat,
    "hnswlib": StreamingHnswlib,
    "usearch": StreamingUsearch,
}
