"""The examples in the docstrings run; signatures and stubs agree."""

import ast
import dataclasses
import doctest
import graphlib
import inspect
import pathlib

import numpy as np
import pytest

import faiss_ext as fx
from faiss_ext import _faiss_ext as native
from faiss_ext import knowhere

MODULES = {"faiss_ext": fx, "knowhere": knowhere}


def documented():
    for module, contents in MODULES.items():
        yield module, contents.__doc__
        for name in contents.__all__:
            thing = getattr(contents, name)
            if isinstance(thing, (int, str)):
                continue
            yield f"{module}.{name}", thing.__doc__
            if inspect.isclass(thing):
                # of a dataclass, below Parameters
                fields = {f.name for f in dataclasses.fields(thing)} if dataclasses.is_dataclass(thing) else set()
                for member in vars(thing):
                    if not member.startswith("_") and member not in fields and name not in ("DirectMap", "Parameter"):
                        yield f"{module}.{name}.{member}", getattr(thing, member).__doc__


DOCS = dict(documented())


@pytest.mark.parametrize("name", DOCS)
def test_examples(name, tmp_path):
    assert DOCS[name], f"{name} has no docstring"
    parser = doctest.DocTestParser()
    names = {"path": str(tmp_path / "example.scann")}
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE, verbose=False)
    threads, level = fx.omp_get_max_threads(), fx.simd_level()
    report = []
    try:
        for part in dict.fromkeys(("faiss_ext", name.split(".")[0], name)):
            test = parser.get_doctest(DOCS[part], names, part, None, 0)
            runner.run(test, out=report.append, clear_globs=False)
            names = test.globs
    finally:
        fx.omp_set_num_threads(threads)
        fx.set_simd_level(level)
    assert runner.failures == 0, "".join(report)


def test_examples_of_the_index_factory():
    page = pathlib.Path(__file__).parents[2] / "docs" / "index-factory.md"
    failed, run = doctest.testfile(str(page), module_relative=False)
    assert run > 0 and failed == 0


def stub(name):
    return ast.parse((pathlib.Path(fx.__file__).with_name("_faiss_ext") / f"{name}.pyi").read_text())


def parameters(function):
    a = function.args
    return [p.arg for p in a.posonlyargs + a.args + a.kwonlyargs + ([a.kwarg] if a.kwarg else [])]


def of_native(thing):
    return "_faiss_ext" in (getattr(thing, "__module__", None) or "_faiss_ext")


@pytest.mark.parametrize("file, native", [("__init__", native), ("knowhere", native.knowhere)])
def test_stubs_agree_with_the_module(file, native):
    names = set()
    for node in stub(file).body:
        if isinstance(node, ast.ImportFrom) and node.module is None:
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
            function = getattr(native, node.name)
            if not node.name.startswith("_"):  # which have no docstring
                assert list(inspect.signature(function).parameters) == parameters(node)
        elif isinstance(node, ast.AnnAssign):
            names.add(node.target.id)
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            names.add(node.name)
            thing = getattr(native, node.name)
            members = set()
            for member in node.body:
                name = member.name if isinstance(member, ast.FunctionDef) else member.target.id
                members.add(name)
                assert hasattr(thing, name), f"{node.name}.{name} is only in the stub"
                if (
                    isinstance(member, ast.FunctionDef)
                    and not name.startswith("__")
                    and not member.decorator_list
                ):
                    assert list(inspect.signature(getattr(thing, name)).parameters) == parameters(member)
            public = {n for n in vars(thing) if not n.startswith("_")}
            assert public <= members, f"missing in the stub: {public - members}"
    public = {n for n in vars(native) if not n.startswith("_")}
    assert public <= names, f"missing in the stub: {public - names}"
    module = fx if file == "__init__" else knowhere
    in_python = {n for n in module.__all__ if not of_native(getattr(module, n))}
    assert set(module.__all__) - in_python <= names


def test_bound_signatures():
    index = fx.index_factory(4, "IVF1,ScaNN")
    assert list(inspect.signature(index.search).parameters)[:3] == ["x", "k", "params"]


def test_typed():
    assert pathlib.Path(fx.__file__).with_name("py.typed").exists()
    assert fx.__version__ and fx.FAISS_VERSION.count(".") == 2
    assert isinstance(fx.simd_levels(), list) and np.isscalar(fx.METRIC_L2)


def imported(path, folder):
    """Modules of the package that a file imports, anywhere in it, as paths without .py."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            names = [base / alias.name for alias in node.names]
            modules = [m for m in names if m.with_suffix(".py").exists()] or [base]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == folder.name:
            modules = [folder.parent.joinpath(*node.module.split("."))]
        else:
            continue
        yield from (m / "__init__" if m.is_dir() else m for m in modules)


def test_modules_import_in_one_direction():
    folder = pathlib.Path(fx.__file__).resolve().parent
    graph = {path.with_suffix(""): set(imported(path, folder)) for path in folder.rglob("*.py")}
    assert folder / "milvus_host" / "server" in graph[folder / "milvus_host" / "command"]
    list(graphlib.TopologicalSorter(graph).static_order())  # raises a CycleError that names them
