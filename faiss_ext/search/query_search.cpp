#include <faiss_ext/search/query_search.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/search/recall_profile.h>
#include <faiss_ext/search/stage_timer.h>

namespace faiss_ext {

namespace {

/// of kernels::ScanQuery
constexpr float kMaxTermMult = 65535;

} // namespace

void QuerySearch::begin(
        const IndexState& state,
        const SearchPlan& plan,
        const kernels::Kernels& kernels,
        const float* query,
        const float* exact,
        ScaNNSearchStats& stats) {
    state_ = &state;
    plan_ = &plan;
    kernels_ = &kernels;
    query_ = query;
    exact_ = exact;
    from_origin_ = state.model->from_origin(1, query, shifted_);
    stats_ = &stats;
    probes_.clear();
    probed_ = {};
    visited_ = 0;
    apart_ = 0;
    tested_ = 0;
    masks_.clear();
    constexpr float kNotSeen = std::numeric_limits<float>::quiet_NaN();
    for (uint32_t list : lists_seen_) {
        list_scores_[list] = kNotSeen;
    }
    lists_seen_.clear();
    if ((state.spilled != nullptr || plan.route == Route::DirectMap) &&
        list_scores_.size() < state.lists->nlist) {
        list_scores_.resize(state.lists->nlist, kNotSeen);
    }
    candidates_.reset(kernels, plan.scan_keep);
}

void QuerySearch::add_probes(
        size_t n,
        const int64_t* lists,
        const float* scores) {
    const ScaNNLists* primary = state_->lists.get();
    const ScaNNLists* spilled = state_->spilled.get();
    for (size_t i = 0; i < n; i++) {
        if (plan_->max_codes > 0 && probed_.all >= plan_->max_codes) {
            break;
        }
        int64_t list = lists[i];
        if (list < 0) {
            continue;
        }
        FAISS_THROW_IF_NOT_FMT(
                size_t(list) < primary->nlist,
                "list %lld is not below nlist = %zu",
                static_cast<long long>(list),
                primary->nlist);
        stats_->lists++;
        visited_++;
        if (spilled != nullptr) {
            list_scores_[list] = scores[i];
            lists_seen_.push_back(uint32_t(list));
        }
        if (probed_.all == 0) {
            // not scores[0]: that list may be -1
            reference_bias_ = scores[i];
        }
        for (const ScaNNLists* source : {primary, spilled}) {
            if (source == nullptr || source->list(list).size() == 0) {
                continue;
            }
            const ScaNNList& rows = source->list(list);
            probes_.push_back(
                    {.blocks = rows.packed.data(),
                     .masks = nullptr,
                     .n = uint32_t(rows.size()),
                     .position = uint32_t(probed_.all),
                     .bias = 0,
                     .score = scores[i],
                     .list = uint32_t(list),
                     .spilled = source == spilled});
            probed_.all += rows.size();
            apart_ += rows.apart.size();
        }
    }
    FAISS_THROW_IF_NOT_FMT(
            probed_.all <= std::numeric_limits<uint32_t>::max(),
            "the probed lists hold %llu codes (allowed: < 2^32); lower nprobe",
            static_cast<unsigned long long>(probed_.all));
}

size_t QuerySearch::find() {
    switch (choose_route()) {
        case Route::Scan:
            scan(false);
            break;
        case Route::FilterThenScan:
            scan(true);
            break;
        case Route::ScanThenFilter:
            scan_then_filter();
            break;
        case Route::RescorePassing:
            begin_locating(
                    plan_->filter.passes_all() ? probed_.all : probed_.passing);
            locate_passing();
            break;
        case Route::DirectMap:
            locate_by_direct_map();
            break;
    }
    return refine();
}

Route QuerySearch::choose_route() {
    if (!plan_->filter.passes_all() && plan_->route != Route::DirectMap) {
        filter_probes();
    }
    return route_of(*plan_, probed_);
}

/// @param by_masks  of rows that pass the filter
void QuerySearch::scan(bool by_masks) {
    build_table();
    {
        StageTimer timer(plan_->stats != nullptr, stats_->scan_time);
        set_biases_and_masks();
        scan_candidates(0, probes_.size(), by_masks, [&](const auto& scanned) {
            candidates_.take_back(scanned);
        });
    }
    locate_candidates();
}

void QuerySearch::scan_then_filter() {
    build_table();
    {
        StageTimer timer(plan_->stats != nullptr, stats_->scan_time);
        set_biases_and_masks();
        scan_candidates(0, tested_, true, [&](const auto& scanned) {
            candidates_.take_back(scanned);
        });
        candidates_.finish(); // raises the threshold for rows not yet tested
        size_t probe = tested_;
        scan_candidates(
                tested_, probes_.size(), false, [&](const auto& scanned) {
                    candidates_.take_back(
                            scanned, [&](uint64_t* keys, size_t n) {
                                return drop_filtered(keys, n, probe);
                            });
                });
    }
    locate_candidates();
}

size_t QuerySearch::find_scanned() {
    locate_candidates();
    return refine();
}

void QuerySearch::finish(float* distances, int64_t* labels) {
    rerank();
    write_results(plan_->k, distances, labels);
    if (plan_->stats != nullptr) {
        count_expected_recall();
    }
}

void QuerySearch::count_expected_recall() {
    const ScaNNProfile* profile = plan_->profile;
    if (plan_->route == Route::DirectMap && plan_->rerank) {
        stats_->recall_sum += 1;
        return;
    }
    const float kind = kind_of_query(*state_, query_, reference_bias_);
    // which rows a filter passes may depend on the query: nothing shows it
    if (profile == nullptr || visited_ == 0 || !plan_->filter.passes_all() ||
        kind < profile->lowest_score || kind > profile->highest_score) {
        stats_->recall_unknown++;
        return;
    }
    const bool all_kept = route_of(*plan_, probed_) == Route::RescorePassing;
    const VisitedLists visited{
            .k = results_before_filter(*plan_, probed_, copies()),
            .results = plan_->k,
            .lists = visited_,
            .scanned = all_kept ? 0 : plan_->scan_keep,
            .target = plan_->target_recall,
            .refined = plan_->refine && plan_->rerank ? plan_->refine_keep : 0};
    stats_->recall_sum +=
            expected_recall(*profile, visited, size_t(state_->ivf.ntotal));
}

void QuerySearch::build_table() {
    StageTimer timer(plan_->stats != nullptr, stats_->table_time);
    // codes alone are rescored by the float table, which must be exact
    const Rotation& rotation = state_->model->rotation;
    const float* rotated =
            plan_->rescores() ? rotation.rotated_roughly(from_origin_, rotated_)
                              : rotation.rotated(from_origin_, rotated_);
    const ScoreTerm& term = state_->model->score_term;
    float term_step = term.step * term.query_factor(state_->d(), query_);
    table_.build(
            *kernels_,
            state_->model->pq,
            rotated,
            smallest_table_step(term_step));
    // NaN if both steps are infinite: then all scores are equal
    const float mult = std::nearbyint(65536 * term_step / table_.step);
    term_mult_ = mult > 0 ? uint32_t(std::min(mult, kMaxTermMult)) : 0;
}

/// In table steps, within a limit: rows of lists beyond it are no candidates.
int32_t QuerySearch::integer_bias(float score) const {
    constexpr float kLimit = 1 << 30;
    float steps = (score - reference_bias_) / table_.step;
    steps = steps > -kLimit ? std::min(steps, kLimit) : -kLimit; // NaN too
    return int32_t(steps + std::copysign(0.5f, steps));
}

/// Sets the bias of probes_[begin] and those behind it, in table steps, and
/// their masks if they were tested. @param word  of masks_, where theirs begin
void QuerySearch::set_biases_and_masks(size_t begin, size_t word) {
    const uint32_t* masks = masks_.data() + word;
    for (size_t p = begin; p < probes_.size(); p++) {
        kernels::Probe& probe = probes_[p];
        stats_->codes += probe.n;
        probe.bias = integer_bias(probe.score);
        if (p < tested_) {
            probe.masks = masks;
            masks += Filter::mask_words(probe.n);
        }
    }
}

void QuerySearch::scan_shared(const SharedProbe* shared, size_t n) {
    const QuerySearch& first = *shared[0].query;
    const PackedLayout layout = first.state_->lists->layout().packed();
    const kernels::ScanList codes{
            .blocks = shared[0].probe->blocks,
            .n = shared[0].probe->n,
            .groups = layout.groups(),
            .has_term = layout.has_term,
            .masks = nullptr,
            .next = nullptr};
    kernels::ScanQuery queries[kernels::kMaxScanQueries];
    for (size_t q = 0; q < n; q++) {
        QuerySearch& query = *shared[q].query;
        queries[q].table = query.table_.bytes.data();
        queries[q].bias = query.integer_bias(shared[q].probe->score);
        queries[q].term_mult = query.term_mult_;
        queries[q].position = shared[q].probe->position;
        query.stats_->codes += codes.n;
    }
    for (size_t next = 0; next < codes.n;) {
        for (size_t q = 0; q < n; q++) {
            shared[q].query->candidates_.lend(queries[q]);
        }
        next = first.kernels_->scan(codes, next, queries, n);
        for (size_t q = 0; q < n; q++) {
            shared[q].query->candidates_.take_back(queries[q]);
        }
    }
}

} // namespace faiss_ext
