/*
 * What training makes besides the centroids.
 *
 * In: training rows and their lists (train.cpp). Out: what codes are made and
 * read by; next: codec, query_search, files.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss_ext/codes/rotation.h>
#include <faiss_ext/codes/score_aware_pq.h>
#include <faiss_ext/codes/score_term.h>

namespace faiss_ext {

/// How well lists and codes suited the rows that they were last fitted to, and
/// what has happened since.
struct ModelFit {
    /// mean squared distance of rows to the centroids of their lists
    float list_error = 0;
    /// share of that which the codes lose, at training
    float code_error = 0;
    /// nlist * sum n_l^2 / n^2 of the rows n_l of the lists; 1: all alike
    float imbalance = 1;
    uint64_t changed = 0; ///< rows added, replaced or removed since
};

struct ScaNNModel {
    Rotation rotation;
    ScoreAwarePQ pq;
    ScoreTerm score_term;
    /// mean squared length of the residuals in each list, size nlist
    std::vector<float> list_spread;
    /// group of each list (list_groups.h), size nlist; empty: no groups
    std::vector<uint32_t> list_groups;
    /// L2: origin of rows and queries, the median of the training rows, so that
    /// an offset which all rows share costs no precision; size d. Empty: zeros
    std::vector<float> origin;
    /// Inner product: rows belong to the list whose centroid has the nearest
    /// direction, whatever its length, instead of to the nearest centroid.
    bool by_direction = false;
    /// The codes rank rows so badly that a query rescores all rows of the lists
    /// that it visits instead.
    bool scan_rows = false;
    /// recall of the codes in the trial that decides it (index/trials.h)
    float trial_recall = 1;

    /** x less the origin, finite: in `storage`, or x itself without one.
     * @param x  size n * d, finite */
    const float*
    from_origin(size_t n, const float* x, std::vector<float>& storage) const;
};

} // namespace faiss_ext
