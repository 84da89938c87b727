"""Arguments that nobody would think of, for every public function: an answer
or an exception with words; after an exception the index is as it was before.

The calls run in a process of their own, which notes what it is about to call:
if it dies, the last line says by what."""

import inspect
import itertools
import math
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from abuse import ERRORS, ROWS, D, Raises, made, rows
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import faiss_ext as fx

LEVEL = fx.simd_level()
# seconds matter: all together stay below half a minute on one core
EXAMPLES = int(os.environ.get("FAISS_EXT_ARGUMENT_EXAMPLES", "40"))
DESCRIPTIONS = ("IVF4,ScaNN,RFlat", "IDMap2,PCA4,IVF4,ScaNN(soar_lambda=1),SQ8", "IVF4,Flat")

INDEX_CALLS = {
    "search": (
        "x", "k", "params", "D", "I", "nprobe", "reorder_k", "refine_k", "max_codes", "filter", "stats",
        "target_recall", "return_recall", "max_per_group", "groups"),
    "iterate": ("x", "batch", "params", "nprobe", "reorder_k", "refine_k", "filter", "stats"),
    "search_and_reconstruct": (
        "x", "k", "params", "D", "I", "R", "nprobe", "reorder_k", "refine_k", "max_codes", "filter", "target_recall",
        "max_per_group", "groups"),
    "range_search": ("x", "radius", "params", "nprobe", "filter", "stats"),
    "search_preassigned": (
        "x", "k", "Iq", "Dq", "params", "D", "I", "reorder_k", "refine_k", "max_codes", "filter", "stats"),
    "range_search_preassigned": ("x", "radius", "Iq", "Dq", "params", "filter", "stats"),
    "assign": ("x", "k"),
    "centroids": (),
    "get_list_size": ("list_no",),
    "list_ids": ("list_no",),
    "list_codes": ("list_no",),
    "set_index_parameters": ("description",),
    "train": ("x", "progress"),
    "add": ("x", "progress", "tags"),
    "add_with_ids": ("x", "ids", "progress", "tags"),
    "set_tags": ("ids", "tags"),
    "get_tags": ("ids",),
    "calibrate": ("queries", "target_recall", "k", "progress"),
    "maintain": ("rows", "seconds", "progress"),
    "health": ("queries", "k"),
    "reconstruct": ("id",),
    "reconstruct_batch": ("ids",),
    "reconstruct_n": ("i0", "n"),
    "remove_ids": ("ids",),
    "update_vectors": ("ids", "x"),
    "sa_code_size": (),
    "sa_encode": ("x",),
    "sa_decode": ("codes",),
    "add_sa_codes": ("codes", "ids"),
    "merge_from": ("other", "add_id"),
    "copy_subset_to": ("other", "subset_type", "a1", "a2"),
    "reset": (),
    "set_direct_map_type": ("type",),
    "make_direct_map": ("new_maintain_direct_map",),
    "memory_usage": (),
    "estimate_memory": ("n",),
}
MODULE_CALLS = {
    "index_factory": ("d", "description", "metric"),
    "deserialize_index": ("data",),
    "read_index": ("path", "mmap", "verify", "memory"),
    "column_bytes": ("index", "memory"),
    "ColumnBytes": ("column", "memory", "mapped", "on_demand", "cache"),
    "write_index": ("index", "path"),
    "serialize_index": ("index",),
    "clone_index": ("index",),
    "export_to_faiss": ("index", "path"),
    "set_simd_level": ("name",),
    "from_faiss": ("index", "description", "progress"),
    "build_index": ("description", "rows", "path", "memory", "metric", "piece_rows", "total", "progress"),
    "progress_bar": ("file", "width"),
    "Filter": ("allowed",),
    "IDSelectorRange": ("imin", "imax", "assume_sorted"),
    "IDSelectorArray": ("ids",),
    "IDSelectorBatch": ("ids",),
    "IDSelectorBitmap": ("bitmap",),
    "IDSelectorAll": (),
    "IDSelectorNot": ("sel",),
    "IDSelectorAnd": ("lhs", "rhs"),
    "IDSelectorOr": ("lhs", "rhs"),
    "IDSelectorXOr": ("lhs", "rhs"),
    "IndexIDMap": ("index",),
    "IndexIDMap2": ("index",),
    "IndexPreTransform": ("transform", "index"),
    "IndexShards": ("d", "threaded", "successive_ids"),
    "IndexReplicas": ("d", "threaded"),
    "VectorTransform": ("d_in", "d_out", "description"),
    "PCAMatrix": ("d_in", "d_out", "eigen_power", "random_rotation"),
    "OPQMatrix": ("d", "M", "d2"),
    "RandomRotationMatrix": ("d_in", "d_out"),
    "NormalizationTransform": ("d",),
    "SearchParameters": ("sel",),
    "SearchParametersIVF": ("sel", "nprobe", "max_codes"),
    "SearchParametersScaNN": ("sel", "nprobe", "max_codes", "refine_k", "reorder_k"),
    "normalize_L2": ("x",),
    "downcast_index": ("index",),
    "extract_index_ivf": ("index",),
    "DirectMap": ("value",),
}
SETTABLE = ("verbose", "nprobe", "max_codes", "reorder_k", "refine_k")
SETTABLE += ("seed", "max_points_per_centroid", "kmeans_rounds", "auto_maintain", "concurrent")
READING = ("search", "range", "assign", "centroids", "get_", "list_", "sa_", "estimate", "memory", "health")
# take no arguments, or set what the whole process shares
LEFT_OUT = {"omp_get_max_threads", "omp_set_num_threads", "simd_level", "simd_levels"}
LEFT_OUT |= {"Index", "SearchIterator", "SearchStats"}
LEFT_OUT |= {"IDSelector", "ClusteringParameters", "ParameterSpace"}  # no constructor, or nothing to give it

edges = [0, 1, 2, 3, 4, 5, 7, D, 31, ROWS - 1, ROWS, 255, 2**15, 2**20, 2**31 - 1, 2**31, 2**32, 2**53, 2**62]
edges += [2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30]
integers = st.sampled_from(edges + [-e for e in edges]) | st.integers()
floats = st.floats(allow_subnormal=True) | st.sampled_from([1e-45, 3.4e38, 1e39, math.nan, math.inf, -0.0, 0.95])
numbers = (
    integers
    | floats
    | st.booleans()
    | st.sampled_from([np.int8(-1), np.uint64(2**64 - 1), np.int64(3), np.float32(2), np.bool_(True), np.float64(1.5)])
)
texts = st.text(max_size=20) | st.sampled_from(["", "\0", "\udcff", "NONE", "AVX2", "L2", "x" * 5000, "1e999"])
parts = [
    "IVF4", "IVF", "IVF0", "IVF99999999999", "IVF4_HNSW8", "IVF4_HNSW0", "IVF4_NSG32", "IVF2(PQ4)", "IVF4(", "ScaNN",
    "SCANN", "ScaNN4x4", "ScaNN0x4", "ScaNN(eta=2)", "ScaNN(eta=nan)", "ScaNN(seed=1e9)", "ScaNN(sub_dim=1)",
    "ScaNN(soar_lambda=1)", "ScaNN(bytes_per_vector=9)", "Flat", "SQ8", "SQfp16", "SQbf16", "RFlat", "PQ4", "PQ0",
    "PQ4x4fs", "PQ8x99", "PCA4", "PCA0", "PCAR8", "OPQ2", "OPQ0", "OPQ4_8", "RR", "ITQ4", "L2norm", "Pad16", "LSH",
    "HNSW4", "HNSW0", "NSG8", "IDMap", "IDMap2", "Refine(SQ8)", "Refine(", ")", "", " ", "\0", "é", "IMI2x2", "RQ2x4",
]
descriptions = st.lists(st.sampled_from(parts), max_size=5).map(",".join) | texts
dtypes = st.sampled_from("f4 f8 >f4 f2 i8 u1 u8 >i4 i1 ? c8 O U3 S2 M8[s] V3".split())
shapes = st.sampled_from([(), (0,), (5,), (D,), (0, D), (5, 0), (1, D), (5, D), (D, 5), (5, D, 1), (64, D), (5, D + 1)])


@st.composite
def arrays(draw):
    if draw(st.integers(0, 3)) == 0:  # sound ones, so that some calls go through
        n = draw(st.sampled_from([1, 5, 64, ROWS]))
        return rows(n, draw(st.integers(0, 3))) * np.float32(draw(st.sampled_from([1, 1e-30, 1e-44, 1e4, 1e18, 3e37])))
    dtype, shape = np.dtype(draw(dtypes)), draw(shapes)
    size = int(np.prod(shape))
    values = np.random.default_rng(draw(st.integers(0, 9))).integers(-9, 99, size)
    with np.errstate(all="ignore"):
        try:
            array = values.astype(dtype).reshape(shape)
        except (TypeError, ValueError):
            array = np.zeros(shape, dtype)
    kind = draw(st.integers(0, 7))
    if kind == 0 and array.ndim > 0:
        array = array[::-1]
    elif kind == 1:
        array = np.asfortranarray(array)
    elif kind == 2:
        array.flags.writeable = False
    elif kind == 3 and array.dtype.kind == "f" and size:
        array.flat[draw(st.integers(0, size - 1))] = draw(st.sampled_from([np.nan, np.inf, -np.inf, 3e38, 1e-45]))
    elif kind == 4:
        array = np.broadcast_to(np.zeros((), dtype), draw(st.sampled_from([(2**40, D), (3, D), (2**45,), (64, D)])))
    elif kind == 5:
        array = array.tolist()
    return array


id_arrays = st.lists(integers, max_size=6) | st.sampled_from([np.arange(5), np.arange(64), np.arange(ROWS) + 10**9])
others = st.sampled_from([None, Raises(), object(), print, (), {}, b"\0" * 99, [[]], 1j, "stats", fx.DirectMap.Array])
anything = numbers | texts | arrays() | id_arrays | others

LIKELY = {
    "x": arrays(), "Dq": arrays(), "D": arrays(), "I": arrays(), "R": arrays(),
    "Iq": arrays() | st.just("lists"), "params": st.sampled_from(["params", "parameters"]),
    "sel": st.sampled_from(["filter", "selector"]), "lhs": st.just("selector"), "rhs": st.just("selector"),
    "bitmap": arrays(), "transform": st.just("transform"), "list_no": integers,
    "queries": arrays(), "codes": arrays() | st.just("sound"),
    "ids": id_arrays | arrays(),
    "filter": id_arrays | arrays() | st.just("filter"), "stats": st.just("stats"), "other": st.just("other"),
    "index": st.sampled_from(["index", "theirs"]), "description": descriptions,
    "path": texts | st.just("file"), "name": texts,
    "rows": arrays() | st.lists(arrays(), max_size=3), "memory": st.sampled_from(["100MB", 10**9]) | integers,
    "metric": st.sampled_from([fx.METRIC_L2, fx.METRIC_INNER_PRODUCT]) | integers,
    "data": st.just("bytes") | st.binary(max_size=200),
    "type": st.sampled_from(list(fx.DirectMap.__members__.values())),
    "d": st.sampled_from([1, 8, D, 33]) | integers, "radius": floats, "target_recall": floats,
    "progress": st.sampled_from([None, print, lambda *a: None, Raises]), "allowed": id_arrays | arrays(),
}  # fmt: skip


class Case:
    """An index, and what must not change."""

    def __init__(self, description):
        self.description = description
        self.whole = made(description)
        self.wanted = self.state(self.whole)
        self.copies = (self.whole, fx.clone_index(self.whole)) if "ScaNN" in description else None

    @staticmethod
    def state(index):
        distances, labels = index.search(rows()[:4], 3, nprobe=4)
        return index.ntotal, index.is_trained, index.d, distances.tobytes(), labels.tobytes()

    def fresh(self):
        return fx.clone_index(self.whole) if "ScaNN" in self.description else made(self.description)


def short(value):
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{type(value)}: {error}>"
    kind = f"{value.dtype}{value.shape} " if isinstance(value, np.ndarray) else ""
    return kind + " ".join(text.split())[:150]


def stand_in(value, index, folder):
    """Values that need the index, by name."""
    if not isinstance(value, str):
        return value
    makers = {
        "other": lambda: fx.clone_index(index),
        "index": lambda: index,
        "theirs": lambda: (folder / "theirs.faiss").read_bytes(),
        "stats": fx.SearchStats,
        "filter": lambda: fx.Filter(np.arange(0, ROWS, 3)),
        "selector": lambda: fx.IDSelectorNot(fx.IDSelectorRange(5, 2**40)),
        "params": lambda: fx.SearchParametersScaNN(nprobe=2, reorder_k=40),
        "parameters": lambda: fx.SearchParametersIVF(sel=fx.IDSelectorBatch([1, 2, 2**50]), max_codes=9),
        "lists": lambda: np.arange(5)[:, None] % 4,
        "transform": lambda: fx.PCAMatrix(33, D),
        "sound": lambda: index.sa_encode(rows(3, 7)),
        "bytes": lambda: fx.serialize_index(index),
        "file": lambda: str(folder / "file.scann"),
    }
    try:
        return makers[value]() if value in makers else value
    except ERRORS:
        return value


def call(index, function, arguments, said):
    print(said, flush=True)
    try:
        return function(**arguments), None
    except ERRORS as error:
        assert str(error).strip(), "an error without words"
        str(error).encode("utf-8", "replace")
        return None, error
    except (ZeroDivisionError, OSError, UnicodeError, StopIteration) as error:
        return None, error  # of the arguments themselves


def the_same_calls(examples):
    """Runs run(data) so many times, with the same data in every run of the tests."""
    options = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    return lambda run: seed(1)(options(given(st.data())(run)))


def check_one(cases, folder, name, wanted):
    @the_same_calls(EXAMPLES if wanted else 3)
    def run(data):
        case = cases[data.draw(st.integers(0, len(cases) - 1))]
        if name == "set":
            index = case.fresh()
            attribute, value = data.draw(st.sampled_from(SETTABLE)), data.draw(numbers | others)
            old = getattr(index, attribute, None)
            said = f"set {attribute} = {short(value)} of {case.description}"
            _, error = call(index, lambda: setattr(index, attribute, value), {}, said)
            assert error is None or getattr(index, attribute, None) == old
            return
        arguments = {}
        for argument in wanted:
            likely = LIKELY.get(argument, integers)
            optional = argument not in ("x", "k", "Iq", "ids", "codes", "radius", "d", "description", "other")
            if optional and data.draw(st.booleans()):
                continue
            arguments[argument] = data.draw(likely if data.draw(st.integers(0, 4)) else anything)
        changes = name in INDEX_CALLS and not name.startswith(READING)
        index = case.fresh() if changes else case.whole
        arguments = {key: stand_in(value, index, folder) for key, value in arguments.items()}
        said = f"{name}({', '.join(f'{k}={short(v)}' for k, v in arguments.items())}) of {case.description}"
        other = arguments.get("other")
        before = case.state(other) if isinstance(other, fx.Index) else None
        function = getattr(index, name) if name in INDEX_CALLS else getattr(fx, name)
        got, error = call(index, function, arguments, said)
        fx.set_simd_level(LEVEL)
        if error is not None or not changes:
            assert case.state(index) == case.wanted, said
            assert before is None or case.state(other) == before, said
        if name == "index_factory" and got is not None:
            print("built and used:", said, flush=True)
            x = np.random.default_rng(0).standard_normal((300, got.d), dtype=np.float32)
            if got.d <= 64:
                call(got, got.train, {"x": x}, said)
                call(got, got.add, {"x": x}, said)
                call(got, got.add_with_ids, {"x": x, "ids": np.arange(300)}, said)
                if got.is_trained:
                    call(got, got.search, {"x": x[:3], "k": 2}, said)
            del got
        elif changes and error is None and name != "reset":
            call(index, index.search, {"x": rows()[:3], "k": 2}, said)
            call(index, index.add, {"x": rows(3)}, said)

    run()


def check_arguments(shard):
    folder = pathlib.Path(tempfile.mkdtemp())
    os.chdir(folder)
    cases = [Case(description) for description in DESCRIPTIONS]
    fx.export_to_faiss(cases[0].whole, folder / "theirs.faiss")
    calls = itertools.chain(INDEX_CALLS.items(), MODULE_CALLS.items(), [("set", ("name", "value"))])
    for name, wanted in list(calls)[int(shard) :: 2]:
        check_one(cases, folder, name, wanted)


def test_all_functions_are_called():
    """A new function, method or argument is tried here, too."""
    public = {n for n in fx.__all__ if callable(getattr(fx, n))}
    assert public - LEFT_OUT == set(MODULE_CALLS)
    methods = {n for n in dir(fx.Index) if not n.startswith("_") and callable(getattr(fx.Index, n))}
    assert methods == set(INDEX_CALLS)
    attributes = {n for n in dir(fx.Index) if isinstance(getattr(fx.Index, n), property) and getattr(fx.Index, n).fset}
    assert attributes == set(SETTABLE)
    for owner, table in ((fx.Index, INDEX_CALLS), (fx, MODULE_CALLS)):
        for name, arguments in table.items():
            if inspect.isclass(getattr(owner, name)):
                continue
            found = [p for p in inspect.signature(getattr(owner, name)).parameters if p != "self"]
            assert found == list(arguments), name


@pytest.mark.parametrize("shard", ["0", "1"])
def test_arguments(shard):
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", __file__, shard],
        cwd=pathlib.Path(__file__).parent,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    said = "\n".join(run.stdout.splitlines()[-2:])
    assert run.returncode == 0, f"exit code {run.returncode}, last calls:\n{said}\n{run.stderr[-4000:]}"
    assert len(run.stdout.splitlines()) > 300


if __name__ == "__main__":
    check_arguments(sys.argv[1])
