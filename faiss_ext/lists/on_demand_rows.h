/*
 * Raw rows that stay in their file and are read when a search rescores them.
 *
 * In: addresses of rows in a mapping of the file, which is not touched. Out:
 * their bytes in memory.
 *
 * Why not through the mapping: each page that is not in memory is a fault, one
 * after the other. Here the disk hears of all rows of a query at once: 40 of a
 * file of 4 GB, none in memory, take 1.7 instead of 4.4 ms (io_uring: 1.5;
 * docs/measurements.md). And an error of the disk is an exception of that search,
 * not the end of the process.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace faiss_ext {

class OnDemandRows {
 public:
    /// What a thread keeps from call to call, and what the last one did.
    struct Buffer {
        std::vector<uint8_t> bytes;
        size_t reads = 0; ///< calls of the system
        size_t waits = 0; ///< of these, for what was not in memory

     private:
        friend class OnDemandRows;
        struct Piece {
            uint64_t begin; ///< in the file
            uint64_t end;
            size_t at; ///< in bytes
        };
        struct Row {
            uint32_t number; ///< in the caller's order
            uint32_t piece;
        };
        std::vector<Row> rows; ///< in the order of the file
        std::vector<Piece> pieces;
        std::vector<uint32_t> missing; ///< pieces
    };

    /// @param file     stays open as long as this object
    /// @param mapping  of the whole file, size bytes
    OnDemandRows(
            int file,
            std::string path,
            std::shared_ptr<const uint8_t> mapping,
            uint64_t size);
    OnDemandRows(const OnDemandRows&) = delete;
    OnDemandRows& operator=(const OnDemandRows&) = delete;
    ~OnDemandRows();

    /** Reads rows. From any thread.
     * @param row_bytes  of each
     * @param rows  n addresses, in any order, also twice; those in the mapping
     *        become addresses in the buffer, valid until its next use
     * @throws faiss::FaissException if the disk fails or the file has become
     *         shorter; rows is then as it was */
    void read(size_t n, size_t row_bytes, const void** rows, Buffer& buffer)
            const;

 private:
    bool holds(const void* row) const;
    /// In the file; of rows that it holds.
    uint64_t place_of(const void* row) const;
    void find_pieces(
            size_t n,
            size_t row_bytes,
            const void* const* rows,
            Buffer& buffer) const;
    void read_pieces(Buffer& buffer) const;
    void read_missing(uint64_t begin, uint64_t end, uint8_t* out) const;

    int file_;
    std::string path_;
    std::shared_ptr<const uint8_t> mapping_;
    uint64_t size_;
};

} // namespace faiss_ext
