/*
 * Runs: the rows of one piece of a build, as files of lists without a model.
 *
 *   run            RunHeader
 *   lists, .., spilled_apart   as in an index file (index_header.h)
 *
 * In: an index with the rows of the run. Out: a file; next: merge_runs.
 */

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <faiss_ext/codes/entry_layout.h>
#include <faiss_ext/io/file_sections.h>
#include <faiss_ext/io/regular_files.h>
#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

struct RunHeader {
    uint64_t first = 0;    ///< number of its first row
    uint64_t rows = 0;     ///< >= 1
    uint32_t training = 0; ///< file_checksum() of the trained index
    uint32_t ends = 0;     ///< CRC-32 of its first and its last row, as given
};

/// What all runs of a build, and its result, have in common.
struct RunLayout {
    size_t nlist = 0;
    EntryLayout lists;
    std::optional<EntryLayout> copies; ///< of the spilled copies

    static RunLayout of(const IndexState& state);
};

/// Of a file of sections: equal only if all of its bytes are.
uint32_t file_checksum(const std::string& path);

/// Writes the lists, synced and renamed into place.
void write_run(
        const std::string& path,
        const RunHeader& header,
        const IndexState& state);

/// A run that is read from front to back, in the order of its sections.
class RunReader {
 public:
    /// @param buffer  bytes that are read at a time
    /// @throws faiss::FaissException unless it is a run of this layout
    RunReader(const std::string& path, const RunLayout& layout, size_t buffer);

    const RunHeader& header() const {
        return header_;
    }
    const std::string& path() const {
        return file_.path();
    }
    uint64_t bytes() const {
        return file_.size();
    }
    /// Rows of each list; of the spilled copies, empty without.
    const std::vector<uint64_t>& sizes() const {
        return sizes_;
    }
    const std::vector<uint64_t>& copies() const {
        return copies_;
    }
    /// Frees them: many runs of many lists would take much memory.
    void drop_sizes();
    /// At the first column.
    SectionReader& sections() {
        return *sections_;
    }

 private:
    std::vector<char> buffer_;
    InputFile file_;
    std::unique_ptr<faiss::FileIOReader> stream_;
    std::unique_ptr<SectionReader> sections_;
    RunHeader header_;
    std::vector<uint64_t> sizes_, copies_;
};

} // namespace faiss_ext
