#include <faiss_ext/search/query_search.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include <faiss/impl/FaissAssert.h>
#include <faiss/invlists/DirectMap.h>

#include <faiss_ext/lists/copy_places.h>
#include <faiss_ext/search/stage_timer.h>

namespace faiss_ext {

namespace {

constexpr uint64_t kNoPlace = ~uint64_t(0);
/// Fibonacci hashing: 2^64 / golden ratio
constexpr uint64_t kHashFactor = 0x9E3779B97F4A7C15;

/// of kernels::ScanQuery
constexpr float kMostTermMult = 65535;

size_t blocks_of(size_t rows) {
    return (rows + kernels::kBlockSize - 1) / kernels::kBlockSize;
}

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
    from_origin_ = state.model.from_origin(1, query, shifted_);
    stats_ = &stats;
    positions_ = 0;
    apart_ = 0;
    passing_ = 0;
    blocks_passing_ = 0;
    filtered_ = 0;
    rescore_all_ = false;
    segments_.clear();
    masks_.clear();
    for (uint32_t list : lists_seen_) {
        list_scores_[list] = std::numeric_limits<float>::quiet_NaN();
    }
    lists_seen_.clear();
    if ((state.spilled != nullptr || plan.few_pass) &&
        list_scores_.size() < state.lists->nlist) {
        list_scores_.resize(
                state.lists->nlist, std::numeric_limits<float>::quiet_NaN());
    }
    candidates_.reset(kernels, plan.scan_keep);
}

void QuerySearch::build_table() {
    StageTimer timer(plan_->stats != nullptr, stats_->table_time);
    // codes alone are rescored by the float table
    bool rescored = plan_->refine || plan_->rerank;
    const Rotation& rotation = state_->model.rotation;
    const float* rotated =
            rescored ? rotation.rotated_roughly(from_origin_, rotated_)
                     : rotation.rotated(from_origin_, rotated_);
    const ScoreTerm& term = state_->model.score_term;
    float term_step = term.step * term.query_factor(state_->d(), query_);
    table_.build(
            *kernels_,
            state_->model.pq,
            rotated,
            smallest_table_step(term_step));
    // NaN if both steps are infinite, where no code tells anything
    const float mult = std::nearbyint(65536 * term_step / table_.step);
    term_mult_ = mult > 0 ? uint32_t(std::min(mult, kMostTermMult)) : 0;
}

void QuerySearch::add_probes(
        size_t n,
        const int64_t* lists,
        const float* scores) {
    const ScaNNLists* primary = state_->lists.get();
    const ScaNNLists* spilled = state_->spilled.get();
    for (size_t i = 0; i < n; i++) {
        if (plan_->max_codes > 0 && positions_ >= plan_->max_codes) {
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
        if (spilled != nullptr) {
            list_scores_[list] = scores[i];
            lists_seen_.push_back(uint32_t(list));
        }
        if (positions_ == 0) {
            // not scores[0], which means nothing if that list is -1
            reference_bias_ = scores[i];
        }
        for (const ScaNNLists* source : {primary, spilled}) {
            size_t size = source == nullptr ? 0 : source->list(list).size();
            if (size == 0) {
                continue;
            }
            segments_.push_back(
                    {source, uint32_t(list), uint32_t(positions_), scores[i]});
            positions_ += size;
            apart_ += source->list(list).apart.size();
        }
    }
    FAISS_THROW_IF_NOT_FMT(
            positions_ <= std::numeric_limits<uint32_t>::max(),
            "the probed lists hold %llu codes (allowed: < 2^32); lower nprobe",
            static_cast<unsigned long long>(positions_));
}

/// In table steps; far lists saturate, where order no longer matters.
int32_t QuerySearch::integer_bias(float bias) const {
    constexpr float kLimit = 1 << 30;
    float steps = (bias - reference_bias_) / table_.step;
    steps = steps > -kLimit ? std::min(steps, kLimit) : -kLimit; // NaN too
    return int32_t(steps + std::copysign(0.5f, steps));
}

void QuerySearch::scan(const Visit* visits, size_t n) {
    QuerySearch& first = *visits[0].query;
    const Segment& segment = first.segments_[visits[0].segment];
    const ScaNNList& list = segment.lists->list(segment.list);
    const PackedLayout layout = segment.lists->layout().packed();
    kernels::ScanList codes{
            list.packed.data(),
            list.size(),
            layout.groups(),
            layout.has_term,
            nullptr,
            nullptr};
    kernels::ScanQuery queries[kernels::kMaxScanQueries];
    for (size_t q = 0; q < n; q++) {
        QuerySearch& query = *visits[q].query;
        const Segment& at = query.segments_[visits[q].segment];
        queries[q].table = query.table_.bytes.data();
        queries[q].bias = query.integer_bias(at.bias);
        queries[q].term_mult = query.term_mult_;
        queries[q].position = at.position;
        query.stats_->codes += list.size();
    }
    for (size_t next = 0; next < codes.n;) {
        for (size_t q = 0; q < n; q++) {
            visits[q].query->candidates_.lend(queries[q]);
        }
        next = first.kernels_->scan(codes, next, queries, n);
        for (size_t q = 0; q < n; q++) {
            visits[q].query->candidates_.take_back(queries[q]);
        }
    }
}

void QuerySearch::filter_rows(size_t enough) {
    StageTimer timer(plan_->stats != nullptr, stats_->scan_time);
    auto list_of = [&](size_t s) -> const ScaNNList& {
        return segments_[s].lists->list(segments_[s].list);
    };
    for (; filtered_ < segments_.size() && passing_ <= enough; filtered_++) {
        if (filtered_ + 1 < segments_.size()) {
            // Short runs far apart, for which the hardware's own fetches come
            // late: a third off the time of the test.
            const ScaNNList& next = list_of(filtered_ + 1);
            for (size_t i = 0; i < next.size(); i += 8) {
                __builtin_prefetch(next.ids.data() + i, 0, 2);
            }
        }
        const ScaNNList& list = list_of(filtered_);
        size_t words = masks_.size();
        masks_.resize(words + blocks_of(list.size()));
        passing_ += plan_->filter.masks(
                *kernels_, list.ids.data(), list.size(), &masks_[words]);
        blocks_passing_ += std::count_if(
                masks_.begin() + ptrdiff_t(words),
                masks_.end(),
                [](uint32_t mask) { return mask != 0; });
    }
}

/// Whether rescoring every row that passes takes less time than scanning their
/// blocks and rescoring what is left. A row takes 10 to 35 ns on the three real
/// sets, raw or 8 bits, a block about 50 where many others are skipped.
bool QuerySearch::rescoring_all_pays() const {
    if (!plan_->refine && !plan_->rerank) {
        return false;
    }
    if (plan_->filter.passes_all()) {
        return false;
    }
    size_t left = std::min(passing_, plan_->scan_keep);
    return 2 * (passing_ - left) <= 3 * blocks_passing_;
}

/// Fills visits_ for the segments, with masks for those that were filtered.
void QuerySearch::begin_visits() {
    visits_.clear();
    const uint32_t* masks = masks_.data();
    for (size_t s = 0; s < segments_.size(); s++) {
        const Segment& at = segments_[s];
        const ScaNNList& list = at.lists->list(at.list);
        size_t size = list.size();
        stats_->codes += size;
        visits_.push_back(
                {list.packed.data(),
                 s < filtered_ ? masks : nullptr,
                 uint32_t(size),
                 integer_bias(at.bias),
                 at.position});
        masks += s < filtered_ ? blocks_of(size) : 0;
    }
}

/// Scans visits_[begin] .. [end - 1]: all by their masks, or all without. Then
/// the filter tests what comes out.
void QuerySearch::scan_visits(size_t begin, size_t end) {
    const bool masked = begin < filtered_;
    // all lists and their spilled copies have one layout
    const PackedLayout layout = state_->lists->layout().packed();
    kernels::ScanListsArgs args{
            visits_.data(),
            end,
            layout.groups(),
            layout.has_term,
            masked,
            begin,
            0};
    kernels::ScanQuery query{};
    query.table = table_.bytes.data();
    query.term_mult = term_mult_;
    size_t segment = begin;
    while (args.visit < args.n) {
        candidates_.lend(query);
        kernels_->scan_lists(args, query);
        if (masked || plan_->filter.passes_all()) {
            candidates_.take_back(query);
        } else {
            candidates_.take_back(query, [&](uint64_t* keys, size_t n) {
                return drop_filtered(keys, n, segment);
            });
        }
    }
}

/// @param keys     in the order of the scan
/// @param segment  in/out, not behind that of the first key
size_t QuerySearch::drop_filtered(uint64_t* keys, size_t n, size_t& segment) {
    ids_.resize(n);
    for (size_t i = 0; i < n; i++) {
        uint32_t position = key_position(keys[i]);
        while (segment + 1 < segments_.size() &&
               segments_[segment + 1].position <= position) {
            segment++;
        }
        const Segment& at = segments_[segment];
        ids_[i] = at.lists->list(at.list).ids.data() + (position - at.position);
        __builtin_prefetch(ids_[i]);
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        keys[kept] = keys[i];
        kept += plan_->filter.passes(*ids_[i]);
    }
    return kept;
}

bool QuerySearch::filter_later() {
    // Testing what is found costs ten times as much a row, of which there are
    // fewer the more rows pass and the longer the scan goes on.
    constexpr uint64_t kLongScan = 4;
    filter_rows(4 * plan_->scan_keep);
    return filtered_ < segments_.size() && !plan_->scan_rows &&
           segments_[filtered_].position * kLongScan <= positions_ &&
           !rescoring_all_pays();
}

/// Whether all rows of the lists are rescored, whatever their codes say.
bool QuerySearch::keeps_all() const {
    return (plan_->refine || plan_->rerank) && plan_->filter.passes_all() &&
           positions_ <= plan_->scan_keep;
}

void QuerySearch::scan_all() {
    if (plan_->scan_rows || keeps_all() || rescoring_all_pays()) {
        rescore_all_ = true;
        return;
    }
    build_table();
    StageTimer timer(plan_->stats != nullptr, stats_->scan_time);
    begin_visits();
    scan_visits(0, filtered_);
    if (filtered_ > 0 && filtered_ < visits_.size()) {
        candidates_.finish(); // raises the threshold for rows not yet tested
    }
    scan_visits(filtered_, visits_.size());
}

/// Score of a list's centroid; the probes' scores are known already.
float QuerySearch::list_score(uint32_t list) {
    if (std::isnan(list_scores_[list])) {
        list_scores_[list] = state_->partition.score(query_, list);
        lists_seen_.push_back(list);
    }
    return list_scores_[list];
}

/// @param most  rows that will be given to locate()
void QuerySearch::begin_locating(size_t most) {
    stats_->candidates += most;
    rows_.clear();
    if (may_repeat()) {
        places_.assign(std::bit_ceil(2 * most + 1), kNoPlace);
    }
}

/// Appends a candidate to rows_, unless it is there already: as a spilled copy,
/// or as one that is kept apart.
void QuerySearch::locate(const Segment& segment, uint32_t offset, float score) {
    Row row{segment.list, offset, segment.bias, score};
    if (segment.lists->layout().has_primary) {
        // The same vector in its primary list, whose centroid has another
        // score than that of the list it was spilled to.
        uint64_t primary =
                segment.lists->list(segment.list).primary[row.offset];
        row.list = uint32_t(faiss::lo_listno(primary));
        row.offset = uint32_t(faiss::lo_offset(primary));
        check_primary_place(primary, *state_->lists);
        if (plan_->refine || !plan_->rerank) {
            row.bias = list_score(row.list);
        }
    }
    if (may_repeat()) {
        size_t slots = places_.size();
        uint64_t place = faiss::lo_build(row.list, row.offset);
        size_t slot = place * kHashFactor >> 32 & (slots - 1);
        while (places_[slot] != kNoPlace && places_[slot] != place) {
            slot = (slot + 1) & (slots - 1);
        }
        if (places_[slot] == place) {
            return;
        }
        places_[slot] = place;
    }
    rows_.push_back(row);
}

void QuerySearch::locate_candidates() {
    candidates_.finish();
    begin_locating(candidates_.size() + apart_);
    for (size_t i = 0; i < candidates_.size(); i++) {
        uint64_t key = candidates_.keys()[i];
        uint32_t position = key_position(key);
        const Segment* segment = segments_.data();
        for (size_t left = segments_.size(); left > 1;) {
            const size_t half = left / 2;
            // a conditional move: which way is anybody's guess
            segment += segment[half].position <= position ? half : 0;
            left -= half;
        }
        locate(*segment, position - segment->position, float(key_score(key)));
    }
    if (apart_ > 0) {
        locate_apart();
    }
}

/// Rows whose codes say nothing: all of them that may be returned.
void QuerySearch::locate_apart() {
    for (const Segment& segment : segments_) {
        const ScaNNList& list = segment.lists->list(segment.list);
        for (uint32_t offset : list.apart) {
            if (plan_->filter.passes(list.ids[offset])) {
                locate(segment, offset, 0);
            }
        }
    }
}

void QuerySearch::locate_passing() {
    const bool all = plan_->filter.passes_all();
    begin_locating(all ? positions_ : passing_);
    const uint32_t* mask = masks_.data();
    for (const Segment& segment : segments_) {
        size_t size = segment.lists->list(segment.list).size();
        for (size_t i = 0; i < size && all; i++) {
            locate(segment, uint32_t(i), 0);
        }
        if (all) {
            continue;
        }
        for (size_t begin = 0; begin < size; begin += kernels::kBlockSize) {
            for (uint32_t bits = *mask++; bits != 0; bits &= bits - 1) {
                locate(segment, uint32_t(begin + std::countr_zero(bits)), 0);
            }
        }
    }
}

void QuerySearch::locate_places() {
    stats_->candidates += plan_->places.size();
    rows_.clear();
    for (uint64_t place : plan_->places) {
        uint32_t list = uint32_t(faiss::lo_listno(place));
        // raw rows do not need it
        float bias = plan_->rerank ? 0 : list_score(list);
        rows_.push_back({list, uint32_t(faiss::lo_offset(place)), bias, 0});
    }
}

void QuerySearch::write_results(float* distances, int64_t* labels) {
    if (plan_->few_pass) {
        locate_places();
    } else if (rescore_all_) {
        locate_passing();
    } else {
        locate_candidates();
    }
    rescorer_.begin(
            *state_->lists,
            state_->model.score_term,
            query_,
            exact_,
            from_origin_);
    if (plan_->refine) {
        StageTimer timer(plan_->stats != nullptr, stats_->refine_time);
        stats_->refined += rows_.size();
        rescorer_.refine(*kernels_, rows_);
        keep_best(rows_, plan_->refine_keep);
    }
    if (plan_->rerank) {
        StageTimer timer(plan_->stats != nullptr, stats_->rerank_time);
        stats_->reranked += rows_.size();
        rescorer_.rerank(*kernels_, rows_);
    }
    if (!plan_->refine && !plan_->rerank) {
        rescorer_.rescore_codes(table_, rows_);
    }
    keep_best(rows_, plan_->k);
    output(distances, labels);
}

void QuerySearch::output(float* distances, int64_t* labels) {
    results_.clear();
    for (const Row& row : rows_) {
        int64_t label = plan_->store_pairs
                                ? int64_t(faiss::lo_build(row.list, row.offset))
                                : state_->lists->list(row.list).ids[row.offset];
        results_.emplace_back(-row.score, label);
    }
    // Best first; equal scores: smaller label.
    std::sort(results_.begin(), results_.end());
    bool l2 = state_->is_l2();
    float largest = std::numeric_limits<float>::max();
    for (size_t i = 0; i < plan_->k; i++) {
        bool found = i < results_.size();
        labels[i] = found ? results_[i].second : -1;
        if (l2) {
            distances[i] =
                    found ? std::max(0.0f, 2 * results_[i].first) : largest;
        } else {
            distances[i] = found ? -results_[i].first : -largest;
        }
    }
}

} // namespace faiss_ext
