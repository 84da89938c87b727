"""Nearest neighbours for scikit-learn's estimators, by a ScaNN index.

`ScannNeighbors` stands in for `sklearn.neighbors.KNeighborsTransformer`: its sparse graphs feed
what takes ``metric="precomputed"``: TSNE, DBSCAN, KNeighborsClassifier and others, in a pipeline.
Needs scikit-learn 1.6 or newer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from . import METRIC_INNER_PRODUCT, METRIC_L2, Index, index_factory
from ._descriptions import normalized

__all__ = ["ScannNeighbors"]

METRICS = ("euclidean", "sqeuclidean", "cosine", "inner_product")
MODES = ("distance", "connectivity")
EXACT_ROWS = 2048  # so few are searched one by one


class ScannNeighbors(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Sparse graphs of the nearest neighbours.

    Parameters
    ----------
    n_neighbors : int
        Of each row. Graphs of distances have one more, as those of
        `KNeighborsTransformer`: a row that was fitted is its own first neighbour.
    mode : {"distance", "connectivity"}
        What the graph holds: distances, or ones.
    metric : {"euclidean", "sqeuclidean", "cosine", "inner_product"}
        Distances are those of scikit-learn. The inner product is none: its graph is of
        connectivity only, and `kneighbors` gives it with the sign changed.
    description : str
        Factory string; "ScaNN" chooses lists, codes and storage.
    nprobe, reorder_k : int, optional
        Of searches. Default: what the index chooses; up to 2048 rows all are looked at.
    target_recall : float, optional
        `fit` calibrates the index to this recall, from 1000 of the rows.
    seed : int
        Of all random choices.

    Attributes
    ----------
    index_ : faiss_ext.Index
    n_samples_fit_ : int
    n_features_in_ : int

    Examples
    --------
    >>> from sklearn.cluster import DBSCAN  # doctest: +SKIP
    >>> from sklearn.pipeline import make_pipeline  # doctest: +SKIP
    >>> dbscan = DBSCAN(metric="precomputed", eps=0.5)  # doctest: +SKIP
    >>> labels = make_pipeline(ScannNeighbors(20), dbscan).fit_predict(x)  # doctest: +SKIP
    """

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        mode: str = "distance",
        metric: str = "euclidean",
        description: str = "ScaNN",
        nprobe: int | None = None,
        reorder_k: int | None = None,
        target_recall: float | None = None,
        seed: int = 1234,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.mode = mode
        self.metric = metric
        self.description = description
        self.nprobe = nprobe
        self.reorder_k = reorder_k
        self.target_recall = target_recall
        self.seed = seed

    def fit(self, X: ArrayLike, y: object = None) -> ScannNeighbors:
        """Build the index.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : ignored

        Returns
        -------
        self : ScannNeighbors
        """
        self._check_parameters()
        rows = self._rows(X, reset=True)
        cosine = self.metric == "cosine"
        metric = METRIC_L2 if self.metric in ("euclidean", "sqeuclidean") else METRIC_INNER_PRODUCT
        description = _cosine(self.description) if cosine else self.description
        index = index_factory(rows.shape[1], description, metric)
        index.seed = self.seed
        index.train(rows)
        index.add(rows)
        if self.target_recall is not None:
            index.calibrate(None, self.target_recall, min(self.n_neighbors, len(rows) - 1))
        self.index_: Index = index
        self.n_samples_fit_ = len(rows)
        self._n_features_out = len(rows)
        return self

    def kneighbors(
        self, X: ArrayLike | None = None, n_neighbors: int | None = None, return_distance: bool = True
    ) -> Any:
        """Find the nearest of the fitted rows.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), optional
            Default: the fitted rows, of which none is its own neighbour.
        n_neighbors : int, optional
            Default: that of the constructor.
        return_distance : bool

        Returns
        -------
        distances : ndarray of shape (n_queries, n_neighbors)
            If `return_distance`.
        indices : ndarray of shape (n_queries, n_neighbors)
        """
        check_is_fitted(self)
        k = self._k(self.n_neighbors if n_neighbors is None else n_neighbors, themselves=X is None)
        if X is None:
            rows = self.index_.reconstruct_n(0, self.n_samples_fit_)
            distances, found = _without_themselves(*self._search(rows, k + 1))
        else:
            distances, found = self._search(self._rows(X, reset=False), k)
        return (self._as_distances(distances), found) if return_distance else found

    def kneighbors_graph(
        self, X: ArrayLike | None = None, n_neighbors: int | None = None, mode: str | None = None
    ) -> csr_matrix:
        """Make the sparse graph of the nearest neighbours.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), optional
            As for `kneighbors`.
        n_neighbors : int, optional
            Default: that of the constructor.
        mode : {"distance", "connectivity"}, optional
            Default: that of the constructor.

        Returns
        -------
        graph : csr_matrix of shape (n_queries, n_samples_fit)
        """
        mode = self.mode if mode is None else mode
        if mode not in MODES:
            raise ValueError(f"mode = {mode!r} (allowed: {', '.join(MODES)})")
        if mode == "distance" and self.metric == "inner_product":
            raise ValueError("the inner product is no distance (allowed: mode='connectivity')")
        distances, found = self.kneighbors(X, n_neighbors)
        values = distances if mode == "distance" else np.ones(found.shape)
        missing = found < 0  # fewer rows in the lists that were visited
        starts = np.concatenate([[0], np.cumsum((~missing).sum(axis=1))])
        shape = (len(found), self.n_samples_fit_)
        return csr_matrix((values[~missing], found[~missing], starts), shape=shape)

    def transform(self, X: ArrayLike) -> csr_matrix:
        """Make the graph of rows to those that were fitted.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features)

        Returns
        -------
        graph : csr_matrix of shape (n_queries, n_samples_fit)
        """
        check_is_fitted(self)
        return self.kneighbors_graph(X, self.n_neighbors + (self.mode == "distance"))

    def fit_transform(self, X: ArrayLike, y: object = None) -> csr_matrix:
        """Fit, and make the graph of the rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : ignored

        Returns
        -------
        graph : csr_matrix of shape (n_samples, n_samples)
        """
        return self.fit(X).transform(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _check_parameters(self) -> None:
        for name, allowed in (("mode", MODES), ("metric", METRICS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} = {getattr(self, name)!r} (allowed: {', '.join(allowed)})")
        if self.metric == "inner_product" and self.mode == "distance":
            raise ValueError("metric='inner_product' is no distance (allowed: mode='connectivity')")
        if isinstance(self.n_neighbors, bool) or not isinstance(self.n_neighbors, (int, np.integer)):
            raise TypeError(f"n_neighbors = {self.n_neighbors!r} (allowed: integers)")
        if self.n_neighbors < 1:
            raise ValueError(f"n_neighbors = {self.n_neighbors} (allowed: >= 1)")

    def _rows(self, X: ArrayLike, *, reset: bool) -> NDArray[np.float32]:
        # numbers beyond float32 are found after it, as infinite ones
        rows = validate_data(self, X, reset=reset, dtype=np.float32, order="C", ensure_min_samples=2 if reset else 1)
        return np.asarray(rows, dtype=np.float32)

    def _k(self, wanted: int, *, themselves: bool) -> int:
        most = self.n_samples_fit_ - themselves
        if not 1 <= wanted <= most:
            raise ValueError(f"Expected n_neighbors <= n_samples_fit, but n_neighbors = {wanted}, of {most} rows")
        return int(wanted)

    def _search(self, rows: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        nprobe, reorder_k = self.nprobe, self.reorder_k
        if self.n_samples_fit_ <= EXACT_ROWS:
            nprobe = self.index_.nlist if nprobe is None else nprobe
            reorder_k = self.n_samples_fit_ if reorder_k is None else reorder_k
        return self.index_.search(rows, k, nprobe=nprobe, reorder_k=reorder_k)

    def _as_distances(self, found: NDArray[np.float32]) -> NDArray[np.float64]:
        values = found.astype(np.float64)
        if self.metric == "euclidean":
            return np.sqrt(np.maximum(values, 0))
        if self.metric == "cosine":
            return np.clip(1 - values, 0, 2)
        return -values if self.metric == "inner_product" else np.maximum(values, 0)


def _cosine(description: str) -> str:
    """The description with the options of cosines; rows of zeros are like no other."""
    return normalized(description).replace("normalize=1", "normalize=1,allow_zero=1")


def _without_themselves(
    distances: NDArray[np.float32], found: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Neighbours of the rows 0, 1, ..., less the row itself or, if it is not there, the last one."""
    out = found == np.arange(len(found))[:, None]
    out[~out.any(axis=1), -1] = True
    shape = (len(found), found.shape[1] - 1)
    return distances[~out].reshape(shape), found[~out].reshape(shape)
