/*
 * The centroids of the lists, from rows: k-means, then what the options ask for.
 *
 * In: rows, prepared. Out: centroids; next: train puts them into the quantizer,
 * plan_partition compares them with those that are there.
 */

#pragma once

#include <cstddef>
#include <vector>

#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

/// eta of the score-aware loss for such rows: that of the options, or by the
/// lengths of the rows; the same for centroids and codes. @param x  size n * d
float eta_for_rows(const IndexState& state, size_t n, const float* x);

/** @param x    size n * d, n >= nlist
 *  @param eta  eta_for_rows()
 *  @param progress  called with "k-means"; may be empty
 *  @return     size nlist * d */
std::vector<float> fit_centroids(
        const IndexState& state,
        size_t n,
        const float* x,
        float eta,
        const ScaNNProgress& progress);

} // namespace faiss_ext
