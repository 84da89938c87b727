"""Parameters of one search, by Faiss' names; see `Index.search`.

What is None is taken from the index. The fields are checked by the search.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["SearchParameters", "SearchParametersIVF", "SearchParametersScaNN"]


@dataclass
class SearchParameters:
    """Parameters of a search of any index, as faiss.SearchParameters.

    Parameters
    ----------
    sel : IDSelector, Filter, bool array or int array, optional
        Which ids may be returned.

    Examples
    --------
    >>> params = fx.SearchParameters(sel=fx.IDSelectorRange(100, 200))
    >>> D, I = index.search(x[:5], 3, params)
    >>> bool(((I >= 100) & (I < 200)).all())
    True
    """

    sel: Any = None


@dataclass
class SearchParametersIVF(SearchParameters):
    """Parameters of a search of lists, as faiss.SearchParametersIVF.

    Parameters
    ----------
    sel : optional
        As in `SearchParameters`.
    nprobe : int, 1..nlist, optional
        Lists visited. In Faiss it is 1 unless set, here the index' own.
    max_codes : int, >= 0, optional
        Stop a query after so many codes; 0: no limit.

    Examples
    --------
    >>> params = fx.SearchParametersIVF(nprobe=8)
    >>> index.search(x[:2], 1, params)[1].ravel()
    array([0, 1])
    """

    nprobe: int | None = None
    max_codes: int | None = None


@dataclass
class SearchParametersScaNN(SearchParametersIVF):
    """Parameters of a search of a ScaNN index.

    Parameters
    ----------
    sel, nprobe, max_codes : optional
        As in `SearchParametersIVF`.
    refine_k, reorder_k : int, >= k, optional
        Candidates rescored from refine codes and from raw rows; 0: chosen from
        k.
    target_recall : float, 0.5..0.999, optional
        Instead of nprobe, refine_k and reorder_k.
    max_per_group, groups : int, optional
        At most so many results of a tag, of so many tags; `Index.search` only.

    Examples
    --------
    >>> params = fx.SearchParametersScaNN(nprobe=8, reorder_k=100)
    >>> index.search(x[:2], 1, params=params)[1].ravel()
    array([0, 1])
    """

    refine_k: int | None = None
    reorder_k: int | None = None
    target_recall: float | None = None
    max_per_group: int | None = None
    groups: int | None = None
