/*
 * Rows in 8 bits, to score all of them roughly: centroids, or the axes of a
 * rotation. A quarter of the bytes, and the integer products of one
 * instruction (VPDPBUSD) where there is one.
 *
 * In: rows, queries. Out: <query, row> + term for each pair, off by the
 * rounding of both: a query has 63 steps on either side of 0, a row 127.
 *
 * Each query and each row has its own range. A dimension has a weight w_i, and
 * the products are those of w_i query_i and row_i / w_i: dimensions in which
 * the rows differ little get small weights, so that large values of a query
 * there leave steps for the others. A dimension in which all rows are 0 has
 * weight 0.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss_ext/memory/aligned_buffer.h>

namespace faiss_ext {

namespace kernels {
struct Kernels;
}

class BytePanels;

/// Queries in 7 bits; keeps its memory from one use to the next.
class ByteQueries {
 public:
    /** @param panels  rows that will be scored
     *  @param x       size n * d; NaN counts as 0
     *  @param shift   size d, subtracted first, or nullptr */
    void
    set(const BytePanels& panels, size_t n, const float* x, const float* shift);

    size_t size() const {
        return excess_.size();
    }

 private:
    friend class BytePanels;
    AlignedBuffer<int8_t> codes_;   ///< size n * d, d a multiple of 4: steps
    AlignedBuffer<int32_t> excess_; ///< added to the products by unsigned rows
    AlignedBuffer<float> steps_;
    AlignedBuffer<float> norms_;     ///< lengths of shifted, weighted queries
    AlignedBuffer<float> row_norms_; ///< the same, weighted as rows are
    AlignedBuffer<float> zeros_;
    AlignedBuffer<float> shifted_; ///< of one query
    AlignedBuffer<int32_t> integers_;
};

/** Weights of the dimensions for BytePanels: square roots of the rows' size in
 * them. This is halfway between two extremes. Without weights, large values of
 * queries in dimensions where rows are small take all steps. With the size
 * itself, so that rows are equally large in all dimensions, the dimensions in
 * which queries and rows both are large take all steps.
 * @param squares  size d: mean squares of the rows' values */
std::vector<float> balanced_weights(const std::vector<double>& squares);

class BytePanels {
 public:
    BytePanels() = default;
    /** @param rows     size n * d
     *  @param weights  size d, >= 0, or empty: ones; rows count as 0 where
     *         they are 0 */
    BytePanels(
            size_t n,
            size_t d,
            const float* rows,
            std::vector<float> weights = {});

    /// The same rows in another order, not rounded again.
    /// @param rows  numbers of rows, or kNoRow: zeros
    BytePanels reordered(const std::vector<uint32_t>& rows) const;
    static constexpr uint32_t kNoRow = ~uint32_t(0);

    size_t size() const {
        return n_;
    }
    size_t dimensions() const {
        return dimensions_;
    }
    /// size dimensions()
    std::vector<float> weights() const {
        return {weights_.begin(), weights_.begin() + dimensions_};
    }
    /// scores of a query: size(), rounded up to whole panels
    size_t padded() const {
        return scales_.size();
    }
    size_t memory_usage() const;
    /// what memory_usage() will be
    static size_t estimate_memory(size_t n, size_t d);

    /** Coefficients of the scores: arrays of finite values, or nullptr. */
    struct Coefficients {
        const float* terms = nullptr; ///< size padded(); else zeros
        // all three or none:
        const float* gains = nullptr;   ///< size padded(); else ones
        const float* scales = nullptr;  ///< scales_for(gains)
        const float* offsets = nullptr; ///< of each query; else zeros
    };
    /** out_qj ~ gains_j (<query_q, row_j> + offsets_q) + terms_j, finite.
     * @param out  size queries.size() * padded() */
    void scores(
            const kernels::Kernels& kernels,
            const ByteQueries& queries,
            const Coefficients& coefficients,
            float* out) const {
        scores(kernels, queries, coefficients, out, 0, n_);
    }
    /** The same of rows begin .. begin + count - 1.
     * @param begin  the first row of a panel: a multiple of 16
     * @param out    size queries.size() * count, rounded up to whole panels */
    void scores(
            const kernels::Kernels& kernels,
            const ByteQueries& queries,
            const Coefficients& coefficients,
            float* out,
            size_t begin,
            size_t count) const;
    /// @param gains  size size(). @return size padded()
    AlignedBuffer<float> scales_for(const float* gains) const;

    /// Length of a row, weighted.
    float length(size_t row) const {
        return lengths_[row];
    }
    /** Length that rows near a query may have: twice the query's own, or twice
     * the median if that is more. The longest rows, which may be far from all
     * others, count only for queries that are as long. */
    float length_near(const ByteQueries& queries, size_t query) const;
    /// Standard deviation of the rounding errors of the scores of a query with
    /// rows of this length.
    float error(const ByteQueries& queries, size_t query, float length) const;

 private:
    friend class ByteQueries;
    size_t n_ = 0;
    size_t dimensions_ = 0;
    size_t d_ = 0;                ///< a multiple of 4
    std::vector<float> weights_;  ///< size d_, zeros beyond dimensions_
    std::vector<float> inverses_; ///< of weights_, or 0
    std::vector<float> lengths_;  ///< size n
    float longest_ = 0;
    float typical_length_ = 0;     ///< at most twice the median
    float relative_scale_ = 0;     ///< largest scale of a row of length 1
    AlignedBuffer<uint8_t> codes_; ///< [n/16][d/4][16][4], code + 128
    AlignedBuffer<float> scales_;  ///< padded with zeros
    AlignedBuffer<float> zeros_;   ///< size padded()
};

} // namespace faiss_ext
