/*
 * Rows drawn at random for training; statistics that few odd rows do not
 * change.
 *
 * In: many rows. Out: fewer; next: kmeans, train, score_aware_pq.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace faiss_ext {

/** min(n, wanted) of the row numbers 0..n-1, in random order. The rows are
 * divided into that many equal ranges, and one is drawn from each: every part
 * of the data is seen, also where it alternates (image, text, image, ..). */
std::vector<size_t> sample_rows(size_t n, size_t wanted, uint64_t seed);

/// Copies rows of x, size (*, d), next to one another.
void gather_rows(
        size_t n,
        const size_t* rows,
        size_t d,
        const float* x,
        float* gathered);

/// Scales rows to unit length; rows of zeros stay.
void scale_to_unit(size_t n, size_t d, float* rows);

/// Lengths of the rows. @param x  size n * d
std::vector<float> row_lengths(size_t n, size_t d, const float* x);

/// The value that this share of the values does not exceed; 0 without values.
/// @param share  0..1
float quantile(std::vector<float> values, double share);

/// The largest value, but at most twice the median, so that few values far
/// above all others do not count.
float robust_largest(const std::vector<float>& values);

/// Medians of the dimensions of rows, size d, over at most `most` evenly spaced
/// ones. Unlike means, they do not follow few rows far from all others.
std::vector<float>
dimension_medians(size_t n, size_t d, const float* x, size_t most);

} // namespace faiss_ext
