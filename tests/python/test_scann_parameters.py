"""Parameters of SCANN as clients send them, for every host that speaks Python."""

import numpy as np
import pytest

import faiss_ext as fx
from faiss_ext._faiss_ext import _codes_in_fours
from faiss_ext.scann_parameters import FEW_ROWS, BuildParameters, SearchParameters


@pytest.mark.parametrize("spelling", [16, "16", " 16 ", '"16"', np.int64(16)])
def test_integers_in_every_spelling(spelling):
    assert BuildParameters.parse({"nlist": spelling}).nlist == 16


@pytest.mark.parametrize("spelling", [False, "False", "false", "FALSE", '"false"', " false "])
def test_flags_in_every_spelling(spelling):
    assert BuildParameters.parse({"with_raw_data": spelling}).with_raw_data is False


@pytest.mark.parametrize("spelling", [2.5, "2.5", "25e-1", '"2.5"'])
def test_numbers_in_every_spelling(spelling):
    assert BuildParameters.parse({"eta": spelling}).eta == 2.5


def test_defaults_are_those_of_knowhere():
    build, search = BuildParameters.parse({}), SearchParameters.parse(None)
    assert (build.nlist, build.with_raw_data) == (128, True)
    assert build.factory(10 * FEW_ROWS, 48) == "IVF128,ScaNN(sub_dim=2),RFlat"
    assert (search.reorder_k, search.ensure_topk_full) == (None, False)
    assert search.arguments(k=10, rows=100000, nlist=64, with_raw_data=True) == {"nprobe": 8}


def test_small_segments_are_searched_further():
    """As the node searches them (tests/knowhere_plugin/test_node_reach.cpp)."""
    search = SearchParameters.parse(None)

    def nprobe(rows, k=10, **more):
        return search.arguments(k=k, rows=rows, nlist=128, with_raw_data=True, **more)["nprobe"]

    probes = [nprobe(rows) for rows in (2049, 5000, 10000, 20000, 40000, 80000, 1000000)]
    assert probes == sorted(probes, reverse=True) and probes[0] == 128 and probes[3] >= 64 and probes[-1] == 8
    assert nprobe(30000, k=16384) == 128  # as many rows as are wanted, and more
    assert nprobe(5000, calibrated=3) == 3
    given = SearchParameters.parse({"nprobe": 2})
    assert given.arguments(k=10, rows=5000, nlist=128, with_raw_data=True) == {"nprobe": 2}
    assert search.arguments(k=10, rows=5000, nlist=128, with_raw_data=True)["reorder_k"] > 10
    assert "reorder_k" not in search.arguments(k=10, rows=5000, nlist=128, with_raw_data=False)


def test_many_dimensions_get_copies_and_coarser_codes():
    rows = 10 * FEW_ROWS
    assert BuildParameters.parse({}).factory(rows, 128) == "IVF128,ScaNN(sub_dim=4,soar_lambda=1.0),RFlat"
    assert BuildParameters.parse({"sub_dim": 8}).factory(rows, 128) == "IVF128,ScaNN(sub_dim=8,soar_lambda=1.0),RFlat"
    assert BuildParameters.parse({"soar_lambda": 0}).factory(rows, 128) == "IVF128,ScaNN(sub_dim=2),RFlat"


def test_without_raw_rows_codes_fill_whole_groups():
    """The same as the node's (tests/knowhere_plugin/test_scann_node.cpp), for each dimension."""

    def factory(dim, rows=10 * FEW_ROWS, **given):
        return BuildParameters.parse({"with_raw_data": False, **given}).factory(rows, dim)

    assert factory(128) == "IVF128,ScaNN64x4"
    assert factory(50) == "IVF128,ScaNN24x4"
    assert factory(50, eta=3, refine_type="int8") == "IVF128,ScaNN24x4(eta=3.0),SQ8"
    assert factory(50, sub_dim=2) == "IVF128,ScaNN(sub_dim=2)"
    assert factory(50, rows=FEW_ROWS) == "IVF52,ScaNN(sub_dim=2),RFlat"
    assert factory(31) == "IVF128,ScaNN(sub_dim=2)"
    for dim in [*range(1, 200), 255, 256, 383, 384, 768, 1023, 1536]:
        for metric in (fx.METRIC_L2, fx.METRIC_INNER_PRODUCT):
            for raw in (False, True):
                parameters = BuildParameters.parse({"with_raw_data": raw, "soar_lambda": 0})
                index = fx.index_factory(dim, parameters.factory(10 * FEW_ROWS, dim), metric)
                codes = (0 if raw else _codes_in_fours(dim, 2)) or (dim + 1) // 2
                term, list_number, raw_row = 2, 1, 4 * dim if raw else 0
                assert index.sa_code_size() == (codes + 1) // 2 + term + list_number + raw_row


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
    ({"target_recall": 1}, r'target_recall = "1" \(allowed: a number in 0.01\.\.0.999\)'),
    ({"target_recall": 0.9, "with_raw_data": False}, r"target_recall = 0.9 with with_raw_data = false"),
    ({"eta": 2, "anisotropic_threshold": 0.2}, r"eta = 2 and anisotropic_threshold = 0.2 \(allowed: one of them\)"),
    ({"nlits": 8}, r'unknown build parameter nlits = "8" \(known: nlist, sub_dim, with_raw_data, eta'),
    ({"nprobe": 8}, r'unknown build parameter nprobe = "8"'),
]


@pytest.mark.parametrize("given, message", BAD_BUILD, ids=[str(g)[:40] for g, _ in BAD_BUILD])
def test_bad_build_values_name_key_value_and_range(given, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        BuildParameters.parse(given)


BAD_SEARCH = [
    ({"nprobe": 0}, r'nprobe = "0" \(allowed: an integer in 1\.\.65536\)'),
    ({"nprobe": 65537}, r'nprobe = "65537" \(allowed'),
    ({"reorder_k": 0}, r'reorder_k = "0" \(allowed: an integer in 1\.\.2147483647\)'),
    ({"ensure_topk_full": 2}, r'ensure_topk_full = "2" \(allowed: true or false\)'),
    ({"ef": 64}, r'unknown search parameter ef = "64" \(known: nprobe, reorder_k, ensure_topk_full\)'),
]


@pytest.mark.parametrize("given, message", BAD_SEARCH, ids=[str(g) for g, _ in BAD_SEARCH])
def test_bad_search_values_name_key_value_and_range(given, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        SearchParameters.parse(given)


def test_reorder_k_below_k_is_refused():
    with pytest.raises(ValueError, match=r"reorder_k = 5 is below k = 10 \(allowed: >= k\)"):
        SearchParameters.parse({"reorder_k": 5}).check(10)
    SearchParameters.parse({"reorder_k": 10}).check(10)


def test_ignored_keys_are_not_looked_at():
    assert SearchParameters.parse({"radius": "?", "nprobe": None}, ignored={"radius"}) == SearchParameters()


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
@pytest.mark.parametrize("rows", [0, 1, 50, FEW_ROWS, 10 * FEW_ROWS])
def test_the_engine_takes_the_factory_string_and_the_values_arrive(given, rows):
    parameters = BuildParameters.parse(given)
    index = fx.index_factory(48, parameters.factory(rows, 48), fx.METRIC_INNER_PRODUCT)
    assert index.nlist == max(1, min(parameters.nlist, rows // 39))
    assert index.sub_dim == (parameters.sub_dim or 2)
    assert index.with_raw_data == (parameters.with_raw_data or rows <= FEW_ROWS)
    assert index.soar_lambda == (parameters.soar_lambda or 0)
    assert index.refine_type == parameters.refine_type
    if parameters.eta is not None:
        assert index.eta == parameters.eta
    if parameters.anisotropic_threshold is not None:
        assert index.threshold == pytest.approx(parameters.anisotropic_threshold)


def test_search_arguments():
    usual = {"k": 10, "rows": 100000, "nlist": 64, "with_raw_data": True}
    assert SearchParameters(nprobe=100).arguments(**usual) == {"nprobe": 64}
    assert SearchParameters(reorder_k=50).arguments(**usual) == {"nprobe": 8, "reorder_k": 50}
    without_rows = {**usual, "with_raw_data": False}
    assert SearchParameters(reorder_k=50).arguments(**without_rows) == {"nprobe": 8, "refine_k": 50}
    assert SearchParameters().arguments(**usual, calibrated=20) == {"nprobe": 20}
    assert SearchParameters(nprobe=5).arguments(**usual, calibrated=20) == {"nprobe": 5}
    few = {**usual, "rows": 300}
    assert SearchParameters(nprobe=1).arguments(**few) == {"nprobe": 64, "reorder_k": 300, "refine_k": 300}
