#include <faiss_ext/io/file_sections.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include <zlib.h>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/io/faiss_codes.h>
#include <faiss_ext/io/regular_files.h>
#include <faiss_ext/memory/aligned_buffer.h>

namespace faiss_ext {

namespace {

/// The name of a file of Faiss by its first bytes, for a message, or nothing.
std::string faiss_file_kind(const char* magic) {
    const std::string code(magic, 4);
    const char* name = faiss_class_name(code);
    return name == nullptr ? ""
                           : "this is a file of Faiss (" + code + ": " + name +
                                     "), which faiss::read_index reads; ";
}
constexpr size_t kNameBytes = 16;
constexpr size_t kBufferBytes = 1 << 20;
/// far above what any version needs: bounds the table of a damaged header
constexpr uint32_t kMaxSections = 64;
/// far above what any disk holds: sums of sizes below it do not overflow
constexpr uint64_t kMaxBytes = uint64_t(1) << 62;

struct Header {
    char magic[8];
    uint32_t version;
    uint32_t sections;
    uint64_t file_size;
    uint32_t crc;
    uint32_t zero;
};
static_assert(sizeof(Header) == 32);

struct TableEntry {
    char name[kNameBytes];
    uint64_t offset;
    uint64_t size;
    uint32_t crc;
    uint32_t zero;
};
static_assert(sizeof(TableEntry) == 40);

uint32_t crc_of(uint32_t crc, const void* data, size_t n) {
    // not crc32_z(): zlib before 1.2.9, as Milvus 2.3.5 brings along, has none
    const Bytef* bytes = static_cast<const Bytef*>(data);
    while (n > 0) {
        uInt part = uInt(std::min(n, size_t(1) << 30));
        crc = uint32_t(crc32(crc, bytes, part));
        bytes += part;
        n -= part;
    }
    return crc;
}

uint64_t aligned(uint64_t n) {
    return (n + kAlignment - 1) / kAlignment * kAlignment;
}

/// A name for messages, with bytes that are not printable replaced.
std::string shown(const char* name) {
    std::string text(name, strnlen(name, kNameBytes));
    std::replace_if(
            text.begin(),
            text.end(),
            [](char c) { return c < ' ' || c > '~'; },
            '?');
    return text;
}

uint32_t crc_of_header(Header header, const std::vector<TableEntry>& table) {
    header.crc = 0;
    uint32_t crc = crc_of(0, &header, sizeof(header));
    return crc_of(crc, table.data(), table.size() * sizeof(TableEntry));
}

uint64_t header_bytes(size_t sections) {
    return sizeof(Header) + sections * sizeof(TableEntry);
}

TableEntry table_entry(
        const Section& section,
        uint64_t offset,
        uint64_t size,
        uint32_t crc) {
    FAISS_THROW_IF_NOT(section.name.size() <= kNameBytes);
    TableEntry entry;
    std::memset(&entry, 0, sizeof(entry));
    std::memcpy(entry.name, section.name.data(), section.name.size());
    entry.offset = offset;
    entry.size = size;
    entry.crc = crc;
    return entry;
}

/// The header and the table.
void put_table(SectionSink& sink, const std::vector<TableEntry>& table) {
    Header header;
    std::memset(&header, 0, sizeof(header));
    std::memcpy(header.magic, kFileMagic, sizeof(kFileMagic));
    header.version = kFormatVersion;
    header.sections = table.size();
    header.file_size = table.back().offset + table.back().size;
    header.crc = crc_of_header(header, table);
    sink.put_value(header);
    sink.put(table.data(), table.size() * sizeof(TableEntry));
}

} // namespace

SectionSink::SectionSink(
        faiss::IOWriter* writer,
        uint64_t bytes,
        bool checksums)
        : writer_(writer), checksums_(checksums || writer == nullptr) {
    if (writer != nullptr) {
        buffer_.reserve(size_t(std::min<uint64_t>(bytes, kBufferBytes)));
    }
}

void SectionSink::put(const void* data, size_t n) {
    auto bytes = static_cast<const uint8_t*>(data);
    size_ += n;
    if (checksums_) {
        crc_ = crc_of(crc_, bytes, n);
    }
    if (writer_ == nullptr) {
        return;
    }
    if (buffer_.size() + n <= kBufferBytes) {
        buffer_.insert(buffer_.end(), bytes, bytes + n);
    } else {
        flush();
        write_out(bytes, n);
    }
}

void SectionSink::align() {
    static constexpr uint8_t zeros[kAlignment] = {};
    put(zeros, aligned(size_) - size_);
}

void SectionSink::flush() {
    write_out(buffer_.data(), buffer_.size());
    buffer_.clear();
}

void SectionSink::write_out(const uint8_t* data, size_t n) {
    if (n == 0) {
        return;
    }
    size_t written = (*writer_)(data, 1, n);
    FAISS_THROW_IF_NOT_FMT(
            written == n,
            "cannot write the index to %s: %zu of %zu bytes written (%s)",
            writer_->name.c_str(),
            written,
            n,
            std::generic_category().message(errno).c_str());
}

void write_sections(
        const std::vector<Section>& sections,
        faiss::IOWriter* writer) {
    std::vector<TableEntry> table;
    uint64_t end = header_bytes(sections.size());
    for (const Section& section : sections) {
        SectionSink counter(nullptr);
        section.produce(counter);
        table.push_back(table_entry(
                section, aligned(end), counter.size(), counter.take_crc()));
        end = table.back().offset + table.back().size;
    }
    SectionSink sink(writer, end);
    put_table(sink, table);
    for (size_t i = 0; i < sections.size(); i++) {
        sink.align();
        sections[i].produce(sink);
        FAISS_THROW_IF_NOT_FMT(
                sink.size() == table[i].offset + table[i].size,
                "section '%s': the index changed while it was saved",
                sections[i].name.c_str());
    }
    sink.flush();
}

void stream_sections(const std::vector<Section>& sections, OutputFile& file) {
    std::vector<TableEntry> table(sections.size());
    SectionSink sink(&file, kBufferBytes, true);
    put_table(sink, table); // its place; written below
    for (size_t i = 0; i < sections.size(); i++) {
        sink.align();
        const uint64_t offset = sink.size();
        (void)sink.take_crc();
        sections[i].produce(sink);
        table[i] = table_entry(
                sections[i], offset, sink.size() - offset, sink.take_crc());
    }
    sink.flush();
    file.seek(0);
    SectionSink head(&file, header_bytes(table.size()));
    put_table(head, table);
    head.flush();
}

void ByteReader::check_left(uint64_t n, size_t size) const {
    check(n <= (bytes_.size() - at_) / size, "too short for what it counts");
}

void ByteReader::get(void* out, size_t n) {
    check_left(n, 1);
    if (n > 0) {
        std::memcpy(out, bytes_.data() + at_, n);
    }
    at_ += n;
}

void ByteReader::finish() const {
    check(at_ == bytes_.size(), "longer than its contents");
}

void ByteReader::fail(const std::string& message) const {
    FAISS_THROW_FMT(
            "cannot read the index: section '%s': %s",
            section_.c_str(),
            message.c_str());
}

SectionReader::SectionReader(faiss::IOReader* stream, uint64_t size, bool whole)
        : stream_(stream), size_(size), whole_(whole) {
    read_header();
}

SectionReader::SectionReader(const uint8_t* data, uint64_t size, bool verify)
        : data_(data), size_(size), verify_borrowed_(verify) {
    read_header();
}

void SectionReader::fail(const std::string& message) const {
    FAISS_THROW_FMT(
            "cannot read the index: section '%s': %s",
            current_.c_str(),
            message.c_str());
}

void SectionReader::fetch(void* out, size_t n) {
    if (n == 0) {
        return;
    }
    if (size_ != 0 && n > size_ - at_) {
        fail("the file is truncated");
    }
    if (data_ != nullptr) {
        std::memcpy(out, data_ + at_, n);
    } else if ((*stream_)(out, 1, n) != n) {
        fail("the file is truncated or cannot be read");
    }
    at_ += n;
}

void SectionReader::read_header() {
    Header header;
    fetch(&header, sizeof(header));
    if (std::memcmp(header.magic, kFileMagic, sizeof(kFileMagic)) != 0) {
        fail(faiss_file_kind(header.magic) +
             "this is not a file of a ScaNN index");
    }
    // before the checksum, which a later version may keep elsewhere
    if (header.version > kFormatVersion) {
        fail("format version " + std::to_string(header.version) +
             " is newer than " + std::to_string(kFormatVersion) +
             ", the newest that this library reads");
    }
    if (header.version == 0) {
        fail("there is no format version 0");
    }
    version_ = header.version;
    checksum_ = header.crc;
    if (header.sections == 0 || header.sections > kMaxSections) {
        fail("damaged: " + std::to_string(header.sections) + " sections");
    }
    std::vector<TableEntry> table(header.sections);
    fetch(table.data(), table.size() * sizeof(TableEntry));
    if (crc_of_header(header, table) != header.crc) {
        fail("damaged: wrong checksum");
    }
    for (const TableEntry& entry : table) {
        table_.push_back(
                {shown(entry.name), entry.offset, entry.size, entry.crc});
    }
    check_layout(header.file_size);
}

void SectionReader::check_layout(uint64_t file_size) const {
    if (file_size > kMaxBytes) {
        fail("damaged: a file of " + std::to_string(file_size) + " bytes");
    }
    uint64_t end = at_;
    for (const Entry& entry : table_) {
        if (entry.offset != aligned(end) || entry.offset > file_size ||
            entry.size > file_size - entry.offset) {
            fail("damaged: place of section '" + entry.name + "'");
        }
        end = entry.offset + entry.size;
        if (size_ != 0 && end > size_) {
            fail("the file ends at byte " + std::to_string(size_) +
                 ", inside section '" + entry.name + "', which ends at " +
                 std::to_string(end));
        }
    }
    if (end != file_size || (size_ != 0 && whole_ && size_ != file_size)) {
        fail("damaged: the file has " + std::to_string(size_) + " bytes, not " +
             std::to_string(file_size));
    }
}

void SectionReader::skip_zeros(uint64_t end) {
    while (at_ < end) {
        uint8_t zeros[kAlignment];
        size_t n = std::min<uint64_t>(end - at_, sizeof(zeros));
        fetch(zeros, n);
        if (std::any_of(zeros, zeros + n, [](uint8_t b) { return b != 0; })) {
            fail("damaged: padding is not zero");
        }
    }
}

std::vector<std::pair<std::string, uint64_t>> SectionReader::sections() const {
    std::vector<std::pair<std::string, uint64_t>> list;
    list.reserve(table_.size());
    for (const Entry& entry : table_) {
        list.emplace_back(entry.name, entry.size);
    }
    return list;
}

uint64_t SectionReader::size_ahead(size_t ahead, const std::string& name) {
    const size_t i = next_ + ahead;
    current_ = name;
    if (i >= table_.size() || table_[i].name != name) {
        fail("missing, or not in its place");
    }
    return table_[i].size;
}

uint64_t SectionReader::enter(const std::string& name) {
    size_ahead(0, name);
    const Entry& entry = table_[next_++];
    skip_zeros(entry.offset);
    crc_ = 0;
    verify_ = true;
    return entry.size;
}

void SectionReader::read(void* out, size_t n) {
    const Entry& entry = table_[next_ - 1];
    if (n > entry.offset + entry.size - at_) {
        fail("too short");
    }
    fetch(out, n);
    crc_ = crc_of(crc_, out, n);
}

const uint8_t* SectionReader::borrow(size_t n) {
    const Entry& entry = table_[next_ - 1];
    if (n > entry.offset + entry.size - at_) {
        fail("too short");
    }
    const uint8_t* bytes = data_ + at_;
    at_ += n;
    if (verify_borrowed_) {
        crc_ = crc_of(crc_, bytes, n);
    } else {
        verify_ = false;
    }
    return bytes;
}

void SectionReader::align(bool borrowed) {
    uint64_t n = aligned(at_) - at_;
    if (borrowed) {
        // zeros are not checked: that would read a page of every list
        borrow(n);
        return;
    }
    uint8_t zeros[kAlignment];
    read(zeros, n);
}

void SectionReader::leave() {
    const Entry& entry = table_[next_ - 1];
    if (at_ != entry.offset + entry.size) {
        fail("longer than its contents");
    }
    if (verify_ && crc_ != entry.crc) {
        fail("damaged: wrong checksum");
    }
}

ByteReader SectionReader::read_all(const std::string& name) {
    uint64_t size = enter(name);
    std::vector<uint8_t> bytes;
    // the length of a stream is unknown: memory grows with the bytes read
    size_t step = size_ != 0 ? size : std::min<uint64_t>(size, 64 << 20);
    for (uint64_t at = 0; at < size;) {
        size_t n = std::min<uint64_t>(size - at, step);
        bytes.resize(at + n);
        read(bytes.data() + at, n);
        at += n;
    }
    leave();
    return ByteReader(name, std::move(bytes));
}

void SectionReader::finish() const {
    if (next_ != table_.size()) {
        fail("followed by unknown section '" + table_[next_].name + "'");
    }
}

} // namespace faiss_ext
