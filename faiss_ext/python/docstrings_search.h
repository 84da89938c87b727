/* docstrings.h: searches of Index, SearchStats. */

#pragma once

namespace faiss_ext::python::doc {

constexpr const char* search =
        R"(search(self, x, k, params=None, D=None, I=None, *, nprobe=None, reorder_k=None, refine_k=None, max_codes=None, filter=None, stats=None, target_recall=None, return_recall=False, max_per_group=None, groups=None)
--

Find the k nearest vectors of each query.

Parameters
----------
x : array_like, shape (n, d)
    Queries; n may be 0. float32 and the other types of rows (`add`) in C order
    are used in place, other floats and integers are converted.
k : int, >= 1
    Results per query. If fewer vectors can be found, the row is filled with
    the label -1.
params : SearchParameters, optional
    SearchParametersScaNN, SearchParametersIVF or SearchParameters, of this
    module or of faiss-cpu. What it leaves None is taken from the keywords, then
    from the index; to give a value by both is an error.
D : ndarray of float32, shape (n, k), optional
I : ndarray of int64, shape (n, k), optional
    Where the results are written: writable, in C order, each with memory of its
    own. After an error their values are undefined.
nprobe : int, 1..nlist, optional
    Lists visited. Default: ``index.nprobe``.
reorder_k : int, >= k, optional
    Candidates rescored from raw rows. Default: ``index.reorder_k``, but at
    least k; 0: chosen from k.
refine_k : int, >= k, optional
    Candidates rescored from refine codes. Default: ``index.refine_k``, but at
    least k; 0: chosen from k.
max_codes : int, >= 0, optional
    Stop a query after this many codes. Default: ``index.max_codes``; 0: no
    limit.
filter : None, bool array, int array, Filter or IDSelector, optional
    Which ids may be returned: a mask over ids 0..n-1 (at least one flag per
    vector), or the allowed ids in any order. Make a `Filter` of it if you use
    it more than once. The same as ``params.sel``.
stats : SearchStats, optional
    The statistics of this search are added to it.
target_recall : float, 0.5..0.999, optional
    Instead of nprobe, reorder_k and refine_k: the share of the true k nearest
    to find on average, for k up to 1000. Needs `calibrate`, for queries like
    those it was given, and a filter that does not depend on the query.
return_recall : bool, optional
    Whether the expected recall is returned, too.
max_per_group : int, >= 1, optional
    At most so many results of a tag (`set_tags`), the best ones, among the rows of
    the lists visited. Where few tags have many rows, a query rescores more rows.
groups : int, >= 1, optional
    With max_per_group: results of at most so many tags, the best ones.

Returns
-------
D : ndarray of float32, shape (n, k)
    METRIC_INNER_PRODUCT: inner products, largest first. METRIC_L2: squared
    distances, smallest first.
I : ndarray of int64, shape (n, k)
    Ids; -1 where there are no more results.
recall : float
    With return_recall: the share of the true neighbours that searches like
    these find on average; nan if it cannot be known: `calibrate` was never
    called, a tenth of the queries is unlike those it was given, or there is a
    filter.

Raises
------
ValueError
    Values out of range, wrong arrays, or the index is not trained; max_per_group
    without tags, or with target_recall or max_codes.

Examples
--------
>>> D, I = index.search(x[:3], 5, nprobe=8)
>>> I[:, 0]
array([0, 1, 2])
>>> mask = np.zeros(1000, dtype=bool)
>>> mask[500:] = True
>>> D, I = index.search(x[:3], 5, filter=mask)
>>> bool((I >= 500).all())
True
>>> D, I = index.search(x[:1], 3, nprobe=8, filter=np.array([4, 2, 0]))
>>> sorted(I[0].tolist())
[0, 2, 4]
)";

constexpr const char* iterate =
        R"(iterate(self, x, batch=100, params=None, *, nprobe=None, reorder_k=None, refine_k=None, filter=None, stats=None)
--

Search for one query, some results at a time, for as long as you like.

A search that goes on: k results in pieces cost about what one search for k
costs, and are as good. The first come from the nprobe best lists, later ones
from further lists, in the end from all: then every vector that passes the filter
has come exactly once.

Parameters
----------
x : array_like, shape (1, d)
    The query.
batch : int, >= 1
    Results at a time, at most.
params : SearchParameters, optional
    As in `search`.
nprobe : int, 1..nlist, optional
    Lists visited first. Default: ``index.nprobe``.
reorder_k : int, >= batch, optional
refine_k : int, >= batch, optional
    As in `search`, for the first batch; more are rescored as more are given.
filter : None, bool array, int array, Filter or IDSelector, optional
    As in `search`.
stats : SearchStats, optional
    The statistics of each batch are added to it.

Returns
-------
iterator : SearchIterator
    Of (D, I), shapes (batch,); the last batch may be shorter. Each batch has its
    best result first. A result of a later batch may be better than one of an
    earlier batch, in whose lists it was not. In strict order, at the cost of an
    exhaustive search: ``nprobe=index.nlist, refine_k=index.ntotal,
    reorder_k=index.ntotal``.

Raises
------
ValueError
    Values out of range, wrong arrays, or the index is not trained; from the
    iterator: vectors were added, removed or changed since it was made.

Examples
--------
>>> pieces = index.iterate(x[:1], batch=4, nprobe=8)
>>> D, I = next(pieces)
>>> len(I), int(I[0])
(4, 0)
>>> 4 + sum(len(I) for D, I in pieces) == index.ntotal
True
)";

constexpr const char* search_iterator = R"(SearchIterator()
--

Results of one query, batch by batch (`Index.iterate`). It keeps its index;
threads may share it, and get each batch once.
)";

constexpr const char* search_and_reconstruct =
        R"(search_and_reconstruct(self, x, k, params=None, D=None, I=None, R=None, *, nprobe=None, reorder_k=None, refine_k=None, max_codes=None, filter=None, target_recall=None, max_per_group=None, groups=None)
--

Search, and return the vectors found too.

Parameters
----------
x : array_like, shape (n, d)
    Queries; n may be 0. float32 and the other types of rows (`add`) in C order
    are used in place, other floats and integers are converted.
k : int, >= 1
    Results per query. If fewer vectors can be found, the row is filled with
    the label -1.
params : SearchParameters, optional
    SearchParametersScaNN, SearchParametersIVF or SearchParameters, of this
    module or of faiss-cpu. What it leaves None is taken from the keywords, then
    from the index; to give a value by both is an error.
D : ndarray of float32, shape (n, k), optional
I : ndarray of int64, shape (n, k), optional
R : ndarray of float32, shape (n, k, d), optional
    Where the results are written: writable, in C order, each with memory of its
    own. After an error their values are undefined.
nprobe : int, 1..nlist, optional
    Lists visited. Default: ``index.nprobe``.
reorder_k : int, >= k, optional
    Candidates rescored from raw rows. Default: ``index.reorder_k``, but at
    least k; 0: chosen from k.
refine_k : int, >= k, optional
    Candidates rescored from refine codes. Default: ``index.refine_k``, but at
    least k; 0: chosen from k.
max_codes : int, >= 0, optional
    Stop a query after this many codes. Default: ``index.max_codes``; 0: no
    limit.
filter : None, bool array, int array, Filter or IDSelector, optional
    Which ids may be returned: a mask over ids 0..n-1 (at least one flag per
    vector), or the allowed ids in any order. Make a `Filter` of it if you use
    it more than once. The same as ``params.sel``.

Returns
-------
D : ndarray of float32, shape (n, k)
I : ndarray of int64, shape (n, k)
    As `search`.
R : ndarray of float32, shape (n, k, d)
    The vectors, as `reconstruct` gives them; NaN where the label is -1.

Examples
--------
>>> D, I, R = index.search_and_reconstruct(x[:2], 4)
>>> R.shape
(2, 4, 16)
>>> bool((R[:, 0] == x[:2]).all())
True
)";

constexpr const char* range_search =
        R"(range_search(self, x, radius, params=None, *, nprobe=None, filter=None, stats=None)
--

Find all vectors within a radius in the lists visited.

Parameters
----------
x : array_like, shape (n, d)
    Queries, as in `search`.
radius : float
    METRIC_INNER_PRODUCT: results have a larger inner product. METRIC_L2: a
    smaller squared distance. Any number but NaN.
params : SearchParameters, optional
    As in `search`.
nprobe : int, 1..nlist, optional
    Lists visited. Default: ``index.nprobe``.
filter : optional
    As in `search`.
stats : SearchStats, optional
    As in `search`.

Returns
-------
lims : ndarray of int64, shape (n + 1,)
    Results of query i are ``D[lims[i]:lims[i + 1]]``.
D : ndarray of float32, shape (lims[n],)
I : ndarray of int64, shape (lims[n],)
    Distances and ids, in no particular order.

Examples
--------
>>> lims, D, I = index.range_search(x[:2], 1e-6, nprobe=8)
>>> lims, I
(array([0, 1, 2]), array([0, 1]))
)";

constexpr const char* reconstruct = R"(reconstruct(self, id)
--

Return the vector with an id.

Exact if the index keeps raw rows, else its best approximation. The
first call builds a hash map of all ids (about 32 bytes a vector), which later
changes keep up to date; ``set_direct_map_type(DirectMap.NoMap)`` frees it.

Parameters
----------
id : int

Returns
-------
x : ndarray of float32, shape (d,)

Raises
------
ValueError
    The id is not in the index.

Examples
--------
>>> bool((index.reconstruct(7) == x[7]).all())
True
)";

constexpr const char* reconstruct_batch = R"(reconstruct_batch(self, ids)
--

Return the vectors with the ids given.

Without a direct map this reads the ids of all vectors once and builds none.

Parameters
----------
ids : array_like of int, shape (n,)

Returns
-------
x : ndarray of float32, shape (n, d)

Raises
------
ValueError
    An id is not in the index.

Examples
--------
>>> bool((index.reconstruct_batch([5, 3]) == x[[5, 3]]).all())
True
)";

constexpr const char* reconstruct_n = R"(reconstruct_n(self, i0=0, n=-1)
--

Return the vectors with ids i0 .. i0 + n - 1.

Parameters
----------
i0 : int, >= 0
n : int, 0..ntotal
    -1: ntotal - i0.

Returns
-------
x : ndarray of float32, shape (n, d)

Raises
------
ValueError
    One of the ids is not in the index.

Examples
--------
>>> bool((index.reconstruct_n(0, 100) == x[:100]).all())
True
)";

constexpr const char* search_stats =
        R"(Statistics of searches, summed over them: pass one as `stats`.

Times are seconds summed over threads.

Examples
--------
>>> stats = fx.SearchStats()
>>> D, I = index.search(x[:10], 5, nprobe=2, stats=stats)
>>> stats.nq, stats.lists
(10, 20)
)";

constexpr const char* search_stats_reset = R"(reset(self)
--

Set all counters to 0.
)";

} // namespace faiss_ext::python::doc
