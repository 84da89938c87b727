/*
 * Files: write, read, open by mmap; clone; export to plain Faiss.
 *
 * A file is versioned, little endian and made of checksummed sections; what
 * the scan reads is aligned in it as in memory, so that it is used in place.
 */

#pragma once

#include <memory>
#include <string>

#include <faiss/Index.h>
#include <faiss/impl/io.h>

#include <faiss_ext/export.h>

namespace faiss_ext {

/** Saves an index (also inside IndexIDMap, IndexIDMap2, IndexPreTransform).
 * Written beside the target, synced, then renamed: on any failure (a full
 * disk, say) the old file stays and no other is left behind. A path must be
 * that of a regular file or of none; pipes and devices take a writer.
 * @throws faiss::FaissException */
FAISS_EXT_API void write_index(
        const faiss::Index* index,
        const std::string& path);
FAISS_EXT_API void write_index(
        const faiss::Index* index,
        faiss::IOWriter* writer);

enum class ReadMode {
    Copy, ///< into memory, all checksums verified
    /// mapped: opening takes milliseconds, pages are read when searched;
    /// header sections are verified, lists only structurally (what stands in
    /// them is trusted). Changing the index copies the lists touched; the
    /// file is never written
    Mmap,
};

/** @param path  a regular file; from pipes and devices read by a reader
 *  @return a new index, owned by the caller
 *  @throws faiss::FaissException naming the section that is wrong */
FAISS_EXT_API faiss::Index* read_index(
        const std::string& path,
        ReadMode mode = ReadMode::Copy);
FAISS_EXT_API faiss::Index* read_index(faiss::IOReader* reader);

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

} // namespace faiss_ext
