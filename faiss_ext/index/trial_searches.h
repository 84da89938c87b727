/*
 * Searches with settings that are tried, compared with an exhaustive search.
 *
 * In: an index, queries. Out: recall and cost of a setting; used by calibrate and
 * health.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index/calibration_queries.h>

namespace faiss_ext {

/// 0: what the index does by default
struct SearchSetting {
    size_t nprobe = 0;
    size_t refine_k = 0;
    size_t reorder_k = 0;
};

class TrialSearches {
 public:
    /// Finds the k nearest rows of each query, but itself, among all rows.
    TrialSearches(
            const IndexIVFScaNN& index,
            CalibrationQueries queries,
            size_t k);

    struct Outcome {
        double recall;
        double error; ///< standard error of recall
        double cost;  ///< nanoseconds a query, by search_cost
    };
    Outcome run(const SearchSetting& setting) const;

 private:
    std::vector<int64_t> search(
            const SearchSetting& setting,
            ScaNNSearchStats* stats) const;

    const IndexIVFScaNN& index_;
    CalibrationQueries queries_;
    size_t nq_;
    size_t k_;
    std::vector<int64_t> truth_;
};

} // namespace faiss_ext
