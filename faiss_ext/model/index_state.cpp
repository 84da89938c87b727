#include <faiss_ext/model/index_state.h>

#include <faiss/IndexFlat.h>
#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/kernels/kernels.h>
#include <faiss_ext/lists/direct_map.h>
#include <faiss_ext/model/defaults.h>
#include <faiss_ext/partition/coarse_quantizer.h>

namespace faiss_ext {

EntryLayout entry_layout(const IndexState& state) {
    return EntryLayout::of(state.d(), state.model->pq.M(), state.options);
}

ListSets empty_lists(const IndexState& state, size_t nlist) {
    const EntryLayout layout = entry_layout(state);
    ListSets empty;
    empty.lists = std::make_unique<ScaNNLists>(nlist, layout);
    if (state.options.soar_lambda > 0) {
        empty.spilled = std::make_unique<ScaNNLists>(nlist, layout.of_copies());
    }
    return empty;
}

const faiss::IndexFlat* flat_quantizer(const IndexState& state) {
    auto flat = dynamic_cast<const faiss::IndexFlat*>(state.ivf.quantizer);
    return flat != nullptr && flat->metric_type == state.ivf.metric_type
                   ? flat
                   : nullptr;
}

bool may_list_by_direction(const IndexState& state) {
    return !state.is_l2() && !state.options.normalize &&
           !state.options.score_aware_centroids &&
           flat_quantizer(state) != nullptr;
}

/// For inner product, once the spread of the lists is known; else none.
static std::vector<float> gains_of_lists(
        const IndexState& state,
        const ScaNNModel& model,
        const float* centroids) {
    if (state.is_l2() || model.list_spread.empty()) {
        return {};
    }
    return list_gains(
            state.ivf.nlist,
            state.d(),
            centroids,
            model.list_spread,
            model.by_direction);
}

Partition make_partition(const IndexState& state, const ScaNNModel& model) {
    const faiss::IndexFlat* flat = flat_quantizer(state);
    const size_t nlist = state.ivf.nlist;
    const size_t d = state.d();
    std::vector<float> copied;
    if (flat == nullptr) {
        copied.resize(nlist * d);
        state.ivf.quantizer->reconstruct_n(0, int64_t(nlist), copied.data());
    }
    const float* centroids = flat != nullptr ? flat->get_xb() : copied.data();
    const std::vector<float> gains = gains_of_lists(state, model, centroids);
    Partition partition(
            nlist,
            d,
            centroids,
            state.ivf.metric_type,
            gains.empty() ? nullptr : gains.data(),
            flat != nullptr,
            model.by_direction);
    if (!model.list_groups.empty()) {
        partition.use_groups(model.list_groups);
    }
    return partition;
}

std::vector<uint32_t> make_list_groups(
        const IndexState& state,
        const ScaNNModel& model) {
    const faiss::IndexFlat* flat = flat_quantizer(state);
    const size_t nlist = state.ivf.nlist;
    if (flat == nullptr || nlist < kMinGroupedLists) {
        return {};
    }
    return group_lists(
            nlist,
            state.d(),
            flat->get_xb(),
            gains_of_lists(state, model, flat->get_xb()),
            state.options.seed);
}

bool direct_map_fits(const IndexState& state) {
    return map_fits(
            state.ivf.direct_map, *state.lists, size_t(state.ivf.ntotal));
}

void check_trained(const IndexState& state) {
    FAISS_THROW_IF_NOT_MSG(state.ivf.is_trained, "the index is not trained");
}

RowScale row_scale(const IndexState& state) {
    if (!state.options.normalize) {
        return RowScale::AsGiven;
    }
    return state.options.allow_zero ? RowScale::UnitOrZero : RowScale::Unit;
}

const float* prepare_rows(
        const IndexState& state,
        size_t n,
        const float* x,
        const char* what,
        std::vector<float>& storage,
        size_t first) {
    return checked_rows(
            n, state.d(), x, row_scale(state), what, storage, first);
}

void assign_lists(
        const IndexState& state,
        size_t n,
        const float* x,
        int64_t* lists) {
    if (state.quantizer_is_flat) {
        state.partition->assign(n, x, lists);
    } else {
        std::vector<float> distances(n);
        search_quantizer(
                *state.ivf.quantizer,
                int64_t(n),
                x,
                1,
                distances.data(),
                lists);
    }
}

std::vector<float>
centroids_of(const IndexState& state, size_t n, const int64_t* lists) {
    const size_t d = state.d();
    std::vector<float> centroids(n * d);
    for (size_t i = 0; i < n; i++) {
        if (lists[i] >= 0) {
            state.ivf.quantizer->reconstruct(
                    lists[i], centroids.data() + i * d);
        }
    }
    return centroids;
}

// ---- memory ----

size_t memory_usage(const IndexState& state) {
    const ScaNNModel& model = state.model;
    size_t total =
            state.lists->memory_usage() + state.partition->memory_usage();
    if (state.spilled != nullptr) {
        total += state.spilled->memory_usage();
    }
    total += model.rotation.memory_usage();
    total += (model.list_spread.size() + model.origin.size() +
              model.pq.codebook().size()) *
             sizeof(float);
    total += model.list_groups.size() * sizeof(uint32_t);
    total += size_t(state.ivf.quantizer->ntotal) * state.d() * sizeof(float);
    if (state.copy_places != nullptr) {
        total += state.copy_places->memory_usage();
    }
    if (state.plan != nullptr) {
        total += state.plan->memory_usage();
    }
    return total + memory_of(state.ivf.direct_map);
}

size_t estimate_memory(const IndexState& state, size_t n) {
    FAISS_THROW_IF_NOT_FMT(
            n <= size_t(1) << 40, "n = %zu (allowed: 0..2^40)", n);
    const size_t d = state.d();
    const size_t nlist = state.ivf.nlist != 0 ? state.ivf.nlist
                                              : default_nlist(n, state.options);
    size_t total = ScaNNLists::estimate_memory(state.lists->layout(), nlist, n);
    if (state.spilled != nullptr) {
        total += ScaNNLists::estimate_memory(state.spilled->layout(), nlist, n);
    }
    if (rotation_pays(state.options.rotation, n, d)) {
        total += Rotation::estimate_memory(d);
    }
    const size_t codebook = d * kernels::kCodewords;
    total += (codebook + nlist * (d + 1)) * sizeof(float);
    return total + Partition::estimate_memory(
                           nlist,
                           d,
                           flat_quantizer(state) != nullptr,
                           state.ivf.is_trained ? state.model->by_direction
                                                : may_list_by_direction(state),
                           nlist >= kMinGroupedLists);
}

} // namespace faiss_ext
