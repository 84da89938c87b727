"""
4. Rows that come, change and go
================================

Ids of your own, updates in place, removals, and what the index tells about it.
"""

# %%
import pathlib

import numpy as np

import faiss_ext as fx

folder = pathlib.Path("../../tests/data")
n, d = np.fromfile(folder / "glove-50-frequent.hbin", np.uint32, 2)
x = np.fromfile(folder / "glove-50-frequent.hbin", np.float16, offset=8).reshape(n, d).astype(np.float32)
words = np.array((folder / "glove-50-frequent.words.txt").read_text(encoding="utf-8").split())

index = fx.index_factory(int(d), "IVF512,ScaNN(normalize=1),RFlat", fx.METRIC_INNER_PRODUCT)
index.train(x)  # all rows, or a sample of those to come

# %%
# Ids are any 64-bit numbers: the key of your table. Here the number of the word
# plus a million.
keys = np.arange(n) + 10**6
index.add_with_ids(x[:30000], keys[:30000])
index.add_with_ids(x[30000:], keys[30000:])
similarities, ids = index.search(x[words == "rain"], 4, nprobe=32)
print(index.ntotal, "rows;", ", ".join(words[ids[0] - 10**6]))

# %%
# "snow" leaves. An id that is not there is not counted.
gone = keys[words == "snow"]
print(index.remove_ids(gone), "removed,", index.remove_ids(gone), "the second time")
ids = index.search(x[words == "rain"], 4, nprobe=32)[1]
print(index.ntotal, "rows;", ", ".join(words[ids[0] - 10**6]))

# %%
# An update gives an id another row, in place: "rain" now means coffee.
rain = keys[words == "rain"]
index.update_vectors(rain, x[words == "coffee"])
ids = index.search(x[words == "coffee"], 3, nprobe=32)[1]
print(", ".join(words[ids[0] - 10**6]))

# %%
# With raw rows in the index what was put in comes back as it was.
row = index.reconstruct(int(rain[0]))
print("as given:", np.allclose(row, x[words == "coffee"][0], atol=1e-6))

# %%
# A mistake changes nothing.
try:
    index.add_with_ids(np.full((1, d), np.nan, np.float32), [7])
except ValueError as error:
    print("refused:", error)
print(index.ntotal, "rows")
