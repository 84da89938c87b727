/* Rows and queries as the caller gives them: checked, and scaled to unit
 * length where the index asks for it. */

#pragma once

#include <cstddef>
#include <vector>

namespace faiss_ext {

/// Whether none of n values is a NaN or infinite.
bool all_finite(size_t n, const float* values);

/// @param first  number of the first row, for the message
/// @throws faiss::FaissException naming the first row with a NaN or infinity
void check_finite(
        size_t n,
        size_t d,
        const float* x,
        const char* what,
        size_t first = 0);

/** Largest sum of squares that Faiss' own indexes and transforms are given: a
 * tenth of the largest float, so that sums of a few products are finite, also of
 * centred rows. With infinite distances Faiss reads out of bounds. */
constexpr double kMaxSquares = 1e37;

double sum_of_squares(size_t n, const float* values);

/// Queries ready to be searched for.
struct PreparedQueries {
    /// for centroids and codes: the caller's, or in `unit` or `moderate`
    const float* x = nullptr;
    /// for raw rows: L2 with all values as they were given, else x
    const float* exact = nullptr;
    /// factor of each query, and so of its scores; empty: none was scaled
    std::vector<float> scales;
    std::vector<float> unit, moderate; ///< memory for x

    float scale(size_t i) const {
        return scales.empty() ? 1 : scales[i];
    }
};

/** Queries for inner products, so large or small that products could leave the
 * range of floats, scaled by powers of two: ranks and all digits stay.
 * @param scales  out: PreparedQueries::scales
 * @return x itself, or a copy in `storage` */
const float* moderate_queries(
        size_t n,
        size_t d,
        const float* x,
        std::vector<float>& storage,
        std::vector<float>& scales);

/** Largest value that centroids and codes take from rows of d dimensions: sums
 * of squared differences stay within the range of floats. */
float largest_value(size_t d);

/// Values and ranges below this count as 0: the number of steps of a code
/// divided by it still is a finite float.
constexpr float kMinValue = 1e-30f;

/** Rows for centroids and codes: values beyond largest_value() count as that,
 * those below kMinValue as 0. Raw rows keep theirs.
 * @param x  finite
 * @return x itself, or a copy in `storage` */
const float*
moderate_rows(size_t n, size_t d, const float* x, std::vector<float>& storage);

enum class RowScale {
    AsGiven,    ///< but for moderate_rows()
    Unit,       ///< unit length; a row of zeros is refused
    UnitOrZero, ///< unit length; zeros stay
};

/** x itself, or a scaled copy in `storage`.
 * @param first  number of the first row, for the message
 * @throws faiss::FaissException if a value is not finite, or a row to be
 *         scaled is zero */
const float* checked_rows(
        size_t n,
        size_t d,
        const float* x,
        RowScale scale,
        const char* what,
        std::vector<float>& storage,
        size_t first = 0);

/// The same for rows that were checked.
const float* scaled_rows(
        size_t n,
        size_t d,
        const float* x,
        RowScale scale,
        std::vector<float>& storage);

} // namespace faiss_ext
