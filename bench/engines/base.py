"""One adapter per library.

In:  a float32 base (n, d), a metric ("ip" or "l2"), build parameters.
Out: an index that answers search(q (nq, d), k, setting) -> ids (nq, k), one
     query a call or all in one call, on one thread.
Next: worker.py runs an adapter in a process of its own and times it.
"""

from __future__ import annotations

import importlib
import tempfile
from importlib import metadata
from itertools import product
from pathlib import Path

import numpy as np

NPROBES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
REORDERS = (10, 20, 40, 70, 100, 200, 400, 800)
WIDTHS = (10, 14, 20, 28, 40, 56, 80, 120, 160, 240, 320, 480, 640, 1000)


def usual_nlist(n: int) -> int:
    """The power of two nearest to 4 sqrt(n), the rule of IVF's users."""
    return 2 ** round(np.log2(4 * np.sqrt(n)))


def threshold(eta: float, d: int, length: float = 1.0) -> float:
    """ScaNN's T that means eta for vectors of this length: limit formula."""
    return length * float(np.sqrt(eta / (d - 1 + eta)))


def stored_bytes(save) -> int:
    """Bytes of the files that save(folder) writes."""
    with tempfile.TemporaryDirectory() as folder:
        save(folder)
        return sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())


class Engine:
    """A library behind one face. Subclasses set `module` and fill the methods.

    `builds` and `settings` list the parameters worth trying; `build` fills
    self.index; `callers` gives two closures: one(row (d,)) and many(q (nq, d)),
    whose raw answers `ids` turns into an array after the clock has stopped.
    """

    module = ""  # to import
    package = ""  # to ask for the version
    filters = False  # whether set_filter exists

    def __init__(self, params: dict):
        self.params, self.index, self.filter = params, None, None
        self.lib = importlib.import_module(self.module)

    @staticmethod
    def builds(n: int, d: int, metric: str) -> list[dict]:
        raise NotImplementedError

    def settings(self, k: int) -> list[dict]:
        raise NotImplementedError

    def build(self, x: np.ndarray, metric: str, threads: int) -> None:
        raise NotImplementedError

    def one_thread(self) -> None:
        """Called between build and search."""

    def set_filter(self, allowed: np.ndarray) -> None:
        """From now on only rows whose flag in `allowed` (n,) is true may be found."""
        raise NotImplementedError

    def memory(self) -> tuple[int, str]:
        """Index size in bytes and how it was found; RSS is measured outside."""
        return 0, "unknown"

    def callers(self, k: int, setting: dict):
        raise NotImplementedError

    def ids(self, answer) -> np.ndarray:
        return np.asarray(answer)

    def version(self) -> str:
        return metadata.version(self.package or self.module)

    def search(self, q, k: int, setting: dict, single: bool = False) -> np.ndarray:
        """ids (nq, k) int64, -1 where a library found fewer; untimed."""
        one, many = self.callers(k, setting)
        answers = [self.ids(one(row)) for row in q] if single else self.ids(many(q))
        return padded(answers, k)


def padded(rows, k: int) -> np.ndarray:
    """Rows of at most k ids each -> (len(rows), k) int64, filled with -1."""
    out = np.full((len(rows), k), -1, dtype=np.int64)
    for target, row in zip(out, rows):
        row = np.ravel(row)[:k]
        target[: len(row)] = row
    return out


class Ours(Engine):
    """faiss_ext: build parameter `factory`."""

    module = "faiss_ext"
    filters = True

    @staticmethod
    def builds(n, d, metric):
        nlist = usual_nlist(n)
        # rescored candidates forgive coarser codes where there are many dimensions,
        # and copies in a second list then cost little
        coarse = "ScaNN(sub_dim={},soar_lambda=1)"
        tails = [coarse.format(4) + ",SQ8,RFlat", coarse.format(6) + ",SQ8,RFlat", coarse.format(4) + ",RFlat"]
        tails = (tails if d >= 128 else []) + ["ScaNN,SQ8,RFlat", "ScaNN,RFlat", "ScaNN,SQ8"]
        return [{"factory": f"IVF{nlist},{tail}"} for tail in tails]

    def settings(self, k):
        # refine_k: candidates the 8-bit codes rescore; reorder_k: raw rows read.
        # With both stages the second reads a fifth of what the first passed.
        refine = ",SQ" in self.params["factory"]
        share = 5 if refine and "RFlat" in self.params["factory"] else 1
        settings = [
            {"nprobe": p, "refine_k": r, "reorder_k": max(k, r // share)}
            for p, r in product(NPROBES, REORDERS)
            if p <= self.index.nlist and r >= k
        ]
        if self.filter is None:
            return settings
        # 8 bytes a row: filters that few rows pass are then answered from these
        return [{**s, "direct_map": on} for on, s in product((False, True), settings)]

    def build(self, x, metric, threads):
        fx = self.lib
        fx.omp_set_num_threads(threads)
        kind = fx.METRIC_L2 if metric == "l2" else fx.METRIC_INNER_PRODUCT
        self.index = fx.index_factory(x.shape[1], self.params["factory"], kind)
        self.index.train(x)
        self.index.add(x)

    def one_thread(self):
        self.lib.omp_set_num_threads(1)

    def memory(self):
        return int(self.index.memory_usage()), "reported"

    def set_filter(self, allowed):
        self.filter = self.lib.Filter(allowed)

    def callers(self, k, setting):
        search, setting = self.index.search, {**setting, "filter": self.filter}
        if "direct_map" in setting:
            self.index.make_direct_map(setting.pop("direct_map"))
        return lambda row: search(row[None], k, **setting), lambda q: search(q, k, **setting)

    def ids(self, answer):
        return answer[1]

    def version(self):
        return getattr(self.lib, "__version__", "unknown")


class Scann(Engine):
    """Google ScaNN: tree, 4-bit codes of 2 dimensions, exact reordering.

    For L2 the library has neither residual codes, eta nor SOAR.
    """

    module = package = "scann"

    @staticmethod
    def builds(n, d, metric):
        leaves = usual_nlist(n)
        if metric == "l2":
            return [{"leaves": m, "eta": None, "soar": None} for m in (leaves // 2, leaves)]
        grid = [(leaves, 4, 1.5), (leaves // 2, 4, 1.5), (leaves, 4, None)]
        return [{"leaves": m, "eta": eta, "soar": soar} for m, eta, soar in grid]

    def settings(self, k):
        leaves = self.params["leaves"]
        return [{"leaves": p, "reorder": r} for p, r in product(NPROBES, REORDERS) if p <= leaves and r >= k]

    def build(self, x, metric, threads):
        p, d = self.params, x.shape[1]
        # T is meant for vectors of one length; ours have length 1 under "ip".
        t = threshold(p["eta"], d) if p["eta"] else float("nan")
        measure = "squared_l2" if metric == "l2" else "dot_product"
        builder = self.lib.scann_ops_pybind.builder(x, 10, measure)
        builder = builder.set_n_training_threads(threads)
        builder = builder.tree(
            p["leaves"], 16, training_sample_size=min(len(x), 250000), soar_lambda=p["soar"]
        )
        builder = builder.score_ah(p.get("dims", 2), anisotropic_quantization_threshold=t)
        self.index = builder.reorder(100).build()

    def one_thread(self):
        self.index.set_num_threads(1)

    def memory(self):
        return stored_bytes(self.index.serialize), "stored files"

    def callers(self, k, setting):
        # The bound object below the wrapper saves a Python frame a query.
        searcher, reorder, leaves = self.index.searcher, setting["reorder"], setting["leaves"]
        return (
            lambda row: searcher.search(row, k, reorder, leaves),
            lambda q: searcher.search_batched(q, k, reorder, leaves, False, 0),
        )

    def ids(self, answer):
        return answer[0]


class Faiss(Engine):
    """Base of the three Faiss engines: build parameter `factory`.

    Subclasses give parameters(setting), the search parameters of their kind.
    """

    module, package = "faiss", "faiss-cpu"
    filters = True

    def set_filter(self, allowed):
        bits = np.packbits(allowed, bitorder="little")
        self.filter = self.lib.IDSelectorBitmap(bits)

    def build(self, x, metric, threads):
        self.lib.omp_set_num_threads(threads)
        kind = self.lib.METRIC_L2 if metric == "l2" else self.lib.METRIC_INNER_PRODUCT
        self.index = self.lib.index_factory(x.shape[1], self.params["factory"], kind)
        if "efConstruction" in self.params:
            self.index.hnsw.efConstruction = self.params["efConstruction"]
        self.index.train(x)
        self.index.add(x)

    def one_thread(self):
        self.lib.omp_set_num_threads(1)

    def memory(self):
        write = self.lib.write_index
        return stored_bytes(lambda f: write(self.index, f + "/index")), "stored files"

    def callers(self, k, setting):
        # search_c skips the wrapper's checks and allocations, several us a query.
        index, pointer, params = self.index, self.lib.swig_ptr, self.parameters(setting)
        distance = np.empty(k, dtype=np.float32)
        distance_pointer = pointer(distance)

        def one(row):
            ids = np.empty(k, dtype=np.int64)
            index.search_c(1, pointer(row), k, distance_pointer, pointer(ids), params)
            return ids

        def many(q):
            return index.search(q, k, params=params)[1]

        one.keep_alive = distance  # swig pointers own nothing
        return one, many


class FaissPQ(Faiss):
    """IVF, 4-bit PQ FastScan, raw rows reranked ("fsr": residual codes)."""

    @staticmethod
    def builds(n, d, metric):
        nlist = usual_nlist(n)
        kinds = [(nlist, "fsr"), (nlist, "fs"), (nlist // 2, "fsr")]
        return [{"factory": f"IVF{m},PQ{d // 2}x4{kind},RFlat"} for m, kind in kinds]

    def settings(self, k):
        if "RFlat" not in self.params["factory"]:
            return [{"nprobe": p} for p in NPROBES]
        return [{"nprobe": p, "k_factor": r / k} for p, r in product(NPROBES, REORDERS) if r >= k]

    def parameters(self, setting):
        lists = self.lib.SearchParametersIVF(nprobe=setting["nprobe"], sel=self.filter)
        if "k_factor" not in setting:
            return lists
        return self.lib.IndexRefineSearchParameters(
            k_factor=setting["k_factor"], base_index_params=lists
        )


class FaissIVFFlat(FaissPQ):
    """IVF with raw rows."""

    @staticmethod
    def builds(n, d, metric):
        nlist = usual_nlist(n)
        return [{"factory": f"IVF{m},Flat"} for m in (nlist, nlist // 2)]


class FaissHNSW(Faiss):
    """Faiss' HNSW, 32 links."""

    @staticmethod
    def builds(n, d, metric):
        return [{"factory": "HNSW32,Flat", "efConstruction": 200}]

    def settings(self, k):
        return [{"ef": ef} for ef in WIDTHS if ef >= k]

    def parameters(self, setting):
        return self.lib.SearchParametersHNSW(efSearch=setting["ef"], sel=self.filter)


class Hnswlib(Engine):
    """hnswlib."""

    module = package = "hnswlib"
    settings = FaissHNSW.settings

    @staticmethod
    def builds(n, d, metric):
        return [{"M": m, "efConstruction": 200} for m in (16, 24)]

    def build(self, x, metric, threads):
        self.index = self.lib.Index(space=metric, dim=x.shape[1])
        links, width = self.params["M"], self.params["efConstruction"]
        self.index.init_index(len(x), M=links, ef_construction=width)
        self.index.add_items(x, num_threads=threads)

    def one_thread(self):
        self.index.set_num_threads(1)

    def memory(self):
        return self.index.index_file_size(), "reported file size"

    def callers(self, k, setting):
        query = self.index.knn_query
        self.index.set_ef(setting["ef"])
        return lambda row: query(row, k), lambda q: query(q, k)

    def ids(self, answer):
        return answer[0]


class Usearch(Engine):
    """usearch; i8 normalises every vector, so under L2 lengths are lost."""

    module = "usearch.index"
    package = "usearch"
    settings = FaissHNSW.settings

    @staticmethod
    def builds(n, d, metric):
        return [{"dtype": t, "M": 16, "expansion_add": 128} for t in ("f32", "bf16", "i8")]

    def build(self, x, metric, threads):
        p = self.params
        self.index = self.lib.Index(
            ndim=x.shape[1],
            metric="l2sq" if metric == "l2" else "ip",
            dtype=p["dtype"],
            connectivity=p["M"],
            expansion_add=p["expansion_add"],
            enable_key_lookups=False,
        )
        self.index.add(np.arange(len(x)), x, threads=threads)

    def memory(self):
        return self.index.memory_usage, "reported"

    def callers(self, k, setting):
        self.index.expansion_search = setting["ef"]
        # The wrapper's search() costs more than some answers: call what it calls.
        query = self.index._compiled.search_many
        return (lambda row: query(row[None], k, False, 1), lambda q: query(q, k, False, 1))

    def ids(self, answer):
        return answer[0]


class Svs(Engine):
    """Intel scalable-vs, Vamana graph; its LVQ codes refuse CPUs of others."""

    module = "svs"
    package = "scalable-vs"
    settings = FaissHNSW.settings

    @staticmethod
    def builds(n, d, metric):
        grid = [("float32", 64), ("float16", 32), ("float16", 64)]
        return [
            {"dtype": t, "degree": m, "window": 128, "alpha": 1.2 if metric == "l2" else 0.95}
            for t, m in grid
        ]

    def build(self, x, metric, threads):
        p, lib = self.params, self.lib
        build = lib.VamanaBuildParameters(
            alpha=p["alpha"], graph_max_degree=p["degree"], window_size=p["window"]
        )
        kind = lib.DistanceType.L2 if metric == "l2" else lib.DistanceType.MIP
        self.index = lib.Vamana.build(build, x.astype(p["dtype"]), kind, threads)

    def one_thread(self):
        self.index.num_threads = 1

    def memory(self):
        return stored_bytes(
            lambda f: self.index.save(f + "/config", f + "/graph", f + "/data")
        ), "stored files"

    def callers(self, k, setting):
        self.index.search_window_size = setting["ef"]
        query = self.index.search
        return lambda row: query(row, k), lambda q: query(q, k)

    def ids(self, answer):
        return answer[0]


ENGINES = {
    "ours": Ours,
    "scann": Scann,
    "faiss-pq": FaissPQ,
    "faiss-ivfflat": FaissIVFFlat,
    "faiss-hnsw": FaissHNSW,
    "hnswlib": Hnswlib,
    "usearch": Usearch,
    "svs": Svs,
}
