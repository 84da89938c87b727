/*
 * Files: write, read, open by mmap; clone; export to plain Faiss, and import.
 *
 * A file is versioned, little endian and made of checksummed sections; what
 * the scan reads is aligned in it as in memory, so that it is used in place.
 */

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <faiss/Index.h>
#include <faiss/impl/io.h>

#include <faiss_ext/export.h>
#include <faiss_ext/scann_options.h>

namespace faiss_ext {

/** Saves an index (also inside IndexIDMap, IndexIDMap2, IndexPreTransform).
 * It is written to a new file beside the target, synced, then renamed: on any
 * failure, such as a full disk, the old file stays and the new one is removed.
 * The path must name a regular file or none; for pipes and devices use a
 * writer.
 * @throws faiss::FaissException */
FAISS_EXT_API void write_index(
        const faiss::Index* index,
        const std::string& path);
FAISS_EXT_API void write_index(
        const faiss::Index* index,
        faiss::IOWriter* writer);

/** How a file is read. With any bytes, reading either throws or gives an index
 * that is safe to use.
 *
 * Accidental damage is detected when:
 *
 *                       opening        opening, verified    used
 *     header, options, what training made, sizes of the lists, direct map
 *                       Mmap, Copy
 *     codes, ids, rows                 MmapVerified, Copy
 *
 * With Mmap, wrong bytes of the lists lead to wrong results, or to an exception
 * if a spilled copy names a row that does not exist. */
enum class ReadMode {
    Copy, ///< into memory, all checksums verified
    /// mapped: opening takes milliseconds, pages are read when searched;
    /// header sections are verified, lists only structurally. Changing the
    /// index copies the lists that change; the file is never written. If a
    /// process shortens or overwrites the file in place meanwhile, this one
    /// gets SIGBUS or other bytes, as with any mapped file; write_index() does
    /// not: it replaces the file by a new one
    Mmap,
    /// mapped, but everything is read once and its checksum verified
    MmapVerified,
};

/** @param path  a regular file; for pipes and devices use a reader
 *  @return a new index, owned by the caller
 *  @throws faiss::FaissException naming the section that is wrong */
FAISS_EXT_API faiss::Index* read_index(
        const std::string& path,
        ReadMode mode = ReadMode::Copy);

/** Opens a file whose columns come into memory as far as they fit: codes, ids,
 * places of spilled copies, refine codes, raw rows, in this order. The others are
 * mapped; but raw rows are read by each search, those of a query all at once (of
 * a batch, those of many), and kept where the bound leaves memory. A disk that
 * fails, or a file that has become shorter, is an exception of that search. All
 * else, such as reconstruct(), reads them as mapped. What is copied is verified as
 * by ReadMode::Copy. Changing the index copies the lists that change; the file is
 * never written.
 * @throws faiss::FaissException also if all that is no column does not fit */
FAISS_EXT_API faiss::Index* read_index(
        const std::string& path,
        const ReadBounds& bounds);

/// Where the columns of an index are; none before it is trained.
/// @throws faiss::FaissException if there is no ScaNN index inside
FAISS_EXT_API std::vector<ColumnBytes> column_bytes(const faiss::Index* index);
/// Where read_index() would have those of a file.
FAISS_EXT_API std::vector<ColumnBytes> column_bytes(
        const std::string& path,
        const ReadBounds& bounds);

/// @param size  bytes that the reader has left: an index that claims more is
///              refused before memory is allocated; 0: unknown
FAISS_EXT_API faiss::Index* read_index(
        faiss::IOReader* reader,
        uint64_t size = 0);
/// The bytes of such a file in memory; Mmap and MmapVerified use them in place.
/// @param bytes  size bytes, aligned to 64; shared with the index, and not to
///               be changed while it lives
FAISS_EXT_API faiss::Index* read_index(
        const std::shared_ptr<const uint8_t>& bytes,
        uint64_t size,
        ReadMode mode = ReadMode::Mmap);

/// Deep copy, also through the wrappers. Owned by the caller.
FAISS_EXT_API faiss::Index* clone_index(const faiss::Index* index);

/** The same codes as plain Faiss: IndexIVFPQFastScan, inside IndexRefineFlat
 * if raw rows are kept (then ids must be 0 .. ntotal - 1), behind a
 * LinearTransform if the index rotates. faiss-cpu reads the result of
 * faiss::write_index without this library. Spilled copies and terms are
 * dropped. Owned by the caller.
 * @throws faiss::FaissException if the block widths are not uniform (a last
 *         block that is shorter is filled up with zeros) */
FAISS_EXT_API faiss::Index* export_to_faiss(const faiss::Index* index);

/// How an index of Faiss is taken over.
struct FaissImport {
    /// [IVF<nlist>,]ScaNN.. as index_factory() takes it, without wrappers: codes
    /// and storage. Empty: raw rows if the index has any, else 8-bit or 16-bit
    /// codes; of an index without lists "ScaNN", which chooses all
    std::string description;
    /// "k-means" (without lists only), "codebook", "add"
    ScaNNProgress progress;
};

/** A ScaNN index of the rows of a Faiss index: IndexIVFFlat, IndexIVFPQ,
 * IndexIVFPQFastScan, IndexIVFScalarQuantizer (quantizers: Flat, HNSWFlat), or
 * IndexFlat, IndexHNSWFlat, IndexPQ, IndexScalarQuantizer, in IndexIDMap,
 * IndexIDMap2, IndexPreTransform and IndexRefine; L2 and inner product.
 *
 * Centroids, lists, ids, metric and an nprobe other than 1, Faiss' default, stay
 * as they are; only codes are trained. Rows are those of an IndexRefine, else
 * what the lists hold: decoded codes, where there is no more. IndexPreTransform
 * stays outside, unless an IndexRefine is around it, whose rows need none. Ids
 * of IndexIDMap go into the lists; a direct map, or IndexIDMap2, becomes a
 * Hashtable.
 * @param index  as faiss::write_index saves it
 * @param notes  out, if not nullptr: what is lost, one sentence each
 * @return       a new index, owned by the caller
 * @throws faiss::FaissException for other kinds, without rows, not trained */
FAISS_EXT_API faiss::Index* import_from_faiss(
        const faiss::Index* index,
        const FaissImport& how = {},
        std::vector<std::string>* notes = nullptr);
/// From a file of faiss::write_index, which is mapped: takes the least memory.
FAISS_EXT_API faiss::Index* import_from_faiss(
        const std::string& path,
        const FaissImport& how = {},
        std::vector<std::string>* notes = nullptr);
/// From the bytes of such a file.
FAISS_EXT_API faiss::Index* import_from_faiss(
        const uint8_t* bytes,
        size_t size,
        const FaissImport& how = {},
        std::vector<std::string>* notes = nullptr);

} // namespace faiss_ext
