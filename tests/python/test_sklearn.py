"""The estimator for scikit-learn: its own checks, its graphs against KNeighborsTransformer's, in pipelines."""

# ruff: noqa: E402  # what may not be installed comes first

import numpy as np
import pytest

fx = pytest.importorskip("faiss_ext")
pytest.importorskip("sklearn", reason="PyPI scikit-learn is not installed")

from sklearn.cluster import DBSCAN
from sklearn.manifold import TSNE
from sklearn.neighbors import KNeighborsClassifier, KNeighborsTransformer
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from faiss_ext.sklearn import ScannNeighbors

random = np.random.default_rng(1)
GROUPS = random.integers(0, 3, 300)
X = (random.normal(0, 5, (3, 10))[GROUPS] + random.normal(0, 1, (300, 10))).astype(np.float32)
Q = X[:40] + random.normal(0, 0.1, (40, 10)).astype(np.float32)


@parametrize_with_checks([ScannNeighbors(n_neighbors=1)])
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("mode", ["distance", "connectivity"])
@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cosine"])
def test_graphs_are_those_of_scikit_learn(metric, mode):
    wanted = KNeighborsTransformer(n_neighbors=4, metric=metric, mode=mode, algorithm="brute").fit(X)
    found = ScannNeighbors(4, metric=metric, mode=mode).fit(X)
    for rows in (X, Q):
        a, b = found.transform(rows), wanted.transform(rows)
        assert a.shape == b.shape and a.nnz == b.nnz and a.dtype == np.float64
        np.testing.assert_allclose(a.toarray(), b.toarray(), atol=2e-3)
    np.testing.assert_allclose(found.fit_transform(X).toarray(), wanted.transform(X).toarray(), atol=2e-3)


def test_kneighbors():
    found = ScannNeighbors(3).fit(X)
    wanted = KNeighborsTransformer(n_neighbors=3, algorithm="brute").fit(X)
    for rows in (None, Q):
        for a, b in zip(found.kneighbors(rows), wanted.kneighbors(rows)):
            np.testing.assert_allclose(a, b, atol=2e-3)
        np.testing.assert_array_equal(found.kneighbors(rows, 2, return_distance=False), wanted.kneighbors(rows, 2)[1])
    assert not (found.kneighbors()[1] == np.arange(300)[:, None]).any()
    graph = found.kneighbors_graph(mode="connectivity")
    assert graph.shape == (300, 300) and graph.sum() == 900 and graph.diagonal().sum() == 0


def test_rows_that_are_equal_are_not_themselves():
    rows = np.repeat(X[:10], 6, axis=0)
    found = ScannNeighbors(3).fit(rows).kneighbors()
    assert (found[0] == 0).all() and not (found[1] == np.arange(60)[:, None]).any()


def test_inner_products():
    found = ScannNeighbors(4, metric="inner_product", mode="connectivity").fit(X)
    distances, indices = found.kneighbors(Q)
    products = Q @ X.T
    np.testing.assert_array_equal(indices, np.argsort(-products, axis=1)[:, :4])
    np.testing.assert_allclose(distances, -np.take_along_axis(products, indices, 1), rtol=1e-4)
    assert found.transform(Q).sum() == 160
    with pytest.raises(ValueError, match="no distance"):
        found.kneighbors_graph(Q, mode="distance")


def test_larger_sets_are_searched_by_lists():
    rows = np.random.default_rng(2).normal(size=(4000, 10)).astype(np.float32)
    exact = KNeighborsTransformer(n_neighbors=10, algorithm="brute").fit(rows).kneighbors(rows[:100])[1]
    for named, least in (({}, 0.5), ({"target_recall": 0.95}, 0.9), ({"nprobe": 1}, 0.05)):
        found = ScannNeighbors(10, **named).fit(rows)
        near = found.kneighbors(rows[:100], return_distance=False)
        share = sum(np.intersect1d(a, b).size for a, b in zip(near, exact)) / exact.size
        assert share > least
        if "nprobe" in named:
            assert share < 0.9
        graph = found.transform(rows[:100])
        assert graph.shape == (100, 4000) and graph.nnz <= 1100


def test_pipelines():
    wanted, labels = (
        make_pipeline(graph, DBSCAN(metric="precomputed", eps=3, min_samples=5)).fit_predict(X)
        for graph in (KNeighborsTransformer(n_neighbors=20), ScannNeighbors(20))
    )
    np.testing.assert_array_equal(labels, wanted)
    assert len(np.unique(labels)) > 2
    tsne = TSNE(metric="precomputed", init="random", perplexity=5, max_iter=250, random_state=1)
    assert make_pipeline(ScannNeighbors(16), tsne).fit_transform(X[:120]).shape == (120, 2)
    classifier = make_pipeline(ScannNeighbors(5), KNeighborsClassifier(4, metric="precomputed")).fit(X, GROUPS)
    assert classifier.score(Q, GROUPS[:40]) == 1


@pytest.mark.parametrize(
    "named, error, message",
    [
        ({"mode": "x"}, ValueError, "mode = 'x' .allowed: distance, connectivity"),
        ({"metric": "l1"}, ValueError, "metric = 'l1' .allowed: euclidean"),
        ({"metric": "inner_product"}, ValueError, "no distance"),
        ({"n_neighbors": 0}, ValueError, "n_neighbors = 0"),
        ({"n_neighbors": 1.5}, TypeError, "n_neighbors = 1.5"),
        ({"description": "nonsense"}, ValueError, "nonsense"),
    ],
)
def test_wrong_parameters(named, error, message):
    with pytest.raises(error, match=message):
        ScannNeighbors(**named).fit(X)


def test_too_many_neighbors():
    found = ScannNeighbors(5).fit(X)
    with pytest.raises(ValueError, match="n_neighbors = 301, of 300"):
        found.kneighbors(Q, 301)
    with pytest.raises(ValueError, match="n_neighbors = 300, of 299"):
        found.kneighbors(None, 300)
