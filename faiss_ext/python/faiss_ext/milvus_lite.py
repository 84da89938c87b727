"""index_type="SCANN" in Milvus Lite 3 (PyPI `milvus-lite`), through pymilvus as it is.

`install()` replaces functions of milvus_lite while this process runs, no file of
it changes; `uninstall()` puts them back. Data directories stay ordinary: only a
collection with an index SCANN needs `install()` again before it is loaded.

Parameters: those of ``faiss_ext.knowhere.parameters("SCANN")``.

Examples
--------
>>> import faiss_ext.milvus_lite
>>> faiss_ext.milvus_lite.install()                          # doctest: +SKIP
>>> client = pymilvus.MilvusClient("words.db")               # doctest: +SKIP

A server of its own: ``python -m faiss_ext.milvus_lite server --data-dir words``.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import threading
from collections.abc import Callable
from typing import Any

from .milvus_lite_index import (
    REQUEST_KEYS,
    Activity,
    ScannIndex,
    activity,
    check_parameters,
    searching_with,
    searching_within,
)

__all__ = ["SUPPORTED_VERSIONS", "Activity", "ScannIndex", "activity", "install", "installed", "uninstall"]

# Versions whose inner functions are known to be as the replacements below take
# them; every one passed tests/python/test_milvus_lite.py.
SUPPORTED_VERSIONS = ("3.2.0", "3.2.1", "3.2.2")

# What pymilvus sends with an index beside its parameters.
_INDEX_KEYS = frozenset(("index_type", "metric_type", "index_name", "field_name", "params", "search_params", "dim"))

_lock = threading.Lock()
_replaced: list[tuple[Any, str, Any]] = []  # owner, name, what was there
_request = threading.local()  # .parsed: the search request this thread has just read


def installed() -> bool:
    """Whether SCANN is known to Milvus Lite in this process."""
    return bool(_replaced)


def install() -> None:
    """Make SCANN known to Milvus Lite in this process; a second call does nothing.

    Raises
    ------
    ModuleNotFoundError
        There is no milvus-lite.
    RuntimeError
        Its version is none of SUPPORTED_VERSIONS; nothing has changed.
    """
    with _lock:
        if _replaced:
            return
        _check_version()
        try:
            _replace_all()
        except BaseException:
            _restore()
            raise


def uninstall() -> None:
    """Put everything back. What is loaded keeps its index until it is released."""
    with _lock:
        _restore()


def _check_version() -> None:
    try:
        version = importlib.metadata.version("milvus-lite")
    except importlib.metadata.PackageNotFoundError:
        raise ModuleNotFoundError(
            'milvus-lite is not installed: pip install "pymilvus[milvus-lite]"', name="milvus_lite"
        ) from None
    if version not in SUPPORTED_VERSIONS:
        raise RuntimeError(
            f"milvus-lite {version} is not supported (supported: {', '.join(SUPPORTED_VERSIONS)}); nothing was changed"
        )


def _replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """owner.name = make(owner.name), and remembers."""
    original = getattr(owner, name)
    setattr(owner, name, make(original))
    _replaced.append((owner, name, original))


def _restore() -> None:
    while _replaced:
        setattr(*_replaced.pop())


def _replace_all() -> None:
    module = importlib.import_module
    # Segments import the two functions from the factory whenever they need one;
    # the package above hands them on to whoever asks there.
    for owner in (module("milvus_lite.index.factory"), module("milvus_lite.index")):
        _replace(owner, "build_index_from_spec", _building)
        _replace(owner, "load_index_from_spec", _loading)
    collection = module("milvus_lite.engine.collection")
    _replace(collection, "KNOWN_VECTOR_INDEX_TYPES", lambda known: known | {ScannIndex.index_type})
    _replace(collection.Collection, "create_index", _creating)
    _replace(collection.Collection, "search", _searching)
    if importlib.util.find_spec("pymilvus") is not None:
        servicer = module("milvus_lite.adapter.grpc.servicer")
        _replace(servicer, "kv_pairs_to_index_params_dict", _index_request)
        _replace(servicer, "parse_search_request", _search_request)


def _is_scann(index_type: object) -> bool:
    return isinstance(index_type, str) and index_type.upper() == ScannIndex.index_type


# --------------------------------------------------------------- replacements


def _building(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def build_index_from_spec(spec: Any, vectors: Any) -> Any:
        if spec.index_type != ScannIndex.index_type:
            return original(spec, vectors)
        index = ScannIndex.build(vectors, spec.metric_type, spec.build_params)
        index.search_defaults = dict(spec.search_params)
        return index

    return build_index_from_spec


def _loading(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def load_index_from_spec(spec: Any, path: str, dim: int) -> Any:
        if spec.index_type != ScannIndex.index_type:
            return original(spec, path, dim)
        try:
            index = ScannIndex.load(path, spec.metric_type, dim)
        except (RuntimeError, ValueError) as error:
            raise RuntimeError(f"{error}; drop_index, then create_index builds it anew") from error
        index.search_defaults = dict(spec.search_params)
        return index

    return load_index_from_spec


def _creating(original: Callable[..., Any]) -> Callable[..., Any]:
    """Bad parameters are refused here: later the index stands in the manifest."""

    @functools.wraps(original)
    def create_index(self: Any, field_name: str, index_params: dict[str, Any]) -> None:
        if _is_scann(index_params.get("index_type")):
            metric = index_params.get("metric_type")
            with _Refusing():
                metric_type = metric if isinstance(metric, str) else None
                check_parameters("build", index_params.get("params"), metric_type=metric_type)
                check_parameters("search", index_params.get("search_params"), k=1)
        original(self, field_name, index_params)

    return create_index


def _searching(original: Callable[..., Any]) -> Callable[..., Any]:
    """Checks a search of an index SCANN against what its user asked.

    Below, k is already larger wherever Milvus Lite groups, ranks or filters by
    distance. 3.2.0 drops the search parameters on the way: they are carried.
    """
    signature = inspect.signature(original)
    passes_on = "search_params" in signature.parameters

    @functools.wraps(original)
    def search(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = signature.bind(self, *args, **kwargs).arguments
        parsed = getattr(_request, "parsed", None) or {}
        _request.parsed = None
        spec = self._index_specs.get(given.get("anns_field") or self._vector_name)
        if spec is None or spec.index_type != ScannIndex.index_type:
            return original(self, *args, **kwargs)
        asked = parsed.get("search_params") or given.get("search_params") or {}
        k = parsed.get("top_k", given.get("top_k", 10)) + parsed.get("offset", given.get("offset", 0))
        with _Refusing():
            _check_search(spec, asked, k, given)
        with searching_within(given.get("radius"), given.get("range_filter")):
            if passes_on:
                return original(self, *args, **kwargs)
            with searching_with(asked):
                return original(self, *args, **kwargs)

    return search


def _check_search(spec: Any, asked: dict[str, Any], k: int, given: dict[str, Any]) -> None:
    check_parameters("search", {**spec.search_params, **asked}, ignored=REQUEST_KEYS, k=k)
    metric = given.get("metric_type")
    if isinstance(metric, str) and metric.upper() != spec.metric_type:
        raise ValueError(f'metric_type = "{metric}" (allowed: {spec.metric_type}, which the index was built with)')
    limits = {key: given[key] for key in ("radius", "range_filter") if given.get(key) is not None}
    check_parameters("range_search", limits, metric_type=spec.metric_type)


def _index_request(original: Callable[..., Any]) -> Callable[..., Any]:
    """Parameters that pymilvus >= 2.6 sends one by one, beside "params"."""

    @functools.wraps(original)
    def kv_pairs_to_index_params_dict(extra_params: Any) -> dict[str, Any]:
        pairs = list(extra_params)
        found: dict[str, Any] = original(pairs)
        if _is_scann(found["index_type"]):
            flat = {p.key: p.value for p in pairs if p.key not in _INDEX_KEYS and "." not in p.key}
            found["params"] = {**flat, **found["params"]}
        return found

    return kv_pairs_to_index_params_dict


def _search_request(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def parse_search_request(*args: Any, **kwargs: Any) -> dict[str, Any]:
        parsed: dict[str, Any] = original(*args, **kwargs)
        _request.parsed = parsed
        return parsed

    return parse_search_request


class _Refusing:
    """ValueError -> the host's error for bad arguments, which reaches the client as such."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, ValueError):
            exceptions = importlib.import_module("milvus_lite.exceptions")
            raise exceptions.SchemaValidationError(str(error)) from None


if __name__ == "__main__":
    try:
        install()
    except (ImportError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from None
    host = importlib.import_module("milvus_lite.exceptions").MilvusLiteError
    try:
        importlib.import_module("milvus_lite.cmdline").main()
    except (host, OSError) as error:  # a folder in use, a port in use
        raise SystemExit(f"error: {error}") from None
