"""Let the index choose its search parameters for a wanted recall.

Prints::

    target 0.95 reached: True
    the index keeps what it chose: True
"""

import numpy as np

import faiss_ext as fx

rng = np.random.default_rng(0)
centres = rng.standard_normal((200, 48))


def near_centres(n: int) -> np.ndarray:
    """n rows in clusters, as embeddings of texts or pictures are."""
    return (centres[rng.integers(len(centres), size=n)] + 0.5 * rng.standard_normal((n, 48))).astype(np.float32)


rows, queries = near_centres(30000), near_centres(500)
index = fx.index_factory(48, "IVF256,ScaNN,RFlat", fx.METRIC_L2)
index.train(rows)
index.add(rows)

chosen = index.calibrate(queries, target_recall=0.95, k=10)
print(f"target {chosen['target_recall']:.2f} reached: {chosen['recall'] >= 0.95}")

# from now on a search that says nothing uses what was chosen
index.search(queries, 10)
print(f"the index keeps what it chose: {index.nprobe == chosen['nprobe']}")
