#include <faiss_ext/search/grouped_search.h>

#include <algorithm>
#include <limits>
#include <unordered_map>
#include <vector>

#include <faiss/invlists/DirectMap.h>

#include <faiss_ext/memory/parallel.h>
#include <faiss_ext/search/batch_search.h>
#include <faiss_ext/search/resumable_scan.h>

namespace faiss_ext {

namespace {

using faiss::lo_listno;
using faiss::lo_offset;

/// Rows of a piece, times the results wanted.
constexpr size_t kRowsPerResult = 2;

struct Row {
    float rank; ///< smaller is better
    int64_t label;
    int64_t tag;

    bool operator<(const Row& other) const {
        return rank != other.rank ? rank < other.rank : label < other.label;
    }
};

/// The results of one query.
class Groups {
 public:
    Groups(const IndexState& state, const SearchPlan& plan)
            : state_(&state), plan_(&plan) {}

    /// Places of -1 are left out. @return  how many others there are
    size_t add(size_t n, const float* distances, const int64_t* places) {
        const size_t before = rows_.size();
        for (size_t i = 0; i < n && places[i] >= 0; i++) {
            const auto place = uint64_t(places[i]);
            const ScaNNList& list = state_->lists->list(lo_listno(place));
            const size_t offset = lo_offset(place);
            rows_.push_back(
                    {state_->is_l2() ? distances[i] : -distances[i],
                     plan_->store_pairs ? places[i] : list.ids[offset],
                     list.tags[offset]});
        }
        return rows_.size() - before;
    }
    size_t rows() const {
        return rows_.size();
    }

    /// Chooses from the rows so far. @return  whether no further row is wanted
    bool choose() {
        std::sort(rows_.begin(), rows_.end());
        counts_.clear();
        chosen_.clear();
        size_t full = 0; // tags with enough rows
        for (const Row& row : rows_) {
            if (chosen_.size() == plan_->k) {
                break;
            }
            const bool no_more_tags =
                    plan_->groups > 0 && counts_.size() == plan_->groups;
            if (no_more_tags && counts_.find(row.tag) == counts_.end()) {
                continue;
            }
            size_t& count = counts_[row.tag];
            if (count < plan_->max_per_group) {
                chosen_.push_back(row);
                count++;
                full += count == plan_->max_per_group;
            }
        }
        return chosen_.size() == plan_->k ||
               (plan_->groups > 0 && full == plan_->groups);
    }

    /// @param distances, labels  out, size k
    void write(float* distances, int64_t* labels) const {
        const bool l2 = state_->is_l2();
        const float none = std::numeric_limits<float>::max();
        for (size_t i = 0; i < plan_->k; i++) {
            const bool found = i < chosen_.size();
            const float rank = found ? chosen_[i].rank : none;
            distances[i] = l2 ? rank : -rank;
            labels[i] = found ? chosen_[i].label : -1;
        }
    }

 private:
    const IndexState* state_;
    const SearchPlan* plan_;
    std::vector<Row> rows_;
    std::vector<Row> chosen_;
    std::unordered_map<int64_t, size_t> counts_; ///< rows chosen, by tag
};

/// The plan of a first piece of `piece` rows, with the candidates of a search for
/// k; its results are places.
SearchPlan plan_of_first(const SearchPlan& plan, size_t piece) {
    SearchPlan first = plan;
    first.k = piece;
    first.scan_keep = std::max(piece, plan.scan_keep);
    first.refine_keep = std::max(piece, plan.refine_keep);
    first.store_pairs = true;
    return first;
}

/// The candidates of this plan, as a call would ask for them.
CandidateNumbers numbers_of(const SearchPlan& plan) {
    const size_t last = plan.refine ? plan.refine_keep : plan.scan_keep;
    return {.reorder_k = plan.rerank ? last : 0,
            .refine_k = plan.refine ? plan.scan_keep : 0};
}

/// For a query whose first rows do not have enough tags: takes rows until they do,
/// each time as many as there are.
void go_on(
        const IndexState& state,
        const SearchPlan& first,
        const SearchDefaults& defaults,
        const float* query,
        const float* exact,
        float scale,
        Groups& groups) {
    ResumableScan scan(
            state, first, defaults, numbers_of(first), query, exact, true);
    std::vector<float> found;
    std::vector<int64_t> places;
    size_t more = 2 * first.k;
    for (bool enough = false; !enough; more = groups.rows()) {
        found.resize(more);
        places.resize(more);
        const size_t got = scan.next(more, found.data(), places.data());
        for (size_t i = 0; i < got; i++) {
            found[i] = unscaled(found[i], scale);
        }
        groups.add(got, found.data(), places.data());
        enough = groups.choose() || got < more;
    }
}

} // namespace

void search_groups(
        const IndexState& state,
        const SearchPlan& plan,
        const SearchDefaults& defaults,
        const PreparedQueries& queries,
        size_t n,
        float* distances,
        int64_t* labels) {
    // no more rows than there are, which a query could give
    const size_t piece =
            std::min(kRowsPerResult * plan.k, size_t(state.ivf.ntotal) + 1);
    const SearchPlan first = plan_of_first(plan, piece);
    std::vector<float> found(n * piece);
    std::vector<int64_t> places(n * piece);
    search_batches(
            state,
            first,
            queries,
            n,
            nullptr,
            nullptr,
            found.data(),
            places.data());
    std::vector<ScaNNSearchStats> stats(plan.stats != nullptr ? n : 0);
    for_tiles(n, [&](size_t q) {
        Groups groups(state, plan);
        const size_t got =
                groups.add(piece, &found[q * piece], &places[q * piece]);
        if (!groups.choose() && got == piece) {
            SearchPlan rest = first;
            rest.stats = plan.stats != nullptr ? &stats[q] : nullptr;
            Groups more(state, plan);
            go_on(state,
                  rest,
                  defaults,
                  queries.x + q * state.d(),
                  queries.exact + q * state.d(),
                  queries.scale(q),
                  more);
            std::swap(groups, more);
        }
        groups.write(distances + q * plan.k, labels + q * plan.k);
    });
    for (ScaNNSearchStats& counted : stats) {
        counted.nq = 0; // counted before
        *plan.stats += counted;
    }
}

} // namespace faiss_ext
