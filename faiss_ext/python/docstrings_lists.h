/* docstrings.h: lists of Index, and what is built around it. */

#pragma once

namespace faiss_ext::python::doc {

constexpr const char* quantizer =
        R"(Index: a copy of the index of the centroids, which finds lists:
``D, I = index.quantizer.search(x, nprobe)``. To change it changes nothing here.
)";

constexpr const char* centroids = R"(centroids(self)
--

Return the centroids of the lists.

Returns
-------
rows : ndarray of float32, shape (nlist, d)
    Behind a transform, those of the transformed vectors.

Raises
------
ValueError
    The index is not trained.

Examples
--------
>>> index.centroids().shape
(8, 16)
)";

constexpr const char* get_list_size = R"(get_list_size(self, list_no)
--

Return how many vectors a list holds.

Parameters
----------
list_no : int, 0..nlist - 1

Returns
-------
size : int

Examples
--------
>>> sum(index.get_list_size(i) for i in range(index.nlist))
1000
)";

constexpr const char* list_ids = R"(list_ids(self, list_no)
--

Return the ids of the vectors in a list; spilled copies are not among them.

Parameters
----------
list_no : int, 0..nlist - 1

Returns
-------
ids : ndarray of int64, shape (size,)

Examples
--------
>>> ids = np.concatenate([index.list_ids(i) for i in range(index.nlist)])
>>> bool((np.sort(ids) == np.arange(1000)).all())
True
)";

constexpr const char* list_codes = R"(list_codes(self, list_no)
--

Return what a list holds of its vectors, as `sa_encode` makes it.

Parameters
----------
list_no : int, 0..nlist - 1

Returns
-------
codes : ndarray of uint8, shape (size, sa_code_size())
    In the order of `list_ids`.

Examples
--------
>>> rows = index.sa_decode(index.list_codes(3))
>>> bool((rows == x[index.list_ids(3)]).all())
True
)";

constexpr const char* search_preassigned =
        R"(search_preassigned(self, x, k, Iq, Dq=None, params=None, D=None, I=None, *, reorder_k=None, refine_k=None, max_codes=None, filter=None, stats=None)
--

Find the k nearest vectors of each query in given lists.

Parameters
----------
x, k
    As in `search`. The index may not lie below a transform or an id map.
Iq : array_like of int, shape (n, 1..nlist)
    Lists of each query, best first; -1: none. One that a query names twice is
    visited once.
Dq : array_like of float, same shape, optional
    Their distances as the quantizer gives them. Default: computed.
params, D, I, reorder_k, refine_k, max_codes, filter, stats
    As in `search`; ``params.nprobe`` says nothing here.

Returns
-------
D : ndarray of float32, shape (n, k)
I : ndarray of int64, shape (n, k)
    As `search`.

Examples
--------
>>> Dq, Iq = index.quantizer.search(x[:3], 4)
>>> index.search_preassigned(x[:3], 1, Iq, Dq)[1].ravel()
array([0, 1, 2])
)";

constexpr const char* range_search_preassigned =
        R"(range_search_preassigned(self, x, radius, Iq, Dq=None, params=None, *, filter=None, stats=None)
--

Find all vectors within a radius in given lists.

Parameters
----------
x, radius, params, filter, stats
    As in `range_search`.
Iq, Dq
    As in `search_preassigned`.

Returns
-------
lims, D, I
    As `range_search`.

Examples
--------
>>> Dq, Iq = index.quantizer.search(x[:2], 8)
>>> index.range_search_preassigned(x[:2], 1e-6, Iq, Dq)[2]
array([0, 1])
)";

constexpr const char* cp =
        "ClusteringParameters: those of the k-means for the lists; set before "
        "training.";

constexpr const char* clustering =
        R"(Parameters of the k-means for the lists, as ``index.cp`` of Faiss.

What is set here is set in the index.

Examples
--------
>>> fresh = fx.index_factory(16, "IVF8,ScaNN")
>>> fresh.cp.niter = 20
>>> fresh.cp
ClusteringParameters(niter=20, seed=1234, max_points_per_centroid=256)
>>> fresh.kmeans_rounds
20
)";

constexpr const char* clustering_niter =
        "int, >= 1: rounds; of a ScaNN index the same as kmeans_rounds.";

constexpr const char* clustering_seed = "int, >= 0: seed of random choices.";

constexpr const char* clustering_max_points =
        "int, >= 1: training rows used per list at most.";

constexpr const char* verbose =
        R"(bool: train, add and calibrate draw a progress bar on stderr unless
they are given a callback. The library itself never prints. Not saved.
)";

constexpr const char* assign = R"(assign(self, x, k=1)
--

Return the ids of the k nearest vectors, as ``search(x, k)[1]``.

Parameters
----------
x : array_like, shape (n, d)
k : int, >= 1

Returns
-------
I : ndarray of int64, shape (n, k)

Examples
--------
>>> index.assign(x[:3]).ravel()
array([0, 1, 2])
>>> index.quantizer.assign(x[:3]).shape  # the list of each row
(3, 1)
)";

constexpr const char* set_index_parameters =
        R"(set_index_parameters(self, description)
--

Set defaults of searches from a text, all of them or none.

Parameters
----------
description : str
    ``<name>=<value>`` with commas between; names: nprobe, max_codes, reorder_k,
    refine_k.

Raises
------
ValueError
    An unknown name, or a value out of range; nothing has changed.

Examples
--------
>>> index.set_index_parameters("nprobe=4,reorder_k=100")
>>> index.nprobe, index.reorder_k
(4, 100)
)";

constexpr const char* index_id_map = R"(IndexIDMap(index)
--

Make an index with ids of one's own around a copy of an empty index.

Faiss' class borrows the index; here the one given stays as it is, and is used
no further. Parameters such as nprobe are set on the new one. ScaNN and IVF
indexes take ids without it.

Parameters
----------
index : Index
    Without vectors, and without an id map.

Returns
-------
index : Index

Examples
--------
>>> mapped = fx.IndexIDMap(fx.index_factory(16, "Flat"))
>>> mapped.add_with_ids(x[:3], [30, 10, 20])
>>> mapped.search(x[1:2], 1)[1]
array([[10]])
)";

constexpr const char* index_id_map2 = R"(IndexIDMap2(index)
--

As `IndexIDMap`; reconstruct finds rows by their ids.

Parameters
----------
index : Index
    Without vectors, and without an id map.

Returns
-------
index : Index

Examples
--------
>>> mapped = fx.IndexIDMap2(fx.index_factory(16, "Flat"))
>>> mapped.add_with_ids(x[:3], [30, 10, 20])
>>> bool((mapped.reconstruct(10) == x[1]).all())
True
)";

} // namespace faiss_ext::python::doc
