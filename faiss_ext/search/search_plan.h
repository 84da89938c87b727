/*
 * What one search call will do: parameters of the call and defaults of the
 * index, checked and resolved once, before any query runs.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss_ext/model/index_state.h>
#include <faiss_ext/search/filter.h>
#include <faiss_ext/search/probes.h>

namespace faiss_ext {

/// What an index uses where the parameters of a search are 0.
struct SearchDefaults {
    size_t nprobe;
    size_t max_codes; ///< 0: no limit
    size_t reorder_k; ///< 0: from the calibration, or from k
    size_t refine_k;  ///< the same
    const ScaNNCalibration& calibration;
};

struct SearchPlan {
    size_t k;
    size_t nprobe;
    size_t max_codes; ///< 0: no limit
    /// results are list << 32 | offset instead of ids
    bool store_pairs;
    /// all rows of the lists are rescored, whatever the codes say
    /// (ScaNNModel::scan_rows)
    bool scan_rows;
    /// lists beyond nprobe may be visited to find enough rows that pass
    bool may_extend;
    /// Few rows pass, and the direct map knows where they lie (find_few()):
    /// these, list << 32 | offset, are rescored, and no list is visited.
    bool few_pass;
    std::vector<uint64_t> places;
    /// Rough where raw rows decide in the end: measured to cost no recall
    ProbeParameters probes;

    // How many candidates each stage hands on; 0: the stage does not exist.
    size_t scan_keep;
    size_t refine_keep; ///< rescored rows kept for rerank, or k
    bool refine;
    bool rerank;

    Filter filter;
    ScaNNSearchStats* stats;
};

/** @param nprobe_given  lists per query that the caller already chose
 *         (search_preassigned), or 0
 *  @throws faiss::FaissException on values out of range */
SearchPlan make_search_plan(
        const IndexState& state,
        const SearchDefaults& defaults,
        int64_t k,
        const faiss::SearchParameters* params,
        size_t nprobe_given,
        bool store_pairs);

/** Sets plan.few_pass where the rows that pass the filter can be listed by the
 * direct map, and take less time than lists with many others. */
void find_few(const IndexState& state, SearchPlan& plan);

} // namespace faiss_ext
