"""Exact neighbours by exhaustive search, kept in a folder; recall against them."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np

from bench.datasets import Dataset, Flags, Floats, Ids, Metric, Rows, floats
from bench.options import DEEPEST_TRUTH


def _best(score: Floats, keep: int) -> Ids:
    """Columns (rows, keep) of the largest scores of every row, in no order; of equal ones the first columns."""
    columns = np.argpartition(-score, keep - 1, axis=1)[:, :keep]
    last = np.take_along_axis(score, columns, 1).min(axis=1)
    # Where more columns have the last score than were taken, which of them is chance.
    tied = np.flatnonzero((score >= last[:, None]).sum(axis=1) > keep)
    columns[tied] = np.argsort(-score[tied], axis=1, kind="stable")[:, :keep]
    return np.asarray(columns, dtype=np.int64)


def exact_neighbours(
    base: Rows, query: Floats, metric: Metric, k: int = DEEPEST_TRUTH, block: int = 16384
) -> tuple[Ids, Floats]:
    """Exhaustive search in blocks of base rows.

    base (n, d), query (nq, d) -> ids (nq, k), best first, of equal scores the
    smaller id first, and their scores (nq, k): inner products, or for "l2"
    2<q,x> - ||x||^2, which orders like -||q-x||^2. Sums of squared bytes (SIFT)
    stay exact: they are integers below 2^24.
    """
    k = min(k, len(base))
    best = np.full((len(query), k), -np.inf, dtype=np.float32)
    ids = np.zeros((len(query), k), dtype=np.int64)
    for start in range(0, len(base), block):
        rows = floats(base[start : start + block])
        score = query @ rows.T
        if metric == "l2":
            score = 2 * score - np.einsum("nd,nd->n", rows, rows)
        # A row whose best new score does not beat its k-th is left alone.
        open_rows = np.flatnonzero(score.max(axis=1) > best[:, -1])
        score = score[open_rows]
        new = np.sort(_best(score, min(k, score.shape[1])), axis=1)  # equal scores by rising id
        merged = np.hstack([best[open_rows], np.take_along_axis(score, new, 1)])
        merged_ids = np.hstack([ids[open_rows], new + start])
        order = np.argsort(-merged, axis=1, kind="stable")[:, :k]
        best[open_rows] = np.take_along_axis(merged, order, 1)
        ids[open_rows] = np.take_along_axis(merged_ids, order, 1)
    return ids, best


def filter_mask(n: int, share: float, seed: int = 1) -> Flags | None:
    """Flags (n,) of a random `share` of the rows, or None for all of them."""
    return None if share >= 1 else np.random.default_rng(seed).random(n) < share


def fingerprint(data: Dataset, allowed: Flags | None = None) -> str:
    """A changed set, or another filter, has another one."""
    sums = [zlib.crc32(data.base.data), zlib.crc32(data.query.data)]
    if allowed is not None:
        sums.append(zlib.crc32(np.packbits(allowed).data))
    return "-".join(f"{value:08x}" for value in sums)


def ground_truth(data: Dataset, cache: Path, allowed: Flags | None = None) -> Ids:
    """Exact neighbours (nq, up to DEEPEST_TRUTH) of data.query, kept in `cache`; with `allowed`, among those rows."""
    n, d = data.base.shape
    name = f"truth-{data.name}-{data.metric}-{n}x{d}-{len(data.query)}-{fingerprint(data, allowed)}.npy"
    path = cache / name
    if path.is_file():
        kept: Ids = np.load(path)
        return kept
    if allowed is None:
        truth, _ = exact_neighbours(data.base, data.query, data.metric)
    else:
        found, _ = exact_neighbours(data.base[allowed], data.query, data.metric)
        truth = np.flatnonzero(allowed)[found]
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written aside and renamed: a second process never reads half a file.
    part = path.with_suffix(f".{os.getpid()}.npy")
    np.save(part, truth)
    part.replace(path)
    return truth


def padded(rows: object, k: int) -> Ids:
    """Rows of at most k ids each -> (len(rows), k), filled with -1."""
    listed = list(rows)  # type: ignore[call-overload]
    out = np.full((len(listed), k), -1, dtype=np.int64)
    for target, row in zip(out, listed):
        found = np.ravel(row)[:k]
        target[: len(found)] = found
    return out


def recall(found: Ids, truth: Ids, k: int) -> float:
    """Mean share of the k true neighbours among found[:, :k]; where there are fewer than k, of those."""
    if len(found) != len(truth):
        raise ValueError(f"{len(found)} answers, {len(truth)} queries")
    wanted = truth[:, :k]
    hits = sum(np.intersect1d(near[:k], right).size for near, right in zip(found, wanted))
    return hits / max(1, wanted.size)
