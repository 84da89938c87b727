/*
 * Search through all rows of a faiss::IndexFlat.
 *
 * Faiss passes batches of 20 queries and more to BLAS, which has threads of its
 * own; here the engine's kernels run, on the calling thread alone.
 */

#pragma once

#include <faiss/IndexFlat.h>

#include <faiss_ext/model/index_state.h>

#include <knowhere_plugin/search_request.h>

namespace knowhere_plugin {

/// The nearest rows that pass.
void exact_search(const faiss::IndexFlat& rows, const SearchRequest& request);

/// Rows nearer than the radius, by id.
Hits exact_range(const faiss::IndexFlat& rows, const RangeRequest& request);

/** Pointers to all raw rows of an index with lists: scoring all rows of a small
 * index takes less time than the steps of a search. Valid until the index
 * changes. */
class ListRows {
 public:
    /// @param index  with raw rows; borrowed
    explicit ListRows(const faiss_ext::IndexState& state);

    /** As exact_search(); similarities of an index that normalises are those of
     * unit vectors.
     * @return  false: nothing was written, since scores of such rows or queries
     *          leave the range of floats */
    bool search(const SearchRequest& request) const;

 private:
    struct Rows {
        std::vector<const void*> pointers;
        std::vector<int64_t> ids;
        std::vector<float> factors; ///< from scores to distances
    };
    Rows passing(const faiss::IDSelector& sel) const;
    /// The queries, or scaled ones in `scaled`; nullptr if their scores would
    /// leave the range of floats.
    const float* moderate_queries(
            const SearchRequest& request,
            std::vector<float>& scaled) const;

    int64_t d_;
    bool l2_;
    bool unit_;
    faiss_ext::RowType type_;
    Rows all_;
    bool scores_are_floats_ = true; ///< all of them are finite floats
};

} // namespace knowhere_plugin
