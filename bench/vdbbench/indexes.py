"""Indexes that the client drives in process: ours, and Faiss' own beside it.

In:  rows (n, d) float32, "L2" or "IP", build and search parameters by Milvus' names.
Out: one file; opened again: a function from a query (d,) to its k positions.

Each search runs on the caller's thread: VectorDBBench brings its own processes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.datasets import Flags, Floats, Ids, Metric
from bench.engines import faiss_indexes
from bench.points import Parameters

Searcher = Callable[[Floats, int], Ids]


class IndexType(ABC):
    """One type of index; stateless, so that clients can be pickled."""

    @abstractmethod
    def build(self, rows: Floats, metric: str, params: Parameters, threads: int, path: Path) -> None:
        """Builds and writes the file `path`."""

    @abstractmethod
    def open(self, path: Path, params: Parameters, allowed: Flags | None) -> Searcher:
        """A searcher with these parameters, of rows whose flag in `allowed` is true."""


class Scann(IndexType):
    """SCANN of this project, the file mapped: processes share one copy of it."""

    def build(self, rows: Floats, metric: str, params: Parameters, threads: int, path: Path) -> None:
        from faiss_ext import knowhere

        node = knowhere.IndexFactory().create("SCANN")
        node.check("build", **params)  # a search parameter among them is a mistake
        node.build(rows, metric_type=metric, num_build_thread=threads, **params)
        part = path.with_suffix(".part")
        node.serialize().tofile(part)
        part.replace(path)

    def open(self, path: Path, params: Parameters, allowed: Flags | None) -> Searcher:
        from faiss_ext import knowhere

        node = knowhere.IndexFactory().create("SCANN")
        node.deserialize_from_file(path, enable_mmap=True)
        node.check("search", k=1, **params)  # VectorDBBench passes over queries that fail
        filtered = None if allowed is None else ~allowed

        def search(query: Floats, k: int) -> Ids:
            return node.search(query[None], filtered=filtered, k=k, **params)[1][0]

        return search


class Faiss(IndexType):
    """Base of Faiss' own types (PyPI faiss-cpu)."""

    def description(self, d: int, params: Parameters) -> str:
        """Faiss' factory string."""
        raise NotImplementedError

    def parameters(self, faiss: Any, params: Parameters, k: int, sel: Any) -> Any:
        """Faiss' search parameters."""
        raise NotImplementedError

    def build(self, rows: Floats, metric: str, params: Parameters, threads: int, path: Path) -> None:
        import faiss

        factory = self.description(rows.shape[1], params)
        kind: Metric = "l2" if metric == "L2" else "ip"
        index = faiss_indexes.build_index(faiss, rows, factory, kind, threads, params)
        part = path.with_suffix(".part")
        faiss.write_index(index, str(part))
        part.replace(path)

    def open(self, path: Path, params: Parameters, allowed: Flags | None) -> Searcher:
        import faiss

        faiss.omp_set_num_threads(1)
        index = faiss.read_index(str(path))
        sel = faiss_indexes.selector(faiss, allowed)
        made: dict[int, Any] = {}

        def search(query: Floats, k: int) -> Ids:
            if k not in made:
                made[k] = self.parameters(faiss, params, k, sel)
            ids: Ids = index.search(query[None], k, params=made[k])[1][0]
            return ids

        return search


class IVFFlat(Faiss):
    def description(self, d: int, params: Parameters) -> str:
        return f"IVF{params['nlist']},Flat"

    def parameters(self, faiss: Any, params: Parameters, k: int, sel: Any) -> Any:
        return faiss.SearchParametersIVF(nprobe=int(params["nprobe"]), sel=sel)


class IVFPQ(IVFFlat):
    def description(self, d: int, params: Parameters) -> str:
        return f"IVF{params['nlist']},PQ{params['m']}x{params.get('nbits', 8)}"


class FastScan(Faiss):
    """What SCANN is inside Milvus: 4-bit codes, FastScan, rows beside them."""

    def description(self, d: int, params: Parameters) -> str:
        rows = ",RFlat" if params.get("with_raw_data", True) else ""
        return f"IVF{params['nlist']},PQ{(d + 1) // 2}x4fs{rows}"

    def parameters(self, faiss: Any, params: Parameters, k: int, sel: Any) -> Any:
        lists = faiss.SearchParametersIVF(nprobe=int(params["nprobe"]), sel=sel)
        if not params.get("rerank", True):
            return lists
        factor = int(params.get("reorder_k", k)) / k
        return faiss.IndexRefineSearchParameters(k_factor=factor, base_index_params=lists)


class HNSW(Faiss):
    def description(self, d: int, params: Parameters) -> str:
        return f"HNSW{params['M']},Flat"

    def parameters(self, faiss: Any, params: Parameters, k: int, sel: Any) -> Any:
        return faiss.SearchParametersHNSW(efSearch=int(params["ef"]), sel=sel)


TYPES: dict[str, IndexType] = {
    "SCANN": Scann(),
    "IVF_FLAT": IVFFlat(),
    "IVF_PQ": IVFPQ(),
    "FASTSCAN": FastScan(),
    "HNSW": HNSW(),
}
