/*
 * The partition: which list a vector belongs to, which lists a query visits.
 *
 * In: centroids (the rows of the index' flat quantizer). Out: for a vector its
 * nearest list and, for spilled copies, the second one; for a query its probes,
 * best first, with the score of each centroid; next: score_aware_pq (build),
 * the scan (search).
 *
 * Similarities here are "larger is better": <q, c> for inner product,
 * -||q - c||^2 / 2 for L2.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss/MetricType.h>

#include <faiss_ext/memory/aligned_buffer.h>
#include <faiss_ext/partition/grouped_nearest.h>
#include <faiss_ext/partition/list_groups.h>
#include <faiss_ext/partition/nearest.h>

namespace faiss_ext {

/// How well probes() scores centroids.
enum class ProbeScores { Rough, Exact };

/** Inner product: gains of the lists, that is, the length (root mean square) of
 * a list's rows divided by that of its centroid. Lists ranked by gain * <q, c>
 * are ranked by their direction, times the length of their rows. Of the
 * rankings that were tried (<q, c> alone; with a share of the spread added)
 * this was the best or second best on unit rows (wordnet-384, glove-50), on
 * rows of very different lengths, and with more clusters than lists.
 *
 * Lists by direction (ScaNNModel::by_direction) are ranked by direction alone,
 * as rows are assigned to them.
 * @param centroids  size nlist * d
 * @param spread     mean squared length of each list's residuals, size nlist */
std::vector<float> list_gains(
        size_t nlist,
        size_t d,
        const float* centroids,
        const std::vector<float>& spread,
        bool by_direction);

class Partition {
 public:
    Partition() = default;

    /** @param centroids   size nlist * d, copied into 8-bit codes
     *  @param borrow_centroids  read `centroids` in place too, as long as this
     *         lives, instead of copying them
     *  @param list_gain  size nlist or nullptr, inner product only: lists are
     *         ranked by gain * <q, c> (list_gains())
     *  @param by_direction  assign() takes the centroid whose direction is
     *         nearest to a row, as if all had length 1
     */
    Partition(
            size_t nlist,
            size_t d,
            const float* centroids,
            faiss::MetricType metric,
            const float* list_gain = nullptr,
            bool borrow_centroids = false,
            bool by_direction = false);

    /** From now on probes() scores only lists of the groups whose means are the
     * best, and may miss a list that lies in another.
     * @param group_of  size nlist, from group_lists() */
    void use_groups(const std::vector<uint32_t>& group_of);

    size_t nlist() const {
        return nlist_;
    }
    bool empty() const {
        return nlist_ == 0;
    }
    size_t memory_usage() const;
    /// what memory_usage() will be
    static size_t estimate_memory(
            size_t nlist,
            size_t d,
            bool borrow_centroids,
            bool by_direction,
            bool grouped);

    /// Exact similarity of one centroid, as probes() gives it.
    float score(const float* query, int64_t list_no) const;

    /** Nearest centroid of each row in Euclidean distance, whatever the
     * metric, since the code of a short residual has a small error; or the
     * centroid with the nearest direction.
     * @param x      size n * d
     * @param lists  out, size n; -1 for rows with a NaN or infinite value
     */
    void assign(size_t n, const float* x, int64_t* lists) const;

    /** Second list of each row (SOAR, arXiv 2404.00774, Theorem 3.1):
     *     argmin over c' of ||x - c'||^2 + lambda <x - c', r>^2 / ||r||^2,
     * r = x - c the primary residual.
     * @param primary  size n, from assign()
     * @param spilled  out, size n; -1 where the best is the primary list
     */
    void assign_spilled(
            size_t n,
            const float* x,
            const int64_t* primary,
            float lambda,
            int64_t* spilled) const;

    /// assign(), then assign_spilled() for its result, in less time.
    void assign_both(
            size_t n,
            const float* x,
            float lambda,
            int64_t* lists,
            int64_t* spilled) const;

    /** The nprobe best lists of each query, best first: by similarity, times
     * list_gain if given. The result of a query does not depend on the others;
     * of equal lists the one with the smaller number comes first.
     *
     * Rough: by 8-bit centroids, unless rounding makes too many lists
     * candidates for the best. Exact: lists that may be among the best are
     * scored again in full precision, so that scores and order are exact. A
     * list can be missing only if its 8-bit score is off by four standard
     * deviations, or if it lies in a group (use_groups()) that was left out.
     *
     * @param x       size n * d
     * @param lists   out, size n * nprobe, nprobe <= nlist(); -1 for queries
     *                with a NaN or infinite value
     * @param scores  out, size n * nprobe, similarities without gain
     */
    void probes(
            size_t n,
            const float* x,
            size_t nprobe,
            ProbeScores kind,
            int64_t* lists,
            float* scores) const;

 private:
    GroupedNearest grouped() const;
    float similarity(const float* query, const float* row) const;
    size_t score_lists(const float* x, size_t nprobe) const;
    size_t rank_lists(const float* x, size_t nprobe, ProbeScores kind) const;
    void rough_probes(size_t nprobe, int64_t* lists, float* scores) const;
    void exact_probes(
            const float* x,
            size_t nprobe,
            size_t close,
            int64_t* lists,
            float* scores) const;

    size_t nlist_ = 0;
    size_t d_ = 0;
    faiss::MetricType metric_ = faiss::METRIC_L2;
    NearestRows nearest_;    ///< of the centroids
    NearestRows directions_; ///< of these with length 1, or empty
    // With m = nearest_.center(), lists are ranked by gain (<q, c - m> + <q,
    // m>) for inner product, and for L2 by <q - m, c - m> with nearest_'s
    // terms.
    AlignedBuffer<float> gain_;   ///< padded, inner product only
    AlignedBuffer<float> scales_; ///< of nearest_.bytes(), for these gains
    ListGroups groups_;           ///< of nearest_.bytes(), or empty
};

} // namespace faiss_ext
