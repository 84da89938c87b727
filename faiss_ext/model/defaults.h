/*
 * Defaults: lists, probes, codes and storage, where the user did not set them.
 *
 * In: dimensions, rows, a limit on memory. Out: options; next: index_factory
 * ("ScaNN" alone) and training.
 */

#pragma once

#include <cstddef>

#include <faiss_ext/scann_options.h>

namespace faiss_ext {

/// From this many dimensions on, codes of 4 dimensions with spilled copies are
/// better than codes of 2 without: no more bytes, and faster or as fast
/// (bench/curves, raw rows: wordnet-384 at recall@10 .95 32,694 against 23,057
/// queries a second, sift-128 the same).
constexpr size_t kManyDimensions = 128;
/// From this many dimensions on, codes of 8 dimensions: the 40 best candidates
/// hold as many of the nearest 10 as those of codes of 4 (wordnet-768: .990 and
/// 1.000), and scanning takes half of the time (docs/measurements.md).
constexpr size_t kVeryManyDimensions = 512;
/// Dimensions of a code where rows have spilled copies and raw rows.
size_t sub_dim_of_copies(size_t d);

/** Number of codes where only codes are kept of a row: that of codes of sub_dim
 * dimensions, rounded down to a multiple of 4, since codes are stored in groups
 * of four. Codes and term then take little more than the 4-bit codes of Milvus'
 * own SCANN.
 * @return  ScaNNOptions::M; 0 (M follows from sub_dim) for fewer than 16 codes */
size_t whole_groups(size_t d, size_t sub_dim);

/// Lists for n training rows: 4 sqrt(n), so that ranking lists and scanning
/// them take about as long, but at least 32 rows per list. With spilled copies
/// 3 sqrt(n), which builds in 3/4 of the time: searches with 4 sqrt(n) take .9
/// to 1.14 times as long (recall@10 .80 to .99, wordnet-384 and sift-128,
/// bench/curves).
size_t default_nlist(size_t n, const ScaNNOptions& options);

/// Lists to probe by default: 1/32 of them, which has recall@10 .94 to .97 on
/// wordnet-384, glove-50 and sift-128; calibrate() finds the number for a
/// wanted recall.
size_t default_nprobe(size_t nlist);

/** Defaults of a search in one segment of a host. */
struct SegmentDefaults {
    size_t nprobe;
    size_t reorder_k; ///< 0: as the engine chooses
};

/** Hosts build one index per segment, small ones too, and users compare its
 * defaults with those of other index types. In segments of up to 20,000 rows,
 * lists with half of the rows and 2,048 more are visited, and twice the usual
 * candidates rescored: recall@10 of uniform random rows is .95 to 1 then, but
 * .37 to .65 with the usual 8 of 128 lists
 * (tests/knowhere_plugin/test_node_reach.cpp); scanning them takes about 10
 * microseconds. Larger segments visit fewer rows, from about 80,000 rows on the
 * usual lists. The lists hold at least 16 k rows, since clients page through
 * all rows with k = 1,000 and more.
 * @param usual  lists visited in a large segment */
SegmentDefaults
segment_defaults(size_t rows, size_t nlist, size_t k, size_t usual);

/** Whether n rows of d dimensions get the rotation that was asked for. The
 * balanced one is learned: from too few rows it is no better than none, and its
 * d x d values would take more memory and time than the rows. */
bool rotation_pays(RotationKind kind, size_t n, size_t d);

/// Bytes that the lists hold of a vector with these options, ids included.
double bytes_per_vector(size_t d, const ScaNNOptions& options);

/** Codes and storage: of the combinations below the fastest whose lists need
 * at most `most_bytes` a vector. Raw rows, and with many dimensions coarse
 * codes with a copy in a second list, with few finer ones; then 8-bit codes
 * instead of raw rows; then 4-bit codes alone, finer to coarser. 8-bit codes
 * beside raw rows are as fast as raw rows alone (bench/curves).
 * @param options     the rest: kept; sub_dim, M, soar_lambda, refine_type and
 *                    with_raw_data are replaced
 * @param most_bytes  0: no limit
 * @throws faiss::FaissException if even the smallest needs more */
ScaNNOptions default_storage(size_t d, size_t most_bytes, ScaNNOptions options);

} // namespace faiss_ext
