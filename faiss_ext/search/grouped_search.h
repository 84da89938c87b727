/*
 * Searches whose results have at most so many rows of a tag: a search for twice as
 * many rows, of which those of tags that have enough are passed over; where these
 * are not enough, the query goes on in pieces (resumable_scan.h).
 *
 * In: prepared queries, a plan with max_per_group. Out: distances and labels.
 */

#pragma once

#include <cstddef>
#include <cstdint>

#include <faiss_ext/model/index_state.h>
#include <faiss_ext/search/probes.h>
#include <faiss_ext/search/search_plan.h>

namespace faiss_ext {

/** Arguments as of search_batches(), and the index' defaults. Of the rows that
 * have been rescored, the best are given: with all rows as candidates they are
 * the best there are. */
void search_groups(
        const IndexState& state,
        const SearchPlan& plan,
        const SearchDefaults& defaults,
        const PreparedQueries& queries,
        size_t n,
        float* distances,
        int64_t* labels);

} // namespace faiss_ext
