/*
 * What the index chooses for what the user left open: lists, probes, codes and
 * storage.
 *
 * In: dimensions, rows, a limit on memory. Out: options; next: index_factory
 * ("ScaNN" alone) and training.
 */

#pragma once

#include <cstddef>

#include <faiss_ext/scann_options.h>

namespace faiss_ext {

/// From so many dimensions on two codes of 4 dimensions each take no more
/// bytes than one of 2, and find more (bench/curves, raw rows: wordnet-384 at
/// recall@10 .95 32,694 against 23,057 queries a second, sift-128 the same).
constexpr size_t kManyDimensions = 128;

/** Codes of sub_dim dimensions where they are all that is kept of a row: codes
 * are stored in fours, so down to whole ones, and codes and term take little
 * more than the 4-bit codes of Milvus' own SCANN.
 * @return  ScaNNOptions::M; 0, that is, as sub_dim says, if there are fewer than
 *          16 */
size_t codes_in_fours(size_t d, size_t sub_dim);

/// Lists for n training rows: 4 sqrt(n), so that finding them and scanning
/// them cost alike, but at least 32 rows each. 3 sqrt(n) with spilled copies,
/// built in 3/4 of the time: at recall@10 .80 to .99 of wordnet-384 and sift-128
/// 4 sqrt(n) takes .9 to 1.14 times as long to search (bench/curves).
size_t default_nlist(size_t n, const ScaNNOptions& options);

/// Lists to probe by default: 1/32 of them has recall@10 .94
/// to .97 on wordnet-384, glove-50 and sift-128; calibrate() finds the number
/// for a wanted recall.
size_t default_nprobe(size_t nlist);

/** What a search of a host's segment takes where its user says nothing. */
struct SegmentReach {
    size_t nprobe;
    size_t reorder_k; ///< 0: as the engine chooses
};

/** Hosts build one index for each segment, small ones too, and their users
 * compare its defaults with those of other types. Up to 20,000 rows half of
 * them and 2,048 more are visited, and twice the usual candidates rescored:
 * with the usual 8 of 128 lists, recall@10 of uniform random rows is .37 to .65,
 * with this .95 to 1 (tests/knowhere_plugin/test_node_reach.cpp); scanning them takes some 10
 * microseconds. Then fewer, down to the usual lists at some 80,000 rows. Lists
 * hold 16 k rows at least: clients page through all rows by k = 1,000 and more.
 * @param usual  lists visited in a large segment */
SegmentReach segment_reach(size_t rows, size_t nlist, size_t k, size_t usual);

/** Whether rows of d dimensions get the rotation they are to have. The balanced
 * one is learned from n rows: from too few it is no better than none, and its
 * d x d values, and the time that they take to find, would exceed the rows'. */
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
