/*
 * Index files of more rows than memory holds.
 *
 *     auto rows = faiss_ext::rows_in_file("rows.u8bin", n, 128, RowType::UInt8, 8);
 *     faiss_ext::build_index("ScaNN,RU8", *rows, "out.scann", {.memory = 2 << 30});
 *
 * Trains on a sample, adds the rows piece by piece, each of which becomes a file,
 * and merges these. The result is the file that index_factory(), train_rows(),
 * add_rows() and write_index() make with all rows in memory. With float rows
 * that holds for as many as the sample has (100,000, or 64 a list); of more,
 * they train as the same rows of another type do.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <faiss/MetricType.h>

#include <faiss_ext/export.h>
#include <faiss_ext/scann_options.h>

namespace faiss_ext {

/// Rows that can be read again and again, in any order, from one thread.
class FAISS_EXT_API RowSource {
 public:
    RowSource(size_t n, size_t d, RowType type) : n_(n), d_(d), type_(type) {}
    RowSource(const RowSource&) = delete;
    RowSource& operator=(const RowSource&) = delete;
    virtual ~RowSource();

    size_t n() const {
        return n_;
    }
    size_t d() const {
        return d_;
    }
    RowType type() const {
        return type_;
    }
    /// Reads rows [begin, begin + count), one after the other.
    /// @param rows  out, size count * d values of type(), any alignment
    virtual void read(size_t begin, size_t count, void* rows) = 0;
    /// All rows, size n * d, if they are in memory anyway; else nullptr.
    virtual const void* in_memory() const;

 private:
    size_t n_;
    size_t d_;
    RowType type_;
};

/// @param rows  size n * d, borrowed
FAISS_EXT_API std::unique_ptr<RowSource>
rows_in_memory(const void* rows, size_t n, size_t d, RowType type);

/** Rows of a file, which are read, not mapped: they take no memory.
 * @param offset  byte at which the first row begins: 8 of .u8bin, .fbin; 4 of
 *                .fvecs, .bvecs
 * @param stride  bytes from a row to the next one; 0: no gaps. Of .fvecs
 *                4 + 4 d, of .bvecs 4 + d
 * @throws faiss::FaissException if the file is shorter than n rows */
FAISS_EXT_API std::unique_ptr<RowSource> rows_in_file(
        const std::string& path,
        size_t n,
        size_t d,
        RowType type,
        uint64_t offset = 0,
        uint64_t stride = 0);

/// Rows that come once, piece by piece.
struct RowStream {
    struct Piece {
        const void* rows = nullptr; ///< size n * d, until the next call
        size_t n = 0;               ///< 0: there are no more
    };
    size_t d = 0;
    RowType type = RowType::Float32;
    size_t n = 0; ///< rows in all, 0: not known
    std::function<Piece()> next = nullptr;
};

struct BuildOptions {
    faiss::MetricType metric = faiss::METRIC_L2;
    /// bytes that the build may take beside the rows of rows_in_memory(); too
    /// few are refused, with the least that works
    uint64_t memory = 0;
    /// rows of a piece, after each of which an interrupted build can go on, at
    /// most about this many; 0: as many as fit into memory
    size_t piece_rows = 0;
    /// "k-means", "codebook" (training); "add", "merge": of how many rows
    ScaNNProgress progress = nullptr;
};

/** Builds an index file, with ids 0 .. n - 1.
 *
 * Work in progress is kept in the folder "<path>.build": after an exception, an
 * interrupt or the end of the process, the same call goes on after the last
 * piece that was complete (with another `memory`, too), and at the end the folder
 * is removed. A file at `path` is replaced then, and stays whole until then.
 *
 * Disk: the result, and once more its size for the pieces; with a RowStream the
 * rows, too, which are written to the folder first.
 * @param description  as index_factory() takes it, without wrappers around
 *                     ScaNN
 * @throws faiss::FaissException before the work if `memory` or the free disk
 *         is too little; naming the row that the index does not take */
FAISS_EXT_API void build_index(
        const std::string& description,
        RowSource& rows,
        const std::string& path,
        const BuildOptions& options);
/** The same of rows that come once. If they are all in the folder of an
 * interrupted build, only the first piece is asked for, which must be the same. */
FAISS_EXT_API void build_index(
        const std::string& description,
        const RowStream& rows,
        const std::string& path,
        const BuildOptions& options);

} // namespace faiss_ext
