"""The index of one segment of Milvus Lite, by the engine of this package.

In:  rows of a segment, its metric, parameters as Milvus Lite hands them over.
Out: what milvus_lite.index.protocol.VectorIndex asks: ids and distances that
     are smaller for nearer rows (L2: the root, IP: negated, COSINE: 1 - cosine),
     -1 and infinity where there is nothing. Next: milvus_lite.py puts it in.

One object is searched by several threads of the host at once; it never changes.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import METRIC_INNER_PRODUCT, METRIC_L2, Index, index_factory, read_index, write_index
from .scann_parameters import FEW_ROWS, BuildParameters, SearchParameters

METRICS = ("L2", "IP", "COSINE")
# What a request may say beside the parameters of the index: pymilvus sends all
# of it in one mapping.
REQUEST_KEYS = frozenset(
    "metric_type radius range_filter offset limit topk anns_field round_decimal ignore_growing hints timezone "
    "time_fields page_retain_order group_by_field group_size strict_group_size order_by_fields iterator "
    "collection_id analyzer_name search_iter_v2 search_iter_batch_size search_iter_last_bound search_iter_id "
    "range_search_k".split()
)

_Rows = NDArray[np.float32]
_carried: ContextVar[Mapping[str, Any] | None] = ContextVar("search parameters", default=None)
_limits: ContextVar[tuple[float | None, float | None]] = ContextVar("limits of a range", default=(None, None))


@contextlib.contextmanager
def searching_with(params: Mapping[str, Any]) -> Iterator[None]:
    """Searches of this thread that bring no parameters take these."""
    token = _carried.set(params)
    try:
        yield
    finally:
        _carried.reset(token)


@contextlib.contextmanager
def searching_within(radius: float | None, range_filter: float | None) -> Iterator[None]:
    """Searches of this thread are range searches; both None: they are not.

    Milvus Lite itself takes the five times as many nearest rows and leaves out
    those beyond the limits, so it finds no page of an iterator but the first few.
    """
    token = _limits.set((radius, range_filter))
    try:
        yield
    finally:
        _limits.reset(token)


@dataclass
class Activity:
    """What the indexes of this process have done, to see that it was they."""

    builds: int = 0
    loads: int = 0
    searches: int = 0
    queries: int = 0
    last_search: dict[str, int] = field(default_factory=dict)  # of the engine, beside k


_activity = Activity()
_activity_lock = threading.Lock()


def activity() -> Activity:
    """A copy of the counters."""
    with _activity_lock:
        return Activity(**{**vars(_activity), "last_search": dict(_activity.last_search)})


def _count(**done: int) -> None:
    with _activity_lock:
        for name, times in done.items():
            setattr(_activity, name, getattr(_activity, name) + times)


def _rows(vectors: Any, name: str) -> _Rows:
    rows = np.asarray(vectors, dtype=np.float32)
    if rows.ndim != 2:
        raise ValueError(f"{name} have shape {rows.shape}; want (n, dim)")
    return np.ascontiguousarray(rows)


def _unit(rows: _Rows) -> _Rows:
    """Rows at length 1. A row of zeros stays: its cosine with everything is 0."""
    length = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return (rows / np.where(length > 0, length, 1)).astype(np.float32)


def _check_metric(metric: str) -> None:
    if metric not in METRICS:
        raise ValueError(f'metric_type = "{metric}" (allowed: {"|".join(METRICS)})')


def _faiss_metric(metric: str) -> int:
    return METRIC_L2 if metric == "L2" else METRIC_INNER_PRODUCT


class ScannIndex:
    """SCANN of one segment; made by `build` or `load`.

    Attributes
    ----------
    metric : str
        L2, IP or COSINE.
    num_vectors : int
        Rows that can be found. Rows with NaN or infinite values cannot.
    dim : int
    search_defaults : mapping
        Search parameters for what a search does not say.
    """

    index_type = "SCANN"
    __slots__ = ("_index", "metric", "num_vectors", "dim", "search_defaults")

    def __init__(self, index: Index, metric: str) -> None:
        self._index = index
        self.metric = metric
        self.num_vectors = index.ntotal
        self.dim = index.d
        self.search_defaults: Mapping[str, Any] = {}

    @classmethod
    def build(cls, vectors: _Rows, metric: str, params: Mapping[str, Any] | None = None) -> ScannIndex:
        """Index of `vectors` (n, dim), n >= 0; ids are positions.

        Raises
        ------
        ValueError
            Another metric, an unknown parameter or a bad value.
        """
        _check_metric(metric)
        parameters = BuildParameters.parse(params)
        rows = _rows(vectors, "vectors")
        ids = np.flatnonzero(np.isfinite(rows).all(axis=1))
        rows = rows[ids] if len(ids) < len(rows) else rows
        if metric == "COSINE":
            rows = _unit(rows)
        index = index_factory(rows.shape[1], parameters.factory(*rows.shape), _faiss_metric(metric))
        if len(rows):
            index.train(rows)
            index.add_with_ids(rows, ids)
        if parameters.target_recall is not None and len(rows) > FEW_ROWS:
            index.calibrate(target_recall=parameters.target_recall)
        _count(builds=1)
        return cls(index, metric)

    def search(
        self,
        queries: _Rows,
        top_k: int,
        valid_mask: NDArray[np.bool_] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> tuple[NDArray[np.int64], _Rows]:
        """Nearest rows of each query among those whose flag in `valid_mask` is true.

        A reorder_k below top_k is raised to it: Milvus Lite asks for more than
        its user did when it groups, ranks or searches a range.

        Returns
        -------
        ids, distances : ndarray of int64 and float32, shape (nq, top_k)

        Raises
        ------
        ValueError
            Bad parameters, queries of another dimension or not finite.
        """
        given = _carried.get() if params is None else params
        wanted = SearchParameters.parse({**self.search_defaults, **(given or {})}, ignored=REQUEST_KEYS)
        q = np.asarray(queries, dtype=np.float32)
        q = _rows(q[None] if q.ndim == 1 else q, "queries")
        if q.shape[1] != self.dim:
            raise ValueError(f"queries have {q.shape[1]} dimensions; the index has {self.dim}")
        ids = np.full((len(q), max(top_k, 0)), -1, dtype=np.int64)
        distances = np.full(ids.shape, np.inf, dtype=np.float32)
        mask = None if valid_mask is None else np.asarray(valid_mask, dtype=bool)
        passing = self.num_vectors if mask is None else int(np.count_nonzero(mask))
        k = min(top_k, passing, self.num_vectors)
        if not len(q) or k <= 0:
            return ids, distances
        if self.metric == "COSINE":
            q = _unit(q)
        arguments = wanted.arguments(
            k=k,
            rows=self.num_vectors,
            nlist=self._index.nlist,
            with_raw_data=self._index.with_raw_data,
            calibrated=self._index.nprobe if self._index.calibration else None,
        )
        if _limits.get() != (None, None):
            ids[:, :k], distances[:, :k], arguments = self._search_range(q, k, mask, wanted)
            _count(searches=1, queries=len(q))
            with _activity_lock:
                _activity.last_search = arguments
            return ids, distances
        scores, labels = self._index.search(q, k, filter=mask, **arguments)
        short = labels[:, -1] < 0
        if (wanted.ensure_topk_full or wanted.nprobe is None) and short.any():
            arguments["nprobe"] = self._index.nlist
            scores[short], labels[short] = self._index.search(q[short], k, filter=mask, **arguments)
        ids[:, :k] = labels
        distances[:, :k] = np.where(labels < 0, np.inf, self._nearness(scores))
        _count(searches=1, queries=len(q))
        with _activity_lock:
            _activity.last_search = arguments
        return ids, distances

    def _nearness(self, scores: _Rows) -> _Rows:
        """Scores of the engine as distances of Milvus Lite."""
        if self.metric == "L2":
            # Without raw rows the square is an estimate, which can be below 0.
            return np.sqrt(np.maximum(scores, 0))
        if self.metric == "IP":
            return -scores
        # Rounding leaves the cosine of unit vectors just outside of [-1, 1].
        return 1 - np.clip(scores, -1, 1)

    def _search_range(
        self, q: _Rows, k: int, mask: NDArray[np.bool_] | None, wanted: SearchParameters
    ) -> tuple[NDArray[np.int64], _Rows, dict[str, int]]:
        """The k nearest rows within the limits of the range; without nprobe, of all lists."""
        radius, range_filter = _limits.get()
        nlist = self._index.nlist
        nprobe = nlist if wanted.nprobe is None or self.num_vectors <= FEW_ROWS else min(wanted.nprobe, nlist)
        # Milvus Lite compares in its own units and in doubles: here the limits
        # only save work, so they are a little wider.
        near_is_less = self.metric == "L2"
        widest = np.float32(np.finfo(np.float32).max) * (1 if near_is_less else -1)
        far = widest if radius is None else self._score_limit(radius, outwards=1 if near_is_less else -1)
        limits, scores, labels = self._index.range_search(q, float(far), nprobe=nprobe, filter=mask)
        ids = np.full((len(q), k), -1, dtype=np.int64)
        distances = np.full(ids.shape, np.inf, dtype=np.float32)
        for i in range(len(q)):
            found, at = labels[limits[i] : limits[i + 1]], scores[limits[i] : limits[i + 1]]
            if range_filter is not None:
                near = self._score_limit(range_filter, outwards=-1 if near_is_less else 1)
                within = at >= near if near_is_less else at <= near
                found, at = found[within], at[within]
            nearness = self._nearness(at)
            order = np.lexsort((found, nearness))[:k]
            ids[i, : len(order)], distances[i, : len(order)] = found[order], nearness[order]
        return ids, distances, {"nprobe": nprobe}

    def _score_limit(self, limit: float, outwards: int) -> np.float32:
        """A limit of a range as a score of the engine, further out by more than Milvus Lite rounds."""
        slack = 1e-5 * abs(limit) + (1e-6 if self.metric == "COSINE" else 0)
        largest = float(np.finfo(np.float32).max)
        return np.float32(min(max(limit + outwards * slack, -largest), largest))

    def save(self, path: str) -> None:
        """Writes the index; a failure leaves an older file as it was."""
        write_index(self._index, path)

    @classmethod
    def load(cls, path: str, metric: str, dim: int) -> ScannIndex:
        """Index of a file that `save` wrote.

        Raises
        ------
        RuntimeError
            The file is damaged, or no such file.
        ValueError
            It holds another dimension or metric.
        """
        _check_metric(metric)
        try:
            index = read_index(path)
        except RuntimeError as error:
            raise RuntimeError(f"{path}: {error}") from error
        if index.d != dim or index.metric_type != _faiss_metric(metric):
            held = "L2" if index.metric_type == METRIC_L2 else "IP or COSINE"
            raise ValueError(f"{path} holds {index.d} dimensions, metric {held}; want {dim}, {metric}")
        _count(loads=1)
        return cls(index, metric)
