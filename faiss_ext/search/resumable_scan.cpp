#include <faiss_ext/search/resumable_scan.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/search/probes.h>
#include <faiss_ext/search/stage_timer.h>

namespace faiss_ext {

namespace {

/// A piece comes from lists with this many times the rows given so far, as far
/// as there are: beyond half of the nearest lists' rows, others are nearer.
constexpr size_t kRowsPerGiven = 2;
/// Keys that the scan keeps, times those that the piece needs: as many pieces
/// come without another scan.
constexpr size_t kKeysAhead = 5;
/// Keys that are selected at a time, besides those that a piece needs.
constexpr size_t kPiecesAhead = 3;
/// Selecting the best of n keys takes a time of n, so at least n / 16 are taken.
constexpr size_t kShareTaken = 16;
/// Behind all rows.
constexpr Candidate kWorst{UINT32_MAX, UINT32_MAX, 0, -HUGE_VALF};

/// Larger for better rows. @param i  its number
uint64_t row_key(float score, size_t i) {
    const float no_minus_zero = score + 0.f;
    const uint32_t bits = std::bit_cast<uint32_t>(no_minus_zero);
    const uint32_t ordered = bits ^ (bits >> 31 != 0 ? ~0u : 1u << 31);
    return uint64_t(ordered) << 32 | uint32_t(~i);
}

/// Drops keys from `smallest` on. @return  how many stay
size_t drop_from(uint64_t smallest, uint64_t* keys, size_t n) {
    size_t left = 0;
    for (size_t i = 0; i < n; i++) {
        const uint64_t key = keys[i];
        keys[left] = key; // without a branch
        left += key < smallest;
    }
    return left;
}

/// Room for more elements; grows by factors.
template <class Vector>
void make_room_for(Vector& vector, size_t more) {
    const size_t wanted = vector.size() + more;
    if (vector.capacity() < wanted) {
        vector.reserve(std::max(wanted, 2 * vector.capacity()));
    }
}

} // namespace

ResumableScan::ResumableScan(
        const IndexState& state,
        SearchPlan plan,
        const SearchDefaults& defaults,
        const CandidateNumbers& numbers,
        const float* query,
        const float* exact,
        bool first_lists)
        : settings_(std::move(plan)),
          defaults_(defaults),
          numbers_(numbers),
          first_lists_(first_lists) {
    begin(state, settings_, active_kernels(), query, exact, counted_);
    rescorer_.begin(
            *state.lists, state.model->score_term, query, exact, from_origin_);
    counted_.nq = 1;
    if (settings_.route == Route::RescorePassing ||
        settings_.route == Route::DirectMap) {
        floor_ = 0; // rows come without keys
    }
}

size_t ResumableScan::next(size_t more, float* distances, int64_t* labels) {
    const size_t k = given_ + more;
    StageCandidates wanted =
            candidates_of_pieces(*state_, defaults_, numbers_, settings_, k);
    const size_t copies = state_->spilled != nullptr ? 2 : 1;
    size_t rows = std::max(wanted.scan_keep, kRowsPerGiven * copies * k);
    visit_first_lists();
    while (true) {
        visit_lists(rows);
        take_new_lists();
        const bool all_used = !use_keys(wanted.scan_keep);
        rerank_best(wanted.refine_keep);
        if (final_.size() >= more ||
            (all_used && refined_.empty() && !lists_left())) {
            break;
        }
        // keys of rows that were found before, as spilled copies, do not count
        wanted = {used_ + more, reranked_ + more};
        rows = all_used ? rows_to_choose_from() + 1 : rows;
    }
    const size_t n = give(more, distances, labels);
    if (settings_.stats != nullptr) {
        rescorer_.count_reads(counted_);
        *settings_.stats += std::exchange(counted_, {});
    }
    return n;
}

// ---------------------------------------------------------------- lists

void ResumableScan::visit_first_lists() {
    if (visited_ > 0) {
        return;
    }
    const size_t nlist = state_->ivf.nlist;
    if (settings_.route == Route::DirectMap) {
        take(settings_.places.size(), [&] { locate_by_direct_map(); });
        visited_ = nlist;
        return;
    }
    const size_t nprobe = settings_.nprobe;
    seen_lists_.assign(nlist, false);
    std::vector<int64_t> lists(nprobe);
    std::vector<float> scores(nprobe);
    {
        StageTimer timer(settings_.stats != nullptr, counted_.partition_time);
        find_filled_probes(
                *state_,
                1,
                query_,
                nprobe,
                settings_.probes,
                lists.data(),
                scores.data());
    }
    visit(nprobe, lists.data(), scores.data());
    for (int64_t list : lists) {
        if (list >= 0) {
            seen_lists_[size_t(list)] = true;
        }
    }
    visited_ = nprobe;
}

/// Brings lists that were visited since to where the others are: all their keys
/// down to the floor, and the rows that have no key.
void ResumableScan::take_new_lists() {
    if (taken_probes_ == probes_.size()) {
        return;
    }
    const size_t rows = rows_to_choose_from();
    const size_t keys = keys_count_;
    try {
        if (settings_.route == Route::RescorePassing) {
            take(rows - taken_rows_,
                 [&] { locate_passing(taken_probes_, taken_words_); });
        } else {
            scan_new_lists();
            make_room_for(front_, front_.empty() ? 0 : keys_count_ - keys);
            if (apart_ > taken_apart_) {
                take(apart_ - taken_apart_,
                     [&] { locate_kept_apart(taken_probes_); });
            }
        }
    } catch (...) {
        keys_count_ = keys;
        throw;
    }
    add_to_front(keys);
    taken_probes_ = probes_.size();
    taken_words_ = masks_.size();
    taken_rows_ = rows;
    taken_apart_ = apart_;
}

// ----------------------------------------------------------------- keys

/// Sets what the scan needs of probes_[begin] and those behind it.
void ResumableScan::prepare_scan(size_t begin, size_t word) {
    if (!table_built_) {
        build_table();
        table_built_ = true;
    }
    set_biases_and_masks(begin, word);
}

/// Appends all keys down to the floor. Before the first scan of all lists there
/// are none.
void ResumableScan::scan_new_lists() {
    if (floor_ == UINT64_MAX) {
        return;
    }
    constexpr size_t kRoom = 1024; // keys, at least
    prepare_scan(taken_probes_, taken_words_);
    StageTimer timer(settings_.stats != nullptr, counted_.scan_time);
    auto lend = [&](kernels::ScanQuery& query) {
        if (keys_.size() < keys_count_ + kRoom) {
            keys_.resize(std::max(2 * keys_.size(), keys_count_ + kRoom));
        }
        query.keys = keys_.data();
        query.count = keys_count_;
        query.capacity = keys_.size() - kernels::kScanSlack;
        query.enough = SIZE_MAX;
        query.threshold = key_score(floor_);
    };
    scan_probes(
            taken_probes_,
            probes_.size(),
            !settings_.filter.passes_all(),
            lend,
            [&](const kernels::ScanQuery& query) {
                // of the same score as the floor, some are below it
                uint64_t* fresh = keys_.data() + keys_count_;
                uint64_t* end = std::remove_if(
                        fresh, keys_.data() + query.count, [&](uint64_t key) {
                            return key < floor_;
                        });
                keys_count_ = size_t(end - keys_.data());
            });
}

/// Scans all lists for the best keys below the floor. @return whether there are
bool ResumableScan::fill_keys(size_t wanted) {
    if (floor_ == 0) {
        return false;
    }
    const size_t keep = std::min(
            kKeysAhead * wanted, std::max<size_t>(rows_to_choose_from(), 1));
    candidates_.reset(*kernels_, keep);
    prepare_scan(0, 0);
    {
        StageTimer timer(settings_.stats != nullptr, counted_.scan_time);
        auto take_back = [&](const kernels::ScanQuery& query) {
            if (floor_ == UINT64_MAX) {
                candidates_.take_back(query);
                return;
            }
            candidates_.take_back(query, [&](uint64_t* keys, size_t n) {
                return size_t(
                        std::remove_if(
                                keys,
                                keys + n,
                                [&](uint64_t key) { return key >= floor_; }) -
                        keys);
            });
        };
        scan_candidates(
                0, probes_.size(), !settings_.filter.passes_all(), take_back);
        candidates_.finish();
    }
    const uint64_t* found = candidates_.keys();
    const size_t n = candidates_.size();
    keys_.assign(found, found + n);
    keys_count_ = n;
    floor_ = n < keep ? 0 : *std::min_element(found, found + n);
    return n > 0;
}

/// Takes the best keys until `total` were taken. @return false: too few left
bool ResumableScan::use_keys(size_t total) {
    while (used_ < total) {
        if (front_.empty()) {
            if (keys_count_ == 0 && !fill_keys(total)) {
                return false;
            }
            fill_front(total - used_);
        }
        const size_t n = std::min(total - used_, front_.size());
        const uint64_t smallest =
                copy_largest(front_.data(), front_.size(), n, chunk_);
        take(n, [&] { locate_keys(chunk_.data(), n); });
        front_.resize(drop_from(smallest, front_.data(), front_.size()));
        used_ += n;
    }
    return true;
}

/// Moves the best keys to the front, which is empty. @param wanted  by a piece
void ResumableScan::fill_front(size_t wanted) {
    const size_t n = std::min(
            keys_count_,
            std::max(
                    wanted + kPiecesAhead * settings_.k,
                    keys_count_ / kShareTaken));
    front_floor_ = copy_largest(keys_.data(), keys_count_, n, front_);
    keys_count_ = drop_from(front_floor_, keys_.data(), keys_count_);
}

/// Moves keys of new lists, from number `begin` on, that belong there. There is
/// room for them.
void ResumableScan::add_to_front(size_t begin) {
    for (size_t i = begin; i < keys_count_ && !front_.empty(); i++) {
        if (keys_[i] >= front_floor_) {
            front_.push_back(keys_[i]);
        }
    }
    if (!front_.empty()) {
        keys_count_ = begin + drop_from(
                                      front_floor_,
                                      keys_.data() + begin,
                                      keys_count_ - begin);
    }
}

/// Copies the n >= 1 largest of `count` keys. @return the smallest of them
uint64_t ResumableScan::copy_largest(
        const uint64_t* keys,
        size_t count,
        size_t n,
        std::vector<uint64_t>& to) {
    if (scratch_.size() < count + kernels::kSelectSlack) {
        // before `to` changes: it may fail
        scratch_.resize(count + kernels::kSelectSlack);
    }
    to.assign(keys, keys + count);
    const uint64_t smallest = select_largest(to, n);
    to.resize(n);
    return smallest;
}

/// Moves the n >= 1 largest keys to the front, and loses the others.
/// @return the smallest of them
uint64_t ResumableScan::select_largest(std::vector<uint64_t>& keys, size_t n) {
    if (scratch_.size() < keys.size() + kernels::kSelectSlack) {
        scratch_.resize(keys.size() + kernels::kSelectSlack);
    }
    return kernels_->select_keys(
            {keys.data(), keys.size(), n, scratch_.data()});
}

// ----------------------------------------------------------------- rows

/// Takes rows that were not taken before to the next stage.
/// @param most    of them
/// @param locate  calls locate() for each
template <class Locate>
void ResumableScan::take(size_t most, Locate&& locate) {
    const bool repeat = may_repeat() && settings_.route != Route::DirectMap;
    located_.clear();
    make_room_for(located_, most);
    if (repeat) {
        reserve_places(most);
    }
    try {
        locate();
        rescore_located();
    } catch (...) {
        for (size_t i = located_.size(); repeat && i-- > 0;) {
            forget_place(located_[i].list, located_[i].offset);
        }
        throw;
    }
}

void ResumableScan::rescore_located() {
    Rows& to = settings_.refine && settings_.rerank ? refined_ : final_;
    make_room_for(to, located_.size());
    counted_.candidates += located_.size();
    if (settings_.refine) {
        StageTimer timer(settings_.stats != nullptr, counted_.refine_time);
        rescorer_.refine(*kernels_, located_);
        counted_.refined += located_.size();
    } else if (settings_.rerank) {
        StageTimer timer(settings_.stats != nullptr, counted_.rerank_time);
        rescorer_.rerank(*kernels_, located_);
        counted_.reranked += located_.size();
    } else {
        rescorer_.rescore_codes(table_, located_);
    }
    to.insert(to.end(), located_.begin(), located_.end());
}

/// Reranks the best refined rows until `total` were reranked.
void ResumableScan::rerank_best(size_t total) {
    if (total <= reranked_ || refined_.empty()) {
        return;
    }
    const size_t n = std::min(
            refined_.size(),
            std::max(total - reranked_, refined_.size() / kShareTaken));
    StageTimer timer(settings_.stats != nullptr, counted_.rerank_time);
    make_room_for(final_, n);
    const Candidate last = copy_best(refined_, n);
    rescorer_.rerank(*kernels_, located_);
    drop_best(refined_, last);
    final_.insert(final_.end(), located_.begin(), located_.end());
    reranked_ += n;
    counted_.reranked += n;
}

/// Copies the n best rows to located_. @return the last of them
Candidate ResumableScan::copy_best(const Rows& rows, size_t n) {
    located_.resize(n + 1);
    if (n == rows.size()) {
        std::copy(rows.begin(), rows.end(), located_.begin());
        located_.resize(n);
        return kWorst;
    }
    order_.resize(rows.size());
    for (size_t i = 0; i < rows.size(); i++) {
        order_[i] = row_key(rows[i].score, i);
    }
    const uint64_t smallest = select_largest(order_, n);
    const Candidate last = last_of(rows, n, rows[uint32_t(~smallest)].score);
    size_t count = 0;
    for (const Candidate& row : rows) {
        located_[count] = row; // without a branch
        count += !better(last, row);
    }
    located_.resize(n);
    return last;
}

/// The last of the n best rows, or one between it and the next.
/// @param score  its
Candidate ResumableScan::last_of(const Rows& rows, size_t n, float score) {
    size_t above = 0;
    size_t reach = 0;
    for (const Candidate& row : rows) {
        above += row.score > score;
        reach += row.score >= score;
    }
    if (reach == n) {
        return {UINT32_MAX, UINT32_MAX, 0, score};
    }
    Rows equal;
    for (const Candidate& row : rows) {
        if (row.score == score) {
            equal.push_back(row);
        }
    }
    auto last = equal.begin() + ptrdiff_t(n - above - 1);
    std::nth_element(equal.begin(), last, equal.end(), better);
    return *last;
}

/// Drops what copy_best() has copied.
void ResumableScan::drop_best(Rows& rows, const Candidate& last) {
    size_t left = 0;
    for (const Candidate& row : rows) {
        const bool stays = better(last, row);
        rows[left] = row;
        left += stays;
    }
    rows.resize(left);
}

size_t ResumableScan::give(size_t most, float* distances, int64_t* labels) {
    const size_t n = std::min(most, final_.size());
    results_.clear();
    make_room_for(results_, n);
    const Candidate last = copy_best(final_, n);
    write_results(most, distances, labels);
    drop_best(final_, last);
    given_ += n;
    return n;
}

} // namespace faiss_ext
