/* The section "id_maps" of a file. */

#pragma once

#include <cstdint>

#include <faiss/Index.h>

#include <faiss_ext/io/file_sections.h>
#include <faiss_ext/lists/scann_lists.h>

namespace faiss_ext {

/// Ids of the IndexIDMaps around the index, outermost first. They are not left
/// to Faiss' own format, since Faiss 1.15 refuses a map around a placeholder.
void put_id_maps(SectionSink& sink, const faiss::Index& root);

/// Fills the maps of `root`. @param ntotal  ids that each must have
void get_id_maps(ByteReader reader, uint64_t ntotal, faiss::Index& root);

/// IndexIDMap looks ids up in its table and does not check its bounds: those in
/// the lists must be in the innermost one.
/// @param spilled  or nullptr
void check_mapped_ids(
        const faiss::Index& root,
        const ScaNNLists& lists,
        const ScaNNLists* spilled);

} // namespace faiss_ext
