#pragma once

namespace faiss_ext::python::doc {

constexpr const char* maintain =
        R"(maintain(self, rows=0, seconds=0, progress=None)
--

Fit the lists to the rows that are there now.

If rows lie farther from the centroids, or are spread less evenly, than when the
lists were fitted: centroids are chosen from a sample of the rows, then rows move
and are encoded list by list. Without drift it does nothing, in little time. Fixed
settings of a search mean the same afterwards, and what `calibrate` chose stays.

Parameters
----------
rows : int
    Encodes about so many at most; the next call goes on. 0: no bound.
seconds : float
    Begins no further step afterwards; choosing centroids is one step. 0: no bound.
progress : callable, optional
    As in `train`; the stages are "k-means" and "maintain" (lists). An exception
    ends the call between two steps; what is done stays done.

Returns
-------
done : dict
    rows encoded anew, lists looked through; finished: False if a bound was
    reached; seconds.

Raises
------
ValueError
    Rows kept as codes alone, which cannot be made anew; lists that are mapped from
    a file; a quantizer that is not flat, or not the index' own.

Examples
--------
>>> index.maintain()["finished"]
True
)";

constexpr const char* health =
        R"(health(self, queries=None, k=10)
--

Measure how well the index suits the rows that it holds now.

Reads some thousand rows; with queries it also searches all lists.

Parameters
----------
queries : int or array_like, shape (n, d), optional
    To measure recall with; a number: so many of the raw rows, each without itself
    among its neighbours. None: recall is not measured.
k : int, 1..ntotal - 1
    Recall@k is measured.

Returns
-------
health : dict
    rows, lists, empty_lists, largest_list;
    imbalance, imbalance_at_fit : 1 if all lists have as many rows; so many times as
    many rows are scanned as then;
    changed_rows : added, replaced or removed since the lists were fitted, by `train`
    or the last `maintain` that finished;
    list_error, list_error_at_fit : mean squared distance of rows to their centroids;
    code_error, code_error_at_training : share of that which the codes lose; nan
    where rows are kept as codes alone;
    rows_apart : share of rows that the codes cannot hold, which are always rescored;
    unused_bytes : allocated, but held by no row;
    pending_lists : what a begun `maintain` has still to look through;
    recall, recall_k : of the settings of the index against a search of all rows;
    nan if not measured;
    advice : list of str, what to do; empty: nothing.

Raises
------
ValueError
    Values out of range; a number of queries, but no raw rows.

Examples
--------
>>> index.health()["advice"]
[]
>>> 0 < index.health(queries=100)["recall"] <= 1
True
)";

} // namespace faiss_ext::python::doc
