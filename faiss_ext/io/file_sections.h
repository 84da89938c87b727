/*
 * The container of our files: a header, then checksummed sections.
 *
 *   0   char[8]  magic "ScaNNidx"
 *   8   uint32   format version       12  uint32   number of sections
 *   16  uint64   bytes of the file    24  uint32   CRC-32 of header and table
 *   28  uint32   0                                 (this field taken as 0)
 *   32  table, 40 bytes a section: char[16] name, zero padded; uint64 offset;
 *       uint64 size; uint32 CRC-32 of the section; uint32 0
 *   then the sections in the order of the table, each at the next multiple of
 *   64 (zeros between); the file ends with the last one.
 *
 * All little endian; the CRC is zlib's (2.7 GB/s here, Boost.CRC 0.3). The
 * table comes first, so that a file can be opened without reading to its end,
 * and is known before the first byte is written (sections are produced twice:
 * counted, then written), so that a writer need not seek.
 *
 * In: what index_io puts into sections. Out: bytes, and back.
 */

#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <faiss/impl/io.h>

namespace faiss_ext {

class OutputFile;

static_assert(
        std::endian::native == std::endian::little && sizeof(size_t) == 8,
        "files hold the memory's bytes");

/// The first bytes of every file.
constexpr char kFileMagic[8] = {'S', 'c', 'a', 'N', 'N', 'i', 'd', 'x'};
constexpr uint32_t kFormatVersion = 5;

/// Takes the bytes of a section; counts them first, writes them later.
class SectionSink {
 public:
    /// @param writer  nullptr: only size and checksum are wanted
    /// @param bytes   that will be put: a buffer need not be larger
    /// @param checksums  of what is written, too
    explicit SectionSink(
            faiss::IOWriter* writer,
            uint64_t bytes = 0,
            bool checksums = false);

    void put(const void* data, size_t n);
    template <class T>
    void put_value(const T& value) {
        static_assert(std::is_trivially_copyable_v<T>);
        put(&value, sizeof(value));
    }
    /// Zeros up to the next multiple of 64.
    void align();
    /// Passes all bytes to the writer; without it the last ones are lost.
    void flush();

    /// bytes put so far
    uint64_t size() const {
        return size_;
    }
    /// CRC-32 of them since the last call (counting, or with checksums)
    uint32_t take_crc() {
        return std::exchange(crc_, 0);
    }

 private:
    void write_out(const uint8_t* data, size_t n);

    faiss::IOWriter* writer_;
    std::vector<uint8_t> buffer_;
    uint64_t size_ = 0;
    uint32_t crc_ = 0;
    bool checksums_;
};

struct Section {
    std::string name; ///< at most 16 bytes
    /// write_sections() calls it twice: it must put the same bytes
    std::function<void(SectionSink&)> produce;
};

/// @throws faiss::FaissException if the writer takes fewer bytes
void write_sections(
        const std::vector<Section>& sections,
        faiss::IOWriter* writer);

/// The same bytes, but each section is produced once, in order; the header is
/// written last.
void stream_sections(const std::vector<Section>& sections, OutputFile& file);

/// Bytes of a small section, read from front to back; throws at its end.
class ByteReader {
 public:
    ByteReader(std::string section, std::vector<uint8_t> bytes)
            : section_(std::move(section)), bytes_(std::move(bytes)) {}

    void get(void* out, size_t n);
    template <class T>
    void get_value(T& value) {
        static_assert(std::is_trivially_copyable_v<T>);
        get(&value, sizeof(value));
    }
    template <class T>
    std::vector<T> get_vector(uint64_t n) {
        check_left(n, sizeof(T));
        std::vector<T> values(n);
        get(values.data(), n * sizeof(T));
        return values;
    }
    /// All bytes; the reader is empty then.
    std::vector<uint8_t> take() {
        return std::move(bytes_);
    }
    /// Throws unless n items of `size` bytes are left.
    void check_left(uint64_t n, size_t size) const;
    void finish() const;

    /// throws "section '..': <message>"
    [[noreturn]] void fail(const std::string& message) const;
    void check(bool good, const char* message) const {
        if (!good) {
            fail(message);
        }
    }

 private:
    std::string section_;
    std::vector<uint8_t> bytes_;
    size_t at_ = 0;
};

/** Reads sections in their order, from a stream or from mapped memory. All
 * errors are faiss::FaissException and name the section. */
class SectionReader {
 public:
    /// @param size   of the stream, if known: then sizes are compared with it
    ///               before anything is allocated; 0: unknown
    /// @param whole  the file must be as long as the stream, not shorter
    SectionReader(faiss::IOReader* stream, uint64_t size, bool whole);
    /// @param data    aligned to 64, size bytes, borrowed
    /// @param verify  borrowed bytes too are read once, and their checksums
    ///                compared
    SectionReader(const uint8_t* data, uint64_t size, bool verify);

    bool is_mapped() const {
        return data_ != nullptr;
    }
    /// Whether borrowed sections are read and compared with their checksums.
    bool verifies_borrowed() const {
        return verify_borrowed_;
    }
    /// of the file, 1..kFormatVersion
    uint32_t version() const {
        return version_;
    }
    /// Checksum of the header, and so of the checksums of all sections.
    uint32_t checksum() const {
        return checksum_;
    }

    /// Name of the next section, by the table; "" at the end.
    std::string next_name() const {
        return next_ < table_.size() ? table_[next_].name : "";
    }

    /// Names and bytes of all sections, by the table.
    std::vector<std::pair<std::string, uint64_t>> sections() const;

    /// All bytes of the next section, which must be `name`; verified.
    ByteReader read_all(const std::string& name);

    /// Bytes, by the table, of the section that comes `ahead` sections after
    /// the next one, which must be `name`. Messages name it from then on.
    uint64_t size_ahead(size_t ahead, const std::string& name);

    /// Starts the next section, which must be `name`. @return its size
    uint64_t enter(const std::string& name);
    /// Next bytes of the section entered, n <= what is left of it.
    void read(void* out, size_t n);
    /// The same without a copy (mapped only), and without a checksum unless
    /// verifies_borrowed().
    const uint8_t* borrow(size_t n);
    /// Passes the zeros that SectionSink::align() wrote; borrowed as borrow()
    /// does, or read.
    void align(bool borrowed);
    /// Ends the section; its bytes must be used up, and read() bytes match
    /// the checksum.
    void leave();

    /// Throws if there is a section left.
    void finish() const;

    [[noreturn]] void fail(const std::string& message) const;

 private:
    struct Entry {
        std::string name;
        uint64_t offset = 0;
        uint64_t size = 0;
        uint32_t crc = 0;
    };

    void read_header();
    void check_layout(uint64_t file_size) const;
    void fetch(void* out, size_t n);
    void skip_zeros(uint64_t end);

    faiss::IOReader* stream_ = nullptr;
    const uint8_t* data_ = nullptr;
    uint64_t size_ = 0; ///< 0: unknown
    bool whole_ = true;
    uint64_t at_ = 0;
    uint32_t version_ = 0;
    uint32_t checksum_ = 0;
    std::vector<Entry> table_;
    size_t next_ = 0; ///< section after the current one
    std::string current_ = "header";
    uint32_t crc_ = 0;
    bool verify_ = true; ///< the section's checksum
    bool verify_borrowed_ = false;
};

} // namespace faiss_ext
