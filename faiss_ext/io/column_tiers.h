/*
 * Which columns of a file come into memory within a bound, and where those of an
 * index are.
 *
 * The order is that of what a query loses: codes and ids are read by every scan,
 * places of spilled copies by every candidate, refine codes by some hundred rows,
 * raw rows by some dozen. What does not fit is left out, the next one tried. What
 * is left over keeps raw rows that were read.
 */

#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include <faiss_ext/io/file_sections.h>
#include <faiss_ext/model/index_state.h>
#include <faiss_ext/scann_options.h>

namespace faiss_ext {

/// Names of sections: columns of the lists, those of copies kOfCopies + "..".
using ColumnNames = std::set<std::string>;

/// How a file is opened.
struct ColumnPlan {
    ColumnNames in_memory;
    bool rows_on_demand = false; ///< raw rows stay in the file
    uint64_t row_cache = 0;      ///< bytes that are left for those read
};

/// The columns that fit into memory beside all that is no column.
/// @throws ArgumentFault if that alone does not fit
ColumnPlan plan_columns(const SectionReader& reader, const ReadBounds& bounds);

/// What a file that is opened so has.
std::vector<ColumnBytes> column_bytes(
        const SectionReader& reader,
        const ColumnPlan& plan);
/// What an index has.
std::vector<ColumnBytes> column_bytes(const IndexState& state);

} // namespace faiss_ext
