/* Training from a sample of rows that are not in memory, and of an index whose
 * lists are there already. */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace faiss_ext {

class IndexIVFScaNN;

/// What train_rows() takes of n rows of another type than float.
struct TrainingSample {
    size_t n;     ///< rows that there are
    size_t nlist; ///< of the index, or what is chosen for n rows
    size_t count; ///< rows of the sample
    uint64_t seed;

    /// Their numbers, size count; empty: all, in order.
    std::vector<size_t> rows() const;
};

/// @throws faiss::FaissException if there are fewer rows than lists
TrainingSample training_sample(const IndexIVFScaNN& index, size_t n);

/// As train_rows() with the rows of this sample. @param x  size count * d
void train_on_sample(
        IndexIVFScaNN& index,
        const TrainingSample& sample,
        const float* x);

/** As IndexIVFScaNN::train(), for rows whose lists are known, of which there
 * may be fewer than lists. The quantizer must hold the nlist centroids.
 * @param x      size n * d, n >= 1
 * @param lists  size n, each in 0..nlist - 1 */
void train_in_lists(
        IndexIVFScaNN& index,
        size_t n,
        const float* x,
        const int64_t* lists);

} // namespace faiss_ext
