"""Open an index that is larger than one wants to load: the file is mapped, pages are read when searched.

Prints::

    row 7 is nearest to itself: True
    rows added after opening are found: True
    the file has not changed: True
"""

import pathlib
import tempfile

import numpy as np

import faiss_ext as fx

rows = np.random.default_rng(0).standard_normal((20000, 32), dtype=np.float32)
index = fx.index_factory(32, "IVF64,ScaNN,RFlat", fx.METRIC_L2)
index.train(rows)
index.add(rows)

with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "rows.scann"
    fx.write_index(index, path)
    before = path.read_bytes()

    mapped = fx.read_index(path, mmap=True)  # milliseconds, whatever the size
    print(f"row 7 is nearest to itself: {mapped.search(rows[7:8], 1, nprobe=8)[1][0, 0] == 7}")

    mapped.add(rows[:1] + 10)  # only the lists that change move to memory
    print(f"rows added after opening are found: {mapped.search(rows[:1] + 10, 1, nprobe=8)[1][0, 0] == 20000}")
    print(f"the file has not changed: {path.read_bytes() == before}")
    del mapped
