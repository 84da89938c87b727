#include <faiss_ext/search/query_search.h>

#include <algorithm>
#include <cmath>

#include <faiss_ext/search/recall_profile.h>
#include <faiss_ext/search/stage_timer.h>

namespace faiss_ext {

/// Tests rows until the route can be chosen: only those of the first lists if
/// most pass; otherwise all, and rows of further lists if too few pass.
void QuerySearch::filter_probes() {
    test_rows(passing_to_judge(*plan_));
    const bool test_all = !tested_enough(*plan_, probed_);
    if (test_all) {
        test_rows();
    }
    if (plan_->may_extend && (test_all || plan_->target_recall > 0)) {
        extend_probes(test_all);
    }
}

/// Tests the rows of the probes that were not tested yet, until more than
/// `enough` have passed.
void QuerySearch::test_rows(size_t enough) {
    StageTimer timer(plan_->stats != nullptr, stats_->scan_time);
    for (; tested_ < probes_.size() && probed_.passing <= enough; tested_++) {
        if (tested_ + 1 < probes_.size()) {
            // The ids of a list are a short array, too short for the hardware
            // prefetcher: this saves a third of the time of the test.
            const ScaNNList& next = list_of(probes_[tested_ + 1]);
            for (size_t i = 0; i < next.size(); i += 8) {
                __builtin_prefetch(next.ids.data() + i, 0, 2);
            }
        }
        const ScaNNList& list = list_of(probes_[tested_]);
        const size_t before = probed_.passing;
        size_t words = masks_.size();
        masks_.resize(words + Filter::mask_words(list.size()));
        probed_.tested += list.size();
        probed_.passing += plan_->filter.masks(
                *kernels_, list.ids.data(), list.size(), &masks_[words]);
        probed_.passing_blocks += std::count_if(
                masks_.begin() + ptrdiff_t(words),
                masks_.end(),
                [](uint32_t mask) { return mask != 0; });
        const size_t wanted = plan_->k * copies();
        if (before < wanted && wanted <= probed_.passing) {
            const double share =
                    double(wanted - before) / double(probed_.passing - before);
            probed_.until_k =
                    double(probed_.tested) - (1 - share) * double(list.size());
        }
    }
}

/// Whether `visited` lists are enough, as far as the filter has tested rows.
bool QuerySearch::probes_suffice(size_t visited) const {
    if (plan_->target_recall == 0) {
        return probed_.passing >= plan_->scan_keep;
    }
    const double k = results_before_filter(*plan_, probed_, copies());
    return visited >= profile_probes(
                              *plan_->profile,
                              plan_->target_recall,
                              k,
                              size_t(state_->ivf.ntotal));
}

/** Few rows pass: visits further lists until as many rows passed as the scan
 * keeps, or, with a target recall, as many lists as the share that passes asks
 * for, or all. A quantizer such as HNSW may give lists in another order when
 * asked for more of them, and never find some: `seen` has each list visited
 * once. @param test  the rows of further lists */
void QuerySearch::extend_probes(bool test) {
    // How many lists to rank next, times those visited: ranking too few means
    // ranking again, ranking thousands takes long.
    constexpr double kMinGrowth = 1.5;
    constexpr double kMaxGrowth = 16;
    constexpr size_t kListsAtATime = 8; // between checks whether enough passed
    const size_t nlist = state_->ivf.nlist;
    const size_t enough = plan_->scan_keep;
    std::vector<int64_t> lists;
    std::vector<float> scores;
    std::vector<bool> seen;
    size_t visited = plan_->nprobe;
    size_t ranked = visited;
    while (ranked < nlist && !probes_suffice(visited)) {
        if (seen.empty()) {
            seen.resize(nlist);
            for (const kernels::Probe& probe : probes_) {
                seen[probe.list] = true;
            }
        }
        double growth = std::clamp(
                kMinGrowth * double(enough) /
                        double(std::max<size_t>(probed_.passing, 1)),
                kMinGrowth,
                kMaxGrowth);
        ranked = std::min(nlist, size_t(std::ceil(growth * double(ranked))));
        const size_t n = further_lists(ranked, seen, lists, scores);
        for (size_t i = 0; i < n && !probes_suffice(visited);
             i += kListsAtATime) {
            const size_t count = std::min(kListsAtATime, n - i);
            add_probes(count, lists.data() + i, scores.data() + i);
            visited += count;
            if (test) {
                test_rows();
            }
        }
    }
}

/** The best lists that were not seen yet, of the `wanted` best of all; if that
 * is all lists, also those that the quantizer does not find.
 * @param seen  in/out
 * @return      how many there are */
size_t QuerySearch::further_lists(
        size_t wanted,
        std::vector<bool>& seen,
        std::vector<int64_t>& lists,
        std::vector<float>& scores) const {
    const size_t nlist = seen.size();
    lists.resize(wanted);
    scores.resize(wanted);
    find_probes(
            *state_,
            1,
            query_,
            wanted,
            plan_->probes,
            lists.data(),
            scores.data());
    size_t n = 0;
    for (size_t i = 0; i < wanted; i++) {
        if (lists[i] >= 0 && !seen[lists[i]]) {
            seen[lists[i]] = true;
            lists[n] = lists[i];
            scores[n++] = scores[i];
        }
    }
    for (size_t l = 0; wanted == nlist && l < nlist; l++) {
        if (!seen[l]) {
            seen[l] = true;
            lists[n] = int64_t(l);
            scores[n++] = state_->partition->score(query_, l);
        }
    }
    return n;
}

/** Drops the keys of rows that do not pass.
 * @param keys   in the order of the scan; those that pass move to the front
 * @param probe  in/out: at most the probe of the first key
 * @return       how many pass */
size_t QuerySearch::drop_filtered(uint64_t* keys, size_t n, size_t& probe) {
    ids_.resize(n);
    for (size_t i = 0; i < n; i++) {
        uint32_t position = key_position(keys[i]);
        while (probe + 1 < probes_.size() &&
               probes_[probe + 1].position <= position) {
            probe++;
        }
        const kernels::Probe& at = probes_[probe];
        ids_[i] = list_of(at).ids.data() + (position - at.position);
        __builtin_prefetch(ids_[i]);
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        keys[kept] = keys[i];
        kept += plan_->filter.passes(*ids_[i]);
    }
    return kept;
}

} // namespace faiss_ext
