#include <faiss_ext/search/search_plan.h>

#include <algorithm>
#include <cmath>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/lists/direct_map.h>
#include <faiss_ext/search/recall_profile.h>

namespace faiss_ext {

namespace {

// Default number of candidates: k + factor * sqrt(k). Measured on the three
// real sets at recall@10 .95-.99 (bench/curves): 8-bit codes rank almost as raw
// rows do, 4-bit codes need many more candidates.
constexpr double kExtraOfCodes = 30;
constexpr double kExtraOfRefineCodes = 6;
/// Codes alone are rescored by the float table, which moves a result by a few
/// ranks: 1.5 k candidates and this many more are enough.
constexpr size_t kExtraOfTable = 8;
/// Testing this many ids, the cost of their lists included, takes as long as
/// rescoring one row (bench/curves --pass).
constexpr double kIdsPerRow = 24;

size_t pick(size_t from_params, size_t from_index, size_t fallback) {
    return from_params != 0  ? from_params
           : from_index != 0 ? from_index
                             : fallback;
}

/// Rounds to an integer, at most 2^62: it may be doubled.
size_t count_of(double number) {
    constexpr double kMax = 1ull << 62;
    return size_t(std::clamp(number, 0.0, kMax));
}

/** How many candidates a stage rescores: what the call says, which must not be
 * below k, else the index' default, which is made for any k and raised to it.
 * @param fallback  where neither says anything; >= k */
size_t candidates_of(
        const char* name,
        size_t from_params,
        size_t from_index,
        size_t fallback,
        size_t k) {
    FAISS_THROW_IF_NOT_FMT(
            from_params == 0 || from_params >= k,
            "%s = %zu is below k = %zu (allowed: >= k)",
            name,
            from_params,
            k);
    return std::max(pick(from_params, from_index, fallback), k);
}

void check_nprobe(const IndexState& state, size_t nprobe) {
    FAISS_THROW_IF_NOT_FMT(
            nprobe >= 1 && nprobe <= state.lists->nlist,
            "nprobe = %zu (allowed: 1..nlist = %zu)",
            nprobe,
            state.lists->nlist);
}

/** How many candidates a stage gets by default.
 * @param calibrated  refine_k or reorder_k of the calibration, or 0
 * @param factor      kExtraOfCodes or kExtraOfRefineCodes */
size_t default_candidates(
        size_t k,
        const ScaNNCalibration& calibration,
        size_t calibrated,
        double factor) {
    if (calibrated == 0 || calibration.k == 0) {
        return k + size_t(factor * std::sqrt(double(k)));
    }
    // for another k than the calibration's: grows as the defaults do
    double growth = std::sqrt(double(k) / double(calibration.k));
    size_t more = calibrated - std::min(calibrated, calibration.k);
    return k + count_of(std::ceil(double(more) * growth));
}

/** Settings for the target recall of a call, or none (nprobe 0) if it has none.
 * @throws faiss::FaissException if it is out of range, or cannot be met */
ScaNNProfile::Setting wanted_setting(
        const IndexState& state,
        const ScaNNProfile* profile,
        size_t k,
        const SearchParametersScaNN* own,
        bool lists_given) {
    const float target = own ? own->target_recall : 0;
    if (target == 0) {
        return {};
    }
    FAISS_THROW_IF_NOT_FMT(
            target >= ScaNNProfile::kLowestTarget &&
                    target <= ScaNNProfile::kHighestTarget,
            "target_recall = %g (allowed: %g..%g)",
            target,
            ScaNNProfile::kLowestTarget,
            ScaNNProfile::kHighestTarget);
    FAISS_THROW_IF_NOT_FMT(
            k <= ScaNNProfile::kMaxResults,
            "k = %zu with target_recall (allowed: 1..%zu)",
            k,
            size_t(ScaNNProfile::kMaxResults));
    FAISS_THROW_IF_NOT_FMT(
            !lists_given && own->nprobe == 0 && own->refine_k == 0 &&
                    own->reorder_k == 0,
            "target_recall = %g with nprobe, refine_k, reorder_k or lists of "
            "the caller, which it chooses (allowed: one or the others)",
            target);
    FAISS_THROW_IF_NOT_FMT(
            profile != nullptr,
            "target_recall = %g of an index that was never calibrated: call "
            "calibrate() first",
            target);
    return profile_setting(
            *profile, target, double(k), size_t(state.ivf.ntotal));
}

/// How many candidates the scan keeps if the next stage wants `wanted`.
size_t scanned_candidates(const IndexState& state, size_t k, size_t wanted) {
    const size_t total = std::max<size_t>(state.ivf.ntotal, 1);
    size_t keep = std::min(wanted, 2 * total); // no sum overflows
    if (state.spilled == nullptr) {
        return std::min(keep, total);
    }
    // A vector may be found twice until duplicates are dropped. Most are not,
    // but k vectors must be left.
    keep = std::max(keep + keep / 2, 2 * std::min(k, total));
    return std::min(keep, 2 * total);
}

/** @param of_call  numbers of the call, 0: none
 *  @param plan     of the call: which stages there are */
StageCandidates candidates_for(
        const IndexState& state,
        const SearchDefaults& defaults,
        const CandidateNumbers& of_call,
        const SearchPlan& plan,
        size_t k) {
    const ScaNNCalibration& calibration = defaults.calibration;
    size_t refine_k = candidates_of(
            "refine_k",
            of_call.refine_k,
            defaults.refine_k,
            default_candidates(
                    k, calibration, calibration.refine_k, kExtraOfCodes),
            k);
    size_t reorder_k = candidates_of(
            "reorder_k",
            of_call.reorder_k,
            defaults.reorder_k,
            default_candidates(
                    k,
                    calibration,
                    calibration.reorder_k,
                    plan.refine ? kExtraOfRefineCodes : kExtraOfCodes),
            k);
    if (plan.refine && plan.rerank) {
        refine_k = std::max(refine_k, reorder_k);
    }
    const size_t wanted = plan.refine   ? refine_k
                          : plan.rerank ? reorder_k
                                        : k + k / 2 + kExtraOfTable;
    return {.scan_keep = scanned_candidates(state, k, wanted),
            .refine_keep = plan.rerank ? reorder_k : k};
}

/// Rows up to which the direct map is faster than lists.
size_t direct_map_limit(const IndexState& state, const SearchPlan& plan) {
    double entries = double(state.ivf.ntotal);
    entries *= state.spilled != nullptr ? 2 : 1;
    double in_probes =
            entries * double(plan.nprobe) / double(state.lists->nlist);
    // If n of all entries pass, keep * entries / n ids are tested until `keep`
    // rows have passed, as long as rescoring that / kIdsPerRow rows takes. The
    // direct map rescores n rows: both are equal where n is this root.
    double until_enough =
            std::sqrt(double(plan.scan_keep) * entries / kIdsPerRow);
    return count_of(std::max(in_probes / kIdsPerRow, until_enough));
}

/// Chooses Route::DirectMap if the rows that pass can be listed, and rescoring
/// them takes less time than testing all rows of the lists.
void try_direct_map(const IndexState& state, SearchPlan& plan) {
    const faiss::DirectMap& map = state.ivf.direct_map;
    std::vector<int64_t> ids;
    if (!plan.may_extend || map.no() || !direct_map_fits(state) ||
        !plan.rescores() ||
        !plan.filter.list_ids(direct_map_limit(state, plan), ids)) {
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
 * blocks and rescoring what the scan keeps. Rescoring a row takes 10 to 35 ns
 * on the three real sets, raw or 8 bits; scanning a block about 50 ns if many
 * others are skipped. */
bool rescoring_pays(const SearchPlan& plan, const ProbedRows& rows) {
    constexpr double kRowsPerBlock = 1.5;
    size_t kept = std::min(rows.passing, plan.scan_keep);
    return plan.rescores() &&
           double(rows.passing - kept) <=
                   kRowsPerBlock * double(rows.passing_blocks);
}

void check_groups(
        const IndexState& state,
        const SearchParametersScaNN& params,
        const SearchPlan& plan) {
    if (params.max_per_group == 0) {
        FAISS_THROW_IF_NOT_FMT(
                params.groups == 0,
                "groups = %zu without max_per_group (allowed: with it)",
                params.groups);
        return;
    }
    FAISS_THROW_IF_NOT_MSG(
            state.options.with_tags,
            "max_per_group for rows without tags (allowed: with the option "
            "tags=1)");
    FAISS_THROW_IF_NOT_MSG(
            plan.target_recall == 0 && plan.max_codes == 0,
            "max_per_group with target_recall or max_codes (allowed: without "
            "them)");
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
                    {.quantizer_params = ivf ? ivf->quantizer_params : nullptr,
                     .scores =
                             rerank ? ProbeScores::Rough : ProbeScores::Exact},
            .scan_keep = 1,
            .refine_keep = 1,
            .refine = layout.refine_type != RefineType::None,
            .rerank = rerank,
            .filter = Filter(sel),
            .stats = own ? own->stats : nullptr,
            .target_recall = 0,
            .profile = nullptr};
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
    auto own = dynamic_cast<const SearchParametersScaNN*>(params);
    const ScaNNProfile* profile = defaults.profile;
    const ScaNNProfile::Setting wanted =
            wanted_setting(state, profile, size_t(k), own, nprobe_given > 0);
    SearchPlan plan =
            make_range_plan(state, defaults, params, nprobe_given, store_pairs);
    plan.k = size_t(k);
    plan.profile = profile;
    CandidateNumbers numbers = candidate_numbers(params);
    if (wanted.nprobe > 0) {
        plan.nprobe = wanted.nprobe;
        plan.target_recall = own->target_recall;
        numbers = {.reorder_k = wanted.reorder_k, .refine_k = wanted.refine_k};
    }
    const StageCandidates keep =
            candidates_for(state, defaults, numbers, plan, plan.k);
    plan.scan_keep = keep.scan_keep;
    plan.refine_keep = keep.refine_keep;
    if (!state.model->scan_rows || !plan.rescores()) {
        plan.route =
                plan.filter.passes_all() ? Route::Scan : Route::FilterThenScan;
    }
    try_direct_map(state, plan);
    if (own != nullptr) {
        check_groups(state, *own, plan);
        plan.max_per_group = own->max_per_group;
        plan.groups = own->groups;
    }
    return plan;
}

void check_not_grouped(
        const faiss::SearchParameters* params,
        const char* call) {
    auto own = dynamic_cast<const SearchParametersScaNN*>(params);
    FAISS_THROW_IF_NOT_FMT(
            own == nullptr || (own->max_per_group == 0 && own->groups == 0),
            "max_per_group or groups with %s (allowed: with search)",
            call);
}

CandidateNumbers candidate_numbers(const faiss::SearchParameters* params) {
    auto own = dynamic_cast<const SearchParametersScaNN*>(params);
    return own == nullptr ? CandidateNumbers{}
                          : CandidateNumbers{own->reorder_k, own->refine_k};
}

StageCandidates candidates_of_pieces(
        const IndexState& state,
        const SearchDefaults& defaults,
        const CandidateNumbers& of_first,
        const SearchPlan& plan,
        size_t k) {
    const double growth = std::sqrt(double(k) / double(plan.k));
    auto grown = [&](size_t of_first_piece) {
        return of_first_piece == 0
                       ? 0
                       : k + count_of(double(of_first_piece - plan.k) * growth);
    };
    const CandidateNumbers numbers{
            grown(of_first.reorder_k), grown(of_first.refine_k)};
    return candidates_for(state, defaults, numbers, plan, k);
}

size_t passing_to_judge(const SearchPlan& plan) {
    // enough for the first lists to fill the candidates several times over
    constexpr size_t kFills = 4;
    return kFills * plan.scan_keep;
}

bool tested_enough(const SearchPlan& plan, const ProbedRows& rows) {
    // Testing a single row that the scan has found costs ten times as much as
    // testing it with all rows of its list. But the scan finds ever fewer rows
    // the longer it runs, and fewer in all the more rows pass the filter. It is
    // worth it if the lists hold four times as many rows as have been tested.
    constexpr uint64_t kLongScan = 4;
    return plan.route == Route::FilterThenScan && rows.tested < rows.all &&
           rows.tested * kLongScan <= rows.all && !rescoring_pays(plan, rows);
}

double results_before_filter(
        const SearchPlan& plan,
        const ProbedRows& rows,
        size_t copies) {
    // Where the first k passed is known less well than the share.
    constexpr double kTrust = 0.7;
    if (rows.tested == 0) {
        return double(plan.k);
    }
    // k + 1: the best k of a random share reach a little deeper than 1 / share
    const double one_in = double(rows.tested) / double(rows.passing);
    const double by_share = double(plan.k + 1) * one_in - 1;
    return std::max(by_share, kTrust * rows.until_k / double(copies));
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
