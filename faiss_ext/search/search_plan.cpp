#include <faiss_ext/search/search_plan.h>

#include <algorithm>
#include <cmath>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/lists/direct_map.h>

namespace faiss_ext {

namespace {

// Candidates are k + factor * sqrt(k) where nobody chose. Measured on the three
// real sets at recall@10 .95-.99 (bench/curves): 8-bit codes order almost as raw
// rows do, 4-bit codes need many more.
constexpr double kSpareOfCodes = 30;
constexpr double kSpareOfRefineCodes = 6;
/// Codes alone are rescored by the float table, which moves a result by some
/// ranks at most: k / 2 more candidates than k, and at least so many.
constexpr size_t kLeastTableSpare = 8;
/// Testing so many ids, with what else their lists cost, takes as long as
/// rescoring one row (bench/curves --pass).
constexpr double kIdsPerRow = 24;

size_t pick(size_t from_params, size_t from_index, size_t fallback) {
    return from_params != 0  ? from_params
           : from_index != 0 ? from_index
                             : fallback;
}

/// As an integer that may still be doubled.
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

void check_nprobe(const IndexState& state, size_t nprobe) {
    FAISS_THROW_IF_NOT_FMT(
            nprobe >= 1 && nprobe <= state.lists->nlist,
            "nprobe = %zu (allowed: 1..nlist = %zu)",
            nprobe,
            state.lists->nlist);
}

/** How many candidates a stage gets if the caller does not say.
 * @param calibrated  refine_k or reorder_k of the calibration, or 0
 * @param spare       kSpareOfCodes or kSpareOfRefineCodes */
size_t default_candidates(
        size_t k,
        const ScaNNCalibration& calibration,
        size_t calibrated,
        double spare) {
    if (calibrated == 0 || calibration.k == 0) {
        return k + size_t(spare * std::sqrt(double(k)));
    }
    // for another k than was calibrated: as many more as the defaults have
    double growth = std::sqrt(double(k) / double(calibration.k));
    size_t more = calibrated - std::min(calibrated, calibration.k);
    return k + count_of(std::ceil(double(more) * growth));
}

/// How many of them the scan keeps, of `wanted` for the next stage.
size_t scanned_candidates(const IndexState& state, size_t k, size_t wanted) {
    const size_t total = std::max<size_t>(state.ivf.ntotal, 1);
    size_t keep = std::min(wanted, 2 * total); // no sum overflows
    if (state.spilled == nullptr) {
        return std::min(keep, total);
    }
    // A vector may take two places until duplicates are dropped; most do not,
    // but k of them must be left.
    keep = std::max(keep + keep / 2, 2 * std::min(k, total));
    return std::min(keep, 2 * total);
}

/// Sets what the stages keep. @param own  or nullptr
void resolve_candidates(
        const IndexState& state,
        const SearchDefaults& defaults,
        const SearchParametersScaNN* own,
        SearchPlan& plan) {
    const size_t k = plan.k;
    const ScaNNCalibration& calibration = defaults.calibration;
    size_t refine_k = check_at_least_k(
            "refine_k",
            pick(own ? own->refine_k : 0,
                 defaults.refine_k,
                 default_candidates(
                         k, calibration, calibration.refine_k, kSpareOfCodes)),
            k);
    size_t reorder_k = check_at_least_k(
            "reorder_k",
            pick(own ? own->reorder_k : 0,
                 defaults.reorder_k,
                 default_candidates(
                         k,
                         calibration,
                         calibration.reorder_k,
                         plan.refine ? kSpareOfRefineCodes : kSpareOfCodes)),
            k);
    if (plan.refine && plan.rerank) {
        refine_k = std::max(refine_k, reorder_k);
    }
    const size_t wanted = plan.refine   ? refine_k
                          : plan.rerank ? reorder_k
                                        : k + k / 2 + kLeastTableSpare;
    plan.scan_keep = scanned_candidates(state, k, wanted);
    plan.refine_keep = plan.rerank ? reorder_k : k;
}

/// More rows than this are found faster through lists than by the direct map.
size_t most_by_direct_map(const IndexState& state, const SearchPlan& plan) {
    double entries = double(state.ivf.ntotal);
    entries *= state.spilled != nullptr ? 2 : 1;
    double in_probes =
            entries * double(plan.nprobe) / double(state.lists->nlist);
    // if n rows pass, so many entries / kIdsPerRow hold those to keep:
    // n = keep * entries / n / kIdsPerRow
    double until_enough =
            std::sqrt(double(plan.scan_keep) * entries / kIdsPerRow);
    return count_of(std::max(in_probes / kIdsPerRow, until_enough));
}

/// Takes the direct map's route where the rows that pass can be listed, and
/// take less time than lists with many others.
void try_direct_map(const IndexState& state, SearchPlan& plan) {
    const faiss::DirectMap& map = state.ivf.direct_map;
    std::vector<int64_t> ids;
    if (!plan.may_extend || map.no() || !direct_map_fits(state) ||
        !plan.rescores() ||
        !plan.filter.list_ids(most_by_direct_map(state, plan), ids)) {
        return;
    }
    for (int64_t id : ids) {
        const uint64_t place = place_in(map, id);
        if (is_place(place, *state.lists)) {
            plan.places.push_back(place);
        }
    }
    plan.route = Route::DirectMap;
    plan.refine = plan.refine && !plan.rerank;
}

/** Whether rescoring every row that passes takes less time than scanning their
 * blocks and rescoring what is left. A row takes 10 to 35 ns on the three real
 * sets, raw or 8 bits, a block about 50 where many others are skipped. */
bool rescoring_pays(const SearchPlan& plan, const ProbedRows& rows) {
    size_t left = std::min(rows.passing, plan.scan_keep);
    return plan.rescores() &&
           2 * (rows.passing - left) <= 3 * rows.passing_blocks;
}

} // namespace

SearchPlan make_range_plan(
        const IndexState& state,
        const SearchDefaults& defaults,
        const faiss::SearchParameters* params,
        size_t nprobe_given,
        bool store_pairs) {
    check_trained(state);
    auto ivf = dynamic_cast<const faiss::SearchParametersIVF*>(params);
    auto own = dynamic_cast<const SearchParametersScaNN*>(params);
    size_t nprobe = nprobe_given;
    if (nprobe_given == 0) {
        nprobe = pick(ivf ? ivf->nprobe : 0, defaults.nprobe, 0);
        check_nprobe(state, nprobe);
    }
    const size_t max_codes = ivf ? ivf->max_codes : defaults.max_codes;
    const faiss::IDSelector* sel = params ? params->sel : nullptr;
    const EntryLayout& layout = state.lists->layout();
    const bool rerank = layout.with_raw_data;
    return SearchPlan{
            .route = Route::RescorePassing,
            .k = 1,
            .nprobe = nprobe,
            .max_codes = max_codes,
            .store_pairs = store_pairs,
            .may_extend = sel != nullptr && nprobe_given == 0 && max_codes == 0,
            .places = {},
            .probes =
                    {ivf ? ivf->quantizer_params : nullptr,
                     rerank ? ProbeScores::Rough : ProbeScores::Exact},
            .scan_keep = 1,
            .refine_keep = 1,
            .refine = layout.refine_type != RefineType::None,
            .rerank = rerank,
            .filter = Filter(sel),
            .stats = own ? own->stats : nullptr};
}

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
    SearchPlan plan =
            make_range_plan(state, defaults, params, nprobe_given, store_pairs);
    plan.k = size_t(k);
    resolve_candidates(
            state,
            defaults,
            dynamic_cast<const SearchParametersScaNN*>(params),
            plan);
    if (!state.model.scan_rows || !plan.rescores()) {
        plan.route =
                plan.filter.passes_all() ? Route::Scan : Route::FilterThenScan;
    }
    try_direct_map(state, plan);
    return plan;
}

size_t passing_to_judge(const SearchPlan& plan) {
    return 4 * plan.scan_keep;
}

bool tested_enough(const SearchPlan& plan, const ProbedRows& rows) {
    // To test a row that the scan found costs ten times as much as in its
    // list's order. The scan finds less of a list the later it comes, and less
    // in all the more rows pass: it must have four times as many rows to go.
    constexpr uint64_t kLongScan = 4;
    return plan.route == Route::FilterThenScan && rows.tested < rows.all &&
           rows.tested * kLongScan <= rows.all && !rescoring_pays(plan, rows);
}

Route route_of(const SearchPlan& plan, const ProbedRows& rows) {
    switch (plan.route) {
        case Route::Scan:
            return plan.rescores() && rows.all <= plan.scan_keep
                           ? Route::RescorePassing
                           : Route::Scan;
        case Route::FilterThenScan:
            if (rows.tested < rows.all) {
                return Route::ScanThenFilter;
            }
            return rescoring_pays(plan, rows) ? Route::RescorePassing
                                              : Route::FilterThenScan;
        default:
            return plan.route;
    }
}

} // namespace faiss_ext
