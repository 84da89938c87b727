/*
 * The profile of an index (ScaNNProfile): which settings reach a recall, for many
 * targets and numbers of results at once.
 *
 * For each query, two searches of all lists: one gives its true neighbours, the
 * other the order of the codes (a third that of the refine codes). Where a
 * neighbour's list stands among the query's lists, and how many rows in the lists
 * before stand before it in the order of the codes, says of every setting whether
 * it finds the neighbour, so that no setting has to be tried.
 *
 * In: an index, queries. Out: its profile; next: search/recall_profile.
 */

#pragma once

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index/calibration_queries.h>

namespace faiss_ext {

/// At most 320 of the queries are used. Does not depend on the number of threads.
/// @throws faiss::FaissException if a query is not finite
ScaNNProfile measure_profile(
        const IndexIVFScaNN& index,
        const CalibrationQueries& queries);

} // namespace faiss_ext
