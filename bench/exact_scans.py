"""Rows that a host compares one by one, whatever the index: a recall and a speed among them say nothing of it.

In:  the type of the index, whose it is, rows of each segment. Out: how many rows
are scanned so, and the words for a table.
"""

from __future__ import annotations

from collections.abc import Sequence

OURS = 2048  # rows of a segment up to which SCANN of this library compares all (knowhere_plugin/scann_parameters.h)
MILVUS = 1023  # up to which Milvus 2.3 makes no index (indexCoord.segment.minSegmentNumRowsToEnableIndex)


def scanned(index: str, ours: bool, segments: Sequence[int], *, in_server: bool) -> int:
    """Rows that are compared one by one, in segments of these numbers of rows."""
    most = max(OURS if ours and index == "SCANN" else 0, MILVUS if in_server else 0)
    return sum(rows for rows in segments if rows <= most)


def said(exact: int, rows: int) -> str:
    """'all 2,000 rows', '900 of 5,000 rows', '-'."""
    if exact == 0:
        return "-"
    return f"all {rows:,} rows" if exact >= rows else f"{exact:,} of {rows:,} rows"
