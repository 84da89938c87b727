/*
 * Changes of Faiss' direct map (id -> place, list << 32 | offset) that can be
 * undone, and a check whether the map is complete.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <faiss/invlists/DirectMap.h>

#include <faiss_ext/lists/scann_lists.h>

namespace faiss_ext {

/// A row that is in no list.
constexpr uint64_t kNowhere = ~uint64_t(0);

/** A map of all entries.
 * @throws faiss::FaissException if an Array is to hold an id outside of
 *         0..ntotal - 1 */
faiss::DirectMap make_map(
        faiss::DirectMap::Type type,
        const faiss::InvertedLists& lists,
        size_t ntotal);

/** False if the map was left half filled: Faiss' set_direct_map_type() throws
 * in the middle where ids do not suit an Array. It fills the map in the order
 * of the lists, so it is complete if it has the last entry. */
bool map_fits(
        const faiss::DirectMap& map,
        const faiss::InvertedLists& lists,
        size_t ntotal);

/// Replaces a map that does not fit by none.
void drop_unfit_map(
        faiss::DirectMap& map,
        const faiss::InvertedLists& lists,
        size_t ntotal);

/** id + add_id, for a merge.
 * @throws faiss::FaissException if that is no 64-bit integer, or the -1 of a
 *         missing result */
int64_t moved_id(int64_t id, int64_t add_id);

/// Place of an id, or kNowhere.
uint64_t place_in(const faiss::DirectMap& map, int64_t id);

/// Whether there is a row at a place.
inline bool is_place(uint64_t place, const ScaNNLists& lists) {
    const size_t list = faiss::lo_listno(place);
    return list < lists.nlist &&
           faiss::lo_offset(place) < lists.list(list).size();
}

/// Place of an id, or kNowhere, also if another id is at that place: a table
/// from a file is not compared with all rows when it is read.
uint64_t checked_place_in(
        const faiss::DirectMap& map,
        const ScaNNLists& lists,
        int64_t id);

/// Changes the place of an id from `from` to `to`, which may be kNowhere.
/// Nothing happens if the map has another place for it. Allocates nothing.
void change_place(
        faiss::DirectMap& map,
        int64_t id,
        uint64_t from,
        uint64_t to);

/// A Hashtable with the entries of an Array.
faiss::DirectMap hashtable_of(const faiss::DirectMap& array);

/// Frees buckets of ids that were removed; does not fail.
void release_unused(faiss::DirectMap& map);

/// The same kind of map, without entries or memory; does not fail.
void clear_map(faiss::DirectMap& map);

size_t memory_of(const faiss::DirectMap& map);

/// Adds rows to a map; undo() removes them again.
class MapAddition {
 public:
    explicit MapAddition(faiss::DirectMap& map);
    /// @param places  of n rows, or kNowhere; @param ids  theirs, kept alive
    ///                by the caller until the end of this
    void add(size_t n, const int64_t* ids, const uint64_t* places);
    /// Does not fail.
    void undo();

 private:
    faiss::DirectMap& map_;
    size_t array_size_;
    const int64_t* ids_ = nullptr;
    const uint64_t* places_ = nullptr;
    size_t added_ = 0;
    /// row, and the place its id had before
    std::vector<std::pair<size_t, int64_t>> replaced_;
};

} // namespace faiss_ext
