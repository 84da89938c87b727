/* Queries of calibrate() and health(): the caller's, or rows of the index. */

#pragma once

#include <cstdint>
#include <vector>

#include <faiss_ext/IndexIVFScaNN.h>

namespace faiss_ext {

struct CalibrationQueries {
    std::vector<float> x;
    // of rows of the index, which are not among their own neighbours; empty: none
    std::vector<int64_t> ids;
    std::vector<uint64_t> places; ///< list << 32 | offset
};

/// @param doing  "calibrating", for the message
/// @throws faiss::FaissException if queries would have to be drawn from raw rows that
/// the index does not keep
void check_can_draw(
        const IndexIVFScaNN& index,
        const float* queries,
        const char* doing);

/// The caller's n queries; nullptr: `drawn` rows of the index, evenly at random.
CalibrationQueries queries_or_rows(
        const IndexIVFScaNN& index,
        int64_t n,
        const float* queries,
        size_t drawn);

} // namespace faiss_ext
