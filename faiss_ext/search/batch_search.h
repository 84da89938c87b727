/*
 * A search call: runs the steps of query_search.h, one query at a time or, when
 * several queries of a batch visit the same lists, list by list; in slices, on
 * the caller's threads.
 *
 * In: prepared queries, the plan. Out: distances and labels.
 */

#pragma once

#include <cstddef>
#include <cstdint>

#include <faiss_ext/model/index_state.h>
#include <faiss_ext/search/probes.h>
#include <faiss_ext/search/search_plan.h>

namespace faiss_ext {

/** @param assign     size n * plan.nprobe, or nullptr: the best lists
 *  @param scores     of these, as find_probes() gives them, or nullptr
 *  @param distances  out, size n * plan.k
 *  @param labels     out, size n * plan.k; -1 where nothing was found */
void search_batches(
        const IndexState& state,
        const SearchPlan& plan,
        const PreparedQueries& queries,
        size_t n,
        const int64_t* assign,
        const float* scores,
        float* distances,
        int64_t* labels);

/// A distance of a query that was scaled by `scale`; values beyond the range of
/// floats become the largest float.
float unscaled(float distance, float scale);

/// Divides the distances of queries that were scaled by their factors.
/// @param distances  size n * k
void unscale(
        const PreparedQueries& queries,
        size_t n,
        size_t k,
        float* distances);

} // namespace faiss_ext
