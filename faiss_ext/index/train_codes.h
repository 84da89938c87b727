/*
 * Training of the codes: residuals of training rows -> origin, rotation,
 * codebook, term.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

/// Rows that the origin (ScaNNModel::origin) is the median of.
constexpr size_t kOriginRows = 1024;

struct TrainedCodes {
    ScaNNModel model;
    float code_error; ///< ModelFit::code_error
};

/** @param state  with partition and model.by_direction
 *  @param x      size n * d, prepared
 *  @param eta    of the score-aware loss
 *  @param list_spread  for the model
 *  @param progress     called with "codebook"; may be empty
 *  @param lists        size n, or nullptr: found by the partition */
TrainedCodes train_codes(
        const IndexState& state,
        size_t n,
        const float* x,
        float eta,
        std::vector<float> list_spread,
        const ScaNNProgress& progress,
        const int64_t* lists = nullptr);

} // namespace faiss_ext
