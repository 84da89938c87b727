/*
 * How far the rows of each list lie from its centroid, so that a range search
 * can leave out lists that hold nothing within the radius.
 *
 * In: an index with raw rows. Out: for a query and a radius, the lists that may
 * hold hits; next: range_search_preassigned().
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

/** Valid until rows are added, removed or updated. Only raw rows have bounds:
 * scores from codes are estimates, which may lie beyond. */
class ListBounds {
 public:
    /// Reads all raw rows once. @param state  with raw rows and a flat
    /// quantizer
    explicit ListBounds(const IndexState& state);

    static bool possible(const IndexState& state);

    /** The lists that may hold rows within the radius (distance below it, or
     * inner product above), by the triangle inequality. Lists without rows are
     * left out.
     * @param query  size d, as given */
    std::vector<int64_t>
    within(const IndexState& state, const float* query, float radius) const;

 private:
    /// largest distance of a row from the centroid, -1 for lists without rows
    std::vector<double> radii_;
    std::vector<double> lengths_; ///< of the centroids
};

} // namespace faiss_ext
