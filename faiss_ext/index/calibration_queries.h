/* Queries of calibrate(): the caller's, or rows of the index. */

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

/// Rows of the index, evenly at random.
CalibrationQueries draw_queries(const IndexIVFScaNN& index, size_t count);

} // namespace faiss_ext
