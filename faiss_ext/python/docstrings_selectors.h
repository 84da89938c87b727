/* docstrings.h: Filter, and selectors by Faiss' names. */

#pragma once

namespace faiss_ext::python::doc {

constexpr const char* selector =
        R"(Base class of what says which ids a search may return.

Selectors are immutable, hold copies, and may be used by several threads. The
first search makes a table of the ids 0..2 ntotal with one bit each, later ones
use it: all of them are as fast as masks.

faiss-cpu's own selectors may be given to searches and `remove_ids`, too:
ranges, arrays, bitmaps and what is made of them are read by their fields; for
others, IDSelectorBatch among them, and for any object with ``is_member(id)``,
each id of the index is asked in Python, which is slow.

Examples
--------
>>> sel = fx.IDSelectorAnd(fx.IDSelectorRange(0, 500), fx.IDSelectorNot(fx.IDSelectorBatch([3])))
>>> sel.is_member(4), sel.is_member(3), sel.is_member(500)
(True, False, False)
>>> D, I = index.search(x[:10], 5, params=fx.SearchParametersIVF(sel=sel))
>>> bool(((I < 500) & (I != 3)).all())
True
)";

constexpr const char* selector_is_member = R"(is_member(self, id)
--

Whether an id is selected.

Parameters
----------
id : int

Returns
-------
member : bool

Examples
--------
>>> fx.IDSelectorRange(3, 5).is_member(5)
False
)";

constexpr const char* filter =
        R"(Which ids a search may return, prepared once for many searches.

Immutable; several threads may use it.

Examples
--------
>>> even = fx.Filter(np.arange(1000) % 2 == 0)
>>> even
<faiss_ext.Filter: mask of 1000 flags, 500 set>
>>> D, I = index.search(x[:10], 5, filter=even)
>>> bool((I % 2 == 0).all())
True
>>> len(fx.Filter([7, 7, 9]))
2
)";

constexpr const char* filter_init = R"(__init__(self, allowed)
--

Parameters
----------
allowed : bool array or int array, 1-d
    A mask over ids 0..n-1 (ids beyond it are not allowed), or the allowed ids
    in any order. It is copied.

Raises
------
ValueError
    Another type or shape.
)";

constexpr const char* selector_range =
        R"(The ids imin .. imax - 1, as faiss.IDSelectorRange.

Examples
--------
>>> fx.IDSelectorRange(10, 20)
<faiss_ext.IDSelectorRange: ids 10..20 without the last>
)";

constexpr const char* selector_range_init =
        R"(__init__(self, imin, imax, assume_sorted=False)
--

Parameters
----------
imin, imax : int
    From imin on, without imax.
assume_sorted : bool
    As in Faiss, where it saves time; here it changes nothing.
)";

constexpr const char* selector_imin = "int: the first id.";

constexpr const char* selector_imax = "int: the id after the last.";

constexpr const char* selector_array =
        R"(A set of ids, as faiss.IDSelectorArray; here the same as
`IDSelectorBatch`.

Examples
--------
>>> fx.IDSelectorArray(np.array([4, 5])).is_member(4)
True
)";

constexpr const char* selector_batch =
        R"(A set of ids, as faiss.IDSelectorBatch.

Examples
--------
>>> D, I = index.search(x[:1], 2, nprobe=8, filter=fx.IDSelectorBatch([8, 9]))
>>> sorted(I[0].tolist())
[8, 9]
)";

constexpr const char* selector_ids_init = R"(__init__(self, ids)
--

Parameters
----------
ids : array_like of int, 1-d
    In any order; copied.
)";

constexpr const char* selector_bitmap =
        R"(One bit for each id from 0 on, as faiss.IDSelectorBitmap.

Bit i % 8 of byte i // 8 stands for id i.

Examples
--------
>>> bits = np.packbits([True, False, True], bitorder="little")
>>> sel = fx.IDSelectorBitmap(bits)
>>> [sel.is_member(i) for i in range(4)]
[True, False, True, False]
)";

constexpr const char* selector_bitmap_init = R"(__init__(self, bitmap)
--

Parameters
----------
bitmap : ndarray of uint8, 1-d
    Copied. Ids beyond its bits are not selected.
)";

constexpr const char* selector_all = R"(All ids, as faiss.IDSelectorAll.

Examples
--------
>>> fx.IDSelectorAll().is_member(-7)
True
)";

constexpr const char* selector_all_init = R"(__init__(self)
--

Takes nothing.
)";

constexpr const char* selector_not =
        R"(The ids that another selector leaves out, as faiss.IDSelectorNot.

Examples
--------
>>> index2 = fx.clone_index(index)
>>> index2.remove_ids(fx.IDSelectorNot(fx.IDSelectorRange(0, 10)))
990
>>> index2.ntotal
10
)";

constexpr const char* selector_not_init = R"(__init__(self, sel)
--

Parameters
----------
sel : IDSelector
    Kept; up to 1000 may be nested, of 10,000 parts in all.
)";

constexpr const char* selector_sel =
        "IDSelector: the one that is turned round.";

constexpr const char* selector_and =
        R"(The ids that two selectors take, as faiss.IDSelectorAnd.

Examples
--------
>>> both = fx.IDSelectorAnd(fx.IDSelectorRange(0, 9), fx.IDSelectorBatch([8, 9]))
>>> both.is_member(8), both.is_member(9)
(True, False)
)";

constexpr const char* selector_or =
        R"(The ids that one or both of two selectors take, as faiss.IDSelectorOr.

Examples
--------
>>> either = fx.IDSelectorOr(fx.IDSelectorRange(0, 9), fx.IDSelectorBatch([8, 9]))
>>> either.is_member(9), either.is_member(10)
(True, False)
)";

constexpr const char* selector_xor =
        R"(The ids that one of two selectors takes, as faiss.IDSelectorXOr.

Examples
--------
>>> one = fx.IDSelectorXOr(fx.IDSelectorRange(0, 9), fx.IDSelectorBatch([8, 9]))
>>> one.is_member(8), one.is_member(9)
(False, True)
)";

constexpr const char* selector_pair_init = R"(__init__(self, lhs, rhs)
--

Parameters
----------
lhs, rhs : IDSelector
    Kept; up to 1000 may be nested, of 10,000 parts in all.
)";

constexpr const char* selector_lhs = "IDSelector: the first one.";

constexpr const char* selector_rhs = "IDSelector: the second one.";

} // namespace faiss_ext::python::doc
