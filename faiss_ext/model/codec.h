/*
 * Rows <-> entries: everything that the lists keep of a vector.
 *
 * In: rows and their lists. Out: entries (EntryLayout); next: scann_lists.
 *
 * An entry holds the residual r = x - c three times, coarser and cheaper to
 * read each time: as the raw row, as a refine row r^ = scale * values, and as
 * codes of the rotated residual. What the latter two miss of a score on
 * average is in `shift` and in the code's term (score_term.h).
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss_ext/lists/scann_lists.h>
#include <faiss_ext/model/scann_model.h>

namespace faiss_ext {

/// Borrows the trained parts of an index.
struct EntryCodec {
    const EntryLayout& layout;
    const ScaNNModel& trained;
    /// the lists keep more than codes: rows without a useful code are kept
    /// apart (score_term.h)
    bool rescored;

    /** @param x          size n * d; unit rows if raw_norm
     *  @param raw        size n * d, the rows as the caller gave them; read
     *         only to keep raw rows
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

    /** Rotated rows, from the origin, and their residuals and directions as
     *  score_aware_pq wants them. Centroids are rotated once for each run of
     *  equal ones.
     *  @param rotated, residuals, directions  out, size n * d */
    void rotate(
            size_t n,
            const float* x,
            const float* centroids,
            float* rotated,
            float* residuals,
            float* directions) const;
};

/** The list in front of row i of the codes of sa_encode().
 * @param stride  bytes a row, @param prefix  of them for the list
 * @throws faiss::FaissException if there is no such list */
int64_t list_of_code(
        const uint8_t* codes,
        size_t i,
        size_t stride,
        size_t prefix,
        size_t nlist);

/// Values of a refine row as floats, without scale. out: size d
void refine_values(RefineType type, size_t d, const uint8_t* row, float* out);

} // namespace faiss_ext
