/*
 * Figures of the lists, measured on training rows.
 *
 * In: training rows, centroids. Out: how far the rows of a list lie from its
 * centroid (for ranking lists), how many lists a query should visit; next:
 * train.cpp.
 */

#pragma once

#include <cstddef>
#include <vector>

#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

/// Of each list, size nlist.
struct ListFigures {
    std::vector<float> spread; ///< ScaNNModel::list_spread
    std::vector<size_t> rows;
};
/// From a sample of the training rows. @param x  size n * d, prepared
ListFigures measure_lists(const IndexState& state, size_t n, const float* x);

/// Lists in which rows as queries find as many rows as 1/32 of all lists have
/// on average, and at least those: where the lists that come first are small
/// (inner product with rows of very different lengths), these are more.
size_t probes_for_rows(
        const IndexState& state,
        size_t n,
        const float* x,
        const std::vector<size_t>& list_rows);

} // namespace faiss_ext
