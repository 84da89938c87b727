"""What a search found: recall against known neighbours, files, JSON."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _vector_files as vectors
from .._errors import Failure, UsageError

RESULT_FORMATS = (".npy", ".ivecs", *vectors.HDF5_SUFFIXES, ".json")


def check_result_format(path: Path) -> None:
    """Refuse a suffix that results are not written as, before the search."""
    if path.suffix.lower() not in RESULT_FORMATS:
        raise UsageError(f"{path}: results are written as {', '.join(RESULT_FORMATS)}")


def write_results(path: Path, distances: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    """Write neighbours: .npy and .ivecs hold ids, HDF5 and JSON distances too."""
    suffix = path.suffix.lower()
    if suffix in vectors.HDF5_SUFFIXES:
        h5py = vectors.import_h5py()
        with vectors.whole_file(path) as part, h5py.File(part, "w") as file:
            file.create_dataset("neighbors", data=labels)
            file.create_dataset("distances", data=distances)
    elif suffix == ".json":
        with vectors.whole_file(path) as part:
            part.write_text(json.dumps(as_lists(distances, labels)) + "\n", encoding="utf-8")
    else:
        vectors.write(path, labels)


def as_lists(distances: NDArray[np.float32], labels: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Neighbours of each query, without places where nothing was found."""
    found = labels >= 0 if (labels == -1).any() else np.ones(labels.shape, bool)
    return [
        {"ids": row[kept].tolist(), "distances": [short(value) for value in scores[kept]]}
        for row, scores, kept in zip(labels, distances, found)
    ]


def short(value: float) -> float:
    """A float32 by its shortest decimal."""
    return float(str(np.float32(value)))


def recall(labels: NDArray[np.int64], truth: NDArray[Any], k: int) -> float:
    """Share of the k true neighbours among the k found."""
    if len(truth) < len(labels):
        raise Failure(f"the ground truth has {len(truth)} rows, there are {len(labels)} queries")
    if truth.shape[1] < k:
        raise Failure(f"the ground truth has {truth.shape[1]} neighbours of each query (allowed: k = {k})")
    hits = sum(np.intersect1d(a[:k], b[:k]).size for a, b in zip(labels, truth))
    return hits / (len(labels) * k)


def say(facts: dict[str, Any], *, as_json: bool) -> None:
    """Print facts: one JSON object, or a line each."""
    if as_json:
        sys.stdout.write(json.dumps({name: _plain(value) for name, value in facts.items()}) + "\n")
        return
    for name, value in facts.items():
        if isinstance(value, float):
            value = f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
        sys.stdout.write(f"{name}: {value}\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
