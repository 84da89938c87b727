#include <faiss_ext/lists/on_demand_rows.h>

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/memory/file_fault.h>

namespace faiss_ext {

namespace {

/// Bytes between two rows that are read with them: a copy of so many takes less
/// than another call of the system.
constexpr uint64_t kGap = 2048;
/// Largest piece: rows of whole lists lie side by side.
constexpr uint64_t kLargestPiece = 1 << 18;

} // namespace

OnDemandRows::OnDemandRows(
        int file,
        std::string path,
        std::shared_ptr<const uint8_t> mapping,
        uint64_t size)
        : file_(fcntl(file, F_DUPFD_CLOEXEC, 0)),
          path_(std::move(path)),
          mapping_(std::move(mapping)),
          size_(size) {
    FAISS_THROW_IF_NOT_FMT(
            file_ >= 0,
            "cannot open %s: %s",
            path_.c_str(),
            std::generic_category().message(errno).c_str());
}

OnDemandRows::~OnDemandRows() {
    close(file_);
}

bool OnDemandRows::holds(const void* row) const {
    const auto at = reinterpret_cast<uintptr_t>(row);
    const auto begin = reinterpret_cast<uintptr_t>(mapping_.get());
    return at >= begin && at - begin < size_;
}

uint64_t OnDemandRows::place_of(const void* row) const {
    return uint64_t(static_cast<const uint8_t*>(row) - mapping_.get());
}

void OnDemandRows::read(
        size_t n,
        size_t row_bytes,
        const void** rows,
        Buffer& buffer) const {
    find_pieces(n, row_bytes, rows, buffer);
    read_pieces(buffer);
    for (const Buffer::Row& row : buffer.rows) {
        const Buffer::Piece& piece = buffer.pieces[row.piece];
        rows[row.number] = buffer.bytes.data() + piece.at +
                           (place_of(rows[row.number]) - piece.begin);
    }
}

/// What is to be read, in the order of the file, and memory for it.
void OnDemandRows::find_pieces(
        size_t n,
        size_t row_bytes,
        const void* const* rows,
        Buffer& buffer) const {
    buffer.rows.clear();
    buffer.pieces.clear();
    for (size_t i = 0; i < n; i++) {
        if (holds(rows[i])) {
            buffer.rows.push_back({uint32_t(i), 0});
        }
    }
    std::sort(
            buffer.rows.begin(),
            buffer.rows.end(),
            [rows](const Buffer::Row& a, const Buffer::Row& b) {
                return rows[a.number] < rows[b.number];
            });
    size_t total = 0;
    for (Buffer::Row& row : buffer.rows) {
        const uint64_t begin = place_of(rows[row.number]);
        const uint64_t end = begin + row_bytes;
        if (buffer.pieces.empty() || begin >= buffer.pieces.back().end + kGap ||
            end - buffer.pieces.back().begin > kLargestPiece) {
            buffer.pieces.push_back({begin, begin, total});
        }
        Buffer::Piece& piece = buffer.pieces.back();
        total += end - piece.end;
        piece.end = end;
        row.piece = uint32_t(buffer.pieces.size() - 1);
    }
    buffer.bytes.resize(total);
}

/// First what is in memory; of the rest, the disk hears at once.
void OnDemandRows::read_pieces(Buffer& buffer) const {
    buffer.missing.clear();
    for (size_t p = 0; p < buffer.pieces.size(); p++) {
        const Buffer::Piece& piece = buffer.pieces[p];
        const size_t wanted = piece.end - piece.begin;
        iovec part{&buffer.bytes[piece.at], wanted};
        // fewer bytes, and errors too, such as of file systems without this
        // flag: read again below
        if (preadv2(file_, &part, 1, off_t(piece.begin), RWF_NOWAIT) !=
            ssize_t(wanted)) {
            buffer.missing.push_back(uint32_t(p));
        }
    }
    buffer.reads = buffer.pieces.size();
    buffer.waits = buffer.missing.size();
    for (uint32_t p : buffer.missing) {
        const Buffer::Piece& piece = buffer.pieces[p];
        // advice only: without it the reads come one after the other
        posix_fadvise(
                file_,
                off_t(piece.begin),
                off_t(piece.end - piece.begin),
                POSIX_FADV_WILLNEED);
    }
    for (uint32_t p : buffer.missing) {
        const Buffer::Piece& piece = buffer.pieces[p];
        read_missing(piece.begin, piece.end, &buffer.bytes[piece.at]);
    }
}

void OnDemandRows::read_missing(uint64_t begin, uint64_t end, uint8_t* out)
        const {
    while (begin < end) {
        const ssize_t got = pread(file_, out, end - begin, off_t(begin));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            throw FileFault(
                    "cannot read rows at byte " + std::to_string(begin) +
                    " of " + path_ + ": " +
                    (got == 0 ? "the file has become shorter"
                              : std::generic_category().message(errno)));
        }
        begin += uint64_t(got);
        out += got;
    }
}

} // namespace faiss_ext
