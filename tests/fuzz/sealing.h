/*
 * The two containers, as their documents describe them (file_sections.h,
 * node_blob.cpp), written a second time: a fuzzer takes them apart, changes a
 * part and puts them together with right sizes and checksums.
 */

#pragma once

#include <optional>
#include <string>
#include <vector>

#include "targets.h"

namespace fuzz {

using Buffer = std::vector<uint8_t>;

struct FileSection {
    std::string name;
    Buffer bytes;
};

struct IndexFile {
    uint32_t version = 0;
    std::vector<FileSection> sections;
};

bool is_index_file(Bytes input);
/// nullopt if its table leads outside of the input
std::optional<IndexFile> take_apart(Bytes input);
Buffer put_together(const IndexFile& file);

constexpr size_t kBlobHeader = 48;

bool is_blob(Bytes input);
/// The type that stands in a blob's header, or "".
std::string type_of_blob(Bytes input);

} // namespace fuzz
