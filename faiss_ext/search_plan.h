/*
 * What one search call will do: parameters of the call and defaults of the
 * index, checked and resolved once, before any query runs.
 */

#pragma once

#include <cstddef>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/filter.h>

namespace faiss_ext {

struct SearchPlan {
    size_t k;
    size_t nprobe;
    size_t max_codes; ///< 0: no limit
    /// results are list << 32 | offset instead of ids
    bool store_pairs;
    /// lists beyond nprobe may be visited to find enough rows that pass
    bool may_extend;
    /// Rough where raw rows decide in the end: measured to cost no recall
    ProbeScores probe_scores;

    // How many candidates each stage hands on; 0: the stage does not exist.
    size_t scan_keep;
    size_t refine_keep; ///< rescored rows kept for rerank, or k
    bool refine;
    bool rerank;

    Filter filter;
    const faiss::SearchParameters* quantizer_params;
    ScaNNSearchStats* stats;
};

/** @param nprobe_given  lists per query that the caller already chose
 *         (search_preassigned), or 0
 *  @throws faiss::FaissException on values out of range */
SearchPlan make_search_plan(
        const IndexIVFScaNN& index,
        int64_t k,
        const faiss::SearchParameters* params,
        size_t nprobe_given,
        bool store_pairs);

} // namespace faiss_ext
