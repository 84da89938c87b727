/*
 * The map from primary entries to their spilled copies.
 *
 * A copy holds the place of its primary entry (ScaNNList::primary). Only
 * removals and updates need the opposite direction: the index makes this map at
 * the first of them, in one pass over the copies, and updates it from then on.
 * It takes 8 bytes a row.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss/impl/FaissAssert.h>
#include <faiss/invlists/DirectMap.h>

#include <faiss_ext/lists/direct_map.h>
#include <faiss_ext/lists/scann_lists.h>

namespace faiss_ext {

/** Checked on use: opening a mapped file does not read its copies.
 * @throws faiss::FaissException unless a copy's primary entry is there */
inline void check_primary_place(uint64_t place, const ScaNNLists& primary) {
    FAISS_THROW_IF_NOT_FMT(
            is_place(place, primary),
            "damaged spilled copies: one is of entry %zu of list %zu, which "
            "is not there",
            size_t(faiss::lo_offset(place)),
            size_t(faiss::lo_listno(place)));
}

/// Places are list << 32 | offset, as in Faiss.
class CopyPlaces {
 public:
    static constexpr uint64_t kNone = ~uint64_t(0);

    /// @throws faiss::FaissException if a copy has no primary entry, or one
    /// that
    ///         already has a copy
    CopyPlaces(const ScaNNLists& primary, const ScaNNLists& copies);

    /// Place of the copy of the entry at `primary`, or kNone.
    uint64_t get(uint64_t primary) const;
    /// Allocates only for a place beyond those known, and not for kNone.
    void set(uint64_t primary, uint64_t copy);
    /// Forgets all but the first `size` primary entries of a list.
    void truncate(size_t list_no, size_t size);
    size_t memory_usage() const;

 private:
    /// per list and offset; entries beyond the end have no copy
    std::vector<std::vector<uint64_t>> places_;
};

} // namespace faiss_ext
