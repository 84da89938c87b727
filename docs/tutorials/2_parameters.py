"""
2. Choosing parameters
======================

One knob trades recall for time. The index can turn it for you.
"""

# %%
# Rows and queries: here 1,000 words are taken out of the base, so that no query
# is a row.
import pathlib
import time

import matplotlib.pyplot as plt
import numpy as np

import faiss_ext as fx

file = pathlib.Path("../../tests/data/glove-50-frequent.hbin")
n, d = np.fromfile(file, np.uint32, 2)
x = np.fromfile(file, np.float16, offset=8).reshape(n, d).astype(np.float32)
x /= np.linalg.norm(x, axis=1, keepdims=True)
order = np.random.default_rng(0).permutation(len(x))
queries, base = x[order[:1000]], x[order[1000:]]
exact = np.argpartition(-queries @ base.T, 10, axis=1)[:, :10]


def recall(ids):
    return np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(ids, exact)])


# %%
# Three ways to store the same rows: raw rows beside the codes (exact scores in
# the end), 8-bit refine codes, and codes alone.
indexes = {}
for name in ("IVF512,ScaNN,RFlat", "IVF512,ScaNN,SQ8", "IVF512,ScaNN"):
    index = fx.index_factory(int(d), name, fx.METRIC_INNER_PRODUCT)
    index.train(base)
    index.add(base)
    indexes[name] = index
    print(f"{name:20} {index.memory_usage() / len(base):4.0f} bytes a row")

# %%
# ``nprobe``, the number of lists that a query visits, is the knob. A curve for
# each: up and to the right is better.
fx.omp_set_num_threads(1)
figure, axes = plt.subplots(figsize=(7, 4.5))
for name, index in indexes.items():
    points = []
    for nprobe in (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128):
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            ids = index.search(queries, 10, nprobe=nprobe)[1]
            seconds.append(time.perf_counter() - start)
        points.append((recall(ids), len(queries) / min(seconds)))
    axes.plot(*zip(*points), marker="o", label=name)
axes.set_yscale("log")
axes.set_xlabel("recall@10")
axes.set_ylabel("queries a second, one thread, in batches")
axes.grid(True, which="both", alpha=0.3)
axes.legend()
figure.tight_layout()

# %%
# ``calibrate`` looks for the cheapest setting that reaches a wanted recall, on
# queries that are like those to come. The index keeps it: a search that says
# nothing uses it, also after the index was saved and opened again.
index = indexes["IVF512,ScaNN,RFlat"]
for target in (0.8, 0.9, 0.95, 0.99):
    chosen = index.calibrate(queries[:500], target_recall=target, k=10)
    ids = index.search(queries[500:], 10)[1]
    there = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(ids, exact[500:])])
    print(
        f"target {target}: nprobe {chosen['nprobe']:3}, reorder_k {chosen['reorder_k']:3}"
        f" -> recall {there:.3f} on the other 500 queries"
    )

# %%
# The truth of ``calibrate`` is an exhaustive search of the same index. Codes
# alone know no better than themselves: it finds the lists that hold what all
# codes together would find, and that has a ceiling.
index = indexes["IVF512,ScaNN"]
chosen = index.calibrate(queries[:500], target_recall=0.95, k=10)
print(f"codes alone: {chosen['recall']:.3f} of what all codes would find,", end=" ")
print(f"{recall(index.search(queries, 10)[1]):.3f} of the exact neighbours")
