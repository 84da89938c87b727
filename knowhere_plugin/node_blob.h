/*
 * Blobs of the plain Faiss nodes: a checked header before Faiss' own bytes.
 * (SCANN's blob is faiss_ext's own file, which is checked already.)
 */

#pragma once

#include <span>

#include <faiss/impl/io.h>

#include <faiss_ext/regular_files.h>
#include <knowhere_plugin/faiss_node.h>

namespace knowhere_plugin {

Blob write_blob(const char* type, const Held& held);
/// @throws Fault(invalid_binary_set)
Held read_blob(const char* type, std::span<const uint8_t> blob);
/// A regular file. @throws Fault(disk_file_error)
faiss_ext::InputFile open_file(const std::string& path);
/// @throws Fault(disk_file_error)
Blob read_bytes(const std::string& path);
/// Bytes that Faiss would write.
int64_t written_size(const faiss::Index& index);

/// Reads borrowed bytes, without a copy.
class SpanReader : public faiss::IOReader {
 public:
    explicit SpanReader(std::span<const uint8_t> bytes) : bytes_(bytes) {}

    size_t operator()(void* out, size_t size, size_t count) override;

 private:
    std::span<const uint8_t> bytes_;
};

} // namespace knowhere_plugin
