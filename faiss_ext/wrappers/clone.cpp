#include <faiss_ext/wrappers/clone.h>

#include <faiss/IndexIDMap.h>
#include <faiss/IndexPreTransform.h>
#include <faiss/VectorTransform.h>
#include <faiss/clone_index.h>
#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index/set_model.h>
#include <faiss_ext/io/clone_quantizer.h>
#include <faiss_ext/model/index_state.h>
#include <faiss_ext/wrappers/faiss_training.h>
#include <faiss_ext/wrappers/id_maps.h>
#include <faiss_ext/index_factory.h>
#include <faiss_ext/index_io.h>

namespace faiss_ext {

namespace {

/// Also of classes that Faiss does not clone; these hold no pointers.
struct TransformCloner : faiss::Cloner {
    faiss::VectorTransform* clone_VectorTransform(
            const faiss::VectorTransform* transform) override {
        using namespace faiss;
        if (auto t = dynamic_cast<const NormalizationTransform*>(transform)) {
            return new NormalizationTransform(*t);
        }
        if (auto t = dynamic_cast<const CenteringTransform*>(transform)) {
            return new CenteringTransform(*t);
        }
        if (auto t = dynamic_cast<const ITQTransform*>(transform)) {
            return new ITQTransform(*t);
        }
        return Cloner::clone_VectorTransform(transform);
    }
};

/// The fields that all indexes have, of a wrapper that owns what it wraps.
void copy_index_fields(const faiss::Index& from, faiss::Index& to) {
    to.d = from.d;
    to.ntotal = from.ntotal;
    to.verbose = from.verbose;
    to.is_trained = from.is_trained;
    to.metric_type = from.metric_type;
    to.metric_arg = from.metric_arg;
}

void own(faiss::Index*& slot, bool& owned, std::unique_ptr<faiss::Index> leaf) {
    slot = leaf.release();
    owned = true;
}

} // namespace

faiss::Index** wrapped_index(faiss::Index* index) {
    // IndexIDMap2 is an IndexIDMap.
    if (auto map = dynamic_cast<faiss::IndexIDMap*>(index)) {
        return &map->index;
    }
    if (auto chain = dynamic_cast<faiss::IndexPreTransform*>(index)) {
        return &chain->index;
    }
    return nullptr;
}

const faiss::Index* const* wrapped_index(const faiss::Index* index) {
    if (auto map = dynamic_cast<const faiss::IndexIDMap*>(index)) {
        return &map->index;
    }
    if (auto chain = dynamic_cast<const faiss::IndexPreTransform*>(index)) {
        return &chain->index;
    }
    return nullptr;
}

faiss::Index* leaf_index(faiss::Index* index) {
    while (faiss::Index** below = wrapped_index(index)) {
        index = *below;
    }
    return index;
}

const faiss::Index* leaf_index(const faiss::Index* index) {
    while (const faiss::Index* const* below = wrapped_index(index)) {
        index = *below;
    }
    return index;
}

void replace_leaf(
        std::unique_ptr<faiss::Index>& root,
        std::unique_ptr<faiss::Index> leaf) {
    faiss::Index** slot = wrapped_index(root.get());
    if (slot == nullptr) {
        root = std::move(leaf);
        return;
    }
    while (faiss::Index** deeper = wrapped_index(*slot)) {
        slot = deeper;
    }
    delete *slot;
    *slot = leaf.release();
}

std::unique_ptr<faiss::Index> copy_wrappers(
        const faiss::Index* root,
        std::unique_ptr<faiss::Index> leaf,
        bool with_ids) {
    if (auto map = dynamic_cast<const faiss::IndexIDMap*>(root)) {
        auto inner = copy_wrappers(map->index, std::move(leaf), with_ids);
        auto map2 = dynamic_cast<const faiss::IndexIDMap2*>(root);
        std::unique_ptr<faiss::IndexIDMap> copy;
        if (map2 != nullptr) {
            copy = std::make_unique<IdMap2>();
        } else {
            copy = std::make_unique<IdMap>();
        }
        copy_index_fields(*map, *copy);
        if (!with_ids) {
            copy->ntotal = 0;
        } else {
            copy->id_map = map->id_map;
            if (map2 != nullptr) {
                static_cast<faiss::IndexIDMap2&>(*copy).rev_map = map2->rev_map;
            }
        }
        own(copy->index, copy->own_fields, std::move(inner));
        return copy;
    }
    if (auto chain = dynamic_cast<const faiss::IndexPreTransform*>(root)) {
        auto inner = copy_wrappers(chain->index, std::move(leaf), with_ids);
        auto copy = std::make_unique<PreTransform>();
        copy_index_fields(*chain, *copy);
        copy->ntotal = with_ids ? chain->ntotal : 0;
        copy->own_fields = true;
        copy->chain.reserve(chain->chain.size());
        for (const faiss::VectorTransform* transform : chain->chain) {
            copy->chain.push_back(
                    TransformCloner().clone_VectorTransform(transform));
        }
        own(copy->index, copy->own_fields, std::move(inner));
        return copy;
    }
    return leaf;
}

void copy_settings(const IndexIVFScaNN& from, IndexIVFScaNN& to) {
    copy_index_fields(from, to);
    to.nprobe = from.nprobe;
    to.max_codes = from.max_codes;
    to.parallel_mode = from.parallel_mode;
    to.reorder_k = from.reorder_k;
    to.refine_k = from.refine_k;
    to.calibration = from.calibration;
    to.profile = from.profile;
    to.quantizer_trains_alone = from.quantizer_trains_alone;
    to.cp = from.cp;
}

std::unique_ptr<IndexIVFScaNN> clone_scann(const IndexIVFScaNN& index) {
    std::unique_ptr<faiss::Index> quantizer = clone_quantizer(*index.quantizer);
    auto copy = std::make_unique<IndexIVFScaNN>(
            quantizer.get(),
            index.d,
            index.nlist,
            index.metric_type,
            index.options);
    quantizer.release();
    copy->own_fields = true;
    if (index.is_trained) {
        const IndexState& state = index.state();
        const ScaNNLists* spilled = state.spilled.get();
        set_model(
                *copy,
                state.model,
                {state.lists->copy(),
                 spilled == nullptr ? nullptr : spilled->copy()});
    }
    copy->state().fit = index.state().fit;
    copy_settings(index, *copy);
    if (direct_map_fits(index.state())) {
        copy->direct_map = index.direct_map;
    }
    return copy;
}

faiss::Index* clone_index(const faiss::Index* index) {
    const IndexIVFScaNN* scann = find_scann(index);
    if (scann == nullptr) {
        std::unique_ptr<faiss::Index> copy(
                TransformCloner().clone_Index(index));
        make_silent(copy);
        return copy.release();
    }
    return copy_wrappers(index, clone_scann(*scann), true).release();
}

} // namespace faiss_ext
