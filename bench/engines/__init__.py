"""One adapter a library; the names by which the command line knows them."""

from __future__ import annotations

import sys

from bench.engines.base import Engine
from bench.engines.faiss_indexes import FaissHNSW, FaissIVFFlat, FaissPQ
from bench.engines.glass import Glass
from bench.engines.google_scann import GoogleScann
from bench.engines.graphs import Hnswlib, Svs, Usearch
from bench.engines.lance import LanceDb
from bench.engines.ngt import Ngt
from bench.engines.ours import Ours
from bench.engines.rabitq import RabitqIvf, SymphonyQg
from bench.engines.turbo import Turbovec
from bench.engines.vamana import Vamana
from bench.engines.vsag import Vsag
from bench.engines.zvec import Zvec

ENGINES: dict[str, type[Engine]] = {
    "ours": Ours,
    "scann": GoogleScann,
    "faiss-pq": FaissPQ,
    "faiss-ivfflat": FaissIVFFlat,
    "faiss-hnsw": FaissHNSW,
    "hnswlib": Hnswlib,
    "usearch": Usearch,
    "svs": Svs,
    "vsag": Vsag,
    "ngt": Ngt,
    "turbovec": Turbovec,
    "zvec": Zvec,
    "lancedb": LanceDb,
    "symphonyqg": SymphonyQg,
    "rabitq-ivf": RabitqIvf,
    "glass": Glass,
    "diskann": Vamana,
}


def python_for(engine: str) -> str:
    """The Python whose worker has the library."""
    own = ENGINES[engine].python
    return str(own) if own and own.is_file() else sys.executable
