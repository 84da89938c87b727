/*
 * The score-aware product quantizer: residual -> one 4-bit code per block of
 * dimensions.
 *
 * In: rotated residuals rho = R (x - c) and directions u = R x / ||x|| (the
 * direction of the ORIGINAL vector, since <q, x> = <q, c> + <q, rho> and it is
 * q that correlates with x). Out: codes 0..15; next: packed_block.
 *
 * Loss of one vector, with e = rho - decode(codes):
 *     ||e||^2 + (eta - 1) <e, u>^2        (arXiv 1908.10396, Theorem 3.2)
 *
 * Codes are found by coordinate descent from the nearest codewords; codebooks
 * by Lloyd steps with that assignment and, per codeword (m, j) with
 * S = {i : code_im = j} and p_i the parallel error of i's other blocks, the
 * closed form
 *     [ sum_S (I + (eta-1) u_im u_im^T) ] c
 *         = sum_S ( rho_im + (eta-1) u_im (p_i + <rho_im, u_im>) ).
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss_ext/memory/aligned_buffer.h>
#include <faiss_ext/codes/score_aware_pq_training.h>

namespace faiss_ext {

/// largest number of dimensions in a block
constexpr size_t kMaxBlockWidth = 8;
/// rounds of coordinate descent; most rows settle after 2 or 3
constexpr size_t kDescentRounds = 10;

/// Block boundaries for uniform blocks: 0, sub_dim, 2 sub_dim, .. , d.
/// @throws faiss::FaissException unless 1 <= sub_dim <= 8 and d >= 1
std::vector<uint32_t> uniform_block_offsets(size_t d, size_t sub_dim);
/// Block boundaries for M blocks whose widths differ by at most 1.
/// @throws faiss::FaissException unless ceil(d / 8) <= M <= d
std::vector<uint32_t> even_block_offsets(size_t d, size_t M);

/// The first `coded` values of each row. @param x  size n * d
/// @param out  size n * coded; may be x
void leading_columns(
        size_t n,
        size_t d,
        size_t coded,
        const float* x,
        float* out);

class ScoreAwarePQ {
 public:
    /// @param offsets  block boundaries, size M + 1, first 0, last d, widths
    ///                 1..8
    explicit ScoreAwarePQ(std::vector<uint32_t> offsets = {0});

    /// dimensions that have codes: all, or the leading ones
    size_t d() const {
        return offsets_.back();
    }
    /// number of blocks = codes per vector
    size_t M() const {
        return offsets_.size() - 1;
    }
    float eta() const {
        return eta_;
    }
    const std::vector<uint32_t>& offsets() const {
        return offsets_;
    }
    /// size d * 16: codeword j of block m has its value for dimension i at
    /// [i * 16 + j]
    const AlignedBuffer<float>& codebook() const {
        return codebook_;
    }

    /** Trains the codebook.
     * @param residuals   size n * d, rotated
     * @param directions  size n * d, unit rows; may be nullptr if eta == 1
     */
    void train(
            size_t n,
            const float* residuals,
            const float* directions,
            const ScoreAwarePQTraining& training);

    /// Takes a trained codebook (from a file or another index).
    void set_codebook(const float* codebook, float eta);

    /** @param residuals, directions  size n * d, as in train()
     *  @param codes  out, size n * M, values 0..15 */
    void encode(
            size_t n,
            const float* residuals,
            const float* directions,
            uint8_t* codes) const;

    /// @param codes  size n * M;  @param out  size n * d (rotated space)
    void decode(size_t n, const uint8_t* codes, float* out) const;

 private:
    std::vector<uint32_t> offsets_;
    AlignedBuffer<float> codebook_;
    float eta_ = 1;
};

} // namespace faiss_ext
