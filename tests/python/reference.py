"""Rows and brute force for all tests in Python: one maker of each kind, one oracle, one loader of the words.

In NumPy alone, so that nothing of what is tested has a part in it."""

from __future__ import annotations

import pathlib

import numpy as np

WORDS = pathlib.Path(__file__).resolve().parents[1] / "data" / "glove-50-frequent.hbin"
# metrics by the names of the hosts and by Faiss' numbers
LARGER_IS_BETTER = {"L2": False, 1: False, "IP": True, 0: True, "COSINE": True}


def normal(n, d, seed=0):
    """Standard normal values, float32 (n, d)."""
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)


def clustered(n, d, seed, clouds=60, apart=1.0, width=0.5, clouds_seed=None):
    """Gaussian clouds `apart` from one another; `clouds_seed`: several sets of rows in the same ones."""
    random = np.random.default_rng(seed if clouds_seed is None else clouds_seed)
    centres = apart * random.standard_normal((clouds, d))
    if clouds_seed is not None:
        random = np.random.default_rng(seed)
    x = centres[random.integers(clouds, size=n)] + width * random.standard_normal((n, d))
    return x.astype(np.float32)


def words(rows, skip=0):
    """Vectors of frequent words (GloVe), the most frequent first: (rows, 50). Fails where the file is missing."""
    n, d = np.fromfile(WORDS, dtype="<u4", count=2)
    every = np.fromfile(WORDS, dtype="<f2", offset=8).reshape(n, d)
    return every[skip : skip + rows].astype(np.float32)


def distances(x, q, metric):
    """Of all pairs in float64, as Faiss has them: squared for L2, the similarity else. (nq, n)"""
    x, q = x.astype(np.float64), q.astype(np.float64)
    if metric == "COSINE":
        x, q = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30) for rows in (x, q))
    products = q @ x.T
    if LARGER_IS_BETTER[metric]:
        return products
    return ((q**2).sum(1)[:, None] - 2 * products + (x**2).sum(1)[None, :]).clip(0)


def brute_force(x, q, k, metric, allowed=None):
    """The k nearest: distances and positions, best first. `allowed` says of each row whether it counts."""
    every = distances(x, q, metric)
    worse = -every if LARGER_IS_BETTER[metric] else every
    if allowed is not None:
        worse = np.where(allowed, worse, np.inf)
    labels = np.argsort(worse, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(worse, labels, 1)
    return (-best if LARGER_IS_BETTER[metric] else best), labels


def recall(labels, truth):
    """Share of the true labels, (nq, k), that were found."""
    hits = sum(np.intersect1d(found, wanted).size for found, wanted in zip(labels, truth))
    return hits / np.size(truth)
