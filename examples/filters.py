"""Search among some of the rows only: a mask, ids, and a filter that few rows pass.

Prints::

    only even ids: True
    only ids below 100: True
    all five that pass: [3, 1003, 2003, 3003, 4003]
"""

import numpy as np

import faiss_ext as fx

rows = np.random.default_rng(0).standard_normal((20000, 32), dtype=np.float32)
index = fx.index_factory(32, "IVF64,ScaNN,RFlat", fx.METRIC_INNER_PRODUCT)
index.train(rows)
index.add(rows)

even = np.arange(len(rows)) % 2 == 0  # one bool for each id
ids = index.search(rows[:10], 5, nprobe=16, filter=even)[1]
print(f"only even ids: {bool((ids % 2 == 0).all())}")

ids = index.search(rows[:10], 5, nprobe=16, filter=np.arange(100))[1]
print(f"only ids below 100: {bool((ids < 100).all())}")

# few pass: with a direct map they are answered without visiting lists
index.make_direct_map()
few = fx.Filter([3, 1003, 2003, 3003, 4003])  # made once, used in many searches
ids = index.search(rows[:1], 5, filter=few)[1]
print(f"all five that pass: {sorted(ids[0].tolist())}")
