/*
 * What a search needs for a recall, and which recall a search reaches: the tables
 * that calibrate() made (ScaNNProfile), between their entries and beyond.
 *
 * A filter that passes a random share s of the rows makes the k best of them the
 * rows of ranks up to about k / s of all rows, and lists have no other say in the
 * matter than the ranks of rows: k results of a share s need the lists of k / s
 * results without a filter. So do rows that were removed since: the share is
 * what is left. In: an index' profile. Out: settings; next: search_plan,
 * query_filter.
 */

#pragma once

#include <cstddef>

#include <faiss_ext/model/index_state.h>
#include <faiss_ext/scann_options.h>

namespace faiss_ext {

/** The settings for k results at this recall.
 * @param target  within the profile's
 * @param rows    of the index, now */
ScaNNProfile::Setting profile_setting(
        const ScaNNProfile& profile,
        float target,
        double k,
        size_t rows);

/// The lists alone. @param k  any number > 0; infinite: all lists
size_t profile_probes(
        const ScaNNProfile& profile,
        float target,
        double k,
        size_t rows);

/// What a query did, for its expected recall.
struct VisitedLists {
    double k;       ///< as profile_setting() wants it
    size_t results; ///< k with a filter; candidates belong to it
    size_t lists;   ///< visited
    size_t scanned; ///< candidates of the scan; 0: all rows of the lists
    float target;   ///< of the call, or 0
    size_t refined; ///< of refine codes, kept for raw rows; 0: no such stage
};

/// The share of the true neighbours that a query finds on average.
float expected_recall(
        const ScaNNProfile& profile,
        const VisitedLists& visited,
        size_t rows);

/** What tells queries of one kind from others: the score of the best list, of
 * L2 as it is, of inner products for a query of length 1.
 * @param query  size d, prepared */
float kind_of_query(const IndexState& state, const float* query, float score);

} // namespace faiss_ext
