/* The section "direct_map". */

#pragma once

#include <cstdint>

#include <faiss/invlists/DirectMap.h>

#include <faiss_ext/io/file_sections.h>
#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

/// NoMap if the map was left half filled by an exception: it would be refused
/// when read.
faiss::DirectMap::Type saved_map_type(const IndexState& state);

/// A map of saved_map_type().
void put_direct_map(SectionSink& sink, const IndexState& state);

/// @throws faiss::FaissException on entries that are not at the place that an
///         Array has for them, or in no list
void get_direct_map(
        ByteReader reader,
        faiss::DirectMap::Type type,
        uint64_t ntotal,
        const ScaNNLists& lists,
        faiss::DirectMap& map);

} // namespace faiss_ext
