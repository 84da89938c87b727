#include <faiss_ext/lists/on_demand_rows.h>

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include <faiss_ext/memory/file_fault.h>

namespace faiss_ext {

namespace {

/// Bytes between two rows that are read with them: a copy of so many takes less
/// than another call of the system.
constexpr uint64_t kGap = 2048;
/// Largest piece: rows of whole lists lie side by side.
constexpr uint64_t kLargestPiece = 1 << 18;

void make_room(std::vector<uint8_t>& bytes, size_t size) {
    if (bytes.size() < size) {
        bytes.resize(size);
    }
}

} // namespace

OnDemandRows::OnDemandRows(
        int file,
        std::string path,
        std::shared_ptr<const uint8_t> mapping,
        uint64_t size,
        size_t row_bytes,
        uint64_t cache_bytes)
        : path_(std::move(path)),
          mapping_(std::move(mapping)),
          size_(size),
          row_bytes_(row_bytes),
          cache_bytes_(cache_bytes),
          cache_(cache_bytes, row_bytes),
          file_(fcntl(file, F_DUPFD_CLOEXEC, 0)) {
    if (file_ < 0) {
        fail_with_errno("cannot open", path_);
    }
}

OnDemandRows::~OnDemandRows() {
    close(file_);
}

bool OnDemandRows::holds(const void* row) const {
    const auto at = reinterpret_cast<uintptr_t>(row);
    const auto begin = reinterpret_cast<uintptr_t>(mapping_.get());
    return at >= begin && at - begin < size_;
}

void OnDemandRows::start(size_t n, const void* const* rows, Request& request)
        const {
    sort_rows(n, rows, request);
    find_cached(request);
    find_pieces(request);
    read_what_is_there(request);
}

void OnDemandRows::finish(const void** rows, Request& request) const {
    for (uint32_t p : request.missing_) {
        const Request::Piece& piece = request.pieces_[p];
        read_missing(piece.begin, piece.end, &request.bytes_[piece.at]);
    }
    for (const Request::Row& row : request.rows_) {
        rows[row.number] = &request.bytes_[row.at];
        if (!row.is_cached) {
            cache_.put(row.place, &request.bytes_[row.at]);
        }
    }
}

/// Those of the file, in its order.
void OnDemandRows::sort_rows(
        size_t n,
        const void* const* rows,
        Request& request) const {
    request.rows_.clear();
    for (size_t i = 0; i < n; i++) {
        if (holds(rows[i])) {
            const auto place = uint64_t(
                    static_cast<const uint8_t*>(rows[i]) - mapping_.get());
            request.rows_.push_back({place, 0, uint32_t(i), false});
        }
    }
    std::sort(
            request.rows_.begin(),
            request.rows_.end(),
            [](const Request::Row& a, const Request::Row& b) {
                return a.place < b.place;
            });
}

/// Copies the rows of the cache to the front of the request's memory.
void OnDemandRows::find_cached(Request& request) const {
    request.cached_ = 0;
    make_room(request.bytes_, request.rows_.size() * row_bytes_);
    for (Request::Row& row : request.rows_) {
        row.at = request.cached_ * row_bytes_;
        row.is_cached = cache_.get(row.place, &request.bytes_[row.at]);
        request.cached_ += row.is_cached;
    }
}

/// What is to be read, in the order of the file, and memory for it.
void OnDemandRows::find_pieces(Request& request) const {
    auto& pieces = request.pieces_;
    pieces.clear();
    size_t used = request.cached_ * row_bytes_;
    for (Request::Row& row : request.rows_) {
        if (row.is_cached) {
            continue;
        }
        const uint64_t end = row.place + row_bytes_;
        if (pieces.empty() || row.place >= pieces.back().end + kGap ||
            end - pieces.back().begin > kLargestPiece) {
            pieces.push_back({row.place, row.place, used});
        }
        Request::Piece& piece = pieces.back();
        row.at = piece.at + (row.place - piece.begin);
        used += end - piece.end;
        piece.end = end;
    }
    make_room(request.bytes_, used);
}

/// Reads what the system has in memory; of the rest, the disk hears at once.
void OnDemandRows::read_what_is_there(Request& request) const {
    request.missing_.clear();
    for (size_t p = 0; p < request.pieces_.size(); p++) {
        const Request::Piece& piece = request.pieces_[p];
        const size_t wanted = piece.end - piece.begin;
        iovec part{&request.bytes_[piece.at], wanted};
        // fewer bytes, and errors too, such as of file systems without this
        // flag: read again by finish()
        if (preadv2(file_, &part, 1, off_t(piece.begin), RWF_NOWAIT) !=
            ssize_t(wanted)) {
            request.missing_.push_back(uint32_t(p));
        }
    }
    for (uint32_t p : request.missing_) {
        const Request::Piece& piece = request.pieces_[p];
        // advice only: without it the reads come one after the other
        posix_fadvise(
                file_,
                off_t(piece.begin),
                off_t(piece.end - piece.begin),
                POSIX_FADV_WILLNEED);
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
            const std::string what =
                    "cannot read rows at byte " + std::to_string(begin) + " of";
            if (got < 0) {
                fail_with_errno(what.c_str(), path_);
            }
            throw FileFault(
                    what + " " + path_ + ": the file has become shorter");
        }
        begin += uint64_t(got);
        out += got;
    }
}

} // namespace faiss_ext
