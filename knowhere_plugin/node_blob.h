/*
 * Blobs of the plain Faiss nodes: a checked header before Faiss' own bytes,
 * which are checked too (faiss_ext/io/faiss_bytes.h): they have the class and
 * metric of the node, and no number in them points out of bounds.
 * (SCANN's blob is faiss_ext's own file, which is checked already.)
 */

#pragma once

#include <span>

#include <faiss_ext/io/regular_files.h>
#include <knowhere_plugin/faiss_node.h>

namespace knowhere_plugin {

Blob write_blob(const char* type, const faiss::Index& index, Metric metric);
/// @throws Fault(invalid_binary_set)
BuiltIndex read_blob(const char* type, std::span<const uint8_t> blob);
/// A regular file. @throws Fault(disk_file_error)
faiss_ext::InputFile open_file(const std::string& path);
/// @throws Fault(disk_file_error)
Blob read_bytes(const std::string& path);
/// Bytes that Faiss would write.
int64_t written_size(const faiss::Index& index);

} // namespace knowhere_plugin
