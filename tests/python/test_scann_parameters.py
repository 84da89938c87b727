"""Parameters of SCANN as clients send them: what the node makes of them.

The rules by themselves: tests/knowhere_plugin/test_scann_policy.cpp. Here they
are seen in what was built, and in searches beside those of the same index with
the engine's own parameters.
"""

import numpy as np
import pytest
from reference import brute_force, normal, recall

import faiss_ext as fx
from faiss_ext import knowhere

EXACT_ROWS = 2048  # up to so many every search is exact
NODE = knowhere.IndexFactory().create("SCANN")


def built(x, **parameters):
    """The node, and the engine's index in it."""
    node = knowhere.IndexFactory().create("SCANN")
    node.build(x, **parameters)
    return node, fx.deserialize_index(node.serialize())


@pytest.fixture(scope="module")
def rows():
    return normal(EXACT_ROWS + 1, 8, seed=1)


@pytest.mark.parametrize("spelling", [16, "16", " 16 ", '"16"', np.int64(16), np.array(16)])
def test_integers_in_every_spelling(rows, spelling):
    assert built(rows[: 16 * 39], nlist=spelling)[1].nlist == 16


@pytest.mark.parametrize("spelling", [False, "False", "false", "FALSE", '"false"', " false ", np.bool_(False)])
def test_flags_in_every_spelling(rows, spelling):
    assert built(rows, nlist=1, with_raw_data=spelling)[1].with_raw_data is False


@pytest.mark.parametrize("spelling", [2.5, "2.5", "25e-1", '"2.5"', np.float32(2.5)])
def test_numbers_in_every_spelling(rows, spelling):
    assert built(rows, nlist=1, eta=spelling)[1].eta == 2.5


def test_defaults_are_those_of_knowhere():
    known = {p.name: p for p in knowhere.parameters("SCANN")}
    assert (known["nlist"].default, known["with_raw_data"].default) == (128, True)
    assert (known["reorder_k"].default, known["ensure_topk_full"].default, known["k"].default) == (None, False, 10)
    _, index = built(normal(128 * 39, 8, seed=1))
    assert (index.nlist, index.sub_dim, index.with_raw_data, index.soar_lambda) == (128, 2, True, 0)
    assert index.refine_type == "none"


def test_many_dimensions_get_copies_and_coarser_codes():
    x = normal(EXACT_ROWS + 1, 128, seed=1)
    for given, wanted in (
        ({}, (4, 1)), ({"sub_dim": 8}, (8, 1)), ({"soar_lambda": 0}, (2, 0)), ({"with_raw_data": False}, (2, 0))
    ):  # fmt: skip
        _, index = built(x, nlist=4, **given)
        assert (index.sub_dim, index.soar_lambda) == wanted
    _, index = built(x[:EXACT_ROWS], nlist=4)
    assert (index.sub_dim, index.soar_lambda) == (2, 0)
    _, index = built(x[:, :127], nlist=4)
    assert (index.sub_dim, index.soar_lambda) == (2, 0)


@pytest.mark.parametrize("dim", [1, 31, 32, 50])
@pytest.mark.parametrize("metric", ["L2", "IP"])
def test_without_raw_rows_codes_fill_whole_groups(dim, metric):
    """Every dimension: tests/knowhere_plugin/test_scann_policy.cpp."""
    few = normal(EXACT_ROWS + 1, dim, seed=1)
    for raw in (False, True):
        _, index = built(few, metric_type=metric, nlist=1, with_raw_data=raw, soar_lambda=0)
        codes = (dim + 1) // 2  # of two dimensions
        if not raw and dim // 2 // 4 * 4 >= 16:
            codes = dim // 2 // 4 * 4
        term, raw_row = 2, 4 * dim if raw else 0  # and no byte for the number of the one list
        assert index.sa_code_size() == (codes + 1) // 2 + term + raw_row


def test_whole_groups_are_left_alone_where_users_choose():
    def codes(rows=EXACT_ROWS + 1, **given):
        _, index = built(normal(rows, 50, seed=1), nlist=1, with_raw_data=False, **given)
        raw_row = 4 * 50 if index.with_raw_data else 0
        refined = 50 if index.refine_type == "int8" else 0
        return 2 * (index.sa_code_size() - 2 - raw_row - refined)

    assert codes() == 24
    assert codes(sub_dim=2) == 26  # 25, in bytes
    assert codes(rows=EXACT_ROWS) == 26
    assert codes(eta=3, refine_type="int8") == codes(eta=3, refine_type="int8", sub_dim=2) - 2


BAD_BUILD = [
    ({"nlist": 0}, r'nlist = "0" \(allowed: an integer in 1\.\.65536\)'),
    ({"nlist": 65537}, r'nlist = "65537" \(allowed: an integer in 1\.\.65536\)'),
    ({"nlist": "abc"}, r'nlist = "abc" \(allowed: an integer'),
    ({"nlist": 16.5}, r'nlist = "16.5" \(allowed: an integer'),
    ({"nlist": True}, r'nlist = "True" \(allowed: an integer'),
    ({"nlist": ""}, r'nlist = "" \(allowed: an integer'),
    ({"nlist": "1" * 400}, r"nlist = .* \(allowed: an integer"),
    ({"sub_dim": 9}, r'sub_dim = "9" \(allowed: an integer in 1\.\.8\)'),
    ({"with_raw_data": 1}, r'with_raw_data = "1" \(allowed: true or false\)'),
    ({"with_raw_data": "yes"}, r'with_raw_data = "yes" \(allowed: true or false\)'),
    ({"eta": 0.5}, r'eta = "0.5" \(allowed: a number in 1\.\.inf\)'),
    ({"eta": "nan"}, r'eta = "nan" \(allowed'),
    ({"eta": True}, r'eta = "True" \(allowed'),
    ({"soar_lambda": -1}, r'soar_lambda = "-1" \(allowed: a number in 0\.\.inf\)'),
    ({"soar_lambda": "inf"}, r'soar_lambda = "inf" \(allowed: a number in 0\.\.inf\)'),
    ({"anisotropic_threshold": "x"}, r'anisotropic_threshold = "x" \(allowed: a number in -inf\.\.inf\)'),
    ({"refine_type": "int4"}, r'refine_type = "int4" \(allowed: none\|int8\|fp16\|bf16\)'),
    ({"target_recall": 1}, r'target_recall = "1" \(allowed: a number in 0.5\.\.0.999\)'),
    ({"target_recall": 0.9, "with_raw_data": False}, r"target_recall = 0.9 with with_raw_data = false"),
    ({"eta": 2, "anisotropic_threshold": 0.2}, r"eta = 2 and anisotropic_threshold = 0.2 \(allowed: one of them\)"),
    ({"nlits": 8}, r'unknown build parameter nlits = "8" \(known: metric_type, dim, num_build_thread, nlist, sub_dim'),
    ({"nprobe": 8}, r'unknown build parameter nprobe = "8"'),
]


@pytest.mark.parametrize("given, message", BAD_BUILD, ids=[str(g)[:40] for g, _ in BAD_BUILD])
def test_bad_build_values_name_key_value_and_range(rows, given, message):
    with pytest.raises(ValueError, match=f"^{message}") as checked:
        NODE.check("build", **given)
    if "nprobe" in given:  # of another phase: no harm in a call
        return
    node = knowhere.IndexFactory().create("SCANN")
    with pytest.raises(ValueError) as refused:
        node.build(rows, **given)
    said = [str(error.value).split(" (known")[0].replace("unknown build", "unknown") for error in (checked, refused)]
    assert said[0] == said[1] and node.count == 0


BAD_SEARCH = [
    ({"nprobe": 0}, r'nprobe = "0" \(allowed: an integer in 1\.\.65536\)'),
    ({"nprobe": 65537}, r'nprobe = "65537" \(allowed'),
    ({"reorder_k": 0}, r'reorder_k = "0" \(allowed: an integer in 1\.\.2147483647\)'),
    ({"ensure_topk_full": 2}, r'ensure_topk_full = "2" \(allowed: true or false\)'),
    ({"ef": 64}, r'unknown search parameter ef = "64" \(known: .*nprobe, reorder_k, ensure_topk_full\)'),
    ({"reorder_k": 5}, r"reorder_k = 5 is below k = 10 \(allowed: >= k\)"),
]


@pytest.mark.parametrize("given, message", BAD_SEARCH, ids=[str(g) for g, _ in BAD_SEARCH])
def test_bad_search_values_name_key_value_and_range(given, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        NODE.check("search", **given)


def test_what_is_not_bad():
    NODE.check("search", reorder_k=10)
    NODE.check("search", reorder_k=5, k=5)
    NODE.check("search", nprobe=None, reorder_k=None)
    NODE.check("build", eta=2, anisotropic_threshold=None)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"nlist": 7, "sub_dim": 8, "eta": 3.5},
        {"anisotropic_threshold": 0.2, "soar_lambda": 1},
        {"with_raw_data": False, "refine_type": "int8"},
        {"refine_type": "fp16"},
        {"refine_type": "bf16"},
    ],
    ids=str,
)
@pytest.mark.parametrize("n", [0, 1, 50, EXACT_ROWS, EXACT_ROWS + 1])
def test_the_values_arrive(given, n):
    _, index = built(normal(n, 16, seed=1), metric_type="IP", **given)
    assert index.ntotal == n and index.metric_type == fx.METRIC_INNER_PRODUCT
    assert index.nlist == max(1, min(given.get("nlist", 128), n // 39))
    assert index.with_raw_data == (given.get("with_raw_data", True) or n <= EXACT_ROWS)
    assert index.soar_lambda == given.get("soar_lambda", 0)
    assert index.refine_type == given.get("refine_type", "none")
    if index.with_raw_data or "sub_dim" in given:
        assert index.sub_dim == given.get("sub_dim", 2)
    if "eta" in given:
        assert index.eta == given["eta"]
    if "anisotropic_threshold" in given:
        assert index.threshold == pytest.approx(given["anisotropic_threshold"])


def test_searches_do_what_the_engine_does_with_these(x, q):
    node, index = built(x, nlist=64)
    for given, arguments in (
        ({"nprobe": 5}, {"nprobe": 5}),
        ({"nprobe": 100}, {"nprobe": 64}),
        ({"nprobe": 5, "reorder_k": 50}, {"nprobe": 5, "reorder_k": 50}),
    ):
        for got, want in zip(node.search(q, k=10, **given), index.search(q, 10, **arguments)):
            np.testing.assert_array_equal(got, want)
    # without raw rows, the refine codes are the last step that rescores
    node, index = built(x, nlist=64, with_raw_data=False, refine_type="int8")
    wanted = index.search(q, 10, nprobe=5, refine_k=50)
    for got, want in zip(node.search(q, k=10, nprobe=5, reorder_k=50), wanted):
        np.testing.assert_array_equal(got, want)
    # chosen in training with target_recall
    node, index = built(x, nlist=64, target_recall=0.9)
    assert index.calibration
    for got, want in zip(node.search(q), index.search(q, 10)):
        np.testing.assert_array_equal(got, want)
    for got, want in zip(node.search(q, nprobe=5), index.search(q, 10, nprobe=5)):
        np.testing.assert_array_equal(got, want)


def test_small_segments_are_searched_further(x, q):
    """By how much: tests/knowhere_plugin/test_scann_policy.cpp, test_node_reach.cpp."""
    _, truth = brute_force(x, q, 10, fx.METRIC_L2)
    node, _ = built(x, nlist=128)
    assert recall(node.search(q)[1], truth) > 0.97 > recall(node.search(q, nprobe=8)[1], truth)
    few, _ = built(x[:EXACT_ROWS], nlist=64, with_raw_data=False)
    _, truth = brute_force(x[:EXACT_ROWS], q, 10, fx.METRIC_L2)
    assert recall(few.search(q, nprobe=1, reorder_k=10)[1], truth) > 0.998
