"""The index of one segment of Milvus Lite: the node "SCANN" of faiss_ext.knowhere.

In:  rows of a segment, its metric, parameters as Milvus Lite hands them over; the
     node knows which there are and what they may be.
Out: what milvus_lite.index.protocol.VectorIndex asks: ids and distances that
     are smaller for nearer rows (L2: the root, IP: negated, COSINE: 1 - cosine),
     -1 and infinity where there is nothing. Next: milvus_lite.py puts it in.

One object is searched by several threads of the host at once; it never changes.
"""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
import threading
import zlib
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from . import omp_get_max_threads
from .knowhere import IndexFactory, IndexNode

# Keys of a request besides the parameters of the index: pymilvus sends both in
# one mapping.
REQUEST_KEYS = frozenset(
    "metric_type radius range_filter offset limit topk anns_field round_decimal ignore_growing hints timezone "
    "time_fields page_retain_order group_by_field group_size strict_group_size order_by_fields iterator "
    "collection_id analyzer_name search_iter_v2 search_iter_batch_size search_iter_last_bound search_iter_id "
    "range_search_k".split()
)

# A thread takes 50 to 100 microseconds to start, as much as some queries.
QUERIES_A_THREAD = 32

_LARGEST = float(np.finfo(np.float32).max)
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
    last_search: dict[str, Any] = field(default_factory=dict)  # parameters that the node was given, beside k


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
        raise ValueError(f"{name} have shape {rows.shape} (allowed: (n, dim))")
    return np.ascontiguousarray(rows)


def _node() -> IndexNode:
    return IndexFactory().create("SCANN")


def check_parameters(
    phase: Any,
    given: Mapping[str, Any] | None,
    ignored: Collection[str] = (),
    *,
    node: IndexNode | None = None,
    **of_host: Any,
) -> dict[str, Any]:
    """Parameters of a user, checked together with what the host says itself.

    Returns
    -------
    parameters : dict
        Those given, without the keys in `ignored`.

    Raises
    ------
    ValueError
        With key, value and what is allowed.
    """
    parameters = {key: value for key, value in (given or {}).items() if key not in ignored}
    for key in of_host.keys() & parameters.keys():
        raise ValueError(f'{key} = "{parameters[key]}" among the parameters (allowed: as {key} of the request)')
    (node or _node()).check(phase, **parameters, **of_host)
    return parameters


def _in_threads(search: Callable[..., tuple[Any, Any]], queries: _Rows, **parameters: Any) -> tuple[Any, Any]:
    """As search(queries, ..), which runs on one thread, in as many as the package may use."""
    parts = min(omp_get_max_threads(), len(queries) // QUERIES_A_THREAD)
    if parts < 2:
        return search(queries, **parameters)
    with ThreadPoolExecutor(parts) as pool:
        found = list(pool.map(lambda part: search(part, **parameters), np.array_split(queries, parts)))
    return np.concatenate([one[0] for one in found]), np.concatenate([one[1] for one in found])


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
    __slots__ = ("_node", "_positions", "_rows", "metric", "num_vectors", "dim", "search_defaults")

    def __init__(self, node: IndexNode, positions: NDArray[np.int64] | None = None, rows: int | None = None) -> None:
        """`positions` of the node's rows among the `rows` of the segment; None: all of them."""
        self._node = node
        self._positions = positions
        self._rows = node.count if rows is None else rows
        self.metric = str(node.metric_type)
        self.num_vectors = node.count
        self.dim = node.dim
        self.search_defaults: Mapping[str, Any] = {}

    @classmethod
    def build(cls, vectors: _Rows, metric: str, params: Mapping[str, Any] | None = None) -> ScannIndex:
        """Index of `vectors` (n, dim), n >= 0; ids are positions.

        Raises
        ------
        ValueError
            Another metric, an unknown parameter or a bad value.
        """
        parameters = check_parameters("build", params, metric_type=metric)
        rows = _rows(vectors, "vectors")
        finite = np.isfinite(rows).all(axis=1)
        node = _node()
        if finite.all():
            node.build(rows, metric_type=metric, **parameters)
            _count(builds=1)
            return cls(node)
        node.build(rows[finite], metric_type=metric, **parameters)
        _count(builds=1)
        return cls(node, np.flatnonzero(finite), len(rows))

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
        both = {**self.search_defaults, **(given or {})}
        wanted = check_parameters("search", both, ignored=REQUEST_KEYS, node=self._node, k=1)
        q = np.asarray(queries, dtype=np.float32)
        q = _rows(q[None] if q.ndim == 1 else q, "queries")
        filtered = None if valid_mask is None else ~self._passing(valid_mask)
        passing = self.num_vectors if filtered is None else int(np.count_nonzero(~filtered))
        ids = np.full((len(q), max(top_k, 0)), -1, dtype=np.int64)
        distances = np.full(ids.shape, np.inf, dtype=np.float32)
        k = min(top_k, passing)
        if not len(q) or k <= 0:
            return ids, distances
        if _limits.get() == (None, None):
            if wanted.get("reorder_k") is not None:
                wanted["reorder_k"] = max(int(str(wanted["reorder_k"]).strip('" ')), k)
            scores, labels = _in_threads(self._node.search, q, k=k, filtered=filtered, **wanted)
            ids[:, :k] = labels
            distances[:, :k] = np.where(labels < 0, np.inf, self._nearness(scores))
        else:
            ids[:, :k], distances[:, :k] = self._search_range(q, k, filtered, wanted)
        if self._positions is not None:
            ids = np.where(ids < 0, -1, self._positions[ids])
        _count(searches=1, queries=len(q))
        with _activity_lock:
            _activity.last_search = wanted
        return ids, distances

    def _passing(self, valid_mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Flags of the node's rows."""
        mask = np.asarray(valid_mask, dtype=bool)
        if mask.shape != (self._rows,):
            raise ValueError(f"valid_mask has shape {mask.shape} (allowed: one flag for each of {self._rows} rows)")
        return mask if self._positions is None else mask[self._positions]

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
        self, q: _Rows, k: int, filtered: NDArray[np.bool_] | None, wanted: dict[str, Any]
    ) -> tuple[NDArray[np.int64], _Rows]:
        """The k nearest rows within the limits of the range."""
        radius, range_filter = _limits.get()
        # Milvus Lite compares in its own units and in doubles: here the limits
        # only save work, so they are a little wider.
        outwards = 1 if self.metric == "L2" else -1
        far = outwards * _LARGEST if radius is None else self._score_limit(radius, outwards)
        near = None if range_filter is None else self._score_limit(range_filter, -outwards)
        limits, scores, labels = self._node.range_search(q, filtered=filtered, radius=far, range_filter=near, **wanted)
        ids = np.full((len(q), k), -1, dtype=np.int64)
        distances = np.full(ids.shape, np.inf, dtype=np.float32)
        for i in range(len(q)):
            found = slice(limits[i], min(limits[i + 1], limits[i] + k))
            n = found.stop - found.start
            ids[i, :n], distances[i, :n] = labels[found], self._nearness(scores[found])
        return ids, distances

    def _score_limit(self, limit: float, outwards: int) -> float:
        """A limit of a range as a score of the node, further out by more than Milvus Lite rounds."""
        slack = 1e-5 * abs(limit) + (1e-6 if self.metric == "COSINE" else 0)
        return min(max(limit + outwards * slack, -_LARGEST), _LARGEST)

    def save(self, path: str) -> None:
        """Writes the index; a failure leaves an older file as it was."""
        parts: list[Any] = [self._node.serialize()]
        if self._positions is not None:
            positions = self._positions.astype("<i8").tobytes()
            checksum = _checksum(self._rows, len(self._positions), positions)
            parts = [_HEADER.pack(_MAGIC, self._rows, len(self._positions), checksum), positions, *parts]
        try:
            _write_file(path, parts)
        except OSError as error:
            raise RuntimeError(f"cannot write {path}: {error}") from error

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
        node = _node()
        node.check("build", metric_type=metric, dim=dim)
        try:
            index = _read_file(path)
        except (OSError, RuntimeError) as error:
            raise RuntimeError(f"{path}: {error}") from error
        if (index.dim, index.metric) != (dim, metric):
            raise ValueError(f"{path} holds {index.dim} dimensions, metric {index.metric} (allowed: {dim}, {metric})")
        _count(loads=1)
        return index


# ------------------------------------------------------------------- files
#
# A file is the node's blob; before it, where some rows of the segment are not
# finite and so not in the node: this header, and the positions of those that are.

_MAGIC = b"fx-rows1"
_HEADER = struct.Struct("<8sQQI")  # rows of the segment, of the node, CRC-32 of both and the positions


def _checksum(rows: int, count: int, positions: bytes | memoryview) -> int:
    return zlib.crc32(positions, zlib.crc32(struct.pack("<QQ", rows, count)))


def _write_file(path: str, parts: list[Any]) -> None:
    """The file appears when it is whole."""
    folder, name = os.path.split(os.path.abspath(path))
    handle, part = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            for data in parts:
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def _read_file(path: str) -> ScannIndex:
    node = _node()
    head = b""
    if os.path.isfile(path):
        with open(path, "rb") as file:
            head = file.read(_HEADER.size)
    if not head.startswith(_MAGIC) or len(head) < _HEADER.size:
        node.deserialize_from_file(path)
        return ScannIndex(node)
    _, rows, count, checksum = _HEADER.unpack(head)
    with open(path, "rb") as file:
        data = memoryview(file.read())[_HEADER.size :]
    positions, blob = data[: 8 * count], data[8 * count :]
    if len(positions) != 8 * count or _checksum(rows, count, positions) != checksum:
        raise RuntimeError("damaged: the positions of the rows have a wrong checksum")
    node.deserialize(blob)
    found = np.frombuffer(positions, dtype="<i8")
    if node.count != count or (len(found) and not 0 <= found[0] <= found[-1] < rows):
        raise RuntimeError(f"damaged: {count} positions of {node.count} rows")
    return ScannIndex(node, found, rows)
