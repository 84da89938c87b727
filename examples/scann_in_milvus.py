"""SCANN of this library in an unmodified Milvus server, through ordinary pymilvus.

With the address of a server, that one is used; else one is started in a temporary folder, with this library
preloaded, and ended afterwards (pip install milvus==2.3.5 pymilvus).

Prints::

    nearest to row 0: 0
"""

import sys
import tempfile

import numpy as np
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, connections

from faiss_ext import milvus_host

rows = np.random.default_rng(0).standard_normal((5000, 32)).astype(np.float32)


def search_a_collection(uri: str) -> None:
    """Makes a collection with index type SCANN, searches it, and drops it."""
    connections.connect(uri=uri)
    key = FieldSchema("id", DataType.INT64, is_primary=True)
    vector = FieldSchema("vector", DataType.FLOAT_VECTOR, dim=32)
    collection = Collection("example", CollectionSchema([key, vector]))
    collection.insert([list(range(len(rows))), rows.tolist()])
    collection.flush()
    params = {"nlist": 64, "with_raw_data": True, "soar_lambda": 1.0}
    collection.create_index("vector", {"index_type": "SCANN", "metric_type": "COSINE", "params": params})
    collection.load()
    found = collection.search(
        rows[:1].tolist(), "vector", {"metric_type": "COSINE", "params": {"nprobe": 16, "reorder_k": 50}}, limit=3
    )
    print(f"nearest to row 0: {found[0].ids[0]}")
    collection.drop()
    connections.disconnect("default")


if len(sys.argv) > 1:
    search_a_collection(sys.argv[1])
else:
    with tempfile.TemporaryDirectory() as folder, milvus_host.start(folder) as server:
        search_a_collection(server.uri)
        print(f"searches by this library: {server.statistics()['searches']}")
