/*
 * Rows <-> entries: everything that the lists keep of a vector.
 *
 * In: rows and their lists. Out: entries (EntryLayout); next: scann_lists.
 *
 * An entry holds the row up to three times, each coarser and cheaper to read
 * than the one before: the raw row x itself, the residual r = x - c as a refine
 * row r^ = scale * values, and codes of the rotated residual. The error that
 * refine row and codes have in a score, as far as it can be predicted, is in
 * `shift` and in the code's term (score_term.h).
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss_ext/lists/scann_lists.h>
#include <faiss_ext/model/scann_model.h>

namespace faiss_ext {

/// Refers to the layout and the model of an index.
struct EntryCodec {
    const EntryLayout& layout;
    const ScaNNModel& model;
    /// whether the lists keep more than codes: then rows without a useful code
    /// are kept apart (score_term.h)
    bool rescored;

    /** @param x          size n * d; unit rows if raw_norm
     *  @param raw        size n * d, the rows as the caller gave them; read
     *         only to keep raw rows
     *  @param centroids  size n * d, centroid of each row's list
     *  @param entries    out, size n * layout.size(); tag and `primary` are 0 */
    void encode(
            size_t n,
            const float* x,
            const float* raw,
            const float* centroids,
            uint8_t* entries) const;

    /** The raw row if there is one, else its best approximation.
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

    /** Codes of rotated rows, and the residuals that these stand for: zeros in
     *  dimensions without codes.
     *  @param residuals   size n * layout.d
     *  @param directions  size n * model.pq.d(): dimensions with codes; lost
     *  @param codes       out, size n * layout.M
     *  @param decoded     out, size n * layout.d; may be `directions` if all
     *         dimensions have codes */
    void encode_residuals(
            size_t n,
            const float* residuals,
            float* directions,
            uint8_t* codes,
            float* decoded) const;

 private:
    /// Buffers for put_refine_row(), reused from row to row.
    struct RefineScratch {
        std::vector<float> residual;
        std::vector<float> values;
        std::vector<float> shifted;
    };
    void put_codes(const uint8_t* codes, uint8_t* entry) const;
    void put_refine_row(
            const float* x,
            const float* centroid,
            RefineScratch& scratch,
            uint8_t* entry) const;
    void put_raw_row(const float* raw, uint8_t* entry) const;
};

/** The list in front of row i of the codes of sa_encode().
 * @param stride  bytes per row
 * @param prefix  bytes of the list's number
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
