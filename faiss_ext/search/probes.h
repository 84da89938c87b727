/*
 * The lists that a query visits.
 *
 * In: queries as the caller gave them. Out: queries prepared for codes and raw
 * rows, and for each its probes, best first, with the scores of their
 * centroids: <q, c>, or for L2 -||q - c||^2 / 2; next: search_plan,
 * query_search.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss_ext/memory/query_rows.h>
#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

/// @param x  size n * d, kept alive by the caller as long as the result
/// @throws faiss::FaissException as prepare_rows()
PreparedQueries
prepare_queries(const IndexState& state, size_t n, const float* x);

/// How probes are found.
struct ProbeParameters {
    /// for a quantizer that is not flat; borrowed
    const faiss::SearchParameters* quantizer_params = nullptr;
    /// for a flat one
    ProbeScores scores = ProbeScores::Exact;
};

/** The best lists of each query, empty ones included.
 * @param x       size n * d, prepared
 * @param lists   out, size n * count; -1 beyond what the quantizer finds
 * @param scores  out, size n * count */
void find_probes(
        const IndexState& state,
        size_t n,
        const float* x,
        size_t count,
        const ProbeParameters& parameters,
        int64_t* lists,
        float* scores);

/// As find_probes(), but the best lists that are not empty.
void find_filled_probes(
        const IndexState& state,
        size_t n,
        const float* x,
        size_t count,
        const ProbeParameters& parameters,
        int64_t* lists,
        float* scores);

/** Converts the distances that search_preassigned() gets to scores as those of
 * find_probes().
 * @param x          size n * d, as given
 * @param queries    the same, prepared
 * @param distances  size n * per_query, of the quantizer */
std::vector<float> scores_from_distances(
        const IndexState& state,
        size_t n,
        const float* x,
        const PreparedQueries& queries,
        size_t per_query,
        const float* distances);

} // namespace faiss_ext
