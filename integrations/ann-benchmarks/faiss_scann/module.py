import faiss_ext as fx
import numpy

from ..base.module import BaseANN


class FaissScann(BaseANN):
    """ScaNN for Faiss: inverted lists of score-aware 4-bit codes, the best of them compared with the raw rows."""

    def __init__(self, metric, n_list, sub_dim, soar_lambda):
        if metric not in ("angular", "euclidean"):
            raise ValueError(f"metric {metric!r} (allowed: angular, euclidean)")
        self._metric = metric
        self._n_list = n_list
        self._options = f"sub_dim={sub_dim},soar_lambda={soar_lambda}"
        self.name = f"FaissScann(n_list={n_list},{self._options})"

    def fit(self, X):
        # with normalize the index scales rows and queries itself
        scaled = ",normalize=1,allow_zero=1" if self._metric == "angular" else ""
        kind = fx.METRIC_INNER_PRODUCT if self._metric == "angular" else fx.METRIC_L2
        self._index = fx.index_factory(X.shape[1], f"IVF{self._n_list},ScaNN({self._options}{scaled}),RFlat", kind)
        X = numpy.ascontiguousarray(X, dtype=numpy.float32)
        self._index.train(X)
        self._index.add(X)

    def set_query_arguments(self, arguments):
        self._n_probe, self._reorder_k = arguments
        self.name = f"FaissScann(n_list={self._n_list},{self._options},n_probe={self._n_probe},k={self._reorder_k})"

    def query(self, v, n):
        return self._search(v[None], n)[0]

    def batch_query(self, X, n):
        self.res = self._search(X, n)

    def _search(self, X, n):
        queries = numpy.ascontiguousarray(X, dtype=numpy.float32)
        _, ids = self._index.search(queries, n, nprobe=self._n_probe, reorder_k=max(n, self._reorder_k))
        return [row[row >= 0] for row in ids]  # -1: the visited lists have fewer rows than n
