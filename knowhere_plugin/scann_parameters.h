/*
 * The parameters of "SCANN" with defaults and ranges, the rules between them,
 * and what they mean for the engine. This is their only place: hosts, Milvus
 * Lite and the benchmarks get them from the node, and the node from here.
 *
 * In: a checked config, how many rows there are. Out: options for training,
 * parameters for a search; next: scann_node.cpp.
 */

#pragma once

#include <vector>

#include <faiss_ext/IndexIVFScaNN.h>

#include <knowhere_plugin/faiss_node.h>

namespace knowhere_plugin {

/// Up to this many rows, raw rows are always kept, and every search scores all
/// of them: codes trained on fewer rows would be bad.
constexpr int64_t kExactRows = 2048;

const std::vector<Parameter>& scann_schema();

/// @throws Fault on values that exclude each other, naming all of them
void check_scann_build(const Parameters& parameters);
void check_scann_search(const Parameters& parameters, int64_t k);

/** Options of the engine for n rows of d dimensions. By default, raw rows of
 * kManyDimensions and more get a spilled copy, and codes of 4 dimensions, or 8;
 * without raw rows the codes fill whole groups of four. */
faiss_ext::ScaNNOptions scann_options(
        int64_t n,
        int64_t d,
        Metric metric,
        const Parameters& parameters);

/// Properties of an index that the defaults of a search depend on.
struct ScaNNFacts {
    int64_t rows;
    size_t nlist;
    /// of the index: found in training, see scann_search_parameters(), or
    /// chosen by calibration
    size_t nprobe;
    bool calibrated;
    bool profiled; ///< searches may have a target_recall
    bool with_raw_data;
};

/** Parameters of the engine, for results of k rows. The default number of lists
 * is that of a calibration, else Knowhere's 8, or more: if the best lists are
 * small (inner product, rows of very different lengths; training has found how
 * many lists hold 1/32 of all rows), or if there are few rows
 * (segment_defaults). */
faiss_ext::SearchParametersScaNN scann_search_parameters(
        const ScaNNFacts& facts,
        const Parameters& parameters,
        SearchScope scope,
        int64_t k);

} // namespace knowhere_plugin
