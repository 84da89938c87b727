"""As test_arguments_hypothesis.py, for every function of faiss_ext.knowhere: an
answer or an exception with words; after an exception the node is as it was."""

import inspect
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from abuse import rows
from hypothesis import strategies as st
from test_arguments_hypothesis import EXAMPLES, anything, arrays, call, id_arrays, numbers, short, texts, the_same_calls

from faiss_ext import knowhere

TYPES = ("SCANN", "FLAT", "IVF_FLAT", "IVF_PQ", "HNSW")
BUILD = {"IVF_PQ": {"m": 4, "nbits": 4}}
NODE_CALLS = {
    "build": ("rows", "parameters"),
    "train": ("rows", "parameters"),
    "add": ("rows", "parameters"),
    "search": ("queries", "filtered", "parameters"),
    "range_search": ("queries", "filtered", "parameters"),
    "iterate": ("queries", "filtered", "parameters"),
    "get_vectors": ("ids",),
    "has_raw_data": ("metric_type",),
    "serialize": (),
    "deserialize": ("data", "parameters"),
    "deserialize_from_file": ("path", "parameters"),
    "check": ("phase", "parameters"),
}
FACTORY_CALLS = {"names": (), "create": ("name", "version"), "load": ("path",)}
MODULE_CALLS = {"parameters": ("name",)}
CHANGES = ("build", "train", "add", "deserialize", "deserialize_from_file")
# so large that a build takes minutes, or tens of threads
COSTLY = {"efConstruction", "num_build_thread", "M", "nbits"}

SCHEMAS = {name: knowhere.parameters(name) for name in TYPES}
flags = st.sampled_from([np.arange(300) % 3 == 0, np.ones(7, bool), np.zeros(300, bool), [True, False]]) | arrays()
LIKELY = {
    "rows": arrays(), "queries": arrays(), "filtered": st.none() | flags, "ids": id_arrays,
    "phase": st.sampled_from(["build", "search", "range_search", "load"]), "name": st.sampled_from(TYPES) | texts,
    "data": st.just("blob") | st.binary(max_size=200), "path": texts | st.just("file"),
    "metric_type": st.sampled_from(["L2", "IP", "COSINE"]), "version": numbers,
}  # fmt: skip
spellings = st.sampled_from(["L2", "ip", "COSINE", "true", "int8", " 3 ", '"7"', "1e400", None, [], b"3"])
values = numbers | texts | spellings


@st.composite
def parameters(draw, schema):
    """Keywords by the names of the schema, sometimes others."""
    given = {}
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        p = draw(st.sampled_from(schema))
        if p.name in COSTLY:
            given[p.name] = draw(st.sampled_from([0, 1, 2, 3, 4, "2", -1, 2**31, "x", 1.5]))
        elif p.minimum is not None and draw(st.booleans()):
            given[p.name] = draw(st.sampled_from([p.minimum, p.maximum, p.minimum - 1, p.default, 5]))
        else:
            given[p.name] = draw(values)
    if draw(st.integers(0, 5)) == 0:
        given[draw(texts)] = draw(values)
    return given


class Case:
    """A node, and what must not change."""

    def __init__(self, name):
        self.name = name
        self.node = knowhere.IndexFactory().create(name)
        self.node.build(rows(), nlist=4, **BUILD.get(name, {})) if "IVF" in name else self.node.build(rows())
        self.blob = self.node.serialize().tobytes()
        self.wanted = self.state()

    def state(self):
        distances, ids = self.node.search(rows()[:4], k=3)
        return self.node.count, self.node.dim, self.node.metric_type, distances.tobytes(), ids.tobytes()


def check_one(cases, folder, name, wanted):
    @the_same_calls(EXAMPLES if wanted else 3)
    def run(data):
        case = cases[data.draw(st.integers(0, len(cases) - 1))]
        arguments = {}
        for argument in wanted:
            if argument == "parameters":
                arguments |= data.draw(parameters(SCHEMAS[case.name]))
            elif argument not in ("filtered", "metric_type", "version") or data.draw(st.booleans()):
                likely = data.draw(st.integers(0, 4))
                arguments[argument] = data.draw(LIKELY[argument] if likely else anything)
        stand_ins = {"blob": case.blob, "file": str(folder / case.name)}
        arguments = {k: stand_ins.get(v, v) if isinstance(v, str) else v for k, v in arguments.items()}
        said = f"{name}({', '.join(f'{k}={short(v)}' for k, v in arguments.items())}) of {case.name}"
        owner = case.node if name in NODE_CALLS else knowhere.IndexFactory() if name in FACTORY_CALLS else knowhere
        got, error = call(case.node, getattr(owner, name), arguments, said)
        if error is not None or name not in CHANGES:
            assert case.state() == case.wanted, said
        else:  # what it has become can be used
            other = np.ones((2, max(case.node.dim, 1)), np.float32)
            call(case.node, case.node.search, {"queries": other, "k": 2}, said)
            call(case.node, case.node.serialize, {}, said)
            case.node.deserialize(case.blob)
        if name == "iterate" and error is None:
            for rows_of_one in got[:3]:
                seen = [id for id, _ in rows_of_one]
                assert len(seen) == len(set(seen)) <= case.node.count

    run()


def check_arguments():
    folder = pathlib.Path(tempfile.mkdtemp())
    os.chdir(folder)
    cases = [Case(name) for name in TYPES]
    for case in cases:
        (folder / case.name).write_bytes(case.blob)
    for name, wanted in {**NODE_CALLS, **FACTORY_CALLS, **MODULE_CALLS}.items():
        check_one(cases, folder, name, wanted)


def test_all_functions_are_called():
    """A new function, method or argument is tried here, too."""
    classes = {knowhere.IndexNode: NODE_CALLS, knowhere.IndexFactory: FACTORY_CALLS}
    for owner, table in classes.items():
        assert {n for n in dir(owner) if not n.startswith("_") and callable(getattr(owner, n))} == set(table)
        for name, arguments in table.items():
            found = [p for p in inspect.signature(getattr(owner, name)).parameters if p != "self"]
            assert found == list(arguments), name
    named = {owner.__name__ for owner in classes} | {"RowIterator", "Parameter"}
    assert set(knowhere.__all__) == set(MODULE_CALLS) | named


def test_arguments():
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", __file__],
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
    check_arguments()
