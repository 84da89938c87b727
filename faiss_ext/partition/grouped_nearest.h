/*
 * The nearest of very many centroids for each of many rows, through groups of
 * centroids: rows near the mean of a group are compared with the centroids of
 * that group and of those around it. Comparing each row with each of 16,384
 * centroids is most of the time of training and adding.
 *
 * In: centroids, rows. Out: numbers of the nearest, or nearly nearest; used by
 * kmeans, partition.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace faiss_ext {

/** Borrows the centroids. What is found for a row does not depend on the other
 * rows, nor on the number of threads. */
class GroupedNearest {
 public:
    GroupedNearest() = default;
    /** @param n         >= 1
     *  @param centroids size n * d, finite
     *  @param unit      take each centroid and each row as if it had length 1;
     *         only for find()
     *  @param seed      of the groups */
    GroupedNearest(
            size_t n,
            size_t d,
            const float* centroids,
            bool unit,
            uint64_t seed);

    /// Whether this is faster for so many rows than comparing all with all.
    static bool pays(size_t rows, size_t centroids);

    /** As NearestRows::find(), among the centroids of the groups around x.
     * @param numbers  size rows, of the rows of x; nullptr: 0, 1, 2, ... */
    void find(
            size_t rows,
            const float* x,
            int64_t* nearest,
            const size_t* numbers = nullptr) const;
    /// As NearestRows::find_spilled(), among these and the primary ones of the
    /// rows.
    void find_spilled(
            size_t rows,
            const float* x,
            const int64_t* primary,
            float lambda,
            int64_t* spilled) const;
    /// find(), then find_spilled() for its result.
    void find_both(
            size_t rows,
            const float* x,
            float lambda,
            int64_t* nearest,
            int64_t* spilled) const;

 private:
    template <class Search>
    void for_cells(
            size_t rows,
            const float* x,
            const size_t* numbers,
            const int64_t* primary,
            const Search& search) const;
    void gather(
            size_t count,
            const size_t* rows,
            const size_t* numbers,
            const float* x,
            float* out) const;

    size_t n_ = 0;
    size_t d_ = 0;
    bool unit_ = false;
    const float* centroids_ = nullptr;
    std::vector<float> means_;         ///< of the groups
    std::vector<uint32_t> candidates_; ///< of each cell, one after the other
    std::vector<size_t> begin_;        ///< size groups + 1, into candidates_
};

} // namespace faiss_ext
