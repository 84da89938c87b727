"""Index types behind one interface, with the names, parameters and meaning of Milvus' Knowhere.

"SCANN" is the engine of this package with Knowhere's parameters; FLAT, IVF_FLAT,
IVF_PQ and HNSW are Faiss' own. The same objects in C++: knowhere_plugin/index_factory.h.
Errors are those of `faiss_ext`; the message names the value and what is allowed.

>>> from faiss_ext import knowhere
>>> node = knowhere.IndexFactory().create("SCANN")
>>> node.build(x, metric_type="L2", nlist=16)
>>> D, I = node.search(x[:2], k=3, nprobe=8, reorder_k=100)
>>> I[:, 0]
array([0, 1])
"""

from __future__ import annotations

from typing import NamedTuple

from ._faiss_ext.knowhere import IndexFactory, IndexNode, RowIterator, _schema

__all__ = ["IndexFactory", "IndexNode", "Parameter", "RowIterator", "parameters"]


class Parameter(NamedTuple):
    """One parameter of an index type.

    Attributes
    ----------
    name : str
    type : type
        int, float, bool or str.
    default : int, float, bool, str or None
        None: there is none, or it depends on the rows; `help` says on what.
    minimum, maximum : int, float or None
        Both allowed. None: not a number.
    words : tuple of str
        What a str may be.
    phases : tuple of str
        Where it has an effect: "build", "search", "range_search", "load".
    help : str
    """

    name: str
    type: type
    default: bool | int | float | str | None
    minimum: int | float | None
    maximum: int | float | None
    words: tuple[str, ...]
    phases: tuple[str, ...]
    help: str


def parameters(name: str) -> list[Parameter]:
    """What an index type takes.

    Parameters
    ----------
    name : str
        One of `IndexFactory.names`.

    Returns
    -------
    parameters : list of Parameter

    Examples
    --------
    >>> nlist = [p for p in knowhere.parameters("SCANN") if p.name == "nlist"][0]
    >>> nlist.default, nlist.minimum, nlist.maximum, nlist.phases
    (128, 1, 65536, ('build',))
    """
    return [Parameter(*row) for row in _schema(name)]
