/*
 * Search in a faiss::IndexHNSW over flat rows, on the calling thread alone.
 *
 * Faiss 1.7.3 takes ef from the index, where all searches share it, and has no
 * filters for graphs. In: the graph as Faiss built it. Out: the nearest rows
 * that pass; the search also follows links of the others.
 */

#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include <faiss/IndexFlat.h>
#include <faiss/IndexHNSW.h>
#include <faiss/impl/IDSelector.h>

#include <faiss_ext/kernels/kernels.h>

namespace knowhere_plugin {

/// Serves one query after the other; one per thread.
class GraphSearch {
 public:
    /// @param index  borrowed; its storage is an IndexFlat
    explicit GraphSearch(const faiss::IndexHNSW& index);

    /** (distance, id), nearest first; inner products negated.
     *  @param ef   largest number of results; the search ends when no row whose
     *              links were not yet followed is nearer than the ef-th result
     *  @param sel  nullptr: every row passes */
    std::vector<std::pair<float, int64_t>>
    nearest(const float* query, size_t ef, const faiss::IDSelector* sel);

 private:
    using Row = int32_t; ///< Faiss' storage_idx_t

    /// Distances of found_ to the query, into distances_.
    void score_found(const float* query);
    /// Nearest row of the layers above the lowest, from the entry point on.
    Row descend(const float* query);
    bool visit(Row row);

    const faiss::HNSW& graph_;
    const faiss::IndexFlat& rows_;
    const faiss_ext::kernels::Kernels& kernels_;
    float sign_;
    std::vector<uint64_t> visited_; ///< a bit per row
    std::vector<Row> found_;
    std::vector<const void*> pointers_;
    std::vector<float> distances_;
};

} // namespace knowhere_plugin
