/*
 * k-means for the centroids of the lists, on our own kernels: no BLAS threads,
 * the same result for any number of threads and any SIMD level.
 *
 * In: training rows. Out: centroids; next: partition.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include <faiss_ext/memory/aligned_buffer.h>

namespace faiss_ext {

struct KMeansParameters {
    size_t k = 0;
    size_t rounds = 10;
    /// at most this many training rows per centroid are used (random
    /// sample); the first rounds use fewer
    size_t max_points_per_centroid = 256;
    /// clusters directions of rows instead of rows; centroids have unit length
    bool spherical = false;
    uint64_t seed = 1234;
    /// called between rounds with (done, total); may throw to stop
    std::function<void(size_t, size_t)> on_round;
};

/** Squared-Euclidean k-means.
 *
 * Starts from distinct random rows; an empty list takes half of the one with
 * the largest sum of squared distances: a copy of its centroid, and both are
 * then changed a little in opposite directions, as in Faiss.
 *
 * @param x  size n * d, n >= k
 * @return   centroids, size k * d
 * @throws faiss::FaissException if n < k (the message has both numbers)
 */
std::vector<float>
kmeans(size_t n, size_t d, const float* x, const KMeansParameters& p);

/** Makes centroids of unit length (spherical k-means) the means of their rows:
 * residuals are shorter then. Rows far longer than the others of a list count
 * as if they were shorter.
 * @param x          size n * d, finite
 * @param centroids  in/out, size nlist * d; those without rows stay */
void move_to_means(
        size_t n,
        size_t d,
        const float* x,
        size_t nlist,
        float* centroids);

} // namespace faiss_ext
