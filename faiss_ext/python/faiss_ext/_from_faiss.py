"""Indexes of faiss-cpu, its files and their bytes, taken over as ScaNN indexes."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any, Callable

import numpy as np

from ._faiss_ext import Index, _import_data, _import_file

_Progress = Callable[[str, int, int], object]


def from_faiss(
    index: Any,
    description: str | None = None,
    progress: _Progress | None = None,
) -> Index:
    """Make a ScaNN index of an index of faiss-cpu, with its lists and without new centroids.

    Parameters
    ----------
    index : faiss.Index, path-like or bytes
        An index of the package ``faiss``, the path of a file that
        ``faiss.write_index`` has written (takes the least memory), or its bytes.
        `IndexIVFFlat`, `IndexIVFPQ`, `IndexIVFPQFastScan`, `IndexIVFScalarQuantizer` with a
        quantizer of `IndexFlat` or `IndexHNSWFlat`; `IndexFlat`, `IndexHNSWFlat`, `IndexPQ`,
        `IndexScalarQuantizer`; these in `IndexIDMap`, `IndexIDMap2`, `IndexPreTransform`,
        `IndexRefine`. L2 and inner product.
    description : str, optional
        Factory string of codes and storage without wrappers, such as ``"ScaNN,RFlat"``. Default:
        raw rows if the index has any, else ``"ScaNN,SQfp16"``, ``"ScaNN,SQbf16"`` or
        ``"ScaNN,SQ8"``; of an index without lists ``"ScaNN"``, which chooses everything.
    progress : callable, optional
        As for `Index.train`.

    Returns
    -------
    index : Index
        With the lists, centroids, ids and metric of the other, and its `nprobe` unless that is 1,
        Faiss' default. Ids of `IndexIDMap` are those of the lists now. An `IndexPreTransform`
        stays, but not inside of an `IndexRefine`, whose rows need none.

    Warns
    -----
    UserWarning
        If the index keeps codes only: the rows taken over are what these decode to.

    Raises
    ------
    TypeError
        For another object.
    ValueError
        If the index is not trained or empty, of another kind, or bytes are damaged.
    RuntimeError
        If the file cannot be read.

    Examples
    --------
    >>> import faiss  # doctest: +SKIP
    >>> plain = faiss.index_factory(16, "IVF8,Flat")  # doctest: +SKIP
    >>> plain.train(x)  # doctest: +SKIP
    >>> plain.add(x)  # doctest: +SKIP
    >>> fx.from_faiss(plain).nlist  # doctest: +SKIP
    8
    """
    made, notes = _imported(index, "" if description is None else description, progress)
    for note in notes:
        warnings.warn(note, UserWarning, stacklevel=2)
    return made


def _imported(index: Any, description: str, progress: _Progress | None) -> tuple[Index, list[str]]:
    if isinstance(index, Index):
        raise TypeError("the index is one of faiss_ext already: clone_index copies it")
    if isinstance(index, (str, os.PathLike)):
        return _import_file(index, description, progress)
    return _import_data(_bytes_of(index), description, progress)


def _bytes_of(index: Any) -> Any:
    """The bytes of a file of `index`, by the package that it comes from."""
    if isinstance(index, (bytes, bytearray, memoryview, np.ndarray)):
        return index
    # swigfaiss_avx2 and others, all below `faiss`
    package = sys.modules.get(type(index).__module__.split(".")[0])
    serialize = getattr(package, "serialize_index", None)
    unknown = TypeError(
        f"{type(index).__module__}.{type(index).__qualname__} is no index of faiss-cpu for float vectors"
        " (allowed: one of these, the path of a file of faiss.write_index, or its bytes)"
    )
    if serialize is None or not hasattr(index, "ntotal"):
        raise unknown
    try:
        return serialize(index)
    except TypeError:  # of SWIG: an IndexBinary
        raise unknown from None
    except RuntimeError as error:
        raise ValueError(f"cannot import from Faiss: {type(index).__name__}: {error}") from error
