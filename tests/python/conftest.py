"""Small real data and indexes that several tests share. Other rows and brute force: reference.py."""

from __future__ import annotations

import signal

import pytest
from reference import normal, words

import faiss_ext as fx

ROWS = 4000
QUERIES = 100

# A shell that runs the tests in the background has Ctrl-C ignored, and every
# process that a test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def made(description, x, metric=fx.METRIC_L2):
    index = fx.index_factory(x.shape[1], description, metric)
    index.train(x)
    index.add(x)
    return index


@pytest.fixture(scope="session")
def glove():
    """Rows and queries: the most frequent words, disjoint."""
    return words(ROWS), words(QUERIES, skip=ROWS)


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

    x = normal(520, 6, seed=5)
    return datasets.Dataset("small", x[:500], x[500:], "ip")
