/* docstrings.h: functions of the module. */

#pragma once

namespace faiss_ext::python::doc {

constexpr const char* index_factory =
        R"(index_factory(d, description, metric=METRIC_L2)
--

Make an empty index from a description in Faiss' grammar.

Parameters
----------
d : int, 1..65536
    Dimension of the vectors.
description : str
    ``[IDMap2,][OPQ..,|PCA..,|L2norm,][IVF[<nlist>][_HNSW32],]ScaNN[<M>x4]
    [(<option>=<value>,...)][,SQ8|,SQfp16|,SQbf16][,RFlat|,RFP16|,RBF16|,RI8|,RU8]``. ``ScaNN`` alone
    chooses codes and storage, with at most bytes_per_vector if that is given;
    training then chooses lists and nprobe. ``IVF,ScaNN`` chooses lists and
    nprobe only. ``<M>x4``: M codes of 4 bits. ``SQ..``: refine codes.
    ``RFlat``: keep raw rows; ``RFP16``, ``RBF16``, ``RI8``, ``RU8``: as float16,
    bfloat16, int8, uint8. Options: sub_dim, coded_dims, eta, threshold, eta_formula
    (exact, limit), soar_lambda, tags, auto_maintain, rotation (none, pca, balanced, random),
    normalize (0, 1), allow_zero (0, 1), score_aware_centroids (0, 1), seed,
    bytes_per_vector. Descriptions without ScaNN go to Faiss' own factory.
metric : int
    METRIC_L2 or METRIC_INNER_PRODUCT.

Returns
-------
index : Index

Raises
------
ValueError
    With the position of the error.

Examples
--------
>>> fx.index_factory(384, "IVF1024,ScaNN,SQ8", fx.METRIC_INNER_PRODUCT)
<faiss_ext.Index ScaNN: d=384, metric=METRIC_INNER_PRODUCT, nlist=1024, sub_dim=2, refine_type=int8, with_raw_data=False, ntotal=0, not trained>
)";

constexpr const char* write_index = R"(write_index(index, path)
--

Save an index.

The file gets its name when it is complete: after a failure, an old file is as
it was.

Parameters
----------
index : Index
path : str or path-like

Raises
------
RuntimeError
    The file cannot be written (no such directory, disk full, the path is not
    that of a regular file, ...).

Examples
--------
>>> fx.write_index(index, path)
>>> len(fx.read_index(path))
1000
)";

constexpr const char* clone_index = R"(clone_index(index)
--

Copy an index.

Parameters
----------
index : Index

Returns
-------
copy : Index
    Shares nothing with the original.

Examples
--------
>>> copy = fx.clone_index(index)
>>> copy.remove_ids([0])
1
>>> len(copy), len(index)
(999, 1000)
)";

constexpr const char* export_to_faiss = R"(export_to_faiss(index, path)
--

Save an index as plain Faiss, for ``faiss.read_index`` without this package.

An IndexIVFPQFastScan with the same codes, inside IndexRefineFlat if raw rows
are kept (then ids must be 0..ntotal-1). Spilled copies are dropped.

Parameters
----------
index : Index
path : str or path-like

Raises
------
ValueError
    The index cannot be expressed in plain Faiss.
RuntimeError
    The file cannot be written.

Examples
--------
>>> fx.export_to_faiss(index, path)
)";

constexpr const char* serialize_index = R"(serialize_index(index)
--

An index as bytes, the same as `write_index` writes.

Parameters
----------
index : Index

Returns
-------
data : ndarray of uint8, shape (size,)

Examples
--------
>>> data = fx.serialize_index(index)
>>> len(fx.deserialize_index(data))
1000
)";

constexpr const char* deserialize_index = R"(deserialize_index(data)
--

Make an index from the bytes of `serialize_index`.

Parameters
----------
data : bytes or ndarray of uint8, shape (size,)
    Copied.

Returns
-------
index : Index

Raises
------
RuntimeError
    The bytes are damaged.
)";

constexpr const char* omp_set_num_threads = R"(omp_set_num_threads(n)
--

Use at most n threads in each call of this package, in every Python thread.

Parameters
----------
n : int, 1..4096

Examples
--------
>>> fx.omp_set_num_threads(1)
>>> fx.omp_get_max_threads()
1
)";

constexpr const char* omp_get_max_threads = R"(omp_get_max_threads()
--

Threads that a call of this package may use.

Returns
-------
n : int
)";

constexpr const char* simd_level = R"(simd_level()
--

Name of the kernels in use.

Returns
-------
name : str
    NONE, AVX2, AVX512 or ARM_NEON; SCANN_SIMD_LEVEL in the environment chooses.

Examples
--------
>>> fx.simd_level() in fx.simd_levels()
True
)";

constexpr const char* simd_levels = R"(simd_levels()
--

Kernels that this machine can run, best first.

Returns
-------
names : list of str

Examples
--------
>>> fx.simd_levels()[-1]
'NONE'
)";

constexpr const char* set_simd_level = R"(set_simd_level(name)
--

Use other kernels in all later calls.

Parameters
----------
name : str
    One of `simd_levels`.

Raises
------
ValueError
    Unknown, or this machine cannot run it.

Examples
--------
>>> fx.set_simd_level(fx.simd_levels()[0])
)";

constexpr const char* direct_map =
        "Kinds of maps from ids to places, for `Index.set_direct_map_type`.";

} // namespace faiss_ext::python::doc
