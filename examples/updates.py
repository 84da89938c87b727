"""Rows come under ids of one's own, change, and go.

Prints::

    removed 2, left 9998
    the row of id 1005 has moved: True
"""

import numpy as np

import faiss_ext as fx

rng = np.random.default_rng(0)
rows = rng.standard_normal((10000, 32), dtype=np.float32)
ids = np.arange(10000) + 1000
index = fx.index_factory(32, "IVF64,ScaNN,RFlat", fx.METRIC_L2)
index.train(rows)
index.set_direct_map_type(fx.DirectMap.Hashtable)  # id -> place: what changes costs what it touches
index.add_with_ids(rows, ids)

print(f"removed {index.remove_ids([1000, 1001])}, left {index.ntotal}")

changed = rng.standard_normal((1, 32), dtype=np.float32)
index.update_vectors([1005], changed)
print(f"the row of id 1005 has moved: {np.array_equal(index.reconstruct(1005), changed[0])}")
