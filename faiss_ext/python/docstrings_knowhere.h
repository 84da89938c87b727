/* docstrings.h: the submodule knowhere. The examples follow those of
 * faiss_ext.knowhere.__doc__, which make `node`. */

#pragma once

namespace faiss_ext::python::doc {

constexpr const char* knowhere_factory = R"(IndexFactory()
--

The index types of this process, by name.

All objects of this class are the same factory.

Examples
--------
>>> knowhere.IndexFactory().names()
['FLAT', 'HNSW', 'IVF_FLAT', 'IVF_PQ', 'SCANN']
)";

constexpr const char* knowhere_names = R"(names(self)
--

Names that `create` takes, in alphabetical order.

Returns
-------
names : list of str
)";

constexpr const char* knowhere_create = R"(create(self, name, version=8)
--

Make an empty index.

Parameters
----------
name : str
    One of `names`.
version : int, 0..11
    Knowhere's number of the interface; all of them mean the same here.

Returns
-------
node : IndexNode

Raises
------
ValueError
    No such name or version; the message lists those that there are.

Examples
--------
>>> knowhere.IndexFactory().create("HNSW")
<faiss_ext.knowhere.IndexNode HNSW, empty>
)";

constexpr const char* knowhere_load = R"(load(self, path)
--

Load a shared object that adds index types: native code of this process.

It has a function ``extern "C" void knowhere_plugin_register(
knowhere_plugin::IndexFactory*)``; see examples/own_node.cpp. It stays loaded.

Parameters
----------
path : str or path-like

Raises
------
RuntimeError
    It cannot be loaded.
ValueError
    It has no such function.
)";

constexpr const char* knowhere_schema = R"(_schema(name)
--

Rows of faiss_ext.knowhere.parameters(), as tuples.
)";

constexpr const char* knowhere_node = R"(IndexNode()
--

An index of the factory; made by `IndexFactory.create`.

Ids are positions of rows, in the order of `add`. Searches may run in several
threads at once, also while rows are added. Parameters are keyword arguments by
Knowhere's names; numbers and flags may be strings ("16", "True"), None means
not given. `faiss_ext.knowhere.parameters` lists them.
)";

constexpr const char* knowhere_build = R"(build(self, rows, **parameters)
--

Train and add; an index that was there before is dropped.

Uses ``num_build_thread`` threads; default: those of
`faiss_ext.omp_set_num_threads`.

Parameters
----------
rows : array_like, shape (n, dim)
    n >= 0, dim 1..65536, finite. float32 in C order is used in place, other
    floats and integers are converted.
**parameters
    Those of the phase "build", among them ``metric_type``: "L2" (default),
    "IP" or "COSINE".

Raises
------
ValueError
    Wrong rows or parameters, with value and range; the node is as it was.

Examples
--------
>>> node.build(x, metric_type="COSINE", nlist=16)
>>> node
<faiss_ext.knowhere.IndexNode SCANN: dim=16, metric_type=COSINE, count=1000>
>>> node.build(x, nlist=0)
Traceback (most recent call last):
    ...
ValueError: nlist = "0" (allowed: an integer in 1..65536)
)";

constexpr const char* knowhere_train = R"(train(self, rows, **parameters)
--

Learn from rows, without adding them; an index that was there before is dropped.

Parameters, errors: see `build`.
)";

constexpr const char* knowhere_add = R"(add(self, rows, **parameters)
--

Add rows after those that are there.

Parameters, errors: see `build`. Here ``metric_type`` may only repeat that of
`train`, and parameters that shape the index have no effect.
)";

constexpr const char* knowhere_search =
        R"(search(self, queries, *, filtered=None, **parameters)
--

Find the nearest rows of each query, on the calling thread alone.

Parameters
----------
queries : array_like, shape (n, dim)
    n >= 0, finite; converted as rows are.
filtered : bool array, optional
    True: this row is left out, as in Knowhere's bitset. Rows beyond its end are
    left out, too.
**parameters
    Those of the phase "search", among them ``k`` (default 10) and for SCANN
    ``nprobe`` and ``reorder_k``.

Returns
-------
D : ndarray of float32, shape (n, k)
    L2: squared distances. IP, COSINE: similarities. Nearest first.
I : ndarray of int64, shape (n, k)
    Positions of rows; -1 where there are no more.

Raises
------
ValueError
    Wrong queries or parameters, or nothing was built.

Examples
--------
>>> D, I = node.search(x[:2], k=3, nprobe=8)
>>> I[:, 0]
array([0, 1])
>>> D, I = node.search(x[:2], k=1, filtered=np.arange(1000) < 500)
>>> bool((I >= 500).all())
True
)";

constexpr const char* knowhere_range_search =
        R"(range_search(self, queries, *, filtered=None, **parameters)
--

Find the rows within a radius of each query, on the calling thread alone.

Parameters
----------
queries, filtered
    See `search`.
**parameters
    Those of the phase "range_search": ``radius``, the far limit, which is
    needed and excluded, and ``range_filter``, the near limit, included. L2:
    range_filter <= squared distance < radius. IP, COSINE: radius < similarity
    <= range_filter.

Returns
-------
lims : ndarray of int64, shape (n + 1,)
    Results of query i are ``D[lims[i]:lims[i + 1]]`` and the same of I.
D : ndarray of float32
    Nearest first within each query.
I : ndarray of int64

Raises
------
ValueError
    See `search`.

Examples
--------
>>> lims, D, I = node.range_search(x[:1], radius=1e-6)
>>> I
array([0])
)";

constexpr const char* knowhere_iterate =
        R"(iterate(self, queries, *, filtered=None, **parameters)
--

Rows of each query one after the other, until there are no more.

Each row that passes comes once. Rows come in pieces, nearest first within each
of them (``retain_iterator_order=True``: nearest first in all, by a complete scan
at the first row): of SCANN by a search that goes on, of the other types by
growing searches. Rows added since do not come.

Parameters
----------
queries, filtered, **parameters
    See `search`; ``k`` has no effect.

Returns
-------
iterators : list of RowIterator
    One for each query.

Examples
--------
>>> rows = node.iterate(x[7:8])[0]
>>> next(rows)[0]
7
)";

constexpr const char* knowhere_row_iterator = R"(RowIterator()
--

Tuples (id, distance) of one query; made by `IndexNode.iterate`.
)";

constexpr const char* knowhere_get_vectors = R"(get_vectors(self, ids)
--

Rows as they were given, bit by bit.

Parameters
----------
ids : array of integers, shape (n,)
    0..count - 1.

Returns
-------
rows : ndarray of float32, shape (n, dim)

Raises
------
ValueError
    No such id, or the index keeps no raw rows; see `has_raw_data`.

Examples
--------
>>> bool((node.get_vectors([3, 3]) == x[3]).all())
True
)";

constexpr const char* knowhere_has_raw_data =
        R"(has_raw_data(self, metric_type="L2")
--

Whether `get_vectors` works.

Parameters
----------
metric_type : str
    Of what will be built; without effect once there is an index.

Returns
-------
answer : bool
)";

constexpr const char* knowhere_serialize = R"(serialize(self)
--

The index as bytes.

Returns
-------
data : ndarray of uint8, 1-d

Raises
------
ValueError
    Nothing was built.

Examples
--------
>>> copy = knowhere.IndexFactory().create("SCANN")
>>> copy.deserialize(node.serialize())
>>> copy.count
1000
)";

constexpr const char* knowhere_deserialize =
        R"(deserialize(self, data, **parameters)
--

Load an index from bytes of `serialize`; one that was there before is dropped.

Parameters
----------
data : bytes or 1-d array of uint8

Raises
------
RuntimeError
    Damaged, or of another index type; the node is as it was.
)";

constexpr const char* knowhere_deserialize_from_file =
        R"(deserialize_from_file(self, path, **parameters)
--

Load an index from a file with the bytes of `serialize`.

Files of SCANN are also those of `faiss_ext.write_index`.

Parameters
----------
path : str or path-like
**parameters
    Those of the phase "load": ``enable_mmap=True`` maps the file instead of
    reading it, for SCANN. The file must then stay as it is.

Raises
------
RuntimeError
    It cannot be read, is damaged, or of another index type; the node is as it
    was.
)";

constexpr const char* knowhere_check = R"(check(self, phase, **parameters)
--

Check parameters as a call of this phase would, without rows.

Parameters
----------
phase : str
    "build", "search", "range_search" or "load".
**parameters
    Of this phase alone: others are unknown here.

Raises
------
ValueError
    Unknown keys, values out of range, values that exclude each other.

Examples
--------
>>> node.check("search", k=10, reorder_k=5)
Traceback (most recent call last):
    ...
ValueError: reorder_k = 5 is below k = 10 (allowed: >= k)
)";

constexpr const char* knowhere_type = "Name of the index type, a str.";
constexpr const char* knowhere_metric_type =
        "\"L2\", \"IP\" or \"COSINE\"; None before anything was built.";
constexpr const char* knowhere_dim =
        "Dimension of the rows; 0 before anything was built.";
constexpr const char* knowhere_count = "Number of rows.";
constexpr const char* knowhere_size = "Bytes that the index takes.";

} // namespace faiss_ext::python::doc
