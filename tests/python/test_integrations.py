"""What integrations/ brings to other benchmarks: against small fakes of their base classes, without a network."""

import importlib.util
import itertools
import pathlib
import re
import shlex
import subprocess
import sys
import types

import numpy as np
import pytest
import reference

import faiss_ext as fx

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "integrations"
METRICS = {
    "ann-benchmarks": {"angular": "COSINE", "euclidean": "L2"},
    "vibe": {"cosine": "COSINE", "normalized": "IP", "ip": "IP", "euclidean": "L2"},
}
KINDS = [(harness, metric) for harness in METRICS for metric in METRICS[harness]]


def loaded(monkeypatch, harness):
    """The module, in a package whose ..base.module has the harness' base class."""

    class BaseANN:
        def __str__(self):
            return self.name

    def package(name, **contents):
        made = types.ModuleType(name)
        made.__path__ = []
        made.__dict__.update(contents)
        monkeypatch.setitem(sys.modules, name, made)

    package("algorithms")
    package("algorithms.base")
    package("algorithms.base.module", BaseANN=BaseANN)
    package("algorithms.faiss_scann")
    path = FOLDER / harness / "faiss_scann" / "module.py"
    spec = importlib.util.spec_from_file_location("algorithms.faiss_scann.module", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def set_arguments(harness, algorithm, n_probe, reorder):
    algorithm.set_query_arguments(*([[n_probe, reorder]] if harness == "ann-benchmarks" else [n_probe, reorder]))


def data(metric):
    random = np.random.default_rng(3)
    x, q = random.standard_normal((4000, 24)), random.standard_normal((30, 24))
    if metric == "normalized":
        x, q = (v / np.linalg.norm(v, axis=1)[:, None] for v in (x, q))
    return x, q


def nearest(x, q, metric, k):
    """Ids of the k nearest, by brute force."""
    every = reference.distances(x, q, metric)
    return np.argsort(-every if reference.LARGER_IS_BETTER[metric] else every, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("harness, metric", KINDS)
def test_answers_are_the_neighbours(monkeypatch, harness, metric, kind):
    module = loaded(monkeypatch, harness)
    x, q = (v.astype(kind) for v in data(metric))
    truth = nearest(x, q, METRICS[harness][metric], 10)
    algorithm = module.FaissScann(metric, 16, 2, 0)
    algorithm.fit(x.copy())
    set_arguments(harness, algorithm, 16, 400)
    for row, query in enumerate(q):
        before = query.copy()
        np.testing.assert_array_equal(algorithm.query(query, 10), truth[row])
        np.testing.assert_array_equal(query, before)
    algorithm.batch_query(q, 10)
    np.testing.assert_array_equal(algorithm.res, truth)
    set_arguments(harness, algorithm, 1, 10)
    fewer = [algorithm.query(query, 10) for query in q]
    hits = np.mean([len(set(found) & set(right)) / 10 for found, right in zip(fewer, truth.tolist())])
    assert hits < 0.95, "the arguments do not reach the index"
    assert str(algorithm)


@pytest.mark.parametrize("harness, metric", KINDS)
def test_fewer_rows_than_asked_for(monkeypatch, harness, metric):
    """Both harnesses look rows up by what comes back: -1 would be the last one."""
    x, q = data(metric)
    algorithm = loaded(monkeypatch, harness).FaissScann(metric, 64, 2, 1)
    algorithm.fit(x.copy())
    set_arguments(harness, algorithm, 1, 10)
    for query in q:
        found = algorithm.query(query, 2000)
        assert 0 < len(found) < 2000 and len(set(found)) == len(found) and min(found) >= 0


@pytest.mark.parametrize("harness", METRICS)
def test_a_metric_that_is_not_there(monkeypatch, harness):
    with pytest.raises(ValueError, match=r"metric 'hamming' \(allowed: .*euclidean\)"):
        loaded(monkeypatch, harness).FaissScann("hamming", 16, 2, 0)


def combinations(arguments):
    """Argument lists as both harnesses make them of lists and dictionaries."""
    values = arguments.values() if isinstance(arguments, dict) else arguments
    return [list(row) for row in itertools.product(*values)]


@pytest.mark.parametrize("harness", METRICS)
def test_configurations_are_accepted(monkeypatch, harness):
    yaml = pytest.importorskip("yaml", reason="PyPI pyyaml is not installed")
    config = yaml.safe_load((FOLDER / harness / "faiss_scann" / "config.yml").read_text())
    [entry] = config["float"]["any"]
    assert entry["module"] == {"ann-benchmarks": "ann_benchmarks", "vibe": "vibe"}[harness] + ".algorithms.faiss_scann"
    assert entry["base_args"] == ["@metric"] and not entry["disabled"]
    image = {
        "ann-benchmarks": ("docker_tag", "ann-benchmarks-faiss_scann"),
        "vibe": ("singularity_image", "faiss_scann"),
    }
    assert entry[image[harness][0]] == image[harness][1]
    constructor = getattr(loaded(monkeypatch, harness), entry["constructor"])
    x = np.random.default_rng(0).standard_normal((100, 24)).astype(np.float32)
    made = []  # what it would build: all but the training, which needs as many rows as lists
    factory = fx.index_factory

    def untrained(*given):
        made.append(factory(*given))
        return types.SimpleNamespace(train=lambda x: None, add=lambda x: None)

    monkeypatch.setattr(fx, "index_factory", untrained)
    for metric, group in itertools.product(METRICS[harness], entry["run_groups"].values()):
        for arguments in combinations(group["args"]):
            algorithm = constructor(metric, *arguments)
            algorithm.fit(x)
            assert made[-1].nlist == arguments[0] and made[-1].with_raw_data
            for query_arguments in combinations(group["query_args"]):
                algorithm.set_query_arguments(*query_arguments)
                n_probe, reorder = query_arguments[0] if len(query_arguments) == 1 else query_arguments
                assert 1 <= n_probe <= arguments[0] and reorder >= 1


# -------------------------------------------------------------- files of images

INSTRUCTIONS = {"ARG", "COPY", "ENV", "FROM", "RUN", "WORKDIR"}


def instructions(path):
    """(instruction, rest) of a Dockerfile, lines joined."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.M).replace("\\\n", " ")
    return [line.split(None, 1) for line in text.splitlines() if line.strip()]


DOCKERFILES = sorted(FOLDER.rglob("Dockerfile"))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_dockerfiles_are_whole(path):
    stages, arguments = set(), set()
    for word, rest in instructions(path):
        assert word in INSTRUCTIONS, word
        for name in re.findall(r"\$\{?([A-Z][A-Z0-9_]+)\}?", rest):
            assert name in arguments, f"{name} is used before ARG"
        if word == "ARG":
            arguments.add(rest.split("=")[0])
        elif word == "FROM":
            assert re.fullmatch(r"\S+( AS [a-z0-9]+)?", rest), rest
            stages.add(rest.split()[-1])
        elif word == "COPY" and rest.startswith("--from="):
            stage, source = re.match(r"--from=(\S+) (\S+)", rest).groups()
            assert stage in stages, stage
            if source.startswith("/src/"):
                assert (ROOT / source[len("/src/") :]).exists(), source
        elif word == "RUN":
            shlex.split(rest)
            assert subprocess.run(["sh", "-nc", rest]).returncode == 0, rest


def test_targets_of_the_milvus_image_exist():
    text = (FOLDER / "milvus" / "Dockerfile").read_text()
    cmake = "".join(path.read_text() for path in (ROOT / "knowhere_plugin").rglob("CMakeLists.txt"))
    targets = re.findall(r"--target (\w+) ?\\?$", text, re.M)
    assert targets == ["knowhere_scann", "knowhere_scann26"]
    for target in targets:
        assert re.search(rf"(add_library|add_milvus23_plugin)\({target} ", cmake), target
    presets = (ROOT / "CMakePresets.json").read_text()
    assert all(f'"name": "{name}"' in presets for name in re.findall(r"--preset (\w+)", text))


def test_check_finds_what_a_library_lacks(tmp_path):
    check = FOLDER / "milvus" / "check"
    whole = subprocess.run([check, sys.executable], capture_output=True, text=True)
    assert whole.returncode == 0, whole.stdout
    (tmp_path / "apt-get").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "apt-get").chmod(0o755)
    wrong = tmp_path / "no_library.so"
    wrong.write_text("text")
    done = subprocess.run([check, wrong], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True)
    assert done.returncode != 0 and "not a dynamic" in done.stdout


def test_image_definition_of_vibe_has_this_version():
    [version] = re.findall(r"project\(faiss_ext VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text())
    lines = (FOLDER / "vibe" / "faiss_scann" / "image.def").read_text().splitlines()
    assert lines[:2] == ["Bootstrap: localimage", "From: base.sif"]
    assert lines[-1].split() == ["pip", "install", "--no-cache-dir", f"faiss_ext=={version}"]


# ------------------------------------------------------------------- data sets


def maker():
    spec = importlib.util.spec_from_file_location("make_dataset", FOLDER / "make_dataset.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def set_of(folder, name, scale=1.0):
    random = np.random.default_rng(5)
    for part, n in (("base", 700), ("query", 20)):
        x = random.standard_normal((n, 8))
        if name.startswith("wordnet"):
            x /= np.linalg.norm(x, axis=1)[:, None]
        np.save(folder / f"{name}.{part}.npy", (x * scale).astype(np.float32))


@pytest.mark.parametrize(
    "name, harness, file, distance",
    [
        ("glove", "ann-benchmarks", "g", "angular"),
        ("glove", "vibe", "g-8-normalized", "normalized"),
        ("wordnet", "vibe", "w-8-normalized", "normalized"),
        ("sift", "ann-benchmarks", "s", "euclidean"),
        ("sift", "vibe", "s-8-euclidean", "euclidean"),
        ("other", "vibe", "o-8-ip", "ip"),
    ],
)
def test_a_data_set_has_its_true_neighbours(tmp_path, name, harness, file, distance):
    h5py = pytest.importorskip("h5py", reason="PyPI h5py is not installed")
    set_of(tmp_path, name)
    out = tmp_path / f"{file}.hdf5"
    maker().main([str(tmp_path), str(out), "--set", name, "--harness", harness])
    with h5py.File(out) as made:
        x, q = made["train"][:].astype(float), made["test"][:].astype(float)
        assert made.attrs["distance"] == distance and made.attrs["dimension"] == 8
        inner = q @ x.T
        every = {
            "euclidean": np.linalg.norm(q[:, None] - x[None], axis=2),
            "ip": -inner,
        }.get(distance, 1 - inner / np.linalg.norm(q, axis=1)[:, None] / np.linalg.norm(x, axis=1))
        np.testing.assert_allclose(made["distances"][:], np.sort(every, axis=1)[:, :100], rtol=1e-4, atol=1e-5)
        found = np.take_along_axis(every, made["neighbors"][:], 1)
        np.testing.assert_allclose(found, made["distances"][:], rtol=1e-4, atol=1e-5)
        if harness == "vibe":
            np.testing.assert_allclose(made["avg_distances"][:], every.mean(axis=1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["o.hdf5", "--set", "other"], "unit length"),
        (["o.hdf5", "--set", "other", "--harness", "vibe"], "-8-ip.hdf5"),
        (["o.hdf5", "--set", "nowhere"], "no set 'nowhere'"),
        (["o.hdf5", "--set", "other", "--rows", "-1"], "allowed: >= 0"),
    ],
)
def test_a_set_that_cannot_be_written(tmp_path, capsys, arguments, message):
    pytest.importorskip("h5py", reason="PyPI h5py is not installed")
    set_of(tmp_path, "other", 2.0)
    with pytest.raises(SystemExit) as end:
        maker().main([str(tmp_path), str(tmp_path / arguments[0]), *arguments[1:]])
    assert end.value.code not in (0, None) and message in capsys.readouterr().err
    assert not (tmp_path / "o.hdf5").exists()


# ----------------------------------------------------- smoke.py (tests/server runs it against a server)


def smoke(*arguments):
    command = [sys.executable, FOLDER / "milvus" / "smoke.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_smoke_of_a_server_that_is_not_there():
    pytest.importorskip("pymilvus", reason="PyPI pymilvus is not installed")
    done = smoke("http://127.0.0.1:9")
    assert done.returncode == 2 and done.stdout.startswith("FAIL connect to http://127.0.0.1:9"), done.stdout


@pytest.mark.parametrize("wrong, message", [(["--metrics", "L3"], "some of COSINE,L2,IP"), (["--dim", "7"], "even")])
def test_smoke_with_wrong_arguments(wrong, message):
    done = smoke("http://127.0.0.1:9", *wrong)
    assert done.returncode == 2 and message in done.stderr


# ---------------------------------------------------------------- VectorDBBench

CLIENTS = '''
class DB(Enum):
    """Types"""

    Milvus = "Milvus"

    @property
    def init_cls(self):
        if self == DB.Milvus:
            return "Milvus"

        msg = f"Unknown DB: {self.name}"
        raise ValueError(msg)

    @property
    def config_cls(self):
        if self == DB.Milvus:
            return "MilvusConfig"

        msg = f"Unknown DB: {self.name}"
        raise ValueError(msg)

    def case_config_cls(self, index_type=None):
        if self == DB.Milvus:
            return "MilvusIndexConfig"

        # DB.Pinecone, DB.Redis
        return EmptyDBCaseConfig
'''
COMMANDS = """from ..backend.clients.milvus.cli import Milvus
from .cli import cli

cli.add_command(Milvus)


if __name__ == "__main__":
    cli()
"""


def checkout(folder):
    clients = folder / "vectordb_bench" / "backend" / "clients"
    (folder / "vectordb_bench" / "cli").mkdir(parents=True)
    clients.mkdir(parents=True)
    (clients / "__init__.py").write_text("from enum import Enum\n\nEmptyDBCaseConfig = None\n" + CLIENTS)
    (folder / "vectordb_bench" / "cli" / "vectordbbench.py").write_text(COMMANDS)
    return clients


def apply(folder):
    command = [sys.executable, FOLDER / "vectordbbench" / "apply.py", folder]
    return subprocess.run(command, capture_output=True, text=True)


def test_vectordbbench_gets_the_client(tmp_path, monkeypatch):
    clients = checkout(tmp_path)
    assert apply(tmp_path).returncode == 0
    lines = (tmp_path / "vectordb_bench" / "cli" / "vectordbbench.py").read_text().splitlines()
    assert "from ..backend.clients.scann_faiss.cli import ScannFaiss" in lines
    assert lines.index("cli.add_command(ScannFaiss)") == lines.index("cli.add_command(Milvus)") + 1
    for name in ("cli", "config", "scann_faiss"):
        assert (clients / "scann_faiss" / f"{name}.py").read_bytes() == (
            FOLDER / "vectordbbench" / "scann_faiss" / f"{name}.py"
        ).read_bytes()
    for module, name in (("scann_faiss", "ScannFaiss"), ("config", "ScannFaissConfig")):
        (clients / "scann_faiss" / f"{module}.py").write_text(f"{name} = ScannFaissIndexConfig = '{name}'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.split(".")[0] == "vectordb_bench"]:
        monkeypatch.delitem(sys.modules, name)
    from vectordb_bench.backend.clients import DB

    assert DB.ScannFaiss.init_cls == "ScannFaiss" and DB.ScannFaiss.config_cls == "ScannFaissConfig"
    assert DB.ScannFaiss.case_config_cls() == "ScannFaissConfig"
    assert DB.Milvus.init_cls == "Milvus" and DB.Milvus.case_config_cls() == "MilvusIndexConfig"
    for name in [name for name in sys.modules if name.split(".")[0] == "vectordb_bench"]:
        del sys.modules[name]


@pytest.mark.parametrize("place", ["    @property\n", 'msg = f"Unknown DB', "# DB.Pinecone, DB.Redis"])
def test_another_vectordbbench_is_left_as_it_is(tmp_path, place):
    clients = checkout(tmp_path)
    path = clients / "__init__.py"
    path.write_text(path.read_text().replace(place, "# gone"))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.py")}
    done = apply(tmp_path)
    assert done.returncode == 1 and "another VectorDBBench" in done.stderr, done.stderr
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.py")} == before


def test_the_client_is_not_added_twice(tmp_path):
    checkout(tmp_path)
    assert apply(tmp_path).returncode == 0
    done = apply(tmp_path)
    assert done.returncode == 1 and "already names ScannFaiss" in done.stderr


def test_every_folder_says_what_was_run():
    for folder in (path for path in FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__"):
        text = (folder / "README.md").read_text(encoding="utf-8")
        assert 15 <= len(text.splitlines()) <= 45, folder
        assert "What was run" in text and "What was not" in text, folder
