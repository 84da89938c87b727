"""
7. From Faiss' IVFPQ to ScaNN
=============================

What changes in a program that uses Faiss today: the factory string, the names
of two parameters, and the recall.
"""

# %%
# An index as it is built with Faiss, of 4-bit codes with raw rows beside them.
import pathlib
import tempfile

import faiss
import numpy as np

import faiss_ext as fx

file = pathlib.Path("../../tests/data/glove-50-frequent.hbin")
n, d = (int(v) for v in np.fromfile(file, np.uint32, 2))
x = np.fromfile(file, np.float16, offset=8).reshape(n, d).astype(np.float32)
faiss.normalize_L2(x)
order = np.random.default_rng(0).permutation(n)
queries, base = x[order[:500]], x[order[500:20500]]
exact = np.argpartition(-queries @ base.T, 10, axis=1)[:, :10]


def recall(ids):
    return np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(ids, exact)])


theirs = faiss.index_factory(d, "IVF256,PQ25x4fs,RFlat", faiss.METRIC_INNER_PRODUCT)
theirs.train(base)
theirs.add(base)

# %%
# The same index here. The codes are learnt so that scores of rows near the
# query are right, and stand for what is left after the centroid is taken away.
ours = fx.index_factory(d, "IVF256,ScaNN,RFlat", fx.METRIC_INNER_PRODUCT)
ours.train(base)
ours.add(base)

# %%
# ``k_factor * k`` of Faiss' refinement is ``reorder_k`` here, one number that
# does not depend on k. Everything goes to ``search`` by name.
for nprobe, candidates in ((8, 20), (8, 40), (16, 40), (16, 100)):
    parameters = faiss.IndexRefineSearchParameters(
        k_factor=candidates / 10, base_index_params=faiss.SearchParametersIVF(nprobe=nprobe)
    )
    before = theirs.search(queries, 10, params=parameters)[1]
    after = ours.search(queries, 10, nprobe=nprobe, reorder_k=candidates)[1]
    print(f"nprobe {nprobe:2}, {candidates:3} candidates: recall@10 {recall(before):.3f} -> {recall(after):.3f}")

# %%
# A selector becomes ``filter``: ids that may be returned, or a flag for every
# row. It is answered inside the scan.
even = np.arange(0, len(base), 2)
parameters = faiss.SearchParametersIVF(nprobe=256, sel=faiss.IDSelectorBatch(even))
flat = faiss.index_factory(d, "IVF256,Flat", faiss.METRIC_INNER_PRODUCT)
flat.train(base)
flat.add(base)
before = flat.search(queries[:100], 5, params=parameters)[1]
after = ours.search(queries[:100], 5, nprobe=256, reorder_k=200, filter=even)[1]
print(f"{(before == after).mean():.1%} of the answers are those of an exhaustive search")

# %%
# And the way back: a file that plain Faiss reads, for programs that do not
# have this library.
with tempfile.TemporaryDirectory() as place:
    path = str(pathlib.Path(place) / "plain.faiss")
    fx.export_to_faiss(ours, path)
    plain = faiss.read_index(path)
    print(type(plain).__name__, plain.ntotal, "rows")
    parameters = faiss.IndexRefineSearchParameters(k_factor=10, base_index_params=faiss.SearchParametersIVF(nprobe=16))
    print(f"recall@10 {recall(plain.search(queries, 10, params=parameters)[1]):.3f} with the same codes in Faiss")
