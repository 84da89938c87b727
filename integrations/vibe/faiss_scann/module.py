import faiss_ext as fx
import numpy as np

from ..base.module import BaseANN


class FaissScann(BaseANN):
    """ScaNN for Faiss: inverted lists of score-aware 4-bit codes, the best of them compared with the raw rows."""

    METRICS = {
        "cosine": (fx.METRIC_INNER_PRODUCT, ",normalize=1"),  # the index scales rows and queries itself
        "normalized": (fx.METRIC_INNER_PRODUCT, ""),
        "ip": (fx.METRIC_INNER_PRODUCT, ""),
        "euclidean": (fx.METRIC_L2, ""),
    }

    def __init__(self, metric, n_list, sub_dim, soar_lambda):
        if metric not in self.METRICS:
            raise ValueError(f"metric {metric!r} (allowed: {', '.join(self.METRICS)})")
        self.metric = metric
        self.n_list = n_list
        self.sub_dim = sub_dim
        self.soar_lambda = soar_lambda

    def fit(self, X):
        kind, scaled = self.METRICS[self.metric]
        options = f"sub_dim={self.sub_dim},soar_lambda={self.soar_lambda}{scaled}"
        self.index = fx.index_factory(X.shape[1], f"IVF{self.n_list},ScaNN({options}),RFlat", kind)
        X = np.ascontiguousarray(X, dtype=np.float32)
        self.index.train(X)
        self.index.add(X)

    def set_query_arguments(self, n_probe, reorder):
        self.n_probe = n_probe
        self.reorder = reorder

    def query(self, v, n):
        return self._search(v[None], n)[0]

    def batch_query(self, X, n):
        self.res = self._search(X, n)

    def _search(self, X, n):
        queries = np.ascontiguousarray(X, dtype=np.float32)
        _, ids = self.index.search(queries, n, nprobe=self.n_probe, reorder_k=max(n, self.reorder))
        return [row[row >= 0] for row in ids]  # -1: the visited lists have fewer rows than n

    def __str__(self):
        build = f"n_list={self.n_list}, sub_dim={self.sub_dim}, soar_lambda={self.soar_lambda}"
        return f"FaissScann({build}, n_probe={self.n_probe}, reorder={self.reorder})"
