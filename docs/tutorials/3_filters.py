"""
3. Filters
==========

Search among some of the rows: by a mask, by ids, by many or few of them.
"""

# %%
# 20,000 words, each with a length: a column as databases have it.
import pathlib
import time

import numpy as np

import faiss_ext as fx

folder = pathlib.Path("../../tests/data")
n, d = np.fromfile(folder / "glove-50-frequent.hbin", np.uint32, 2)
x = np.fromfile(folder / "glove-50-frequent.hbin", np.float16, offset=8).reshape(n, d).astype(np.float32)
words = np.array((folder / "glove-50-frequent.words.txt").read_text(encoding="utf-8").split())
letters = np.char.str_len(words)

index = fx.index_factory(int(d), "IVF512,ScaNN(normalize=1),RFlat", fx.METRIC_INNER_PRODUCT)
index.train(x)
index.add(x)
index.make_direct_map()  # where few rows pass, they are answered without visiting lists
query = x[words == "coffee"]

# %%
# A mask has one bool for each id.
for allowed, mask in {
    "all": np.ones(n, bool),
    "at most 4 letters": letters <= 4,
    "at least 9 letters": letters >= 9,
    "from w to z": np.char.find("wxyz", words.astype("U1")) >= 0,
}.items():
    ids = index.search(query, 6, nprobe=64, filter=mask)[1]
    print(f"{allowed:20} {mask.mean():6.1%}:", ", ".join(words[ids[0]]))

# %%
# Ids do as well. A filter that is used more than once is made once.
drinks = [i for i, word in enumerate(words) if word in {"tea", "wine", "beer", "juice", "milk", "cola"}]
some = fx.Filter(drinks)
similarities, ids = index.search(query, 4, filter=some)
print(", ".join(f"{words[i]} {s:.2f}" for s, i in zip(similarities[0], ids[0])))

# %%
# What a filter costs depends on how many rows pass. Few are cheaper than all,
# for they are scored without a scan.
queries = x[np.random.default_rng(0).choice(n, 1000, replace=False)]
for share in (1, 0.5, 0.1, 0.01, 0.001):
    few = fx.Filter(np.random.default_rng(1).random(n) < share)
    start = time.perf_counter()
    index.search(queries, 10, nprobe=16, filter=few)
    print(f"{share:6.1%} pass: {(time.perf_counter() - start) / len(queries) * 1e6:4.0f} us a query")
