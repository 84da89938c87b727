/*
 * Files by path: read in the state of one moment, written whole or not at all.
 *
 * Only regular files. Opening a pipe waits for a process at its other end,
 * opening a device may have any effect, and neither can be mapped or replaced:
 * they are refused without being opened.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include <faiss/impl/io.h>

namespace faiss_ext {

/** A file opened for reading. It stays the same file, of the same size, when
 * another one is renamed to its path. */
class InputFile {
 public:
    /// @throws faiss::FaissException unless `path` is a regular file that can
    ///         be read and is not empty
    /// @param what  begins messages
    explicit InputFile(
            const std::string& path,
            const char* what = "cannot read the index file");

    uint64_t size() const {
        return size_;
    }
    const std::string& path() const {
        return path_;
    }
    /// At the beginning of the file; owned by this object.
    FILE* stream() const {
        return stream_.get();
    }
    /// The whole file, read only; outlives this object.
    std::shared_ptr<const uint8_t> map() const;
    /// Pages of map() that were read take no memory of this process any more.
    void forget_pages(const std::shared_ptr<const uint8_t>& mapping) const;

 private:
    struct Close {
        void operator()(FILE* stream) const {
            std::fclose(stream);
        }
    };

    std::string path_;
    uint64_t size_ = 0;
    std::unique_ptr<FILE, Close> stream_;
};

/** A new file beside the target. It replaces the target when it is complete;
 * otherwise it is removed, and the target stays as it was.
 *
 * Its name has a fixed length (targets may have names as long as the system
 * allows) and follows from that of the target, so that the next one finds files
 * that killed processes have left, and removes them: files of such a name, of
 * this user, that no living process has locked. Only those of the same boot of
 * the same machine, since locks of other machines are not always visible. */
class OutputFile : public faiss::IOWriter {
 public:
    /// @throws faiss::FaissException if `target` is there and is no regular
    ///         file, or nothing can be written beside it
    explicit OutputFile(const std::string& target);
    OutputFile(const OutputFile&) = delete;
    OutputFile& operator=(const OutputFile&) = delete;
    ~OutputFile() override;

    size_t operator()(const void* data, size_t size, size_t n) override;

    /// What is written next goes there. @throws faiss::FaissException
    void seek(uint64_t offset);

    /// Syncs and renames. @throws faiss::FaissException
    void become_target();

 private:
    bool create(const std::string& path);

    std::string target_;
    int file_ = -1;
    bool kept_ = false;
};

} // namespace faiss_ext
