/*
 * The folder of a build that is under way: which build it is, its trained index,
 * its runs.
 *
 *   build.txt       which build: lines of "key value", written once
 *   lock            locked by the process that builds
 *   rows            the rows of a stream, once they are all there
 *   trained.scann   the trained index without rows
 *   run-00000, ..   rows, see run_files.h
 *
 * Each file is written whole or not at all, so that those that are there say how
 * far the build is, whenever its process ends.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace faiss_ext {

/// Bytes that can still be written to the file system of a folder.
uint64_t free_bytes(const std::string& folder);
/// Bytes of the files in the folder of an earlier build; 0 if there is none.
uint64_t bytes_kept(const std::string& target);

class BuildFolder {
 public:
    using Identity = std::vector<std::pair<std::string, std::string>>;

    /** Makes the folder "<target>.build", or goes on in it.
     * @param identity  keys and values, on one line each
     * @throws faiss::FaissException if another build or process has it, or
     *         nothing can be written there */
    BuildFolder(const std::string& target, const Identity& identity);
    BuildFolder(const BuildFolder&) = delete;
    BuildFolder& operator=(const BuildFolder&) = delete;
    ~BuildFolder();

    const std::string& path() const {
        return path_;
    }
    std::string trained() const {
        return path_ + "/trained.scann";
    }
    std::string rows() const {
        return path_ + "/rows";
    }
    std::string run(size_t i) const;
    /// Removes what a build has put there, and the folder if nothing else is in
    /// it.
    void remove();

 private:
    void lock();
    void check(const std::string& wanted) const;

    std::string path_;
    int lock_ = -1;
};

} // namespace faiss_ext
