"""Names of Faiss' module that need nothing of an index but its methods."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._faiss_ext import Index, _index_pre_transform

__all__ = [
    "IndexPreTransform",
    "NormalizationTransform",
    "OPQMatrix",
    "PCAMatrix",
    "ParameterSpace",
    "RandomRotationMatrix",
    "VectorTransform",
    "downcast_index",
    "extract_index_ivf",
    "normalize_L2",
]


def normalize_L2(x: NDArray[np.float32]) -> None:
    """Scale rows to length 1, in place.

    Parameters
    ----------
    x : ndarray of float32, shape (n, d)
        Writable, in C order. Rows of zeros stay as they are.

    Raises
    ------
    ValueError
        Another array, which could not be changed in place.

    Examples
    --------
    >>> rows = np.array([[3, 4], [0, 0]], dtype=np.float32)
    >>> fx.normalize_L2(rows)
    >>> rows
    array([[0.6, 0.8],
           [0. , 0. ]], dtype=float32)
    """
    if not isinstance(x, np.ndarray):
        raise TypeError(f"x is a {type(x).__name__} (allowed: a numpy.ndarray, which is changed in place)")
    if x.dtype != np.float32 or x.ndim != 2 or not x.flags.c_contiguous or not x.flags.writeable:
        raise ValueError(
            f"x is a {'' if x.flags.writeable else 'read-only '}array of {x.dtype} and shape {x.shape}"
            f"{'' if x.flags.c_contiguous else ', not in C order'} (allowed: a writable one of float32 and shape "
            "(n, d) in C order)"
        )
    at_a_time = max(1, 2**18 // max(1, x.shape[1]))
    for begin in range(0, len(x), at_a_time):
        rows = x[begin : begin + at_a_time]
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
        lengths[lengths == 0] = 1
        np.divide(rows, lengths[:, None], out=rows, casting="same_kind")


class ParameterSpace:
    """Sets defaults of searches by name, as faiss.ParameterSpace.

    Examples
    --------
    >>> fx.ParameterSpace().set_index_parameters(index, "nprobe=2,reorder_k=50")
    >>> index.nprobe, index.reorder_k
    (2, 50)
    """

    def set_index_parameters(self, index: Index, description: str) -> None:
        """Set what a text says; see `Index.set_index_parameters`.

        Parameters
        ----------
        index : Index
        description : str
            Such as ``"nprobe=16,reorder_k=100"``.
        """
        index.set_index_parameters(description)

    def set_index_parameter(self, index: Index, name: str, value: float) -> None:
        """Set one parameter.

        Parameters
        ----------
        index : Index
        name : str
            nprobe, max_codes, reorder_k or refine_k.
        value : int
            Floats that are whole numbers are taken, too, as Faiss has it.
        """
        if isinstance(value, (float, np.floating)) and float(value).is_integer():
            value = int(value)
        index.set_index_parameters(f"{name}={value}")


def downcast_index(index: Index) -> Index:
    """Return the index: it has all its methods, whatever is inside.

    Parameters
    ----------
    index : Index

    Returns
    -------
    index : Index

    Examples
    --------
    >>> fx.downcast_index(index) is index
    True
    """
    if not isinstance(index, Index):
        raise TypeError(f"index is a {type(index).__name__} (allowed: Index)")
    return index


def extract_index_ivf(index: Index) -> Index:
    """Return an index whose nprobe, cp, lists, .. are those of the IVF index inside.

    That is the index itself, which hands them through; its vectors and ids stay
    those of the outermost wrapper.

    Parameters
    ----------
    index : Index

    Returns
    -------
    index : Index

    Raises
    ------
    ValueError
        There is no IVF index inside.

    Examples
    --------
    >>> wrapped = fx.index_factory(16, "IDMap2,PCA8,IVF8,ScaNN")
    >>> fx.extract_index_ivf(wrapped).nprobe = 3
    >>> wrapped.nprobe
    3
    """
    try:
        _ = downcast_index(index).nlist
    except AttributeError:
        raise ValueError(f"there is no IVF index inside of {index!r}") from None
    return index


@dataclass(frozen=True)
class VectorTransform:
    """What `IndexPreTransform` does to vectors first.

    Made by `PCAMatrix`, `OPQMatrix`, `RandomRotationMatrix` and
    `NormalizationTransform`.

    Parameters
    ----------
    d_in, d_out : int
        Dimensions before and after.
    description : str
        As in a factory string.

    Examples
    --------
    >>> fx.VectorTransform(16, 8, "PCA8") == fx.PCAMatrix(16, 8)
    True
    """

    d_in: int
    d_out: int
    description: str


def PCAMatrix(d_in: int, d_out: int, eigen_power: float = 0, random_rotation: bool = False) -> VectorTransform:
    """Principal components, as faiss.PCAMatrix.

    Parameters
    ----------
    d_in, d_out : int
    eigen_power : {0, -0.5}
        -0.5: components are scaled to the same variance (whitening).
    random_rotation : bool
        Rotate the result at random.

    Returns
    -------
    transform : VectorTransform

    Examples
    --------
    >>> fx.PCAMatrix(16, 8, -0.5).description
    'PCAW8'
    """
    if eigen_power not in (0, -0.5):
        raise ValueError(f"eigen_power = {eigen_power} (allowed: 0, -0.5)")
    whitening, rotation = "W" if eigen_power else "", "R" if random_rotation else ""
    return VectorTransform(d_in, d_out, f"PCA{whitening}{rotation}{d_out}")


def OPQMatrix(d: int, M: int, d2: int = -1) -> VectorTransform:
    """A rotation for product quantizers, as faiss.OPQMatrix.

    Parameters
    ----------
    d, d2 : int
        Dimensions before and after; -1: the same.
    M : int
        Blocks.

    Returns
    -------
    transform : VectorTransform

    Examples
    --------
    >>> fx.OPQMatrix(16, 4).description
    'OPQ4_16'
    """
    d_out = d if d2 == -1 else d2
    return VectorTransform(d, d_out, f"OPQ{M}_{d_out}")


def RandomRotationMatrix(d_in: int, d_out: int) -> VectorTransform:
    """A random rotation, as faiss.RandomRotationMatrix.

    Parameters
    ----------
    d_in, d_out : int

    Returns
    -------
    transform : VectorTransform

    Examples
    --------
    >>> fx.RandomRotationMatrix(16, 16).description
    'RR16'
    """
    return VectorTransform(d_in, d_out, f"RR{d_out}")


def NormalizationTransform(d: int) -> VectorTransform:
    """Scales vectors to length 1, as faiss.NormalizationTransform.

    Parameters
    ----------
    d : int

    Returns
    -------
    transform : VectorTransform

    Examples
    --------
    >>> fx.NormalizationTransform(16).description
    'L2norm'
    """
    return VectorTransform(d, d, "L2norm")


def IndexPreTransform(transform: VectorTransform, index: Index) -> Index:
    """Make an index that transforms vectors first, around a copy of an empty index.

    Faiss' class borrows the index; here the one given stays as it is, and is
    used no further. Parameters such as nprobe are set on the new one.

    Parameters
    ----------
    transform : VectorTransform
    index : Index
        Of ``transform.d_out`` dimensions, without vectors.

    Returns
    -------
    index : Index

    Examples
    --------
    >>> smaller = fx.IndexPreTransform(fx.PCAMatrix(16, 8), fx.index_factory(8, "IVF8,ScaNN"))
    >>> smaller.train(x)
    >>> smaller.add(x)
    >>> smaller.d, smaller.centroids().shape
    (16, (8, 8))
    """
    if not isinstance(transform, VectorTransform):
        raise TypeError(
            f"transform is a {type(transform).__name__} (allowed: what PCAMatrix, OPQMatrix, RandomRotationMatrix or "
            "NormalizationTransform return)"
        )
    return _index_pre_transform(transform.d_in, transform.description, index)
