"""A set of vectors as the folder of Parquet files that VectorDBBench reads.

In:  a Dataset of bench/datasets.py, its exact neighbours.
Out: train, test, neighbors and, for every share of rows that a filter takes
     away, neighbors_int_<share>p.parquet; and what a custom case must say of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.datasets import Dataset, Ids, floats
from bench.ground_truth import exact_neighbours, fingerprint

READY = "dataset.json"  # written last


def filter_name(rate: float) -> str:
    """VectorDBBench's name of the truth under a filter that removes `rate` of the rows."""
    share = rate * 100
    return f"neighbors_int_{int(share)}p" if 1 <= share <= 99 else f"neighbors_int_{share:.1f}p"


def first_allowed(rate: float, rows: int) -> int:
    """The filter is id >= this."""
    return int(rows * rate)


def write(folder: Path, data: Dataset, truth: Ids, rates: Sequence[float] = ()) -> dict[str, Any]:
    """Writes what is not there yet; the answer is kept as dataset.json."""
    facts = {
        "name": data.name,
        "dir": str(folder.resolve()),
        "size": len(data.base),
        "dim": data.base.shape[1],
        "metric_type": data.metric.upper(),
        "queries": len(data.query),
        "rates": sorted(rates),
        "stamp": fingerprint(data),
    }
    ready = folder / READY
    if ready.is_file() and json.loads(ready.read_text(encoding="utf-8")) == facts:
        return facts
    ready.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    _write_rows(folder / "train.parquet", "emb", floats(data.base))
    _write_rows(folder / "test.parquet", "emb", data.query)
    _write_rows(folder / "neighbors.parquet", "neighbors_id", truth)
    for rate in rates:
        start = first_allowed(rate, len(data.base))
        found, _ = exact_neighbours(data.base[start:], data.query, data.metric)
        _write_rows(folder / f"{filter_name(rate)}.parquet", "neighbors_id", found + start)
    ready.write_text(json.dumps(facts), encoding="utf-8")
    return facts


def _write_rows(path: Path, column: str, rows: NDArray[Any]) -> None:
    """A file with the columns id (0, 1, ...) and `column` (lists)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    n, width = rows.shape
    offsets = pa.array(np.arange(0, (n + 1) * width, width, dtype=np.int32))
    lists = pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(rows).reshape(-1)))
    pq.write_table(pa.table({"id": pa.array(np.arange(n)), column: lists}), path)
