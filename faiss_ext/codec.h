/*
 * Rows <-> entries: everything that the lists keep of a vector.
 *
 * In: rows and their lists. Out: entries (EntryLayout); next: scann_lists.
 *
 * With r = x - c the residual, r~ its decoded codes and r^ its refine code,
 * the score of x for a query q (larger is better) is approximated as
 *
 *     inner product:  <q, c> + <q, r~>
 *     L2:             -||q - c||^2 / 2 + <q, r~> - term    (= -distance / 2)
 *
 * and with r^ in place of r~, `shift` in place of term. Both extra numbers
 * are chosen so that the score is exact at q = x, where near neighbours are:
 *
 *     term = <x, r~> - ||r||^2 / 2,      shift = <x, r^> - ||r||^2 / 2.
 *
 * So the parallel error of L2 codes is gone by construction, and what is left
 * is 2 <q - x, r - r~>. For the inner product the scale of r^ does the same:
 * it is chosen so that <x, r^> = <x, r>.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss/MetricType.h>

#include <faiss_ext/rotation.h>
#include <faiss_ext/scann_lists.h>
#include <faiss_ext/score_aware_pq.h>

namespace faiss_ext {

/// Borrows the trained parts of an index.
struct EntryCodec {
    const EntryLayout& layout;
    const Rotation& rotation;
    const ScoreAwarePQ& pq;
    const TermCode& term_code;
    faiss::MetricType metric;

    /** @param x          size n * d; unit rows if raw_norm
     *  @param raw        size n * d, the rows as the caller gave them
     *  @param centroids  size n * d, centroid of each row's list
     *  @param entries    out, size n * layout.size(); `primary` is left 0 */
    void encode(
            size_t n,
            const float* x,
            const float* raw,
            const float* centroids,
            uint8_t* entries) const;

    /** The row if kept, else the best approximation held.
     *  @param centroids  size n * d
     *  @param x          out, size n * d */
    void decode(
            size_t n,
            const uint8_t* entries,
            const float* centroids,
            float* x) const;

    /// Terms of rows with given codes (training of term_code). size n
    void terms(
            size_t n,
            const float* x,
            const float* residuals,
            const float* decoded,
            float* out) const;

    /** Residuals and directions as score_aware_pq wants them, rotated.
     *  @param residuals, directions  out, size n * d */
    void rotate_residuals(
            size_t n,
            const float* x,
            const float* centroids,
            float* residuals,
            float* directions) const;
};

/// Values of a refine row as floats, without scale. out: size d
void refine_values(RefineType type, size_t d, const uint8_t* row, float* out);

} // namespace faiss_ext
