"""Index files opened, also within a bound of memory. In: a path. Out: an index, or where its columns are."""

from __future__ import annotations

import os
from typing import NamedTuple

from ._faiss_ext import Index, _columns_of, _columns_of_file, _read_index, _read_within
from ._sizes import bytes_of


class ColumnBytes(NamedTuple):
    """Bytes of a column of the lists, by where they are.

    Attributes
    ----------
    column : str
        "codes", "ids", "refine" (codes of `SQ8` and so on), "raw" (rows), "primary" (the places
        that spilled copies were copied from); of spilled copies "spilled_codes" and so on.
    memory : int
        In memory.
    mapped : int
        In a mapped file: a page is read when it is first used.
    on_demand : int
        In a file of which each search reads what it needs, all at once.
    cache : int
        Memory for what was read of these, at most: what `memory` left over.
    """

    column: str
    memory: int
    mapped: int
    on_demand: int
    cache: int


def read_index(
    path: str | os.PathLike[str],
    mmap: bool = False,
    verify: bool = False,
    *,
    memory: int | str | None = None,
) -> Index:
    """Open a file of `write_index` or `build_index`.

    Parameters
    ----------
    path : str or path-like
    mmap : bool
        False: read into memory, all checksums verified. True: map the file, which
        takes milliseconds whatever its size; pages are read when searched. The file
        is never written. It must not change while the index lives: if it is
        shortened in place, the process ends (SIGBUS). `write_index` does not: it
        replaces the file by a new one.
    verify : bool
        With mmap=True: read everything once and verify all checksums, as without
        mmap. Otherwise the lists are not verified: damage in them leads to wrong
        results, or to an exception of a search, never to a crash.
    memory : int or str, optional
        Bytes of the file that may be in memory, as a number or such as "4GB" or "1.5GiB".
        Columns come into memory as far as they fit: codes, ids, places of
        spilled copies, refine codes, raw rows, in this order. Raw rows that do not fit
        are read by each search, those of a query all at once (of a batch, those of many), and
        kept where the bound leaves memory; an error of the disk is an
        error of that search. Other columns are mapped. `column_bytes` says what is where.
        Not counted: what a process needs besides, and the system's memory of files.

    Returns
    -------
    index : Index

    Raises
    ------
    RuntimeError
        The file cannot be read, is no regular file (a pipe, a directory, ...), is
        damaged (the section is named) or newer than this version.
    ValueError
        `memory` is less than what is no column needs, or was given with `mmap`.

    Examples
    --------
    >>> fx.write_index(index, path)
    >>> mapped = fx.read_index(path, mmap=True)
    >>> bool((mapped.search(x, 5)[1] == index.search(x, 5)[1]).all())
    True
    >>> part = fx.read_index(path, memory="1GB")
    """
    if memory is None:
        return _read_index(path, mmap, verify)
    if mmap or verify:
        raise ValueError("memory is given with mmap or verify (allowed: one of them)")
    return _read_within(path, bytes_of("memory", memory))


def column_bytes(index: Index | str | os.PathLike[str], *, memory: int | str | None = None) -> list[ColumnBytes]:
    """Say where the columns of an index are, or would be.

    Parameters
    ----------
    index : Index, str or path-like
        An index, or a file that `read_index` is to open.
    memory : int or str, optional
        As for `read_index`; of a file only. Default: all fits.

    Returns
    -------
    columns : list of ColumnBytes
        None for an index that is not trained.

    Raises
    ------
    RuntimeError
        The file cannot be read.
    ValueError
        `memory` is less than what is no column needs, or was given with an index.

    Examples
    --------
    >>> fx.write_index(index, path)
    >>> [c.column for c in fx.column_bytes(path, memory="1GB") if c.mapped or c.on_demand]
    []
    """
    if isinstance(index, Index):
        if memory is not None:
            raise ValueError("memory is given with an index (allowed: with the path of a file)")
        found = _columns_of(index)
    else:
        found = _columns_of_file(index, bytes_of("memory", 2**63 - 1 if memory is None else memory))
    return [ColumnBytes(*column) for column in found]
