/*
 * Searches whose results have at most so many rows of a tag: rows come best first
 * (resumable_scan.h), those of tags that have enough are passed over.
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

/** Arguments as of search_batches(), and what the plan was made of. Of the rows
 * that have been rescored, the best are given: with all rows as candidates they are
 * the best there are. */
void search_groups(
        const IndexState& state,
        const SearchPlan& plan,
        const SearchDefaults& defaults,
        const CandidateNumbers& numbers,
        const PreparedQueries& queries,
        size_t n,
        float* distances,
        int64_t* labels);

} // namespace faiss_ext
