/*
 * Rows in 8 bits, to score all of them roughly: centroids, or the axes of a
 * rotation. A quarter of the bytes, and the integer products of one
 * instruction (VPDPBUSD) where there is one.
 *
 * In: rows, a query. Out: <query, row> + term for each row, off by the rounding
 * of both: a query has 63 steps on either side of 0, a row 127.
 */

#pragma once

#include <cstddef>
#include <cstdint>

#include <faiss_ext/aligned_buffer.h>
#include <faiss_ext/kernels/kernels.h>

namespace faiss_ext {

/// A query in 7 bits.
class ByteQuery {
 public:
    /// @param mean  size d, subtracted first, or nullptr
    void set(size_t d, const float* x, const float* mean);

 private:
    friend class BytePanels;
    AlignedBuffer<float> shifted_; ///< padded with 0 to a multiple of 4
    AlignedBuffer<int32_t> steps_; ///< the same in steps
    AlignedBuffer<int8_t> codes_;  ///< steps
    int32_t sum_ = 0;              ///< of codes
    float step_ = 0;
};

class BytePanels {
 public:
    BytePanels() = default;
    /** @param rows     size n * d
     *  @param terms    size n, or nullptr for zeros
     *  @param bonuses  size n, or nullptr for zeros */
    BytePanels(
            size_t n,
            size_t d,
            const float* rows,
            const float* terms,
            const float* bonuses);

    size_t size() const {
        return n_;
    }
    /// floats that scores() writes
    size_t padded() const {
        return scales_.size();
    }
    size_t memory_usage() const;
    /// what memory_usage() will be
    static size_t estimate_memory(size_t n, size_t d);

    /** out_j ~ <query, row_j> + terms_j + factor * bonuses_j, finite.
     * @param out  size padded() */
    void scores(
            const kernels::Kernels& kernels,
            const ByteQuery& query,
            float factor,
            float* out) const;

 private:
    size_t n_ = 0;
    size_t d_ = 0;
    AlignedBuffer<uint8_t> codes_; ///< [n/16][d/4][16][4], code + 128
    AlignedBuffer<float> scales_;  ///< these three padded with zeros
    AlignedBuffer<float> terms_;
    AlignedBuffer<float> bonuses_;
};

} // namespace faiss_ext
