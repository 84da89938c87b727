/*
 * The table of a query: 16 partial scores per block of dimensions, as floats
 * and quantised to bytes.
 *
 * In: the rotated query, the codebook. Out: bytes, step and offset such that
 *     <q, decode(codes)> ~ offset + step * sum_m bytes[m][code_m]
 * with an error of at most M * step / 2 (each entry is rounded to nearest);
 * next: the scan.
 */

#pragma once

#include <cstdint>

#include <faiss_ext/memory/aligned_buffer.h>
#include <faiss_ext/kernels/kernels.h>
#include <faiss_ext/codes/score_aware_pq.h>

namespace faiss_ext {

/** Terms are converted to steps of the table. The largest code of a term, 65535,
 * must not exceed 65535 of them.
 * @param term_step  step of the terms, times the query's factor */
inline float smallest_table_step(float term_step) {
    constexpr float kRounding = 1.0001f; // of the quotient of both steps
    return term_step * kRounding;
}

struct LookupTable {
    AlignedBuffer<float> values;  ///< [M][16]
    AlignedBuffer<uint8_t> bytes; ///< [groups][4][16]
    float step = 0;               ///< score per table step, > 0
    float offset = 0;             ///< sum over blocks of the smallest value

    /** Fills the table for one query.
     * @param rotated_query  size pq.d()
     * @param min_step  lower bound of the step, so that term and bias, counted
     *        in steps, fit their integer types
     */
    void build(
            const kernels::Kernels& kernels,
            const ScoreAwarePQ& pq,
            const float* rotated_query,
            float min_step);

    /// Score of one vector's codes (size M) by the float table.
    float score(const uint8_t* codes, size_t M) const;
};

} // namespace faiss_ext
