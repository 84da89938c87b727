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

#include <faiss/MetricType.h>

#include <faiss_ext/aligned_buffer.h>
#include <faiss_ext/export.h>
#include <faiss_ext/nearest.h>

namespace faiss_ext {

/// How well probes() scores centroids.
enum class ProbeScores { Rough, Exact };

class FAISS_EXT_API Partition {
 public:
    Partition() = default;

    /** @param centroids   size nlist * d, copied into 8-bit codes
     *  @param borrow_centroids  read `centroids` in place too, as long as this
     *         lives, instead of copying them
     *  @param list_bonus  size nlist or nullptr: added to a list's rank, times
     *         the length of the query. For inner product, lists whose rows lie
     *         far from the centroid hold more near neighbours than <q, c> says
     */
    Partition(
            size_t nlist,
            size_t d,
            const float* centroids,
            faiss::MetricType metric,
            const float* list_bonus = nullptr,
            bool borrow_centroids = false);

    size_t nlist() const {
        return nlist_;
    }
    bool empty() const {
        return nlist_ == 0;
    }
    size_t memory_usage() const;
    /// what memory_usage() will be
    static size_t
    estimate_memory(size_t nlist, size_t d, bool borrow_centroids);

    /// Exact similarity of one centroid, as probes() gives it.
    float score(const float* query, int64_t list_no) const;

    /** Nearest centroid of each row in Euclidean distance, whatever the
     * metric: a code covers the residual, so the residual must be short.
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

    /// assign(), then assign_spilled() from what it found, in less time.
    void assign_both(
            size_t n,
            const float* x,
            float lambda,
            int64_t* lists,
            int64_t* spilled) const;

    /** The nprobe best lists of each query, best first: by similarity, plus
     * ||query|| * list_bonus if given. A query gets the same alone as among
     * others; equal ranks go to the smaller list number.
     *
     * Rough: all by 8-bit centroids. Exact: their best nprobe and a quarter
     * more once again in full precision, so that scores and order are exact,
     * and a list can be missing only if 8 bits misjudge it by more than that
     * margin.
     *
     * @param x       size n * d
     * @param lists   out, size n * nprobe, nprobe <= nlist(); -1 for queries
     *                with a NaN or infinite value
     * @param scores  out, size n * nprobe, similarities without bonus
     */
    void probes(
            size_t n,
            const float* x,
            size_t nprobe,
            ProbeScores kind,
            int64_t* lists,
            float* scores) const;

 private:
    float similarity(const float* query, const float* row) const;
    float rank_lists(const float* x, size_t wanted) const;
    void rough_probes(
            const float* x,
            size_t nprobe,
            int64_t* lists,
            float* scores) const;
    void exact_probes(
            const float* x,
            size_t nprobe,
            int64_t* lists,
            float* scores) const;

    size_t nlist_ = 0;
    size_t d_ = 0;
    faiss::MetricType metric_ = faiss::METRIC_L2;
    NearestRows nearest_; ///< of the centroids
    /// similarity(q, c) = <q - mean, c - mean> + its term + a value that does
    /// not depend on c; empty for L2: those of nearest_
    AlignedBuffer<float> terms_;
    AlignedBuffer<float> bonus_; ///< padded, or empty
};

} // namespace faiss_ext
