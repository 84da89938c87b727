/*
 * Many runs -> one index file, list by list, in bounded memory.
 *
 * The file is the one, byte for byte, that saving the trained index would give
 * after the rows of all runs were added to it. In: a trained index without rows,
 * as a file, and runs (run_files.h). Out: a file, written whole or not at all.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <faiss_ext/io/run_files.h>

namespace faiss_ext {

/// Bytes that merging takes, beside the model of the trained index.
size_t merge_memory(const RunLayout& layout, size_t runs);

/** @param trained  an index file without rows, of this layout
 *  @param runs     in the order of their rows: the first begins at row 0, each
 *                  other one after the last row of the one before
 *  @param target   is replaced at the end
 *  @param progress called with bytes written, of how many
 *  @throws faiss::FaissException naming the file that is wrong; if a list had
 *          2^32 rows or more */
void merge_runs(
        const std::string& trained,
        const RunLayout& layout,
        const std::vector<std::string>& runs,
        const std::string& target,
        const std::function<void(uint64_t done, uint64_t total)>& progress);

} // namespace faiss_ext
