"""ScaNN for Faiss: score-aware 4-bit codes as a Faiss index.

Names are those of Faiss' own Python module. Arrays are NumPy arrays, vectors
are rows of float32; other floats and integers are converted, everything else
is refused.

Errors
------
ValueError
    Wrong arguments, or calls in the wrong order. The message names the value
    and what is allowed; nothing has changed.
RuntimeError
    A file cannot be read or written, or a failure inside.
MemoryError, KeyboardInterrupt
    As everywhere in Python; the index stays usable.

Examples
--------
>>> import numpy as np
>>> import faiss_ext as fx
>>> x = np.random.default_rng(0).random((1000, 16), dtype=np.float32)
>>> index = fx.index_factory(16, "IVF8,ScaNN,RFlat")
>>> index.train(x)
>>> index.add(x)
>>> D, I = index.search(x[:2], 3, nprobe=8, reorder_k=100)
>>> I[:, 0]
array([0, 1])
"""

from __future__ import annotations

import sys
import time
from typing import Callable, TextIO

from ._build_index import build_index
from ._faiss_ext import (
    FAISS_VERSION,
    METRIC_INNER_PRODUCT,
    METRIC_L2,
    SUBSET_TYPE_ELEMENT_RANGE,
    SUBSET_TYPE_ID_MOD,
    SUBSET_TYPE_ID_RANGE,
    SUBSET_TYPE_INVLIST,
    SUBSET_TYPE_INVLIST_FRACTION,
    ClusteringParameters,
    DirectMap,
    Filter,
    IDSelector,
    IDSelectorAll,
    IDSelectorAnd,
    IDSelectorArray,
    IDSelectorBatch,
    IDSelectorBitmap,
    IDSelectorNot,
    IDSelectorOr,
    IDSelectorRange,
    IDSelectorXOr,
    Index,
    IndexIDMap,
    IndexIDMap2,
    SearchIterator,
    SearchStats,
    __version__,
    clone_index,
    deserialize_index,
    export_to_faiss,
    index_factory,
    omp_get_max_threads,
    omp_set_num_threads,
    serialize_index,
    set_simd_level,
    simd_level,
    simd_levels,
    write_index,
)
from ._from_faiss import from_faiss
from ._index_files import ColumnBytes, column_bytes, read_index
from .composite_indexes import (
    IndexReplicas,
    IndexShards,
)
from .faiss_names import (
    IndexPreTransform,
    NormalizationTransform,
    OPQMatrix,
    ParameterSpace,
    PCAMatrix,
    RandomRotationMatrix,
    VectorTransform,
    downcast_index,
    extract_index_ivf,
    normalize_L2,
)
from .search_parameters import (
    SearchParameters,
    SearchParametersIVF,
    SearchParametersScaNN,
)

__all__ = [
    "FAISS_VERSION",
    "METRIC_INNER_PRODUCT",
    "METRIC_L2",
    "SUBSET_TYPE_ELEMENT_RANGE",
    "SUBSET_TYPE_ID_MOD",
    "SUBSET_TYPE_ID_RANGE",
    "SUBSET_TYPE_INVLIST",
    "SUBSET_TYPE_INVLIST_FRACTION",
    "ClusteringParameters",
    "ColumnBytes",
    "DirectMap",
    "Filter",
    "IDSelector",
    "IDSelectorAll",
    "IDSelectorAnd",
    "IDSelectorArray",
    "IDSelectorBatch",
    "IDSelectorBitmap",
    "IDSelectorNot",
    "IDSelectorOr",
    "IDSelectorRange",
    "IDSelectorXOr",
    "Index",
    "IndexIDMap",
    "IndexIDMap2",
    "IndexPreTransform",
    "IndexReplicas",
    "IndexShards",
    "NormalizationTransform",
    "OPQMatrix",
    "PCAMatrix",
    "ParameterSpace",
    "RandomRotationMatrix",
    "SearchParameters",
    "SearchParametersIVF",
    "SearchIterator",
    "SearchParametersScaNN",
    "SearchStats",
    "VectorTransform",
    "__version__",
    "build_index",
    "clone_index",
    "column_bytes",
    "deserialize_index",
    "downcast_index",
    "export_to_faiss",
    "extract_index_ivf",
    "from_faiss",
    "index_factory",
    "normalize_L2",
    "omp_get_max_threads",
    "omp_set_num_threads",
    "progress_bar",
    "read_index",
    "serialize_index",
    "set_simd_level",
    "simd_level",
    "simd_levels",
    "write_index",
]


def progress_bar(file: TextIO | None = None, *, width: int = 40) -> Callable[[str, int, int], None]:
    """Make a callback for `Index.train`, `add`, `calibrate`, `build_index` that draws a bar.

    On a terminal one line per stage is redrawn, at most ten times a second, with
    the time that the stage is likely to take yet; elsewhere (a log) each stage writes one line when it is done.

    Parameters
    ----------
    file : text stream, optional
        Default: ``sys.stderr``.
    width : int
        Characters of the bar.

    Returns
    -------
    progress : callable
        ``progress(stage, done, total)``. May be used for several calls.

    Examples
    --------
    >>> import sys
    >>> draw = fx.progress_bar(sys.stdout, width=10)
    >>> draw("k-means", 0, 10)
    >>> draw("k-means", 10, 10)  # doctest: +ELLIPSIS
    k-means     [##########] 100 %  10/10  ...
    """
    out = sys.stderr if file is None else file
    terminal = out.isatty()
    current: str | None = None
    started = drawn = 0.0
    first = 0  # steps that were done before
    finished = False

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal current, started, drawn, first, finished
        now = time.monotonic()
        if stage != current or finished:
            if terminal and current is not None and not finished:
                out.write("\n")
            current, started, drawn, first, finished = stage, now, 0.0, done, False
        if not total:  # the number of steps is not known: a count, on a terminal
            if terminal and now - drawn >= 0.1:
                drawn = now
                out.write(f"\r{stage:<11} {done}  {now - started:.1f} s\x1b[K")
                out.flush()
            return
        last = done >= total
        if not last and (not terminal or now - drawn < 0.1):
            return
        drawn = now
        share = done / total if total else 1.0
        bar = ("#" * int(share * width)).ljust(width, "-")
        left = ""
        if not last and done > first:
            left = f", {(now - started) * (total - done) / (done - first):.0f} s left"
        out.write(
            f"{chr(13) if terminal else ''}{stage:<11} [{bar}] {share:4.0%}".replace("%", " %")
            + f"  {done}/{total}  {now - started:.1f} s{left}"
            + (("\n" if last else "\x1b[K") if terminal else "\n")
        )
        out.flush()
        finished = last

    return progress
