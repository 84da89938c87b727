/* The section "id_maps" of a file. */

#pragma once

#include <cstdint>

#include <faiss/Index.h>

#include <faiss_ext/io/file_sections.h>

namespace faiss_ext {

/// Ids of the IndexIDMaps around the index, outermost first. They are not left
/// to Faiss' own format, since Faiss 1.15 refuses a map around a placeholder.
void put_id_maps(SectionSink& sink, const faiss::Index& root);

/// Fills the maps of `root`. @param ntotal  ids that each must have
void get_id_maps(ByteReader reader, uint64_t ntotal, faiss::Index& root);

} // namespace faiss_ext
