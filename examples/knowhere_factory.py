"""Every index type of the factory by Knowhere's names: build, search, range search, save, open.

Prints::

    SCANN: row 77, 1 within .9, the same when opened again
    IVF_FLAT: row 77, 1 within .9, the same when opened again
    HNSW: row 77, 1 within .9, the same when opened again
    FLAT: row 77, 1 within .9, the same when opened again
    nprobe = 0: nprobe = "0" (allowed: an integer in 1..65536)
"""

import numpy as np

from faiss_ext import knowhere

factory = knowhere.IndexFactory()
rows = np.random.default_rng(0).random((5000, 32), dtype=np.float32) - 0.5
query = rows[77:78]

for name in ("SCANN", "IVF_FLAT", "HNSW", "FLAT"):
    node = factory.create(name)
    node.build(rows, metric_type="COSINE")
    similarities, ids = node.search(query, k=3)
    limits, _, _ = node.range_search(query, radius=0.9)

    opened = factory.create(name)
    opened.deserialize(node.serialize())
    same = (opened.search(query, k=3)[1] == ids).all()
    print(f"{name}: row {ids[0, 0]}, {limits[1]} within .9, {'the same when opened again' if same else 'another one'}")

# what there is, with defaults and ranges: knowhere.parameters("SCANN")
try:
    node = factory.create("SCANN")
    node.check("search", nprobe=0)
except ValueError as error:
    print(f"nprobe = 0: {error}")
