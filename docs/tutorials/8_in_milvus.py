"""
8. In a Milvus server
=====================

The words of the first page in Milvus: index type "SCANN", answered by this
library, asked by an ordinary client.
"""

# %%
# It needs a server, which this site is made without: what you see was printed
# by a run that the tests repeat (``tests/server``). To run it yourself::
#
#     pip install milvus==2.3.5 pymilvus
#     python docs/tutorials/8_in_milvus.py
#
# The server is unmodified, ``milvus_host`` preloads the library into it. With
# the address of a server that runs, that one is asked.
import pathlib
import re
import sys
import tempfile

import numpy as np
from pymilvus import DataType, MilvusClient, MilvusException

from faiss_ext import milvus_host

place = tempfile.TemporaryDirectory()
server = None if len(sys.argv) > 1 else milvus_host.start(place.name)
client = MilvusClient(uri=sys.argv[1] if server is None else server.uri)

folder = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data"
n, d = (int(v) for v in np.fromfile(folder / "glove-50-frequent.hbin", np.uint32, 2))
x = np.fromfile(folder / "glove-50-frequent.hbin", np.float16, offset=8).reshape(n, d).astype(np.float32)
words = (folder / "glove-50-frequent.words.txt").read_text(encoding="utf-8").split()

# %%
# A collection with a column besides, for filters. One flush makes one segment,
# and a segment gets one index.
schema = client.create_schema(auto_id=False)
schema.add_field("id", DataType.INT64, is_primary=True)
schema.add_field("word", DataType.VARCHAR, max_length=64)
schema.add_field("letters", DataType.INT64)
schema.add_field("vector", DataType.FLOAT_VECTOR, dim=d)
client.create_collection("words", schema=schema, consistency_level="Strong")
for first in range(0, n, 10_000):
    part = range(first, min(n, first + 10_000))
    rows = [{"id": i, "word": words[i], "letters": len(words[i]), "vector": x[i].tolist()} for i in part]
    client.insert("words", rows)
client.flush("words")

# %%
# The type is "SCANN", as for Milvus' own. Raw data stay in the index, so that
# the last candidates are scored exactly.
wanted = client.prepare_index_params()
wanted.add_index("vector", index_name="vector", index_type="SCANN", metric_type="COSINE", params={"nlist": 256})
client.create_index("words", wanted)
client.load_collection("words")
print(client.describe_index("words", "vector")["index_type"], client.get_collection_stats("words")["row_count"], "rows")


# %%
# .. code-block:: none
#
#     SCANN 50000 rows
#
# Searches take ``nprobe`` and ``reorder_k``, and whatever Milvus takes.
def search(queries, limit, expression="", **parameters):
    return client.search(
        "words",
        data=queries.tolist(),
        anns_field="vector",
        limit=limit,
        filter=expression,
        output_fields=["word"],
        search_params={"metric_type": "COSINE", "params": parameters},
    )


def show(word, **more):
    hits = search(x[words.index(word)][None], 6, nprobe=32, reorder_k=100, **more)[0]
    print(f"{word:8}", "  ".join(f"{hit['entity']['word']} {hit['distance']:.2f}" for hit in hits))


for word in ("coffee", "piano", "jupiter"):
    show(word)

# %%
# .. code-block:: none
#
#     coffee   coffee 1.00  drink 0.82  drinks 0.82  wine 0.81  tea 0.81  beer 0.80
#     piano    piano 1.00  violin 0.93  cello 0.92  flute 0.85  concerto 0.84  guitar 0.83
#     jupiter  jupiter 1.00  orbiting 0.77  mars 0.77  planets 0.77  orbits 0.76  comet 0.76
#
# A filter is answered inside of the scan: as many hits come back as were asked
# for.
show("coffee", expression="letters <= 4")

# %%
# .. code-block:: none
#
#     coffee   wine 0.81  tea 0.81  beer 0.80  food 0.79  corn 0.76  milk 0.74
#
# How good is it? As everywhere, ``nprobe`` is the knob.
random = np.random.default_rng(0).choice(n, 500, replace=False)
unit = x / np.linalg.norm(x, axis=1, keepdims=True)
exact = np.argpartition(-unit[random] @ unit.T, 10, axis=1)[:, :10]
for nprobe in (2, 8, 32):
    hits = search(x[random], 10, nprobe=nprobe, reorder_k=100)
    found = [[hit["id"] for hit in near] for near in hits]
    recall = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found, exact)])
    print(f"nprobe {nprobe:2}: recall@10 {recall:.2f}")

# %%
# .. code-block:: none
#
#     nprobe  2: recall@10 0.72
#     nprobe  8: recall@10 0.92
#     nprobe 32: recall@10 0.99
#
# A range search finds all that is near enough, however many they are.
hits = search(x[words.index("tuesday")][None], 1000, radius=0.8, range_filter=1.1)[0]
print(len(hits), "words have a cosine above 0.8 to tuesday, among them", hits[3]["entity"]["word"])

# %%
# .. code-block:: none
#
#     25 words have a cosine above 0.8 to tuesday, among them wednesday
#
# A mistake is answered with the value and what is allowed.
try:
    search(x[:1], 10, nprobe=16, reorder_k=5)
except MilvusException as error:
    print("refused:", re.search(r"reorder_k = .*?\)", error.message)[0])

# %%
# .. code-block:: none
#
#     refused: reorder_k = 5 is below k = 10 (allowed: >= k)
#
# What is deleted is found no more.
client.delete("words", ids=[words.index("tea")])
show("coffee")

# %%
# .. code-block:: none
#
#     coffee   coffee 1.00  drink 0.82  drinks 0.82  wine 0.81  beer 0.80  food 0.79
#
# The end.
client.drop_collection("words")
client.close()
if server is not None:
    server.stop()
place.cleanup()
