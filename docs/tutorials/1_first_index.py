"""
1. The first index
==================

Rows in, neighbours out, and a file that opens in a moment.
"""

# %%
# Real data: the word vectors that come with the repository, half floats behind
# a header of two integers. Their directions are what means something, so we
# search by cosine: ``normalize`` makes rows and queries unit vectors.
import pathlib
import tempfile
import time

import numpy as np

import faiss_ext as fx

folder = pathlib.Path("../../tests/data")
n, d = np.fromfile(folder / "glove-50-frequent.hbin", np.uint32, 2)
x = np.fromfile(folder / "glove-50-frequent.hbin", np.float16, offset=8).reshape(n, d).astype(np.float32)
words = (folder / "glove-50-frequent.words.txt").read_text(encoding="utf-8").split()
print(x.shape, words[:8])

# %%
# ``"ScaNN"`` alone chooses the number of lists, the codes and the storage.
start = time.perf_counter()
index = fx.index_factory(int(d), "ScaNN(normalize=1)", fx.METRIC_INNER_PRODUCT)
index.train(x)
index.add(x)
print(f"{time.perf_counter() - start:.1f} s: {index}")
print(f"{index.memory_usage() / 2**20:.0f} MB, {index.nlist} lists, nprobe = {index.nprobe}")


# %%
# A search gives similarities and ids, the best first. A word is its own
# nearest neighbour, so we ask for one more.
def show(word, k=6, **parameters):
    similarities, ids = index.search(x[words.index(word)][None], k + 1, **parameters)
    print(f"{word:10}", "  ".join(f"{words[i]} {s:.2f}" for s, i in zip(similarities[0, 1:], ids[0, 1:])))


for word in ("coffee", "piano", "jupiter", "tuesday"):
    show(word)

# %%
# How good is it? Exact search tells, for 1,000 words.
rng = np.random.default_rng(0)
queries = x[rng.choice(len(x), 1000, replace=False)]
unit = x / np.linalg.norm(x, axis=1, keepdims=True)
exact = np.argpartition(-(queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ unit.T, 10, axis=1)[:, :10]


def recall(ids):
    return np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(ids, exact)])


for nprobe in (4, 16, 64, 256):
    start = time.perf_counter()
    ids = index.search(queries, 10, nprobe=nprobe)[1]
    seconds = time.perf_counter() - start
    print(f"nprobe {nprobe:3}: recall@10 {recall(ids):.3f}, {seconds / len(queries) * 1e6:.0f} us a query")

# %%
# A file keeps everything. With ``mmap=True`` it opens at once; pages are read
# when they are searched.
with tempfile.TemporaryDirectory() as place:
    path = pathlib.Path(place) / "words.scann"
    fx.write_index(index, path)
    start = time.perf_counter()
    index = fx.read_index(path, mmap=True)
    print(f"{path.stat().st_size / 2**20:.0f} MB opened in {(time.perf_counter() - start) * 1e3:.1f} ms")
    show("coffee")
