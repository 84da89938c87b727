/*
 * Training of the codebook: k-means++ and plain k-means in each block, then
 * rounds of score-aware codes and codewords (formulas in score_aware_pq.h).
 *
 * In: rotated residuals and directions. Out: a codebook; next: score_aware_pq.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include <faiss_ext/memory/aligned_buffer.h>

namespace faiss_ext {

struct ScoreAwarePQTraining {
    float eta = 1;             ///< >= 1
    size_t kmeans_rounds = 12; ///< plain Lloyd steps first
    size_t aware_rounds = 6;   ///< score-aware steps after them; 0 if eta == 1
    /// training rows used (a random sample): 16 codewords of a few dimensions
    /// gain nothing from more
    size_t max_points = 16384;
    uint64_t seed = 1234;
    /// called between rounds with (done, total); may throw to stop
    std::function<void(size_t, size_t)> on_round;
    /// out, unless nullptr: mean loss of these rows in each aware round, when
    /// they have new codes and the codebook is still the old one; at the end
    /// that of the result, with the codes of the last round
    std::vector<double>* losses = nullptr;
};

/** The same codebook for any number of threads.
 * @param offsets     block boundaries, size M + 1
 * @param residuals   size n * d, d = offsets[M]
 * @param directions  size n * d, unit rows; may be nullptr if eta == 1
 * @return  size d * 16, as ScoreAwarePQ::codebook()
 * @throws faiss::FaissException on values that are not finite, or an eta or a
 *         number of rows out of range */
AlignedBuffer<float> train_codebook(
        const std::vector<uint32_t>& offsets,
        size_t n,
        const float* residuals,
        const float* directions,
        const ScoreAwarePQTraining& training);

} // namespace faiss_ext
