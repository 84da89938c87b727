#include <faiss_ext/build_index.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/memory/file_fault.h>
#include <faiss_ext/io/regular_files.h>
#include <faiss_ext/memory/row_types.h>

namespace faiss_ext {

namespace {

/// Bytes of rows with gaps that are read at a time.
constexpr size_t kStridedBytes = size_t(4) << 20;

class MemoryRows : public RowSource {
 public:
    MemoryRows(const void* rows, size_t n, size_t d, RowType type)
            : RowSource(n, d, type), rows_(static_cast<const uint8_t*>(rows)) {}

    void read(size_t begin, size_t count, void* rows) override {
        const size_t row = d() * value_bytes(type());
        std::memcpy(rows, rows_ + begin * row, count * row);
    }
    const void* in_memory() const override {
        return rows_;
    }

 private:
    const uint8_t* rows_;
};

class FileRows : public RowSource {
 public:
    FileRows(
            const std::string& path,
            size_t n,
            size_t d,
            RowType type,
            uint64_t offset,
            uint64_t stride)
            : RowSource(n, d, type),
              file_(path, "cannot read the rows in"),
              row_(d * value_bytes(type)),
              offset_(offset),
              stride_(stride == 0 ? row_ : stride) {
        FAISS_THROW_IF_NOT_FMT(
                stride_ >= row_,
                "%s: rows %llu bytes apart (allowed: >= %zu, what they take)",
                path.c_str(),
                static_cast<unsigned long long>(stride_),
                row_);
        const uint64_t size = file_.size();
        if (n > 0 && (size < offset_ || whole_rows(size - offset_) < n)) {
            ends_early(size);
        }
    }

    void read(size_t begin, size_t count, void* rows) override {
        auto out = static_cast<uint8_t*>(rows);
        if (stride_ == row_) {
            fetch(offset_ + begin * row_, count * row_, out);
            return;
        }
        const size_t most = std::max<size_t>(kStridedBytes / stride_, 1);
        for (size_t end = begin + count; begin < end;) {
            const size_t part = std::min(most, end - begin);
            buffer_.resize((part - 1) * stride_ + row_);
            fetch(offset_ + begin * stride_, buffer_.size(), buffer_.data());
            for (size_t i = 0; i < part; i++, out += row_) {
                std::memcpy(out, &buffer_[i * stride_], row_);
            }
            begin += part;
        }
    }

 private:
    void fetch(uint64_t at, size_t bytes, uint8_t* out) {
        while (bytes > 0) {
            const ssize_t got =
                    pread(fileno(file_.stream()), out, bytes, off_t(at));
            if (got < 0 && errno == EINTR) {
                continue;
            }
            if (got < 0) {
                fail_with_errno("cannot read", file_.path());
            }
            if (got == 0) {
                ends_early(at);
            }
            at += uint64_t(got);
            out += got;
            bytes -= size_t(got);
        }
    }
    /// Rows in so many bytes; the last one needs no gap after it.
    uint64_t whole_rows(uint64_t bytes) const {
        return bytes / stride_ + (bytes % stride_ >= row_ ? 1 : 0);
    }
    [[noreturn]] void ends_early(uint64_t size) const {
        const uint64_t row = size < offset_ ? 0 : whole_rows(size - offset_);
        throw FileFault(
                file_.path() + ": ends at byte " + std::to_string(size) +
                ", in row " + std::to_string(row) + " of " +
                std::to_string(n()));
    }

    InputFile file_;
    size_t row_;
    uint64_t offset_;
    uint64_t stride_;
    std::vector<uint8_t> buffer_;
};

} // namespace

RowSource::~RowSource() = default;

const void* RowSource::in_memory() const {
    return nullptr;
}

std::unique_ptr<RowSource>
rows_in_memory(const void* rows, size_t n, size_t d, RowType type) {
    return std::make_unique<MemoryRows>(rows, n, d, type);
}

std::unique_ptr<RowSource> rows_in_file(
        const std::string& path,
        size_t n,
        size_t d,
        RowType type,
        uint64_t offset,
        uint64_t stride) {
    return std::make_unique<FileRows>(path, n, d, type, offset, stride);
}

} // namespace faiss_ext
