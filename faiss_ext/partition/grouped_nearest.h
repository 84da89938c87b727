/*
 * The nearest of very many centroids for each of many rows, through groups of
 * centroids. Comparing each row with each of 16,384 centroids is most of the
 * time of training and adding.
 *
 * In: centroids, rows. Out: numbers of the nearest, or nearly nearest; used by
 * kmeans, partition.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss_ext/partition/nearest.h>

namespace faiss_ext {

/** Borrows the centroids. What is found for a row does not depend on the other
 * rows, nor on the number of threads. */
class GroupedNearest {
 public:
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

    /** As NearestRows::find().
     * @param numbers  size rows, of the rows of x; nullptr: 0, 1, 2, ... */
    void find(
            size_t rows,
            const float* x,
            int64_t* nearest,
            const size_t* numbers = nullptr) const;
    /// As NearestRows::find_spilled().
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
    void for_tiles_by_group(
            size_t rows,
            const float* x,
            const size_t* numbers,
            const Search& search) const;
    void gather(
            size_t count,
            const size_t* rows,
            const size_t* numbers,
            const float* x,
            float* out) const;

    size_t d_ = 0;
    bool unit_ = false;
    NearestRows nearest_;
};

} // namespace faiss_ext
