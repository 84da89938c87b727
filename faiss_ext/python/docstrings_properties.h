/* docstrings.h: properties of Index. */

#pragma once

namespace faiss_ext::python::doc {

constexpr const char* memory_usage = R"(memory_usage(self)
--

Bytes held now, mapped files included.

Returns
-------
bytes : int
)";

constexpr const char* estimate_memory = R"(estimate_memory(self, n)
--

Bytes that the index takes with n vectors in it, within 5 %.

Works before training, to choose options.

Parameters
----------
n : int, >= 0

Returns
-------
bytes : int

Examples
--------
>>> small = fx.index_factory(384, "IVF1024,ScaNN")
>>> large = fx.index_factory(384, "IVF1024,ScaNN,RFlat")
>>> small.estimate_memory(100_000) < large.estimate_memory(100_000) / 8
True
)";

constexpr const char* d = "int: dimension of the vectors.";

constexpr const char* ntotal = "int: number of vectors.";

constexpr const char* is_trained = "bool: whether vectors can be added.";

constexpr const char* metric_type = "int: METRIC_INNER_PRODUCT or METRIC_L2.";

constexpr const char* nlist = "int: number of lists; 0: chosen when trained.";

constexpr const char* calibration =
        "dict or None: what calibrate() chose last: target_recall, k, nprobe, "
        "refine_k, reorder_k, recall.";
constexpr const char* nprobe =
        R"(int, 1..nlist: default number of lists that a search visits; if training
chooses nlist, 0 until then and 1/32 of the lists after it.
)";

constexpr const char* max_codes =
        "int: codes that a query scores at most; 0: no limit.";

constexpr const char* reorder_k =
        R"(int: default number of candidates rescored from raw rows; 0: chosen
from k.
)";

constexpr const char* refine_k =
        R"(int: default number of candidates rescored from refine codes; 0:
chosen from k.
)";

constexpr const char* direct_map_type =
        "DirectMap: the map from ids to places that is kept.";

constexpr const char* notes =
        R"(list of str: where training, or rows added since, made the index deviate from
its options, and why. Usually empty.)";

constexpr const char* eta =
        R"(float: weight of the parallel error over the orthogonal one; before
training the option, 0: chosen by training.
)";

constexpr const char* rotation =
        "str: rotation before coding: none, pca, balanced, random.";

constexpr const char* refine_type =
        "str: codes that rescore candidates: none, int8, fp16, bf16.";

constexpr const char* sub_dim = "int, 1..8: dimensions per 4-bit code.";

constexpr const char* coded_dims =
        R"(int: leading rotated dimensions that have codes; before training the
option, 0: chosen by training. With 512 dimensions and more and codes of 6
and more, half of them if these hold .85 of the variance: as many codes then
are as good, and a query is rotated in half of the time.
)";

constexpr const char* threshold =
        "float: T of the paper, in units of the inner product; NaN: not set.";

constexpr const char* eta_formula =
        "str: how threshold becomes eta: exact (Theorem 3.2), limit (3.4).";

constexpr const char* normalize =
        "bool: vectors and queries are scaled to unit length (cosine).";

constexpr const char* allow_zero =
        "bool: with normalize, vectors and queries of zeros have similarity 0 "
        "with everything; otherwise they are refused.";

constexpr const char* score_aware_centroids =
        "bool: centroids minimise the score-aware loss too.";

constexpr const char* soar_lambda =
        "float: > 0 if vectors have a copy in a second list.";

constexpr const char* auto_maintain =
        R"(float: > 0 if calls that add or update n rows also do maintenance
(`maintain`), of at most this times n rows encoded anew. Can be set at any time;
needs raw rows or refine codes.
)";

constexpr const char* concurrent =
        R"(bool: searches go on while one thread changes the index.

Set to True once; needs a trained ScaNN index by itself. Any number of threads
then search, write files of and copy what the last change has left, whatever is
being changed, and never wait for it: each call sees all of a change or nothing
of it. Iterators keep the rows that they began with.

A change while another thread is in one raises RuntimeError. What is read by id
(reconstruct, get_tags) waits for changes. Settings of searches wait, too.

A change costs more than without: each list that gets rows has its codes copied, each
list that loses rows, or has rows replaced, all that it holds. So change many
rows by one call. `maintain` lets searches see each of its steps.

Examples
--------
>>> from concurrent.futures import ThreadPoolExecutor
>>> index.concurrent = True
>>> with ThreadPoolExecutor() as pool:
...     adding = pool.submit(index.add, x)
...     D, I = index.search(x[:5], 10)
...     adding.result()
)";

constexpr const char* with_raw_data =
        "bool: raw rows are kept, for exact rescoring and reconstruct.";

constexpr const char* with_tags =
        "bool: each row has a tag, for searches with max_per_group (tags=1).";

constexpr const char* raw_type =
        "str: type of the raw rows: float32, float16, bfloat16, int8, uint8.";

constexpr const char* seed =
        "int: seed of all random choices of training; set before.";

constexpr const char* max_points_per_centroid =
        "int: training rows used per list at most; set before training.";

constexpr const char* kmeans_rounds =
        "int: rounds of k-means for the lists; set before training.";

} // namespace faiss_ext::python::doc
