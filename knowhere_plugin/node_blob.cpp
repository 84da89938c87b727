#include <knowhere_plugin/node_blob.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>

#include <faiss/impl/FaissException.h>
#include <faiss/index_io.h>

#include <faiss_ext/io/faiss_bytes.h>

#include <knowhere_plugin/guard.h>
#include <knowhere_plugin/nodes.h>

namespace knowhere_plugin {

namespace {

constexpr char kMagic[8] = {'K', 'n', 'P', 'l', 'u', 'g', 'i', 'n'};
constexpr uint32_t kBlobVersion = 1;

struct Header {
    char magic[8];
    uint32_t version;
    uint32_t metric;
    char type[16];
    uint64_t size;     ///< bytes that follow
    uint64_t checksum; ///< of header (this field 0) and bytes
};
static_assert(sizeof(Header) == 48);

uint64_t mix(uint64_t hash, const uint8_t* bytes, size_t size) {
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = 0;
        std::memcpy(&word, bytes + i, std::min<size_t>(8, size - i));
        hash = (hash ^ word) * 0x9e3779b97f4a7c15ull;
        hash ^= hash >> 29;
    }
    return hash;
}

uint64_t checksum(Header header, std::span<const uint8_t> bytes) {
    header.checksum = 0;
    uint64_t hash = mix(0, reinterpret_cast<uint8_t*>(&header), sizeof(header));
    return mix(hash, bytes.data(), bytes.size());
}

[[noreturn]] void refuse(const char* type, const std::string& why) {
    throw Fault(
            StatusCode::invalid_binary_set,
            "not a blob of " + std::string(type) + ": " + why);
}

faiss_ext::FaissKind kind_of(const std::string& type) {
    using faiss_ext::FaissKind;
    static const std::map<std::string, FaissKind> kinds = {
            {"FLAT", FaissKind::Flat},
            {"IVF_FLAT", FaissKind::IVFFlat},
            {"IVF_PQ", FaissKind::IVFPQ},
            {"HNSW", FaissKind::HNSWFlat}};
    return kinds.at(type);
}

struct CountingWriter : faiss::IOWriter {
    size_t bytes = 0;

    size_t operator()(const void*, size_t size, size_t count) override {
        bytes += size * count;
        return count;
    }
};

} // namespace

Blob write_blob(const char* type, const faiss::Index& index, Metric metric) {
    faiss::VectorIOWriter writer;
    writer.data.resize(sizeof(Header));
    faiss::write_index(&index, &writer);
    Header header{};
    std::memcpy(header.magic, kMagic, sizeof(kMagic));
    header.version = kBlobVersion;
    header.metric = uint32_t(metric);
    std::strncpy(header.type, type, sizeof(header.type) - 1);
    header.size = writer.data.size() - sizeof(header);
    header.checksum =
            checksum(header, std::span(writer.data).subspan(sizeof(header)));
    std::memcpy(writer.data.data(), &header, sizeof(header));
    return std::move(writer.data);
}

BuiltIndex read_blob(const char* type, std::span<const uint8_t> blob) {
    Header header{};
    if (blob.size() < sizeof(header)) {
        refuse(type, std::to_string(blob.size()) + " bytes");
    }
    std::memcpy(&header, blob.data(), sizeof(header));
    if (std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0) {
        refuse(type, "magic bytes are wrong");
    }
    if (header.version != kBlobVersion) {
        refuse(type,
               "version = " + std::to_string(header.version) + " (allowed: 1)");
    }
    // all of it, also behind the end of the word
    char wanted[sizeof(header.type)] = {};
    std::strncpy(wanted, type, sizeof(wanted) - 1);
    if (std::memcmp(header.type, wanted, sizeof(wanted)) != 0) {
        size_t length = strnlen(header.type, sizeof(header.type));
        refuse(type, "it holds \"" + std::string(header.type, length) + "\"");
    }
    auto bytes = blob.subspan(sizeof(header));
    if (header.size != bytes.size()) {
        refuse(type,
               "bytes after the header = " + std::to_string(bytes.size()) +
                       " (allowed: " + std::to_string(header.size) + ")");
    }
    if (header.checksum != checksum(header, bytes)) {
        refuse(type, "the checksum is wrong");
    }
    if (header.metric > uint32_t(Metric::COSINE)) {
        refuse(type,
               "metric = " + std::to_string(header.metric) +
                       " (allowed: 0..2)");
    }
    const Metric metric{header.metric};
    faiss_ext::FaissExpected expected;
    expected.kinds = {kind_of(type)};
    expected.metric = faiss_metric(metric);
    expected.is_trained = true;
    try {
        return {faiss_ext::read_faiss_bytes(bytes, expected), metric};
    } catch (const faiss::FaissException& error) {
        refuse(type, text_of(error));
    }
}

faiss_ext::InputFile open_file(const std::string& path) {
    try {
        return faiss_ext::InputFile(path);
    } catch (const faiss::FaissException& error) {
        throw Fault(StatusCode::disk_file_error, text_of(error));
    }
}

Blob read_bytes(const std::string& path) {
    faiss_ext::InputFile file = open_file(path);
    Blob bytes(file.size());
    size_t read = std::fread(bytes.data(), 1, bytes.size(), file.stream());
    if (read != bytes.size()) {
        throw Fault(StatusCode::disk_file_error, "cannot read " + path);
    }
    return bytes;
}

int64_t written_size(const faiss::Index& index) {
    CountingWriter writer;
    faiss::write_index(&index, &writer);
    return int64_t(writer.bytes);
}

// --------------------------------------------------------- of every node

int64_t FaissNode::bytes_of(const faiss::Index& index) const {
    return written_size(index);
}

Blob FaissNode::write(const faiss::Index& index, Metric metric) const {
    return write_blob(type_, index, metric);
}

BuiltIndex FaissNode::read(std::span<const uint8_t> blob) const {
    return read_blob(type_, blob);
}

BuiltIndex FaissNode::read_file(const std::string& path, bool) const {
    return read(read_bytes(path));
}

Expected<Blob> FaissNode::Serialize() const noexcept {
    return guarded_value<Blob>([&] {
        const NodeIndex::Reading index = reading();
        return write(*index, index.metric());
    });
}

Status FaissNode::Deserialize(
        std::span<const uint8_t> blob,
        const Config& config) noexcept {
    return guarded([&] {
        Parameters parameters(schema_, config);
        replace(read(blob));
    });
}

Status FaissNode::DeserializeFromFile(
        const std::string& path,
        const Config& config) noexcept {
    return guarded([&] {
        Parameters parameters(schema_, config);
        replace(read_file(path, parameters.flag("enable_mmap")));
    });
}

} // namespace knowhere_plugin
