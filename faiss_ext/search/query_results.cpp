#include <faiss_ext/search/query_search.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include <faiss/invlists/DirectMap.h>

#include <faiss_ext/lists/copy_places.h>
#include <faiss_ext/search/stage_timer.h>

namespace faiss_ext {

namespace {

constexpr uint64_t kNoPlace = ~uint64_t(0);
/// Fibonacci hashing: 2^64 / golden ratio
constexpr uint64_t kHashFactor = 0x9E3779B97F4A7C15;

} // namespace

/// Places of the candidates that the scan has found.
void QuerySearch::locate_candidates() {
    candidates_.finish();
    begin_locating(candidates_.size() + apart_);
    locate_keys(candidates_.keys(), candidates_.size());
    if (apart_ > 0) {
        locate_kept_apart();
    }
}

void QuerySearch::locate_keys(const uint64_t* keys, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint64_t key = keys[i];
        uint32_t position = key_position(key);
        const kernels::Probe* probe = probes_.data();
        for (size_t left = probes_.size(); left > 1;) {
            const size_t half = left / 2;
            // a conditional move, since a branch would be mispredicted
            probe += probe[half].position <= position ? half : 0;
            left -= half;
        }
        locate(*probe, position - probe->position, float(key_score(key)));
    }
}

/// Rows without a useful code (ScaNNList::apart), if they pass the filter, of
/// probes_[begin] and those behind it.
void QuerySearch::locate_kept_apart(size_t begin) {
    for (size_t p = begin; p < probes_.size(); p++) {
        const kernels::Probe& probe = probes_[p];
        const ScaNNList& list = list_of(probe);
        for (uint32_t offset : list.apart) {
            if (plan_->filter.passes(list.ids[offset])) {
                locate(probe, offset, 0);
            }
        }
    }
}

/// All rows of probes_[begin] and those behind it that pass the filter.
/// @param word  of masks_, where theirs begin
void QuerySearch::locate_passing(size_t begin, size_t word) {
    const bool all = plan_->filter.passes_all();
    const uint32_t* mask = masks_.data() + word;
    for (size_t p = begin; p < probes_.size(); p++) {
        const kernels::Probe& probe = probes_[p];
        for (size_t i = 0; i < probe.n && all; i++) {
            locate(probe, uint32_t(i), 0);
        }
        if (all) {
            continue;
        }
        for (size_t begin = 0; begin < probe.n; begin += kernels::kBlockSize) {
            for (uint32_t bits = *mask++; bits != 0; bits &= bits - 1) {
                locate(probe, uint32_t(begin + std::countr_zero(bits)), 0);
            }
        }
    }
}

void QuerySearch::locate_by_direct_map() {
    begin_locating(plan_->places.size());
    for (uint64_t place : plan_->places) {
        uint32_t list = uint32_t(faiss::lo_listno(place));
        // raw rows do not need it
        float bias = plan_->rerank ? 0 : list_score(list);
        located_.push_back({list, uint32_t(faiss::lo_offset(place)), bias, 0});
    }
}

/// @param most  rows that will be given to locate()
void QuerySearch::begin_locating(size_t most) {
    stats_->candidates += most;
    located_.clear();
    if (may_repeat() && plan_->route != Route::DirectMap) {
        places_.assign(std::bit_ceil(2 * most + 1), kNoPlace);
        place_count_ = 0;
    }
}

/// Appends a candidate to located_, unless it was appended before: a spilled
/// copy is the same row, and rows kept apart may also be found by the scan.
void QuerySearch::locate(
        const kernels::Probe& probe,
        uint32_t offset,
        float score) {
    Candidate found{probe.list, offset, probe.score, score};
    if (probe.spilled) {
        // The candidate is the primary entry. Its list's centroid has another
        // score than that of the copy's list.
        uint64_t primary = list_of(probe).primary[offset];
        found.list = uint32_t(faiss::lo_listno(primary));
        found.offset = uint32_t(faiss::lo_offset(primary));
        check_primary_place(primary, *state_->lists);
        if (plan_->refine || !plan_->rerank) {
            found.bias = list_score(found.list);
        }
    }
    if (!may_repeat() || is_new(found.list, found.offset)) {
        located_.push_back(found);
    }
}

/// Whether this is the first call for the place since begin_locating().
bool QuerySearch::is_new(uint32_t list, uint32_t offset) {
    const uint64_t place = faiss::lo_build(list, offset);
    const size_t slot = slot_of(place);
    const bool is_new = places_[slot] != place;
    places_[slot] = place;
    place_count_ += is_new;
    return is_new;
}

/// Where the place is in places_, or would be.
size_t QuerySearch::slot_of(uint64_t place) const {
    const size_t slots = places_.size();
    size_t slot = place * kHashFactor >> 32 & (slots - 1);
    while (places_[slot] != kNoPlace && places_[slot] != place) {
        slot = (slot + 1) & (slots - 1);
    }
    return slot;
}

/// Room for more calls of is_new(), without forgetting those before.
void QuerySearch::reserve_places(size_t more) {
    const size_t wanted = std::bit_ceil(2 * (place_count_ + more) + 1);
    if (wanted <= places_.size()) {
        return;
    }
    std::vector<uint64_t> old(wanted, kNoPlace);
    std::swap(old, places_);
    for (uint64_t place : old) {
        if (place != kNoPlace) {
            places_[slot_of(place)] = place;
        }
    }
}

/// Undoes the last call of is_new() that was not undone, if it was for this
/// place.
void QuerySearch::forget_place(uint32_t list, uint32_t offset) {
    places_[slot_of(faiss::lo_build(list, offset))] = kNoPlace;
    place_count_--;
}

/// Score of a list's centroid, computed unless it is known.
float QuerySearch::list_score(uint32_t list) {
    if (std::isnan(list_scores_[list])) {
        list_scores_[list] = state_->partition->score(query_, list);
        lists_seen_.push_back(list);
    }
    return list_scores_[list];
}

/// Refines what was located, if the lists have refine codes. Raw rows of a file
/// begin to be read. @return rows that do
size_t QuerySearch::refine() {
    rescorer_.begin(
            *state_->lists,
            state_->model->score_term,
            query_,
            exact_,
            from_origin_);
    if (plan_->refine) {
        StageTimer timer(plan_->stats != nullptr, stats_->refine_time);
        stats_->refined += located_.size();
        rescorer_.refine(*kernels_, located_);
        keep_best(located_, plan_->refine_keep);
    }
    if (!plan_->rerank) {
        return 0;
    }
    StageTimer timer(plan_->stats != nullptr, stats_->rerank_time);
    return rescorer_.start_reading(located_);
}

/// Reranks what was refined; the k best remain.
void QuerySearch::rerank() {
    if (plan_->rerank) {
        StageTimer timer(plan_->stats != nullptr, stats_->rerank_time);
        stats_->reranked += located_.size();
        rescorer_.rerank(*kernels_, located_);
        rescorer_.count_reads(*stats_);
    }
    if (!plan_->rescores()) {
        rescorer_.rescore_codes(table_, located_);
    }
    keep_best(located_, plan_->k);
}

void QuerySearch::write_results(size_t k, float* distances, int64_t* labels) {
    results_.clear();
    for (const Candidate& row : located_) {
        int64_t label = plan_->store_pairs
                                ? int64_t(faiss::lo_build(row.list, row.offset))
                                : state_->lists->list(row.list).ids[row.offset];
        results_.emplace_back(-row.score, label);
    }
    // Best first; equal scores: smaller label.
    std::sort(results_.begin(), results_.end());
    bool l2 = state_->is_l2();
    float largest = std::numeric_limits<float>::max();
    for (size_t i = 0; i < k; i++) {
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
