/*
 * The layout of an entry: the flat bytes of all that the lists keep of one
 * vector. codec.h writes and reads entries, scann_lists.h stores them as
 * columns.
 */

#pragma once

#include <cstddef>
#include <cstdint>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/codes/packed_layout.h>
#include <faiss_ext/memory/row_types.h>
#include <faiss_ext/scann_options.h>

namespace faiss_ext {

/// Beside a raw row in place of 1 / ||x||: its cosine is computed in doubles.
constexpr float kPreciseCosine = -1;

/** What the lists keep of a vector, and where an entry has it:
 *
 *     [codes, two per byte, low nibble first] [uint16 term]
 *     [refine: d values, float scale, float shift]
 *     [raw: d values of raw_type, with normalize: float 1 / ||x||]
 *     [int64 tag, with_tags only]
 *     [uint64 primary: list << 32 | offset, spilled lists only]
 */
struct EntryLayout {
    size_t d = 0;
    size_t M = 0;         ///< 4-bit codes
    bool has_term = true; ///< score_term.h
    RefineType refine_type = RefineType::None;
    bool with_raw_data = false;
    RowType raw_type = RowType::Float32;
    /// raw rows end with 1 / ||x|| (normalize), or kPreciseCosine
    bool raw_norm = false;
    bool has_tag = false;
    bool has_primary = false; ///< entry is a spilled copy

    /// of an index with these options and M codes
    static EntryLayout of(size_t d, size_t M, const ScaNNOptions& options) {
        return {.d = d,
                .M = M,
                .refine_type = options.refine_type,
                .with_raw_data = options.with_raw_data,
                .raw_type = options.raw_type,
                .raw_norm = options.with_raw_data && options.normalize,
                .has_tag = options.with_tags};
    }

    PackedLayout packed() const {
        return {M, has_term};
    }
    size_t code_bytes() const {
        return (M + 1) / 2;
    }
    /// bytes of the d values of a refine row
    size_t refine_value_bytes() const {
        switch (refine_type) {
            case RefineType::None:
                return 0;
            case RefineType::Int8:
                return d;
            case RefineType::FP16:
            case RefineType::BF16:
                return 2 * d;
        }
        FAISS_THROW_FMT("unknown refine type %d", int(refine_type));
    }
    size_t refine_row_bytes() const {
        return refine_type == RefineType::None
                       ? 0
                       : refine_value_bytes() + 2 * sizeof(float);
    }
    /// bytes of the d values of a raw row
    size_t raw_value_bytes() const {
        return with_raw_data ? d * value_bytes(raw_type) : 0;
    }
    size_t raw_row_bytes() const {
        return raw_value_bytes() + (raw_norm ? sizeof(float) : 0);
    }
    size_t term_offset() const {
        return code_bytes();
    }
    size_t refine_offset() const {
        return term_offset() + (has_term ? sizeof(uint16_t) : 0);
    }
    size_t raw_offset() const {
        return refine_offset() + refine_row_bytes();
    }
    size_t tag_offset() const {
        return raw_offset() + raw_row_bytes();
    }
    size_t primary_offset() const {
        return tag_offset() + (has_tag ? sizeof(int64_t) : 0);
    }
    /// of the spilled copies of these entries
    EntryLayout of_copies() const {
        EntryLayout copies = *this;
        copies.refine_type = RefineType::None;
        copies.with_raw_data = copies.raw_norm = copies.has_tag = false;
        copies.raw_type = RowType::Float32;
        copies.has_primary = true;
        return copies;
    }
    /// bytes of an entry
    size_t size() const {
        return primary_offset() + (has_primary ? sizeof(uint64_t) : 0);
    }
    bool operator==(const EntryLayout&) const = default;
};

} // namespace faiss_ext
