/*
 * Groups of neighbouring lists, so that a query scores the centroids of some
 * of them only. Scoring 16,384 centroids of 128 dimensions takes more than the
 * scan of the lists that are then visited (docs/design-scale.md).
 *
 * In: centroids in 8 bits (NearestRows), group of each list (ScaNNModel). Out:
 * scores of the lists of the best groups; used by partition.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss_ext/memory/aligned_buffer.h>
#include <faiss_ext/partition/byte_panels.h>

namespace faiss_ext {

class NearestRows;

/// Of fewer lists all centroids are scored: that is exact, and as fast.
constexpr size_t kMinGroupedLists = 8192;
/// lists of a group, on average
constexpr size_t kGroupLists = 32;

/** Groups of some 32 lists, by k-means of their centroids.
 * @param centroids  size nlist * d
 * @param gains      size nlist: what queries are compared with is gain *
 *        centroid (list_gains()); empty: ones
 * @return           group of each list, 0 .. groups - 1 */
std::vector<uint32_t> group_lists(
        size_t nlist,
        size_t d,
        const float* centroids,
        const std::vector<float>& gains,
        uint64_t seed);

/// Puts numbers[place] into keys of places, as the kernels make them of scores.
void number_keys(uint64_t* keys, size_t count, const uint32_t* numbers);

class ListGroups {
 public:
    /// What a query needs besides: buffers of a thread, kept so that searches
    /// do not allocate.
    struct Scratch {
        AlignedBuffer<float> group_scores;
        std::vector<uint64_t> group_keys;
        std::vector<uint32_t> lists; ///< number of the list of each score
        AlignedBuffer<float> scores;
    };

    /** Some queries at a time. Neighbouring ones take the same groups, whose
     * scores with all queries are computed at once. */
    struct Tile {
        /// groups of each query, best first
        std::vector<std::vector<uint32_t>> groups;
        std::vector<uint32_t> all; ///< groups of any query
        AlignedBuffer<float> group_scores;
        std::vector<uint64_t> keys;
        std::vector<size_t> begin;  ///< of each group in block, while in `all`
        AlignedBuffer<float> block; ///< scores, [group in all][query][list]
        size_t queries = 0;
    };

    ListGroups() = default;
    /** @param centroids  of all lists, at least one
     *  @param gains      size nlist (inner product), or nullptr (L2)
     *  @param group_of   size nlist, from group_lists() */
    ListGroups(
            const NearestRows& centroids,
            const float* gains,
            const std::vector<uint32_t>& group_of);

    bool empty() const {
        return begin_.empty();
    }
    /// number of groups
    size_t size() const {
        return begin_.size();
    }
    /// How many lists are scored to find the nprobe best of them, at least;
    /// all of them or more: groups have nothing to offer.
    size_t scored_lists(size_t nprobe) const;

    /** Scores the lists of the best groups, which have at least `wanted` lists
     * together.
     * @param query   one, for the panels of the centroids
     * @param offset  <query, center of the centroids>, inner product only
     * @param wanted  1 .. number of lists
     * @return        number of scores in s.scores and lists in s.lists */
    size_t scores(
            const ByteQueries& query,
            float offset,
            size_t wanted,
            Scratch& s) const;

    /// The best group of each query (L2).
    /// @param scores  a buffer; @param groups  out, size queries.size()
    void best_group(
            const ByteQueries& queries,
            AlignedBuffer<float>& scores,
            int64_t* groups) const;
    /// Of each query the best groups, which have at least `wanted` lists
    /// together, and the scores of their lists (L2).
    void score_tile(const ByteQueries& queries, size_t wanted, Tile& t) const;
    /** The scores that score_tile() made for one query.
     * @param scores, lists  out
     * @return  how many */
    size_t scores_of(
            size_t query,
            const Tile& t,
            AlignedBuffer<float>& scores,
            std::vector<uint32_t>& lists) const;
    /** Products of a query with the lists of these groups, in the order of
     * scores_of(), without terms.
     * @param out  size of the scores, rounded up to whole panels */
    void products(
            const ByteQueries& query,
            const std::vector<uint32_t>& groups,
            AlignedBuffer<float>& out) const;

    size_t memory_usage() const;
    /// what memory_usage() will be
    static size_t estimate_memory(size_t nlist, size_t d);

 private:
    size_t best_groups(
            const float* scores,
            size_t wanted,
            std::vector<uint64_t>& keys) const;

    /** Rows in panels, and the coefficients of their scores. */
    struct Scored {
        BytePanels rows;
        AlignedBuffer<float> terms;  ///< L2, else empty
        AlignedBuffer<float> gains;  ///< inner product, else empty
        AlignedBuffer<float> scales; ///< of rows, for these gains

        /// @param out  size count, rounded up to whole panels
        void scores(
                const ByteQueries& query,
                float offset,
                size_t begin,
                size_t count,
                float* out) const;
    };
    Scored groups_; ///< means of their centroids
    Scored lists_;  ///< group by group, each begins a panel
    /// list of each row of lists_; of padding: 0
    std::vector<uint32_t> list_at_;
    std::vector<uint32_t> begin_; ///< row of lists_ where a group begins
    std::vector<uint32_t> size_;  ///< of each group
    size_t nlist_ = 0;
};

} // namespace faiss_ext
