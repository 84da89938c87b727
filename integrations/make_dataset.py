#!/usr/bin/env python3
"""A set of vectors as the HDF5 file that ann-benchmarks or VIBE reads, exact neighbours included.

    integrations/make_dataset.py DATA_FOLDER OUT.hdf5 --set glove-50
    integrations/make_dataset.py DATA_FOLDER glove-50-normalized.hdf5 --set glove-50 --harness vibe

DATA_FOLDER holds `<set>.base.<ext>` and `<set>.query.<ext>`, or `<set>.<ext>` (ext: hbin, u8bin, fvecs, npy).
Needs numpy and h5py.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

try:
    import numpy as np
except ImportError:
    sys.exit(f"numpy is not installed for {sys.executable}: pip install numpy h5py")

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import datasets, ground_truth  # noqa: E402
from bench.folders import Unavailable  # noqa: E402

COUNT = 100  # neighbours of a query, as both harnesses keep them
BLOCK = 8192


def distance_name(harness, data):
    """The harness' name of the distance."""
    if data.metric == "l2":
        return "euclidean"
    unit = np.allclose(np.linalg.norm(data.base, axis=1), 1, atol=1e-3)
    if harness == "vibe":
        return "normalized" if unit else "ip"
    if not unit:
        raise ValueError("ann-benchmarks has no inner product: the rows need unit length (--metric cosine)")
    return "angular"


def distances(name, query, rows):
    """From one query to rows (n, d)."""
    if name == "euclidean":
        return np.linalg.norm(rows - query, axis=1)
    return (0 if name == "ip" else 1) - rows @ query


def average_distances(name, data):
    """Of each query to all rows; VIBE compares neighbours with it."""
    if name != "euclidean":
        return (0 if name == "ip" else 1) - data.query @ data.base.mean(axis=0, dtype=np.float64)
    total = np.zeros(len(data.query))
    for start in range(0, len(data.base), BLOCK):
        rows = data.base[start : start + BLOCK]
        squares = (data.query**2).sum(1)[:, None] + (rows**2).sum(1) - 2 * data.query @ rows.T
        total += np.sqrt(np.maximum(squares, 0)).sum(axis=1)
    return total / len(data.base)


def write(path, data, harness):
    """The file; answers the distance's name."""
    try:
        import h5py
    except ImportError:
        raise ValueError(f"h5py is not installed for {sys.executable}: pip install h5py") from None

    name = distance_name(harness, data)
    data = dataclasses.replace(data, base=datasets.floats(data.base))  # the harnesses want floats
    if name in ("angular", "normalized"):  # exactly, where files have half precision
        data = dataclasses.replace(data, base=datasets.normalised(data.base), query=datasets.normalised(data.query))
    d = data.base.shape[1]
    if harness == "vibe" and not path.stem.endswith(f"-{d}-{name}"):
        raise ValueError(f"VIBE reads dimension and distance from the name: call the file <name>-{d}-{name}.hdf5")
    ids, _ = ground_truth.exact_neighbours(data.base, data.query, data.metric, COUNT)
    near = np.array([distances(name, q, data.base[row]) for q, row in zip(data.query, ids)])
    order = np.argsort(near, axis=1, kind="stable")
    part = path.with_suffix(".part")
    with h5py.File(part, "w") as file:
        file.attrs.update({"type": "dense", "distance": name, "dimension": d, "point_type": "float"})
        file["train"], file["test"] = data.base, data.query
        file["neighbors"] = np.take_along_axis(ids, order, 1)
        file["distances"] = np.take_along_axis(near, order, 1)
        if harness == "vibe":
            file["avg_distances"] = average_distances(name, data)
    part.replace(path)
    return name


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA_FOLDER")
    parser.add_argument("out", type=Path, metavar="OUT.hdf5")
    parser.add_argument("--set", required=True, help="name of the set")
    parser.add_argument("--harness", choices=("ann-benchmarks", "vibe"), default="ann-benchmarks")
    parser.add_argument("--metric", choices=datasets.METRIC_NAMES, default="", help="default: by the set's name")
    parser.add_argument("--rows", type=int, default=0, help="only the first rows (default: all)")
    parser.add_argument("--queries", type=int, default=0, help="only the first queries (default: all)")
    given = parser.parse_args(arguments)
    if given.rows < 0 or given.queries < 0:
        parser.error(f"--rows {given.rows} --queries {given.queries} (allowed: >= 0)")
    if not given.out.parent.is_dir():
        parser.error(f"{given.out.parent}: no such folder")
    try:
        data = datasets.load(given.data, given.set, rows=given.rows, queries=given.queries, metric=given.metric)
        name = write(given.out, data, given.harness)
    except (OSError, ValueError, Unavailable) as error:
        parser.exit(1, f"{error}\n")
    print(f"{given.out}: {len(data.base)} rows, {len(data.query)} queries, {data.base.shape[1]} dimensions, {name}")


if __name__ == "__main__":
    main()
