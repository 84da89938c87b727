/*
 * What the bytes of a Faiss index hold, where it lies: nothing is copied.
 *
 * In: bytes that faiss_bytes has checked. Out: layers, the outermost first;
 * next: faiss_rows, which gives their rows.
 */

#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <faiss_ext/io/faiss_byte_cursor.h>
#include <faiss_ext/io/faiss_bytes.h>
#include <faiss_ext/io/faiss_bytes_parts.h>

namespace faiss_ext {

/// One index of those that are around each other. What its kind does not have
/// is empty.
struct FaissLayer {
    FaissContents contents;
    /// IDMap, IDMap2: ids of the rows inside, size ntotal
    Column<int64_t> ids;
    /// PreTransform: bytes of its transforms
    std::vector<std::span<const uint8_t>> transforms;

    // ---- codes of rows: Flat, ScalarQuantizer, PQ, and the lists' ----
    std::span<const uint8_t> codes; ///< of ntotal rows; of lists: see there
    uint64_t code_size = 0;         ///< bytes
    PQShape pq;
    SQShape sq;

    // ---- lists ----
    uint64_t nlist = 0;
    uint64_t nprobe = 0;
    bool has_direct_map = false;
    bool by_residual = false;
    /// 4-bit codes: rows interleaved in blocks of so many; 0: one by one
    uint64_t block_rows = 0;
    std::vector<FaissList> lists; ///< size nlist

    std::unique_ptr<FaissLayer> below;     ///< inside of a wrapper
    std::unique_ptr<FaissLayer> quantizer; ///< of lists: Flat
    std::unique_ptr<FaissLayer> refine;    ///< of a Refine: its rows
};

/** Checks the bytes of an index of rows: IndexFlat, IndexScalarQuantizer,
 * IndexPQ, IndexHNSWFlat (its rows), IndexIVFFlat, IndexIVFPQ,
 * IndexIVFPQFastScan, IndexIVFScalarQuantizer, with quantizers of Flat and
 * HNSWFlat, inside IndexIDMap, IndexIDMap2, IndexPreTransform and IndexRefine.
 * @param bytes  borrowed by what is returned
 * @throws faiss::FaissException with the field, its value and what is allowed */
FaissLayer check_faiss_layers(std::span<const uint8_t> bytes);

} // namespace faiss_ext
