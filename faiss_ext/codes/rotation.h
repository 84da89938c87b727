/*
 * The rotation of residuals before they are coded, and of queries before
 * their tables are built. Centroids, refine codes and raw rows stay unrotated.
 *
 * In: training residuals. Out: an orthonormal matrix; next: score_aware_pq.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss_ext/memory/aligned_buffer.h>
#include <faiss_ext/partition/byte_panels.h>
#include <faiss_ext/scann_options.h>

namespace faiss_ext {

class Rotation {
 public:
    Rotation() = default;

    /** Computes the matrix. Balanced: the leading dimensions, which have codes,
     * are the axes of the largest variance, dealt to the blocks; the others
     * follow in order.
     * @param x     size n * d, residuals (only their second moments count)
     * @param offsets  block boundaries, size M + 1, the last at most d (Balanced
     *         only)
     * @param fewer  PCA and Balanced: boundaries of blocks of fewer dimensions,
     *         which replace `offsets` if their axes hold kLeadingShare of the
     *         variance; empty: none
     * @return  whether they do */
    bool train(
            RotationKind kind,
            size_t n,
            size_t d,
            const float* x,
            const std::vector<uint32_t>& offsets,
            uint64_t seed,
            const std::vector<uint32_t>& fewer = {});
    /// At this share of the variance, codes of half of the dimensions find as
    /// much as the same number of codes of all dimensions, twice as wide, and a
    /// query is rotated in half of the time (docs/measurements.md).
    static constexpr double kLeadingShare = 0.85;

    /// Takes a matrix of d rows (the new axes) of d values; empty: identity.
    void set_matrix(size_t d, std::vector<float> matrix);

    /** Sets which leading rotated dimensions queries need, and how much each
     * matters, for rotated_roughly(): large values of a query in dimensions that
     * do not matter then cost no precision.
     * @param importance  such as the spread of their codewords, size 1..d */
    void set_importance(const std::vector<float>& importance);

    bool is_identity() const {
        return matrix_.empty();
    }
    size_t d() const {
        return d_;
    }
    /// size d * d row-major, or empty for the identity
    const std::vector<float>& matrix() const {
        return matrix_;
    }

    /// bytes of the matrix in all its forms
    size_t memory_usage() const;
    /// what memory_usage() will be of a matrix of d dimensions
    static size_t estimate_memory(size_t d);

    /// out_i = R x_i, size n * d each; out may not alias x
    void apply(size_t n, const float* x, float* out) const;
    /// The leading dimensions of R x for one vector: in `storage`, or x itself
    /// for the identity.
    const float* rotated(const float* x, std::vector<float>& storage) const;
    /// The same from 8 bits of both: in a third of the time, with an error far
    /// below that of the quantised table of a scan.
    const float* rotated_roughly(const float* x, std::vector<float>& storage)
            const;
    /// out_i = R^T x_i
    void apply_transposed(size_t n, const float* x, float* out) const;

 private:
    size_t d_ = 0;
    size_t leading_ = 0; ///< dimensions that queries need
    std::vector<float> matrix_;
    AlignedBuffer<float> panels_; ///< of matrix_, for the matrix kernel
    AlignedBuffer<float> transposed_panels_;
    BytePanels bytes_; ///< of the leading rows of matrix_
};

} // namespace faiss_ext
