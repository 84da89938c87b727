"""Build an index, search it, save it, open it again.

Prints::

    20000 rows, 128 lists
    nearest to row 0: 0
    the same from the file: True
"""

import pathlib
import tempfile

import numpy as np

import faiss_ext as fx

rows = np.random.default_rng(0).standard_normal((20000, 64), dtype=np.float32)
index = fx.index_factory(64, "IVF128,ScaNN,RFlat", fx.METRIC_L2)
index.train(rows)
index.add(rows)
print(f"{index.ntotal} rows, {index.nlist} lists")

distances, ids = index.search(rows[:10], 5, nprobe=16, reorder_k=100)
print(f"nearest to row 0: {ids[0, 0]}")

with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "rows.scann"
    fx.write_index(index, path)
    again = fx.read_index(path)
print(f"the same from the file: {np.array_equal(again.search(rows[:10], 5, nprobe=16, reorder_k=100)[1], ids)}")
