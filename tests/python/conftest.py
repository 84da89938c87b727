"""Small real data, brute force, and indexes that several tests share."""

from __future__ import annotations

import pathlib
import signal

import numpy as np
import pytest

import faiss_ext as fx

DATA = pathlib.Path(__file__).resolve().parents[1] / "data" / "glove-50-frequent.hbin"
ROWS = 4000
QUERIES = 100

# A shell that runs the tests in the background has Ctrl-C ignored, and every
# process that a test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def brute_force(x, q, k, metric, allowed=None):
    """Exact search in float64: distances and positions, best first."""
    x64, q64 = x.astype(np.float64), q.astype(np.float64)
    scores = q64 @ x64.T
    if metric == fx.METRIC_L2:
        scores = 2 * scores - (x64**2).sum(1) - (q64**2).sum(1)[:, None]
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    labels = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, labels, 1)
    return (best if metric == fx.METRIC_INNER_PRODUCT else -best), labels


def recall(labels, truth):
    hits = sum(np.intersect1d(a, b).size for a, b in zip(labels, truth))
    return hits / truth.size


def made(description, x, metric=fx.METRIC_L2):
    index = fx.index_factory(x.shape[1], description, metric)
    index.train(x)
    index.add(x)
    return index


@pytest.fixture(scope="session")
def glove():
    """Rows and queries of the 50,000 most frequent GloVe words, disjoint."""
    if not DATA.exists():
        pytest.skip(f"{DATA} is missing")
    n, d = np.fromfile(DATA, dtype="<u4", count=2)
    rows = np.fromfile(DATA, dtype="<f2", offset=8).reshape(n, d).astype(np.float32)
    return rows[:ROWS].copy(), rows[ROWS : ROWS + QUERIES].copy()


@pytest.fixture(scope="session")
def x(glove):
    return glove[0]


@pytest.fixture(scope="session")
def q(glove):
    return glove[1]


@pytest.fixture(scope="session")
def shared_l2(x):
    """Do not change this one: tests share it."""
    return made("IVF32,ScaNN,RFlat", x)


@pytest.fixture
def index(shared_l2):
    return fx.clone_index(shared_l2)


@pytest.fixture
def small():
    """A small set of bench/, for the tests that have its folder in their path."""
    from bench import datasets

    rng = np.random.default_rng(5)
    return datasets.Dataset(
        "small",
        rng.standard_normal((500, 6)).astype(np.float32),
        rng.standard_normal((20, 6)).astype(np.float32),
        "ip",
    )
