/* The sections of the lists: their table, their columns, entries kept apart. */

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <faiss_ext/io/file_sections.h>
#include <faiss_ext/lists/scann_lists.h>

namespace faiss_ext {

/// "lists" or "spilled_lists"
void put_list_table(SectionSink& sink, const ScaNNLists& lists);
/// The same. @param sizes  of the lists
void put_list_sizes(
        SectionSink& sink,
        const EntryLayout& layout,
        const std::vector<uint64_t>& sizes);

/** Sizes of the lists.
 * @param layout   that the lists of the index have
 * @param largest  vectors that there can be at most
 * @param version  of the file */
std::vector<uint64_t> get_list_table(
        ByteReader reader,
        size_t nlist,
        const EntryLayout& layout,
        uint64_t largest,
        uint32_t version);

/// Appends the sections of the columns. Borrows `lists`.
void add_column_sections(
        const ScaNNLists& lists,
        const std::string& prefix,
        std::vector<Section>& sections);

/** Reads them.
 * @param in_memory  columns, by their names without the prefix, that are copied
 *        and verified; the others are borrowed from a mapped file. From a stream
 *        all are copied */
std::unique_ptr<ScaNNLists> read_columns(
        const EntryLayout& layout,
        const std::vector<uint64_t>& sizes,
        const std::string& prefix,
        const ScaNNLists::ColumnFilter& in_memory,
        SectionReader& reader);

/// "apart" or "spilled_apart"
void put_apart(SectionSink& sink, const ScaNNLists& lists);
void get_apart(ByteReader reader, ScaNNLists& lists);

/// Throws unless each copy names another entry of the primary lists.
void check_primary(const ScaNNLists& spilled, const ScaNNLists& lists);

} // namespace faiss_ext
