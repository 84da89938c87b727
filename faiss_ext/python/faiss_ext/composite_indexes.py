"""Several indexes that answer as one: `IndexShards`, `IndexReplicas`.

Faiss' own classes borrow their parts, start threads of their own and take no
search parameters in all versions. These search one part after the other, each
with the threads that `omp_set_num_threads` allows, and keep the parts alive.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._faiss_ext import METRIC_INNER_PRODUCT, Index

__all__ = ["IndexReplicas", "IndexShards"]

_Distances = NDArray[np.float32]
_Labels = NDArray[np.int64]


class _Parts:
    """What both kinds share: parts of one dimension and metric."""

    def __init__(self, d: int = 0, threaded: bool = False) -> None:
        if isinstance(d, bool) or not isinstance(d, (int, np.integer)) or d < 0:
            raise ValueError(f"d = {d!r} (allowed: 1.., or 0 for that of the first part)")
        if threaded:
            raise ValueError("threaded = True (allowed: False: each part uses all threads that are allowed)")
        self._d = int(d)
        self._parts: tuple[Index, ...] = ()

    @property
    def d(self) -> int:
        """int: dimension of the vectors; 0: that of the first part."""
        return self._d

    @property
    def metric_type(self) -> int:
        """int: METRIC_INNER_PRODUCT or METRIC_L2, that of the parts."""
        return self._some()[0].metric_type

    @property
    def is_trained(self) -> bool:
        """bool: whether all parts are trained."""
        return all(part.is_trained for part in self._parts)

    def count(self) -> int:
        """Return how many parts there are.

        Returns
        -------
        count : int
        """
        return len(self._parts)

    def at(self, i: int) -> Index:
        """Return a part.

        Parameters
        ----------
        i : int, 0..count() - 1

        Returns
        -------
        index : Index
        """
        if not 0 <= i < len(self._parts):
            raise ValueError(f"i = {i} (allowed: 0..{len(self._parts) - 1})")
        return self._parts[i]

    def train(self, x: ArrayLike) -> None:
        """Train all parts that are not trained.

        Parameters
        ----------
        x : array_like, shape (n, d)
        """
        for part in self._some():
            if not part.is_trained:
                part.train(x)

    def reset(self) -> None:
        """Remove all vectors of all parts."""
        for part in self._parts:
            part.reset()

    def _some(self) -> tuple[Index, ...]:
        if not self._parts:
            raise ValueError("there are no parts: add one first")
        return self._parts

    def _added(self, index: Index) -> tuple[Index, ...]:
        """All checks of a new part; the parts with it."""
        if not isinstance(index, Index):
            raise TypeError(f"index is a {type(index).__name__} (allowed: Index)")
        if any(part is index for part in self._parts):
            raise ValueError("the index is a part already")
        if self._d not in (0, index.d):
            raise ValueError(f"the index has d = {index.d} (allowed: d = {self._d})")
        if self._parts and index.metric_type != self._parts[0].metric_type:
            raise ValueError("the index has another metric than the parts before")
        return (*self._parts, index)

    def _removed(self, index: Index) -> tuple[Index, ...]:
        rest = tuple(part for part in self._parts if part is not index)
        if len(rest) == len(self._parts):
            raise ValueError("the index is no part")
        return rest

    def __repr__(self) -> str:
        return f"<faiss_ext.{type(self).__name__}: d={self._d}, {len(self._parts)} parts>"


class IndexShards(_Parts):
    """An index whose vectors lie in several others, as faiss.IndexShards.

    Parameters
    ----------
    d : int
        0: that of the first part.
    threaded : bool
        Only False: each part uses all threads that are allowed.
    successive_ids : bool
        Ids of a part are counted on from those of the parts before it. False:
        ids are taken as they are, and rows that are added get running numbers.

    Examples
    --------
    >>> shards = fx.IndexShards(16)
    >>> for part in range(2):
    ...     shard = fx.clone_index(index)
    ...     shard.reset()
    ...     shards.add_shard(shard)
    >>> shards.add(x)
    >>> [shards.at(i).ntotal for i in range(2)], shards.ntotal
    ([500, 500], 1000)
    >>> shards.search(x[[3, 700]], 1, nprobe=8)[1].ravel()
    array([  3, 700])
    """

    def __init__(self, d: int = 0, threaded: bool = False, successive_ids: bool = True) -> None:
        super().__init__(d, threaded)
        self.successive_ids = bool(successive_ids)

    @property
    def ntotal(self) -> int:
        """int: vectors in all parts."""
        return sum(part.ntotal for part in self._parts)

    def add_shard(self, index: Index) -> None:
        """Add a part, which is kept.

        Parameters
        ----------
        index : Index
        """
        self._parts = self._added(index)
        self._d = index.d

    def remove_shard(self, index: Index) -> None:
        """Take a part out.

        Parameters
        ----------
        index : Index
        """
        self._parts = self._removed(index)

    def add(self, x: ArrayLike) -> None:
        """Add vectors, the same number to each part.

        With successive ids the parts must be empty, as in Faiss: ids would
        change otherwise.

        Parameters
        ----------
        x : array_like, shape (n, d)
        """
        rows = np.asarray(x)
        ids = None
        if self.successive_ids:
            if self.ntotal > 0 and len(self._some()) > 1:
                raise ValueError("ids would change: allowed with successive_ids: to add to empty parts, once")
        else:
            ids = np.arange(self.ntotal, self.ntotal + len(rows))
        self._spread(rows, ids)

    def add_with_ids(self, x: ArrayLike, ids: ArrayLike) -> None:
        """Add vectors under given ids, the same number to each part.

        Parameters
        ----------
        x : array_like, shape (n, d)
        ids : array_like of int, shape (n,)
            Only with ``successive_ids=False``.
        """
        if self.successive_ids:
            raise ValueError("ids are given by the places of vectors: allowed with successive_ids=False")
        rows, given = np.asarray(x), np.asarray(ids)
        if given.shape != rows.shape[:1]:
            raise ValueError(f"ids has shape {given.shape} (allowed: one id for each of {rows.shape[:1]} rows)")
        self._spread(rows, given)

    def _spread(self, rows: NDArray[Any], ids: NDArray[Any] | None) -> None:
        """All parts get their share, or none of them anything."""
        parts = self._some()
        if rows.ndim != 2 or rows.shape[1] != self._d:
            raise ValueError(f"x has shape {rows.shape} (allowed: (n, {self._d}))")
        bounds = [len(rows) * i // len(parts) for i in range(len(parts) + 1)]
        done: list[tuple[Index, NDArray[np.int64]]] = []
        try:
            for part, (begin, end) in zip(parts, zip(bounds, bounds[1:])):
                before = part.ntotal
                if ids is None:
                    part.add(rows[begin:end])
                    done.append((part, np.arange(before, before + end - begin)))
                else:
                    part.add_with_ids(rows[begin:end], ids[begin:end])
                    done.append((part, np.asarray(ids[begin:end], dtype=np.int64)))
        except BaseException:
            for part, added in done:
                part.remove_ids(added)
            raise

    def remove_ids(self, ids: Any) -> int:
        """Remove vectors from all parts.

        Parameters
        ----------
        ids : array_like of int, or IDSelector
            Only with ``successive_ids=False``.

        Returns
        -------
        count : int
            Vectors removed.
        """
        if self.successive_ids:
            raise ValueError("ids would change: allowed with successive_ids=False")
        return sum(part.remove_ids(ids) for part in self._some())

    def search(self, x: ArrayLike, k: int, params: Any = None, **keywords: Any) -> tuple[_Distances, _Labels]:
        """Find the k nearest vectors in all parts together.

        Parameters
        ----------
        x, k, params
            As in `Index.search`.
        **keywords
            As in `Index.search`; a filter only with ``successive_ids=False``.

        Returns
        -------
        D : ndarray of float32, shape (n, k)
        I : ndarray of int64, shape (n, k)
            As `Index.search`.
        """
        parts = self._some()
        filtered = keywords.get("filter") is not None or getattr(params, "sel", None) is not None
        if filtered and self.successive_ids:
            raise ValueError("a filter knows the ids of one part: allowed with successive_ids=False")
        if any(keywords.get(name) or getattr(params, name, None) for name in ("max_per_group", "groups")):
            raise ValueError("a part knows the groups of its own rows only: allowed without max_per_group")
        distances, labels = [], []
        before = 0
        for part in parts:
            found_distances, found_labels = part.search(x, k, params, **keywords)
            if self.successive_ids:
                found_labels[found_labels >= 0] += before
                before += part.ntotal
            distances.append(found_distances)
            labels.append(found_labels)
        return _merged(distances, labels, k, parts[0].metric_type)


class IndexReplicas(_Parts):
    """Several copies of one index, as faiss.IndexReplicas.

    What is added goes to all of them; searches take turns, so that threads of a
    program that search at the same time wait less for changes.

    Parameters
    ----------
    d : int
        0: that of the first part.
    threaded : bool
        Only False: each part uses all threads that are allowed.

    Examples
    --------
    >>> replicas = fx.IndexReplicas()
    >>> for part in range(2):
    ...     replicas.add_replica(fx.clone_index(index))
    >>> replicas.ntotal, replicas.count()
    (1000, 2)
    >>> replicas.search(x[:3], 1, nprobe=8)[1].ravel()
    array([0, 1, 2])
    """

    def __init__(self, d: int = 0, threaded: bool = False) -> None:
        super().__init__(d, threaded)
        self._turns = itertools.count()

    @property
    def ntotal(self) -> int:
        """int: vectors in each part."""
        return self._parts[0].ntotal if self._parts else 0

    def add_replica(self, index: Index) -> None:
        """Add a copy, which is kept.

        Parameters
        ----------
        index : Index
            With as many vectors as those before.
        """
        parts = self._added(index)
        if index.ntotal != parts[0].ntotal:
            raise ValueError(f"the index holds {index.ntotal} vectors (allowed: {parts[0].ntotal}, as the others do)")
        self._parts = parts
        self._d = index.d

    def remove_replica(self, index: Index) -> None:
        """Take a copy out.

        Parameters
        ----------
        index : Index
        """
        self._parts = self._removed(index)

    def add(self, x: ArrayLike) -> None:
        """Add vectors to all parts, or to none of them.

        Parameters
        ----------
        x : array_like, shape (n, d)
        """
        done: list[tuple[Index, int]] = []
        try:
            for part in self._some():
                before = part.ntotal
                part.add(x)
                done.append((part, before))
        except BaseException:
            for part, before in done:
                part.remove_ids(np.arange(before, part.ntotal))
            raise

    def remove_ids(self, ids: Any) -> int:
        """Remove vectors from all parts.

        Parameters
        ----------
        ids : array_like of int, or IDSelector

        Returns
        -------
        count : int
            Vectors removed from each.
        """
        return max(part.remove_ids(ids) for part in self._some())

    def search(self, x: ArrayLike, k: int, params: Any = None, **keywords: Any) -> tuple[_Distances, _Labels]:
        """Find the k nearest vectors in one of the parts.

        Parameters
        ----------
        x, k, params
            As in `Index.search`.
        **keywords
            As in `Index.search`.

        Returns
        -------
        D : ndarray of float32, shape (n, k)
        I : ndarray of int64, shape (n, k)
            As `Index.search`.
        """
        parts = self._some()
        return parts[next(self._turns) % len(parts)].search(x, k, params, **keywords)


def _merged(distances: list[_Distances], labels: list[_Labels], k: int, metric: int) -> tuple[_Distances, _Labels]:
    """The k best of several results; what is missing comes last."""
    all_distances, all_labels = np.concatenate(distances, axis=1), np.concatenate(labels, axis=1)
    keys = -all_distances if metric == METRIC_INNER_PRODUCT else all_distances
    order = np.lexsort((keys, all_labels == -1), axis=1)[:, :k]
    return np.take_along_axis(all_distances, order, axis=1), np.take_along_axis(all_labels, order, axis=1)
