"""SCANN of this library in an unmodified Milvus server, through ordinary pymilvus (2.6 or newer).

With the address of a server, that one is used; else one is started in a temporary folder, with this library
preloaded, and ended afterwards (pip install milvus==2.3.5 pymilvus).

Prints::

    nearest to row 0: 0
"""

import sys
import tempfile

import numpy as np
from pymilvus import DataType, MilvusClient

from faiss_ext import milvus_host

rows = np.random.default_rng(0).standard_normal((5000, 32)).astype(np.float32)


def search_a_collection(uri: str) -> None:
    """Makes a collection with index type SCANN, searches it, and drops it."""
    client = MilvusClient(uri=uri)
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=32)
    client.create_collection("example", schema=schema, consistency_level="Strong")
    client.insert("example", [{"id": i, "vector": row} for i, row in enumerate(rows.tolist())])
    client.flush("example")
    wanted = client.prepare_index_params()
    params = {"nlist": 64, "with_raw_data": True, "soar_lambda": 1.0}
    wanted.add_index("vector", index_type="SCANN", metric_type="COSINE", params=params)
    client.create_index("example", wanted)
    client.load_collection("example")
    search = {"metric_type": "COSINE", "params": {"nprobe": 16, "reorder_k": 50}}
    [found] = client.search("example", data=rows[:1].tolist(), limit=3, search_params=search)
    print(f"nearest to row 0: {found[0]['id']}")
    client.drop_collection("example")
    client.close()


if len(sys.argv) > 1:
    search_a_collection(sys.argv[1])
else:
    with tempfile.TemporaryDirectory() as folder, milvus_host.start(folder, on_step=print) as server:
        search_a_collection(server.uri)
        print(f"searches by this library: {server.statistics()['searches']}")
