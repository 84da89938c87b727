/*
 * The factory string of the index, in Faiss' grammar:
 *
 *   [IDMap,|IDMap2,] [OPQ..,|PCA..,|L2norm,|..] [IVF<nlist>[_HNSW32|(..)],]
 *       ScaNN[<M>x4][(<option>=<value>,...)] [,SQ8|,SQfp16|,SQbf16]
 *       [,RFlat|,RFP16|,RBF16|,RI8|,RU8]
 *
 * "ScaNN" alone, without lists, number of codes, storage, sub_dim and
 * soar_lambda, means the fastest known combination of them (defaults.h), with
 * raw rows; with bytes_per_vector=<B> the fastest whose lists need at most B
 * bytes per vector. For "ScaNN" and "IVF,ScaNN", training chooses the number of
 * lists and probes.
 * <M>x4: number of 4-bit codes, of d / M dimensions each; if that is no whole
 * number, of the two next to it (default: 2 each).
 * SQ8, SQfp16, SQbf16: refine codes; RFlat: raw rows (with_raw_data), RFP16,
 * RBF16, RI8, RU8: the same, of half precision, bfloat16, int8, uint8 (raw_type).
 * Options: sub_dim, coded_dims, eta, threshold, eta_formula (exact, limit), soar_lambda, tags, auto_maintain,
 * rotation (none, pca, balanced, random), normalize (0, 1), allow_zero (0, 1),
 * score_aware_centroids (0, 1), seed, bytes_per_vector (see above).
 * "SCANN" and "ScaNN" are the same. Parts of Faiss' own are a closed list with
 * ranges (faiss_parts.h, docs/parameters.md), checked before Faiss sees them;
 * at most 1000 characters, 32 parts and 3 levels of parentheses.
 */

#pragma once

#include <memory>
#include <string>

#include <faiss/Index.h>

#include <faiss_ext/export.h>

namespace faiss_ext {

class IndexIVFScaNN;

/** @param d       1..65536
 *  @param metric  METRIC_L2, METRIC_INNER_PRODUCT
 *  @return a new index, owned by the caller; strings without ScaNN give what
 *          faiss::index_factory gives
 *  @throws faiss::FaissException with the position of the error */
FAISS_EXT_API faiss::Index* index_factory(
        int d,
        const std::string& description,
        faiss::MetricType metric = faiss::METRIC_L2);

/// The ScaNN index inside wrappers (IndexIDMap, IndexPreTransform), or
/// nullptr.
FAISS_EXT_API IndexIVFScaNN* find_scann(faiss::Index* index);
FAISS_EXT_API const IndexIVFScaNN* find_scann(const faiss::Index* index);

} // namespace faiss_ext
