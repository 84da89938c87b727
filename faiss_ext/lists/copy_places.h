/*
 * The way from a primary entry to its spilled copy.
 *
 * A copy knows the place of its primary entry (ScaNNList::primary); this is the
 * way back, which only removals and updates need. The index makes it at the
 * first of them, in one pass over the copies, and keeps it in step from then
 * on. It takes 8 bytes a row.
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

/** Of a mapped file the copies are not read when it is opened.
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

    /// @throws faiss::FaissException if a copy is of no entry, or of one that
    ///         has another
    CopyPlaces(const ScaNNLists& primary, const ScaNNLists& copies);

    /// Place of the copy of the entry at `primary`, or kNone.
    uint64_t get(uint64_t primary) const;
    /// Allocates only for a place beyond those known, and not for kNone.
    void set(uint64_t primary, uint64_t copy);
    /// The list has only `size` primary entries any more.
    void truncate(size_t list_no, size_t size);
    size_t memory_usage() const;

 private:
    /// per list and offset; none beyond what is held
    std::vector<std::vector<uint64_t>> places_;
};

} // namespace faiss_ext
