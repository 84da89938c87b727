/*
 * Replacing rows that are in the index, by their places.
 *
 * In: places, and the rows for them. Out: the same ids at new places; used by
 * updates (the caller's new rows) and by maintenance (the same rows in other
 * lists).
 */

#pragma once

#include <cstdint>
#include <vector>

#include <faiss_ext/memory/row_types.h>

namespace faiss_ext {

class IndexIVFScaNN;

/// Places (list << 32 | offset) of rows.
/// @throws faiss::FaissException if an id is given twice, or unknown
std::vector<uint64_t>
places_of(const IndexIVFScaNN& index, size_t n, const int64_t* ids);

/** Tags stay those of the old rows.
 * @param old    places (list << 32 | offset), each once
 *  @param ids    of the entries there, same size
 *  @param rows   the new rows, same number
 *  @param lists  of the new rows, or nullptr: found by the partition
 *  @throws faiss::FaissException or std::bad_alloc; nothing changed */
void replace_rows(
        IndexIVFScaNN& index,
        const std::vector<uint64_t>& old,
        const int64_t* ids,
        const TypedRows& rows,
        const int64_t* lists);

} // namespace faiss_ext
