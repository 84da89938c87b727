/* Rows and queries as the caller gives them: checked, and scaled to unit
 * length where the index asks for it. */

#pragma once

#include <cstddef>
#include <vector>

namespace faiss_ext {

/// Whether none of n values is a NaN or infinite.
bool all_finite(size_t n, const float* values);

/// @throws faiss::FaissException naming the first row with a NaN or infinity
void check_finite(size_t n, size_t d, const float* x, const char* what);

enum class RowScale {
    AsGiven,
    Unit,       ///< unit length; a row of zeros is refused
    UnitOrZero, ///< unit length; zeros stay
};

/** x itself, or a scaled copy in `storage`.
 * @throws faiss::FaissException if a value is not finite, or a row to be
 *         scaled is zero */
const float* checked_rows(
        size_t n,
        size_t d,
        const float* x,
        RowScale scale,
        const char* what,
        std::vector<float>& storage);

} // namespace faiss_ext
