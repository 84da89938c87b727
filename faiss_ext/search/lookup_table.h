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

/** Terms are counted in table steps too, and a term of 65535 steps of its own
 * must not exceed 65535 of the table's.
 * @param term_step  of the terms, times the query's factor */
inline float smallest_table_step(float term_step) {
    return term_step * 1.0001f;
}

struct LookupTable {
    AlignedBuffer<float> values;  ///< [M][16]
    AlignedBuffer<uint8_t> bytes; ///< [groups][4][16]
    float step = 0;               ///< score per table step, > 0
    float offset = 0;             ///< sum over blocks of the smallest value

    /** Fills the table for one query.
     * @param rotated_query  size pq.d()
     * @param min_step  lower bound of step: the caller's other integers (term
     *        and bias) must fit their types in units of it
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
