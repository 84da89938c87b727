/*
 * The nearest of many rows, such as centroids, for each of many others:
 * products of 8-bit rows select those that may be the nearest, full precision
 * decides between them. A matrix product in floats takes 3 times as long.
 *
 * In: rows. Out: numbers of the nearest; used by kmeans, partition.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include <faiss_ext/memory/aligned_buffer.h>
#include <faiss_ext/partition/byte_panels.h>

namespace faiss_ext {

class ListGroups;

/** All searches run on the calling thread. Of equally near rows the one with
 * the smaller number is found. A row that is not the nearest is found only
 * where rounding to 8 bits errs by more than six standard deviations. */
class NearestRows {
 public:
    NearestRows() = default;
    /** @param rows    size n * d, finite
     *  @param borrow  read `rows` in place as long as this lives, instead of
     *         copying them
     *  @param unit  take each row as if it had length 1; only for find() */
    NearestRows(
            size_t n,
            size_t d,
            const float* rows,
            bool borrow,
            bool unit = false);

    /** From now on only rows of the groups whose means are nearest to x are
     * looked at; of equally near rows any is found. The fastest order of many x
     * is by group, since groups then stay in a cache.
     * @param group_of  size size(), from group_lists() */
    void use_groups(const std::vector<uint32_t>& group_of);
    /// number of these groups
    size_t groups() const;
    /// Group whose mean is nearest to x, by 8 bits: good enough to sort by.
    /// @param group_of  out, size n
    void find_groups(size_t n, const float* x, int64_t* group_of) const;

    /** Smallest ||x - row||.
     * @param x        size n * d
     * @param nearest  out, size n; -1 for x with a NaN or infinite value */
    void find(size_t n, const float* x, int64_t* nearest) const;

    /** Smallest ||x - row||^2 + lambda <x - row, r>^2 / ||r||^2, r = x - the
     * primary row (SOAR, arXiv 2404.00774, Theorem 3.1).
     * @param primary  size n, from find()
     * @param spilled  out, size n; -1 where primary is */
    void find_spilled(
            size_t n,
            const float* x,
            const int64_t* primary,
            float lambda,
            int64_t* spilled) const;

    /// find(), then find_spilled() for its result; computes the products once.
    void find_both(
            size_t n,
            const float* x,
            float lambda,
            int64_t* nearest,
            int64_t* spilled) const;

    size_t size() const {
        return bytes_.size();
    }
    const float* row(size_t j) const {
        return rows_.data() + j * d_;
    }
    /// The row as it is looked for: with length 1 if that was asked for.
    void copy_row(size_t j, float* out) const;
    /// of row - center(): a smaller range gives finer steps
    const BytePanels& bytes() const {
        return bytes_;
    }
    /// medians of the dimensions, size d
    const float* center() const {
        return center_.data();
    }
    /// -||row - center||^2 / 2, size bytes().padded()
    const float* terms() const {
        return terms_.data();
    }
    size_t memory_usage() const;
    /// what memory_usage() will be
    static size_t estimate_memory(size_t n, size_t d, bool borrow);

 private:
    struct Scratch;
    struct UndecidedRows;
    static Scratch& scratch();
    template <class Each>
    void for_scored_tiles(size_t n, const float* x, Each&& each) const;
    template <class Each>
    void for_grouped_tiles(size_t n, const float* x, Each&& each) const;
    float score_error(size_t i, const Scratch& s) const;
    void rows_of_keys(uint64_t* keys, size_t count, Scratch& s) const;
    void find_close(const float* scores, float margin, Scratch& s) const;
    size_t least_loss(const float* x, const float* r, float lambda, Scratch& s)
            const;
    bool select_by_loss(
            const float* x,
            const float* r,
            float length,
            float lambda,
            const float* scores,
            float error,
            Scratch& s) const;
    void nearest_of_tile(size_t n, const float* x, int64_t* nearest, Scratch& s)
            const;
    int64_t choose_spilled(
            const float* x,
            const float* r,
            int64_t primary,
            float lambda,
            Scratch& s) const;
    void spilled_by_scores(
            const UndecidedRows& undecided,
            const float* x,
            const int64_t* primary,
            float lambda,
            int64_t* spilled,
            Scratch& s) const;
    void spilled_of_tile(
            size_t n,
            const float* x,
            const int64_t* primary,
            float lambda,
            int64_t* spilled,
            Scratch& s) const;

    size_t d_ = 0;
    AlignedBuffer<float> rows_;
    std::vector<double> scales_; ///< to unit length, or empty
    std::vector<float> center_;
    AlignedBuffer<float> terms_;
    BytePanels bytes_;
    std::shared_ptr<const ListGroups> groups_; ///< or nullptr
};

} // namespace faiss_ext
