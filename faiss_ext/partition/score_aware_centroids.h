/*
 * Centroids that lose less of the inner products with queries like their rows.
 *
 * In: training rows and their lists. Out: centroids; next: partition.
 */

#pragma once

#include <cstddef>
#include <cstdint>

namespace faiss_ext {

/** Score-aware centroids (anisotropic vector quantisation, arXiv 1908.10396
 * section 4.1 in the closed form of ScaNN's AVQ): for the rows of each list
 *
 *     c = eta [ (sum w_0) I + (eta - 1) sum w_2 x x^T ]^-1 sum w_0 x,
 *     w_0 = ||x||^(eta - 1),  w_2 = ||x||^(eta - 3)
 *
 * @param assign     size n, list of each row, 0 <= assign[i] < k
 * @param centroids  in/out, size k * d; lists without rows keep theirs
 */
void make_centroids_score_aware(
        size_t n,
        size_t d,
        const float* x,
        const int64_t* assign,
        size_t k,
        float eta,
        float* centroids);

} // namespace faiss_ext
