"""SCANN with the score-aware loss inside Milvus Lite (pip install ".[milvus-lite]").

Prints::

    nearest to row 0: 0
"""

import pathlib
import tempfile

import numpy as np
from pymilvus import MilvusClient

import faiss_ext.milvus_lite

faiss_ext.milvus_lite.install()  # before the client is made

rows = np.random.default_rng(0).standard_normal((3000, 32)).astype(np.float32)
with tempfile.TemporaryDirectory() as folder:
    client = MilvusClient(str(pathlib.Path(folder) / "rows.db"))
    client.create_collection("rows", dimension=32, metric_type="COSINE", auto_id=False)
    client.release_collection("rows")
    client.drop_index("rows", "vector")
    wanted = client.prepare_index_params()
    wanted.add_index("vector", index_type="SCANN", metric_type="COSINE", params={"nlist": 64, "with_raw_data": True})
    client.create_index("rows", wanted)
    client.insert("rows", [{"id": i, "vector": row} for i, row in enumerate(rows.tolist())])
    client.flush("rows")
    client.load_collection("rows")
    found = client.search("rows", rows[:1].tolist(), limit=3, search_params={"params": {"nprobe": 16, "reorder_k": 50}})
    print(f"nearest to row 0: {found[0][0]['id']}")
    client.close()
