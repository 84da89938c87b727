/* The sections of the lists: their table, their columns, entries kept apart. */

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <faiss_ext/io/file_sections.h>
#include <faiss_ext/lists/scann_lists.h>

namespace faiss_ext {

/// Before the names of the sections of spilled copies; before the others "".
constexpr char kOfCopies[] = "spilled_";

/// Appends all of them. Borrows the lists. @param spilled  or nullptr
void add_list_sections(
        const ScaNNLists& lists,
        const ScaNNLists* spilled,
        std::vector<Section>& sections);

/// Section "lists", alone. @param sizes  of the lists
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

/** Reads the columns.
 * @param in_memory  columns, by their names without the prefix, that are copied
 *        and verified; the others are borrowed from a mapped file. From a stream
 *        all are copied */
std::unique_ptr<ScaNNLists> read_columns(
        const EntryLayout& layout,
        const std::vector<uint64_t>& sizes,
        const std::string& prefix,
        const ScaNNLists::ColumnFilter& in_memory,
        SectionReader& reader);

/// Section "apart".
void get_apart(ByteReader reader, ScaNNLists& lists);

/// Throws unless each copy names another entry of the primary lists.
void check_primary(const ScaNNLists& spilled, const ScaNNLists& lists);

} // namespace faiss_ext
