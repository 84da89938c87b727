/*
 * Raw rows that stay in their file and are read when a search rescores them.
 *
 * In: addresses of rows in a mapping of the file, which is not touched. Out:
 * their bytes in memory.
 *
 * Why not through the mapping: each page that is not in memory is a fault, one
 * after the other. Here the disk hears of all rows of a query at once: 40 of a
 * file of 4 GB, none in memory, take 1.7 instead of 4.4 ms (io_uring: 1.5;
 * docs/measurements.md); and of the rows of several queries, if each starts before
 * the first finishes. And an error of the disk is an exception of that search, not
 * the end of the process.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <faiss_ext/lists/row_cache.h>

namespace faiss_ext {

class OnDemandRows {
 public:
    /// Rows of a query on their way; keeps its memory from use to use.
    class Request {
     public:
        /// Rows that were in the cache.
        size_t cached() const {
            return cached_;
        }
        /// Calls of the system.
        size_t reads() const {
            return pieces_.size();
        }
        /// Of these, for what the system had not in memory.
        size_t waits() const {
            return missing_.size();
        }
        /// Frees what it keeps beyond so many bytes of rows. Their addresses are
        /// not valid any more.
        void trim(size_t bytes) {
            if (bytes_.capacity() > bytes) {
                std::vector<uint8_t>().swap(bytes_);
            }
        }

     private:
        friend class OnDemandRows;
        struct Row {
            uint64_t place;  ///< in the file
            size_t at;       ///< in bytes_
            uint32_t number; ///< in the caller's order
            bool is_cached;
        };
        struct Piece {
            uint64_t begin; ///< in the file
            uint64_t end;
            size_t at; ///< in bytes_
        };
        std::vector<uint8_t> bytes_;
        std::vector<Row> rows_; ///< in the order of the file
        std::vector<Piece> pieces_;
        std::vector<uint32_t> missing_; ///< pieces
        size_t cached_ = 0;
    };

    /** @param file     stays open as long as this object
     *  @param mapping  of the whole file, size bytes
     *  @param row_bytes    of each row
     *  @param cache_bytes  memory for rows that were read, at most */
    OnDemandRows(
            int file,
            std::string path,
            std::shared_ptr<const uint8_t> mapping,
            uint64_t size,
            size_t row_bytes,
            uint64_t cache_bytes);
    OnDemandRows(const OnDemandRows&) = delete;
    OnDemandRows& operator=(const OnDemandRows&) = delete;
    ~OnDemandRows();

    // Both from any thread, each with a request of its own.

    /** Takes what is in memory, and has the disk begin with the rest.
     * @param rows  n addresses, in any order, also twice */
    void start(size_t n, const void* const* rows, Request& request) const;
    /** Waits for the rows of start().
     * @param rows  the same addresses; those in the mapping become addresses in
     *        the request, valid until it is used again
     * @throws faiss::FaissException if the disk fails or the file has become
     *         shorter; rows is then as it was */
    void finish(const void** rows, Request& request) const;

    uint64_t cache_bytes() const {
        return cache_bytes_;
    }
    /// Bytes; of the cache as if it were full.
    size_t memory_usage() const {
        return cache_.bytes();
    }

 private:
    bool holds(const void* row) const;
    void sort_rows(size_t n, const void* const* rows, Request& request) const;
    void find_cached(Request& request) const;
    void find_pieces(Request& request) const;
    void read_what_is_there(Request& request) const;
    void read_missing(uint64_t begin, uint64_t end, uint8_t* out) const;

    std::string path_;
    std::shared_ptr<const uint8_t> mapping_;
    uint64_t size_;
    size_t row_bytes_;
    uint64_t cache_bytes_;
    mutable RowCache cache_;
    int file_; ///< opened last: nothing can fail before it has an owner
};

} // namespace faiss_ext
