/*
 * Adding rows: assign -> encode -> append. Everything that can fail comes
 * before the first change, or is undone.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss_ext/memory/row_types.h>

namespace faiss_ext {

class IndexIVFScaNN;

/** @param rows  n of them, as given
 *  @param ids  size n, or nullptr for running numbers
 *  @param first  number of the first row, for messages
 *  @param lists  of the rows, size n, or nullptr: found by the partition
 *  @param tags   of the rows, size n, where they have some; nullptr: 0
 *  @return     places of the rows (list << 32 | offset); kNowhere for those that
 *              no list holds
 *  @throws faiss::FaissException or std::bad_alloc; nothing changed */
std::vector<uint64_t> add_rows(
        IndexIVFScaNN& index,
        size_t n,
        const TypedRows& rows,
        const int64_t* ids,
        size_t first = 0,
        const int64_t* lists = nullptr,
        const int64_t* tags = nullptr);

/// Rows that such a call checks and assigns at a time. Which lists it finds
/// depends on where these parts begin and end, if there are very many lists.
size_t rows_at_a_time(size_t nlist, size_t d);

} // namespace faiss_ext
