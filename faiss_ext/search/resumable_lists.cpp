/* Which lists a resumable scan visits: further ones, as many as the rows that are
 * wanted ask for. */

#include <faiss_ext/search/resumable_scan.h>

#include <algorithm>

#include <faiss_ext/search/stage_timer.h>

namespace faiss_ext {

namespace {

/// Lists that are ranked, times those visited.
constexpr size_t kListsAhead = 4;
/// Lists visited between looks at how many of their rows pass a filter.
constexpr size_t kFilteredLists = 8;

} // namespace

size_t ResumableScan::rows_to_choose_from() const {
    return settings_.filter.passes_all() ? probed_.all : probed_.passing;
}

/// Visits further lists until those visited hold so many rows that pass.
void ResumableScan::visit_lists(size_t rows) {
    const bool filtered = !settings_.filter.passes_all();
    while (rows_to_choose_from() < rows && lists_left()) {
        if (ranked_begin_ == ranked_.size()) {
            rank_further_lists();
            continue;
        }
        const size_t n = std::min(
                filtered ? kFilteredLists : size_t(1),
                ranked_.size() - ranked_begin_);
        visit(n, &ranked_[ranked_begin_], &ranked_scores_[ranked_begin_]);
        ranked_begin_ += n;
    }
}

void ResumableScan::rank_further_lists() {
    StageTimer timer(settings_.stats != nullptr, counted_.partition_time);
    std::vector<int64_t> lists;
    std::vector<float> scores;
    const size_t wanted =
            std::min<size_t>(state_->ivf.nlist, kListsAhead * visited_);
    const size_t n = further_lists(wanted, seen_lists_, lists, scores);
    lists.resize(n);
    std::swap(ranked_, lists);
    std::swap(ranked_scores_, scores);
    ranked_begin_ = 0;
    visited_ = wanted;
}

/// Adds lists to the probes and tests their rows.
void ResumableScan::visit(size_t n, const int64_t* lists, const float* scores) {
    const size_t probes = probes_.size();
    const size_t words = masks_.size();
    const size_t tested = tested_;
    const size_t apart = apart_;
    const ProbedRows probed = probed_;
    try {
        add_probes(n, lists, scores);
        if (!settings_.filter.passes_all()) {
            test_rows();
        }
    } catch (...) {
        probes_.erase(probes_.begin() + ptrdiff_t(probes), probes_.end());
        masks_.resize(words);
        tested_ = tested;
        apart_ = apart;
        probed_ = probed;
        throw;
    }
}

} // namespace faiss_ext
