"""The installed wheel by itself: answers, threads, and what it loads.

usage: python alone.py    (packaging/test-wheel calls it; needs numpy and the wheel)
"""

import os
import re
import sys
from pathlib import Path

import numpy as np

import faiss_ext as fx
from faiss_ext import knowhere

ROWS, DIMENSIONS = 4000, 32
failures = 0


def check(fine, what):
    global failures
    print(f"{'ok' if fine else 'FAILED'}: {what}")
    failures += not fine


def threads():
    return len(os.listdir("/proc/self/task"))


def recall(found, truth):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, truth)])


x = np.random.default_rng(0).standard_normal((ROWS, DIMENSIONS), dtype=np.float32)
x[:, 24:] *= np.float32(1e-3)  # PCA24 loses nothing
queries = x[:50] + np.float32(0.01)
truth = np.argsort(((queries[:, None, :].astype(np.float64) - x[None]) ** 2).sum(2), axis=1)[:, :10]

# numpy's BLAS has made its threads by now: all others are ours
queries @ x.T
before = threads()
for allowed in (1, 2, 3):
    fx.omp_set_num_threads(allowed)
    for factory in (
        "IVF32,ScaNN,RFlat",
        "OPQ8,IVF32,ScaNN,RFlat",
        "PCA24,IVF32,ScaNN,RFlat",
        "IVF32_HNSW16,ScaNN,RFlat",
    ):
        index = fx.index_factory(DIMENSIONS, factory)
        index.train(x)
        index.add(x)
        found = index.search(queries, 10, nprobe=32, reorder_k=400)[1]
        if allowed == 2:
            check(recall(found, truth) >= 0.95, f"{factory}: recall {recall(found, truth):.3f} >= 0.95")
    for name in ("SCANN", "FLAT", "IVF_FLAT", "IVF_PQ", "HNSW"):
        config = {"m": 8} if name == "IVF_PQ" else {}
        node = knowhere.IndexFactory().create(name)
        node.build(x, **config)
        node.search(queries, k=10)
    check(fx.omp_get_max_threads() == allowed, f"{allowed} threads: the number stays {fx.omp_get_max_threads()}")
    check(threads() - before <= allowed - 1, f"{allowed} threads: {threads() - before} were started")

maps = Path("/proc/self/maps").read_text()
loaded = sorted(set(re.findall(r"(/\S+\.so[.0-9]*\S*)$", maps, re.MULTILINE)))
home = str(Path(fx.__file__).parent)
numpy_home = str(Path(np.__file__).parent)
foreign = [
    path
    for path in loaded
    if re.search(r"blas|lapack|faiss|gomp|gfortran|libomp", Path(path).name) and not path.startswith((home, numpy_home))
]
check(not foreign, f"BLAS, Faiss, OpenMP only of the wheel and of numpy, besides them {foreign}")
check(any("libgomp" in path and path.startswith(home) for path in loaded), "the wheel's own libgomp is used")
print(
    f"faiss_ext {fx.__version__}, Faiss {fx.FAISS_VERSION}, kernels {fx.simd_level()} of {fx.simd_levels()}, "
    f"Python {sys.version.split()[0]}, numpy {np.__version__}"
)
sys.exit(failures > 0)
