#include "sealing.h"

#include <algorithm>
#include <cstring>

#include <zlib.h>

namespace fuzz {

namespace {

constexpr size_t kHeader = 32, kEntry = 40, kName = 16, kAlign = 64;
constexpr uint32_t kMostSections = 64;

template <class T>
T value_at(Bytes bytes, size_t at) {
    T value;
    std::memcpy(&value, bytes.data() + at, sizeof(T));
    return value;
}

template <class T>
void set_at(Buffer& bytes, size_t at, T value) {
    std::memcpy(bytes.data() + at, &value, sizeof(T));
}

uint32_t crc_of(Bytes bytes) {
    return uint32_t(crc32(0, bytes.data(), uInt(bytes.size())));
}

void seal_file(Buffer& bytes) {
    auto count = value_at<uint32_t>(bytes, 12);
    if (count > kMostSections || kHeader + count * kEntry > bytes.size()) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        size_t entry = kHeader + i * kEntry;
        auto offset = value_at<uint64_t>(bytes, entry + 16);
        auto size = value_at<uint64_t>(bytes, entry + 24);
        if (offset <= bytes.size() && size <= bytes.size() - offset) {
            set_at(bytes,
                   entry + 32,
                   crc_of(Bytes(bytes).subspan(offset, size)));
        }
    }
    set_at<uint32_t>(bytes, 24, 0);
    set_at(bytes, 24, crc_of(Bytes(bytes).first(kHeader + count * kEntry)));
}

void seal_blob(Buffer& bytes) {
    set_at<uint64_t>(bytes, 32, bytes.size() - kBlobHeader);
    set_at<uint64_t>(bytes, 40, 0);
    uint64_t hash = 0;
    auto mix = [&](Bytes part) {
        for (size_t i = 0; i < part.size(); i += 8) {
            uint64_t word = 0;
            std::memcpy(
                    &word,
                    part.data() + i,
                    std::min<size_t>(8, part.size() - i));
            hash = (hash ^ word) * 0x9e3779b97f4a7c15ull;
            hash ^= hash >> 29;
        }
    };
    mix(Bytes(bytes).first(kBlobHeader));
    mix(Bytes(bytes).subspan(kBlobHeader));
    set_at(bytes, 40, hash);
}

} // namespace

bool is_index_file(Bytes input) {
    return input.size() >= kHeader &&
           std::memcmp(input.data(), "ScaNNidx", 8) == 0;
}

bool is_blob(Bytes input) {
    return input.size() >= kBlobHeader &&
           std::memcmp(input.data(), "KnPlugin", 8) == 0;
}

std::string type_of_blob(Bytes input) {
    if (!is_blob(input)) {
        return is_index_file(input) ? "SCANN" : "";
    }
    auto name = reinterpret_cast<const char*>(input.data() + 16);
    return {name, strnlen(name, 16)};
}

Buffer sealed(Bytes input) {
    Buffer bytes(input.begin(), input.end());
    if (is_index_file(input)) {
        seal_file(bytes);
    } else if (is_blob(input)) {
        seal_blob(bytes);
    }
    return bytes;
}

std::optional<IndexFile> take_apart(Bytes input) {
    if (!is_index_file(input)) {
        return {};
    }
    IndexFile file;
    file.version = value_at<uint32_t>(input, 8);
    auto count = value_at<uint32_t>(input, 12);
    if (count > kMostSections || kHeader + count * kEntry > input.size()) {
        return {};
    }
    for (size_t i = 0; i < count; i++) {
        size_t entry = kHeader + i * kEntry;
        auto offset = value_at<uint64_t>(input, entry + 16);
        auto size = value_at<uint64_t>(input, entry + 24);
        if (offset > input.size() || size > input.size() - offset) {
            return {};
        }
        auto name = reinterpret_cast<const char*>(input.data() + entry);
        Bytes bytes = input.subspan(offset, size);
        file.sections.push_back(
                {{name, strnlen(name, kName)}, {bytes.begin(), bytes.end()}});
    }
    return file;
}

Buffer put_together(const IndexFile& file) {
    Buffer bytes(kHeader + file.sections.size() * kEntry);
    std::memcpy(bytes.data(), "ScaNNidx", 8);
    set_at(bytes, 8, file.version);
    set_at(bytes, 12, uint32_t(file.sections.size()));
    size_t entry = kHeader;
    for (const FileSection& section : file.sections) {
        bytes.resize((bytes.size() + kAlign - 1) / kAlign * kAlign);
        std::memcpy(
                &bytes[entry],
                section.name.data(),
                std::min(section.name.size(), kName));
        set_at<uint64_t>(bytes, entry + 16, bytes.size());
        set_at<uint64_t>(bytes, entry + 24, section.bytes.size());
        bytes.insert(bytes.end(), section.bytes.begin(), section.bytes.end());
        entry += kEntry;
    }
    set_at<uint64_t>(bytes, 16, bytes.size());
    seal_file(bytes);
    return bytes;
}

} // namespace fuzz
