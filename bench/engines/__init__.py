"""One adapter a library; the names by which the command line knows them."""

from __future__ import annotations

from bench.engines.base import Engine
from bench.engines.faiss_indexes import FaissHNSW, FaissIVFFlat, FaissPQ
from bench.engines.google_scann import GoogleScann
from bench.engines.graphs import Hnswlib, Svs, Usearch
from bench.engines.ours import Ours

ENGINES: dict[str, type[Engine]] = {
    "ours": Ours,
    "scann": GoogleScann,
    "faiss-pq": FaissPQ,
    "faiss-ivfflat": FaissIVFFlat,
    "faiss-hnsw": FaissHNSW,
    "hnswlib": Hnswlib,
    "usearch": Usearch,
    "svs": Svs,
}
