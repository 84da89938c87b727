/*
 * Rows in 8 bits, to score all of them roughly: centroids, or the axes of a
 * rotation. A quarter of the bytes, and the integer products of one
 * instruction (VPDPBUSD) where there is one.
 *
 * In: rows, queries. Out: <query, row> + term for each pair, off by the
 * rounding of both: a query has 63 steps on either side of 0, a row 127.
 */

#pragma once

#include <cstddef>
#include <cstdint>

#include <faiss_ext/aligned_buffer.h>
#include <faiss_ext/export.h>

namespace faiss_ext {

namespace kernels {
struct Kernels;
}

/// Queries in 7 bits; keeps its memory from one use to the next.
class FAISS_EXT_API ByteQueries {
 public:
    /** @param x     size n * d; NaN counts as 0
     *  @param mean  size d, subtracted first, or nullptr */
    void set(size_t n, size_t d, const float* x, const float* mean);

    size_t size() const {
        return excess_.size();
    }

 private:
    friend class BytePanels;
    AlignedBuffer<int8_t> codes_;   ///< size n * d, d a multiple of 4: steps
    AlignedBuffer<int32_t> excess_; ///< what unsigned rows add to the products
    AlignedBuffer<float> steps_;
    AlignedBuffer<float> factors_; ///< zeros
    AlignedBuffer<float> shifted_; ///< of one query
    AlignedBuffer<int32_t> integers_;
};

class FAISS_EXT_API BytePanels {
 public:
    BytePanels() = default;
    /// @param rows  size n * d
    BytePanels(size_t n, size_t d, const float* rows);

    size_t size() const {
        return n_;
    }
    /// scores of a query: size() and more to a whole number of panels
    size_t padded() const {
        return scales_.size();
    }
    size_t memory_usage() const;
    /// what memory_usage() will be
    static size_t estimate_memory(size_t n, size_t d);

    /** What is added to the products; arrays of padded() finite values, or
     * nullptr for zeros. */
    struct Terms {
        const float* terms = nullptr;
        const float* bonuses = nullptr;
        /// of each query, for bonuses; nullptr for zeros
        const float* factors = nullptr;
    };
    /** out_qj ~ <query_q, row_j> + terms_j + factors_q * bonuses_j, finite.
     * @param out  size queries.size() * padded() */
    void scores(
            const kernels::Kernels& kernels,
            const ByteQueries& queries,
            const Terms& added,
            float* out) const;

    /// Standard deviation of the rounding errors of the scores of a query.
    /// @param norm  length of the query, shifted by the mean
    float error(const ByteQueries& queries, size_t query, float norm) const;

 private:
    size_t n_ = 0;
    size_t d_ = 0;
    float longest_ = 0; ///< length of a row
    float largest_scale_ = 0;
    AlignedBuffer<uint8_t> codes_; ///< [n/16][d/4][16][4], code + 128
    AlignedBuffer<float> scales_;  ///< padded with zeros
    AlignedBuffer<float> zeros_;   ///< size padded()
};

} // namespace faiss_ext
