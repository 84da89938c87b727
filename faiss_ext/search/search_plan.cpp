#include <faiss_ext/search/search_plan.h>

#include <algorithm>
#include <cmath>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/lists/direct_map.h>

namespace faiss_ext {

namespace {

size_t pick(size_t from_params, size_t from_index, size_t fallback) {
    return from_params != 0  ? from_params
           : from_index != 0 ? from_index
                             : fallback;
}

/// A number of candidates; of more there is no talk.
size_t count_of(double number) {
    constexpr double kMost = 1ull << 62;
    return size_t(std::clamp(number, 0.0, kMost));
}

size_t check_at_least_k(const char* name, size_t value, size_t k) {
    FAISS_THROW_IF_NOT_FMT(
            value >= k,
            "%s = %zu is below k = %zu (allowed: >= k)",
            name,
            value,
            k);
    return value;
}

} // namespace

SearchPlan make_search_plan(
        const IndexState& state,
        const SearchDefaults& defaults,
        int64_t k,
        const faiss::SearchParameters* params,
        size_t nprobe_given,
        bool store_pairs) {
    check_trained(state);
    FAISS_THROW_IF_NOT_FMT(
            k >= 1, "k = %lld (allowed: >= 1)", static_cast<long long>(k));
    auto ivf = dynamic_cast<const faiss::SearchParametersIVF*>(params);
    auto own = dynamic_cast<const SearchParametersScaNN*>(params);

    size_t nprobe = nprobe_given != 0
                            ? nprobe_given
                            : pick(ivf ? ivf->nprobe : 0, defaults.nprobe, 0);
    if (nprobe_given == 0) {
        FAISS_THROW_IF_NOT_FMT(
                nprobe >= 1 && nprobe <= state.lists->nlist,
                "nprobe = %zu (allowed: 1..nlist = %zu)",
                nprobe,
                state.lists->nlist);
    }

    size_t k_size = size_t(k);
    // Measured on the three real sets at recall@10 .95-.99 (bench/curves):
    // 8-bit codes order almost as raw rows do, 4-bit codes need many more.
    size_t many = k_size + size_t(30 * std::sqrt(double(k_size)));
    size_t few = k_size + size_t(6 * std::sqrt(double(k_size)));
    const ScaNNCalibration& calibrated = defaults.calibration;
    const EntryLayout& layout = state.lists->layout();
    bool refine = layout.refine_type != RefineType::None;
    bool rerank = layout.with_raw_data;
    // for another k than was calibrated: as many more as the defaults have
    auto candidates = [&](size_t chosen, size_t fallback) {
        if (chosen == 0 || calibrated.k == 0) {
            return fallback;
        }
        double growth = std::sqrt(double(k_size) / double(calibrated.k));
        size_t spare = chosen - std::min(chosen, calibrated.k);
        return k_size + count_of(std::ceil(double(spare) * growth));
    };
    size_t refine_k = check_at_least_k(
            "refine_k",
            pick(own ? own->refine_k : 0,
                 defaults.refine_k,
                 candidates(calibrated.refine_k, many)),
            k_size);
    size_t reorder_k = check_at_least_k(
            "reorder_k",
            pick(own ? own->reorder_k : 0,
                 defaults.reorder_k,
                 candidates(calibrated.reorder_k, refine ? few : many)),
            k_size);
    if (refine && rerank) {
        refine_k = std::max(refine_k, reorder_k);
    }
    // Codes alone are rescored by the float table, which moves a result by
    // some ranks at most.
    size_t total = std::max<size_t>(state.ivf.ntotal, 1);
    size_t scan_keep = refine   ? refine_k
                       : rerank ? reorder_k
                                : k_size + k_size / 2 + 8;
    scan_keep = std::min(scan_keep, 2 * total); // no sum overflows
    if (state.spilled != nullptr) {
        // A vector may take two places until duplicates are dropped; most do
        // not, but k of them must be left.
        scan_keep = std::max(
                scan_keep + scan_keep / 2, 2 * std::min(k_size, total));
        total *= 2;
    }

    size_t max_codes = ivf ? ivf->max_codes : defaults.max_codes;
    const faiss::IDSelector* sel = params ? params->sel : nullptr;
    return SearchPlan{
            k_size,
            nprobe,
            max_codes,
            store_pairs,
            state.model.scan_rows && (refine || rerank),
            sel != nullptr && nprobe_given == 0 && max_codes == 0,
            false,
            {},
            {ivf ? ivf->quantizer_params : nullptr,
             rerank ? ProbeScores::Rough : ProbeScores::Exact},
            std::min(scan_keep, total),
            rerank ? reorder_k : k_size,
            refine,
            rerank,
            Filter(sel),
            own ? own->stats : nullptr};
}

void find_few(const IndexState& state, SearchPlan& plan) {
    // Testing so many ids, with what else their lists cost, takes as long as
    // rescoring one row (bench/curves --pass).
    constexpr double kIdsPerRow = 24;
    const faiss::DirectMap& map = state.ivf.direct_map;
    const size_t ntotal = size_t(state.ivf.ntotal);
    if (!plan.may_extend || map.no() || !direct_map_fits(state) ||
        !(plan.refine || plan.rerank)) {
        return;
    }
    double entries = double(ntotal);
    entries *= state.spilled != nullptr ? 2 : 1;
    double in_probes =
            entries * double(plan.nprobe) / double(state.lists->nlist);
    // if n rows pass, so many entries / kIdsPerRow hold those to keep:
    // n = keep * entries / n / kIdsPerRow
    double until_enough =
            std::sqrt(double(plan.scan_keep) * entries / kIdsPerRow);
    size_t most = count_of(std::max(in_probes / kIdsPerRow, until_enough));
    std::vector<int64_t> ids;
    if (!plan.filter.list_ids(most, ids)) {
        return;
    }
    for (int64_t id : ids) {
        const uint64_t place = place_in(map, id);
        if (is_place(place, *state.lists)) {
            plan.places.push_back(place);
        }
    }
    plan.few_pass = true;
    plan.refine = plan.refine && !plan.rerank;
}

} // namespace faiss_ext
