/*
 * Statistics of the lists, measured on training rows.
 *
 * In: training rows, centroids. Out: how far the rows of a list lie from its
 * centroid (for ranking lists), how many lists a query should visit; next:
 * train.cpp.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

/// Of each list, size nlist.
struct ListStatistics {
    std::vector<float> spread; ///< ScaNNModel::list_spread
    std::vector<size_t> rows;
    float error = 0; ///< ModelFit::list_error
};
/// From a sample of the training rows. @param x  size n * d, prepared
/// @param lists  size n, or nullptr: found by the partition
ListStatistics measure_lists(
        const IndexState& state,
        size_t n,
        const float* x,
        const int64_t* lists = nullptr);

/// nlist * sum n_l^2 / n^2: how many times as many rows as in lists of equal
/// sizes a query visits that lies like the rows; 1 without rows.
/// @param sizes  n_l of each list
double imbalance(const std::vector<size_t>& sizes);
/// The same of lists; takes no memory.
double imbalance(const faiss::InvertedLists& lists);

/// The default of nprobe: the number of lists that hold 1/32 of all rows, with
/// training rows as queries, but at least 1/32 of the lists. It is larger where
/// the best lists are small (inner product, rows of very different lengths).
size_t probes_for_rows(
        const IndexState& state,
        size_t n,
        const float* x,
        const std::vector<size_t>& list_rows);

} // namespace faiss_ext
