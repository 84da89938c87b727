/* docstrings.h: class Index, what changes it. */

#pragma once

namespace faiss_ext::python::doc {

constexpr const char* index =
        R"(A Faiss index made by `index_factory`, `read_index` or `clone_index`.

Owns its native memory. Arrays given to a method are read during the call only,
arrays returned belong to the caller.

Several threads may use one index: searches run side by side, a change (train,
add, remove, ...) waits for searches to end and runs alone. All methods that
may take long release the GIL and honour Ctrl-C (KeyboardInterrupt) in the main
thread; training or adding that was stopped leaves the index as it was.

Raises
------
ValueError
    Wrong arguments or the wrong order of calls; nothing has changed then.
RuntimeError
    Errors of files, and internal errors.
AttributeError
    The index is a plain Faiss index and has no such option.

Examples
--------
>>> index
<faiss_ext.Index ScaNN: d=16, metric=METRIC_L2, nlist=8, sub_dim=2, refine_type=none, with_raw_data=True, ntotal=1000>
>>> len(index), index.nprobe
(1000, 1)
)";

constexpr const char* train = R"(train(self, x, progress=None)
--

Learn lists, rotation and codes from sample vectors; only once.

A trained index ignores the call, so that its vectors stay valid. (Faiss' own IVF
indexes would keep their lists but learn new codes, which makes stored codes
wrong.) For other data make another index.

Parameters
----------
x : array_like, shape (n, d)
    Rows like those to be added; at least nlist of them, or one where nlist is
    chosen here, all finite. More than 256 per list change little. Of rows of
    other types than float32 (see `add`) at most 64 per list are used, but at
    least 100,000.
progress : callable, optional
    Called as ``progress(stage, done, total)`` in this thread, for instance
    ``progress_bar()``; stages are "k-means", "codebook". It may not use this
    index; an exception that it raises ends the training and is raised here.

Raises
------
ValueError
    Wrong shape or type, values that are not finite, too few rows. The index
    stays untrained.

Examples
--------
>>> new = fx.index_factory(16, "IVF8,ScaNN")
>>> new.train(x)
>>> new.is_trained
True
)";

constexpr const char* add = R"(add(self, x, progress=None, tags=None)
--

Add vectors under the ids ntotal, ntotal + 1, ...

As in Faiss these may be in use if vectors were removed before; two vectors then
have one id. Choose ids yourself (`add_with_ids`) if you remove vectors.

Parameters
----------
x : array_like, shape (n, d)
    Rows, n >= 1, all finite. They are copied into the index. float32, float16,
    int8, uint8 and ml_dtypes' bfloat16 in C order are read where they are (below
    an id map or a transform only float32); all else becomes float32 first.
    Raw rows of a type (``RU8``, ..) take only what that type can hold; float16
    and bfloat16 round.
progress : callable, optional
    As in `train`; the stage is "add".
tags : array_like of int, shape (n,), optional
    Tags of the rows (`set_tags`), with the option tags=1. None: 0.

Raises
------
ValueError
    Wrong arrays, or the index is not trained. The index is unchanged.

Examples
--------
>>> index.add(x[:10])
>>> index.ntotal
1010
)";

constexpr const char* calibrate =
        R"(calibrate(self, queries=None, target_recall=0.95, k=10, progress=None)
--

Choose nprobe, refine_k and reorder_k for a wanted recall@k.

They become the defaults of searches and are saved with the index. Recall is
measured against an exhaustive search of this index: with raw rows the exact
neighbours, else the best by its codes.

Parameters
----------
queries : array_like, shape (n, d), optional
    Some hundreds of typical queries. None: 1000 of the raw rows, each without
    itself among its neighbours; give your own if queries differ in kind from the
    rows.
target_recall : float, above 0, below 1
    One standard error of the measurement is added to it.
k : int, 1..ntotal - 1
    For another k the candidates grow with its square root.
progress : callable, optional
    As in `train`; the stage is "calibrate", the total 0, since it is
    not known before.

Returns
-------
chosen : dict
    target_recall, k; nprobe; refine_k and reorder_k, 0 without such a stage;
    recall, as measured: below target_recall only if the index cannot reach it.
    ``index.calibration`` is the same.

Raises
------
ValueError
    Values out of range, or no raw rows to draw queries from. Nothing has changed.

Examples
--------
>>> chosen = index.calibrate(target_recall=0.9)
>>> chosen["recall"] >= 0.9 and index.nprobe == chosen["nprobe"]
True
>>> index.calibration == chosen
True
)";

constexpr const char* add_with_ids =
        R"(add_with_ids(self, x, ids, progress=None, tags=None)
--

Add vectors under given ids.

Parameters
----------
x : array_like, shape (n, d)
    Rows, as in `add`.
ids : array_like of int, shape (n,)
    Any int64 but -1. With an id that is in use, two vectors have it.
progress : callable, optional
tags : array_like of int, shape (n,), optional
    As in `add`.

Raises
------
ValueError
    Wrong arrays, or the index is not trained. The index is unchanged.

Examples
--------
>>> index.add_with_ids(x[:2], [7000, 7001])
>>> D, I = index.search(x[:1], 2)
>>> sorted(I[0].tolist())
[0, 7000]
)";

constexpr const char* remove_ids = R"(remove_ids(self, ids)
--

Remove vectors.

Parameters
----------
ids : array_like of int, shape (n,), or IDSelector
    Ids that are not in the index are ignored.

Returns
-------
count : int
    Vectors removed.

Examples
--------
>>> index.remove_ids([3, 4, 123456])
2
>>> index.ntotal
998
)";

constexpr const char* update_vectors = R"(update_vectors(self, ids, x)
--

Replace vectors, keeping their ids.

Parameters
----------
ids : array_like of int, shape (n,)
    Ids of vectors in the index, each once.
x : array_like, shape (n, d)
    The new rows, as in `add`.

Raises
------
ValueError
    An id is unknown or given twice. The index is unchanged.

Examples
--------
>>> index.update_vectors([0], x[500:501])
>>> bool((index.reconstruct(0) == x[500]).all())
True
)";

constexpr const char* set_tags = R"(set_tags(self, ids, tags)
--

Give vectors other tags.

Needs the option tags=1. A vector keeps its tag when it is updated or merged into
another index; files and clones have it.

Parameters
----------
ids : array_like of int, shape (n,)
    Ids of vectors in the index, each once.
tags : array_like of int, shape (n,)
    Any int64.

Raises
------
ValueError
    An id is unknown or given twice; an index without tags. Nothing has changed.

Examples
--------
>>> tagged = fx.index_factory(16, "IVF8,ScaNN(tags=1),RFlat")
>>> tagged.train(x)
>>> tagged.add(x[:100], tags=np.arange(100) // 4)
>>> tagged.set_tags([0, 1], [-7, -7])
>>> tagged.get_tags([0, 1, 2])
array([-7, -7,  0])
>>> D, I = tagged.search(x[:1], 5, nprobe=8, max_per_group=1)
>>> len(set(tagged.get_tags(I[0]).tolist()))
5
)";

constexpr const char* get_tags = R"(get_tags(self, ids)
--

Tags of vectors.

Parameters
----------
ids : array_like of int, shape (n,)
    Ids of vectors in the index, each once.

Returns
-------
tags : ndarray of int64, shape (n,)

Raises
------
ValueError
    An id is unknown or given twice; an index without tags.
)";

constexpr const char* sa_code_size = R"(sa_code_size(self)
--

Bytes of a code of `sa_encode`.

Returns
-------
size : int
)";

constexpr const char* sa_encode = R"(sa_encode(self, x)
--

Encode vectors as the index would store them.

Parameters
----------
x : array_like, shape (n, d)

Returns
-------
codes : ndarray of uint8, shape (n, sa_code_size())
    List number and everything the lists keep of a vector. Valid for indexes
    trained together with this one (clones, copies).

Examples
--------
>>> codes = index.sa_encode(x[:2])
>>> codes.shape == (2, index.sa_code_size())
True
)";

constexpr const char* sa_decode = R"(sa_decode(self, codes)
--

Decode codes of `sa_encode`.

Parameters
----------
codes : ndarray of uint8, shape (n, sa_code_size())

Returns
-------
x : ndarray of float32, shape (n, d)

Examples
--------
>>> index.sa_decode(index.sa_encode(x[:2])).shape
(2, 16)
)";

constexpr const char* add_sa_codes = R"(add_sa_codes(self, codes, ids=None)
--

Add vectors that `sa_encode` encoded.

Parameters
----------
codes : ndarray of uint8, shape (n, sa_code_size())
ids : array_like of int, shape (n,), optional
    As in `add_with_ids`. Default: running numbers as in `add`.

Examples
--------
>>> index.add_sa_codes(index.sa_encode(x[:5]))
>>> index.ntotal
1005
)";

constexpr const char* merge_from = R"(merge_from(self, other, add_id=0)
--

Move all vectors of another index here; it is empty then.

Parameters
----------
other : Index
    Trained together with this one: a clone made before adding, say.
add_id : int
    Added to the ids of the other's vectors: ``index.ntotal`` if both count
    from 0.

Raises
------
ValueError
    The indexes do not fit together. Both are unchanged.

Examples
--------
>>> other = fx.clone_index(index)
>>> index.merge_from(other, add_id=1000)
>>> index.ntotal, other.ntotal
(2000, 0)
)";

constexpr const char* copy_subset_to =
        R"(copy_subset_to(self, other, subset_type, a1, a2)
--

Copy part of the vectors to another index.

Parameters
----------
other : Index
    Trained together with this one.
subset_type : int
    SUBSET_TYPE_ID_RANGE: ids in [a1, a2). SUBSET_TYPE_ID_MOD: ids with
    id % a1 == a2. SUBSET_TYPE_ELEMENT_RANGE: such that a1 vectors are before
    and a2 ... of ntotal after, spread over all lists. With Faiss 1.7.4 and
    later also SUBSET_TYPE_INVLIST_FRACTION, SUBSET_TYPE_INVLIST.
a1, a2 : int

Examples
--------
>>> other = fx.clone_index(index)
>>> other.reset()
>>> index.copy_subset_to(other, fx.SUBSET_TYPE_ID_RANGE, 100, 200)
>>> other.ntotal
100
)";

constexpr const char* reset = R"(reset(self)
--

Remove all vectors; the index stays trained.

Examples
--------
>>> index.reset()
>>> len(index), index.is_trained
(0, True)
)";

constexpr const char* set_direct_map_type = R"(set_direct_map_type(self, type)
--

Keep a map from ids to places (8 bytes a row as Array), or drop it.

With a map, a `search` whose filter few rows pass scores just these rows, if that
takes less time than visiting lists; its results are exact then. `reconstruct`
builds one by itself.

Parameters
----------
type : DirectMap
    DirectMap.NoMap, DirectMap.Array (ids 0..ntotal-1 only, small),
    DirectMap.Hashtable (any ids).

Raises
------
ValueError
    Array, and the ids are not 0..ntotal-1.

Examples
--------
>>> index.set_direct_map_type(fx.DirectMap.Hashtable)
>>> index.direct_map_type.name
'Hashtable'
)";

constexpr const char* make_direct_map =
        R"(make_direct_map(self, new_maintain_direct_map=True)
--

``set_direct_map_type(DirectMap.Array)``, or NoMap if False.
)";

} // namespace faiss_ext::python::doc
