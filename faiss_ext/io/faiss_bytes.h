/*
 * Faiss' own byte streams, checked before Faiss reads them: its reader does not
 * check sizes, offsets and numbers, so it must not get bytes from unknown
 * sources.
 *
 * In: the bytes of one index, as faiss::write_index writes them (1.7.3 up to
 * 1.15, whose streams are the same for these classes), and what the surrounding
 * file or blob says about it. Out: the index, or an exception.
 *
 * Known: IndexFlat, IndexScalarQuantizer, IndexPQ, IndexHNSWFlat, IndexHNSWSQ,
 * IndexHNSWPQ, IndexIVFFlat and IndexIVFPQ (trained, with a flat quantizer and
 * no direct map), IndexIDMap, IndexIDMap2, IndexPreTransform with
 * LinearTransform (OPQ too), PCAMatrix, RandomRotationMatrix, ITQTransform,
 * CenteringTransform, NormalizationTransform, RemapDimensionsTransform and
 * (since Faiss 1.14.1) HadamardRotation. All other four-letter codes are
 * refused by name, as are metrics besides inner product and L2. For import
 * (faiss_layers.h) also IndexIVFPQFastScan, IndexIVFScalarQuantizer and
 * IndexRefine, which Faiss never reads here.
 *
 * Checked are all sizes (equal to what the other fields say, and present),
 * flags and enumerations, dimensions and rows of all parts against each other;
 * that floats are finite; that ids in lists are the rows, each once; and of a
 * graph that levels, offsets, links and the entry point are in range and links
 * lead to rows of their level. Codes are not checked, since all values are
 * valid. After that, Faiss' reader allocates in proportion to the bytes.
 *
 * Cost: one pass over floats, ids and links: 100 MB take about 10 ms.
 */

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include <faiss/Index.h>
#include <faiss/impl/io.h>

namespace faiss_ext {

enum class FaissKind {
    Flat,
    ScalarQuantizer,
    PQ,
    HNSWFlat,
    HNSWSQ,
    HNSWPQ,
    IVFFlat,
    IVFPQ,
    IVFPQFastScan,
    IVFScalarQuantizer,
    IDMap,
    IDMap2,
    PreTransform,
    Refine,
};

/// "IndexFlat"
const char* name_of(FaissKind kind);

/// What the surrounding file or blob says; nullopt: nothing.
struct FaissExpected {
    /// of the index and, below IDMap, IDMap2 and PreTransform, of the next one
    std::vector<FaissKind> kinds;
    std::optional<faiss::MetricType> metric;
    std::optional<int64_t> d;
    std::optional<int64_t> ntotal;
    std::optional<bool> is_trained;
};

/// What the bytes say about the outermost index.
struct FaissContents {
    FaissKind kind = FaissKind::Flat;
    int64_t d = 0;
    int64_t ntotal = 0;
    bool is_trained = false;
    faiss::MetricType metric = faiss::METRIC_L2;
};

/// @throws faiss::FaissException with the field, its value and what is allowed
FaissContents check_faiss_bytes(
        std::span<const uint8_t> bytes,
        const FaissExpected& expected);

/** Checks, then lets Faiss read. The table of an IndexIVFPQ that only speeds up
 * searches is not made if it would be too large compared with the bytes.
 * @throws faiss::FaissException as above */
std::unique_ptr<faiss::Index> read_faiss_bytes(
        std::span<const uint8_t> bytes,
        const FaissExpected& expected);

/// Reads borrowed bytes, without a copy.
class SpanReader : public faiss::IOReader {
 public:
    explicit SpanReader(std::span<const uint8_t> bytes) : bytes_(bytes) {}

    size_t operator()(void* out, size_t size, size_t count) override;

 private:
    std::span<const uint8_t> bytes_;
};

} // namespace faiss_ext
