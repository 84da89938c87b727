/*
 * What "SCANN" takes: its parameters with defaults and ranges, the rules
 * between them, and what they mean to the engine. Nowhere else: hosts, Milvus
 * Lite and the benchmarks ask the node, which asks here.
 *
 * In: a checked config, how many rows there are. Out: options for training,
 * parameters for a search; next: scann_node.cpp.
 */

#pragma once

#include <vector>

#include <faiss_ext/IndexIVFScaNN.h>

#include <knowhere_plugin/faiss_node.h>

namespace knowhere_plugin {

/// Up to so many rows raw rows are kept whatever was asked, and every search
/// scores all of them: codes trained on so few would not be worth much.
constexpr int64_t kExactRows = 2048;

const std::vector<Parameter>& scann_schema();

/// @throws Fault on values that exclude each other, naming all of them
void check_scann_build(const Parameters& parameters);
void check_scann_search(const Parameters& parameters, int64_t k);

/** Options of the engine for n rows of d dimensions. Where nothing is said:
 * raw rows of kManyDimensions and more get a copy in a second list, and codes
 * of 4 dimensions; without raw rows codes fill whole groups of four. */
faiss_ext::ScaNNOptions scann_options(
        int64_t n,
        int64_t d,
        Metric metric,
        const Parameters& parameters);

/// What a search has to know of an index.
struct ScaNNFacts {
    int64_t rows;
    size_t nlist;
    /// of the index: found in training, see scann_search_parameters(), or
    /// chosen by calibration
    size_t nprobe;
    bool calibrated;
    bool with_raw_data;
};

/** Parameters of the engine, for results of k rows. Lists visited where nothing
 * is said: as calibrated, else Knowhere's 8, or more where the lists that come
 * first are small (inner product, rows of very different lengths: training has
 * found how many hold as many rows as 1/32 of all lists on average), or where
 * there are few rows (segment_reach). */
faiss_ext::SearchParametersScaNN scann_search_parameters(
        const ScaNNFacts& facts,
        const Parameters& parameters,
        SearchScope scope,
        int64_t k);

} // namespace knowhere_plugin
