/*
 * Training of the codes: residuals of training rows -> origin, rotation,
 * codebook, term.
 */

#pragma once

#include <cstddef>
#include <vector>

#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

/// Rows that the origin (ScaNNModel::origin) is the median of.
constexpr size_t kOriginRows = 1024;

/** @param state  with partition and model.by_direction
 *  @param x      size n * d, prepared
 *  @param eta    of the score-aware loss
 *  @param list_spread  for the model
 *  @param progress     called with "codebook"; may be empty */
ScaNNModel train_codes(
        const IndexState& state,
        size_t n,
        const float* x,
        float eta,
        std::vector<float> list_spread,
        const ScaNNProgress& progress);

} // namespace faiss_ext
