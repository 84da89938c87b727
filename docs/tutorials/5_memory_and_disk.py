"""
5. Memory and disk
==================

What a row costs, how to have an index within a number of bytes, and files.
"""

# %%
import pathlib
import tempfile
import time

import numpy as np

import faiss_ext as fx

file = pathlib.Path("../../tests/data/glove-50-frequent.hbin")
n, d = np.fromfile(file, np.uint32, 2)
x = np.fromfile(file, np.float16, offset=8).reshape(n, d).astype(np.float32)
x /= np.linalg.norm(x, axis=1, keepdims=True)
queries, base = x[::50], np.delete(x, np.s_[::50], axis=0)
exact = np.argpartition(-queries @ base.T, 10, axis=1)[:, :10]

# %%
# The storage is part of the factory string. ``estimate_memory`` says what rows
# will take before there are any.
for name in (
    "IVF512,ScaNN,RFlat",
    "IVF512,ScaNN,SQfp16",
    "IVF512,ScaNN,SQ8",
    "IVF512,ScaNN",
    "IVF512,ScaNN(sub_dim=4)",
):
    index = fx.index_factory(int(d), name, fx.METRIC_INNER_PRODUCT)
    index.train(base)
    expected = index.estimate_memory(len(base))
    index.add(base)
    ids = index.search(queries, 10, nprobe=64)[1]
    recall = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(ids, exact)])
    print(
        f"{name:24} {index.memory_usage() / len(base):4.0f} bytes a row (estimated {expected / len(base):4.0f}),"
        f" recall@10 {recall:.3f}"
    )

# %%
# Or say how many bytes there are, and let the index choose the fastest storage
# that fits.
for limit in (300, 120, 60):
    index = fx.index_factory(int(d), f"ScaNN(bytes_per_vector={limit})", fx.METRIC_INNER_PRODUCT)
    index.train(base)
    index.add(base)
    ids = index.search(queries, 10, nprobe=64)[1]
    recall = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(ids, exact)])
    print(f"at most {limit:3} bytes: {index}\n    recall@10 {recall:.3f}")

# %%
# A file is written beside its target, synced and renamed: a crash leaves the
# old one. Opened with ``mmap`` it costs milliseconds and shares its pages with
# every other process that opens it.
with tempfile.TemporaryDirectory() as place:
    path = pathlib.Path(place) / "rows.scann"
    fx.write_index(index, path)
    for how in ({}, {"mmap": True}, {"mmap": True, "verify": True}):
        start = time.perf_counter()
        again = fx.read_index(path, **how)
        milliseconds = (time.perf_counter() - start) * 1e3
        same = np.array_equal(again.search(queries, 10)[1], index.search(queries, 10)[1])
        print(f"read_index(path, {how}): {milliseconds:.2f} ms, the same answers: {same}")
