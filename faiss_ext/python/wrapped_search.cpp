#include "wrapped_index.h"

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/wrappers/map_parameters.h>

#include "wrapper_layers.h"

namespace faiss_ext::python {

using faiss::IndexIDMap;
using faiss::IndexIVF;
using faiss::IndexPreTransform;

namespace {

/// Below an IndexIDMap; ScaNN's parameters stay of that class.
const SearchParametersScaNN& scann_params(const InnerParameters& below) {
    return static_cast<const SearchParametersScaNN&>(*below.get());
}

/// Calls run(params) with the parameters that the leaf has.
/// @throws faiss::FaissException if others are set
template <class Run>
void with_leaf_params(
        const faiss::Index* leaf,
        const SearchParametersScaNN& params,
        Run&& run) {
    if (as<IndexIVFScaNN>(leaf) != nullptr) {
        run(&params);
        return;
    }
    const faiss::SearchParametersIVF of_lists = faiss_params(params);
    if (as<IndexIVF>(leaf) != nullptr) {
        run(&of_lists);
        return;
    }
    FAISS_THROW_IF_NOT_MSG(
            params.nprobe == 0 && params.max_codes == 0,
            "nprobe and max_codes need an IVF index");
    faiss::SearchParameters plain;
    plain.sel = params.sel;
    run(params.sel == nullptr ? nullptr : &plain);
}

} // namespace

faiss::SearchParametersIVF faiss_params(const SearchParametersScaNN& params) {
    FAISS_THROW_IF_NOT_MSG(
            params.reorder_k == 0 && params.refine_k == 0 &&
                    params.stats == nullptr,
            "reorder_k, refine_k and stats need a ScaNN index");
    faiss::SearchParametersIVF plain;
    plain.sel = params.sel;
    plain.nprobe = params.nprobe;
    plain.max_codes = params.max_codes;
    return plain;
}

void search(
        const faiss::Index* index,
        int64_t n,
        const float* x,
        int64_t k,
        float* distances,
        int64_t* labels,
        float* rows,
        const SearchParametersScaNN& params) {
    if (auto layer = as<IndexPreTransform>(index)) {
        Transformed below(*layer, n, x);
        size_t d = layer->index->d;
        std::vector<float> inner(rows == nullptr ? 0 : n * k * d);
        search(layer->index,
               n,
               below.data(),
               k,
               distances,
               labels,
               rows == nullptr ? nullptr : inner.data(),
               params);
        if (rows != nullptr) {
            layer->reverse_chain(n * k, inner.data(), rows);
        }
        return;
    }
    if (auto layer = as<IndexIDMap>(index)) {
        const InnerParameters below(*layer, &params);
        search(layer->index,
               n,
               x,
               k,
               distances,
               labels,
               rows,
               scann_params(below));
        to_outer_ids(*layer, n * k, labels);
        return;
    }
    with_leaf_params(index, params, [&](const faiss::SearchParameters* p) {
        if (rows != nullptr) {
            index->search_and_reconstruct(n, x, k, distances, labels, rows, p);
        } else {
            index->search(n, x, k, distances, labels, p);
        }
    });
}

void range_search(
        const faiss::Index* index,
        int64_t n,
        const float* x,
        float radius,
        faiss::RangeSearchResult* result,
        const SearchParametersScaNN& params) {
    if (auto layer = as<IndexPreTransform>(index)) {
        Transformed below(*layer, n, x);
        range_search(layer->index, n, below.data(), radius, result, params);
        return;
    }
    if (auto layer = as<IndexIDMap>(index)) {
        const InnerParameters below(*layer, &params);
        range_search(layer->index, n, x, radius, result, scann_params(below));
        to_outer_ids(*layer, result->lims[n], result->labels);
        return;
    }
    with_leaf_params(index, params, [&](const faiss::SearchParameters* p) {
        index->range_search(n, x, radius, result, p);
    });
}

size_t PiecesOfSearch::next(float* distances, int64_t* labels) {
    const size_t n = rows_->next(distances, labels);
    for (size_t i = maps_.size(); i-- > 0;) {
        to_outer_ids(*maps_[i], n, labels);
    }
    return n;
}

PiecesOfSearch iterate(
        const faiss::Index* index,
        const float* x,
        int64_t batch,
        const SearchParametersScaNN& params) {
    if (auto layer = as<IndexPreTransform>(index)) {
        Transformed below(*layer, 1, x);
        return iterate(layer->index, below.data(), batch, params);
    }
    if (auto layer = as<IndexIDMap>(index)) {
        auto below = std::make_unique<InnerParameters>(*layer, &params);
        PiecesOfSearch pieces =
                iterate(layer->index, x, batch, scann_params(*below));
        pieces.maps_.insert(pieces.maps_.begin(), layer);
        pieces.below_.push_back(std::move(below));
        return pieces;
    }
    auto scann = as<IndexIVFScaNN>(index);
    FAISS_THROW_IF_NOT_MSG(
            scann != nullptr, "iterate needs a ScaNN index inside");
    PiecesOfSearch pieces;
    pieces.rows_ = scann->iterate(x, batch, &params);
    return pieces;
}

} // namespace faiss_ext::python
