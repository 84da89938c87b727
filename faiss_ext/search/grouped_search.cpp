#include <faiss_ext/search/grouped_search.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>
#include <vector>

#include <faiss/invlists/DirectMap.h>

#include <faiss_ext/memory/parallel.h>
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
            : state_(state), plan_(plan) {}

    void add(size_t n, const float* distances, const int64_t* places) {
        for (size_t i = 0; i < n; i++) {
            const auto place = uint64_t(places[i]);
            const ScaNNList& list = state_.lists->list(lo_listno(place));
            const size_t offset = lo_offset(place);
            rows_.push_back(
                    {state_.is_l2() ? distances[i] : -distances[i],
                     plan_.store_pairs ? places[i] : list.ids[offset],
                     list.tags[offset]});
        }
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
            if (chosen_.size() == plan_.k) {
                break;
            }
            const bool no_more_tags =
                    plan_.groups > 0 && counts_.size() == plan_.groups;
            if (no_more_tags && counts_.find(row.tag) == counts_.end()) {
                continue;
            }
            size_t& count = counts_[row.tag];
            if (count < plan_.max_per_group) {
                chosen_.push_back(row);
                count++;
                full += count == plan_.max_per_group;
            }
        }
        return chosen_.size() == plan_.k ||
               (plan_.groups > 0 && full == plan_.groups);
    }

    /// @param distances, labels  out, size k
    void write(float* distances, int64_t* labels) const {
        const bool l2 = state_.is_l2();
        const float none = std::numeric_limits<float>::max();
        for (size_t i = 0; i < plan_.k; i++) {
            const bool found = i < chosen_.size();
            const float rank = found ? chosen_[i].rank : none;
            distances[i] = l2 ? rank : -rank;
            labels[i] = found ? chosen_[i].label : -1;
        }
    }

 private:
    const IndexState& state_;
    const SearchPlan& plan_;
    std::vector<Row> rows_;
    std::vector<Row> chosen_;
    std::unordered_map<int64_t, size_t> counts_; ///< rows chosen, by tag
};

/// Numbers of a call for k results, for a first piece of more rows.
CandidateNumbers
numbers_of_piece(const CandidateNumbers& numbers, size_t k, size_t piece) {
    const double growth = std::sqrt(double(piece) / double(k));
    const auto grown = [&](size_t given) {
        const double beyond = double(given - std::min(given, k));
        return given == 0 ? 0 : piece + size_t(beyond * growth);
    };
    return {grown(numbers.reorder_k), grown(numbers.refine_k)};
}

} // namespace

void search_groups(
        const IndexState& state,
        const SearchPlan& plan,
        const SearchDefaults& defaults,
        const CandidateNumbers& numbers,
        const PreparedQueries& queries,
        size_t n,
        float* distances,
        int64_t* labels) {
    const size_t piece =
            std::min(kRowsPerResult * plan.k, size_t(state.ivf.ntotal) + 1);
    const CandidateNumbers of_piece = numbers_of_piece(numbers, plan.k, piece);
    const StageCandidates keep =
            candidates_of_pieces(state, defaults, numbers, plan, piece);
    std::vector<ScaNNSearchStats> stats(plan.stats != nullptr ? n : 0);
    for_tiles(n, [&](size_t q) {
        SearchPlan pieces = plan;
        pieces.k = piece;
        pieces.store_pairs = true;
        pieces.stats = plan.stats != nullptr ? &stats[q] : nullptr;
        pieces.scan_keep = keep.scan_keep;
        pieces.refine_keep = keep.refine_keep;
        ResumableScan scan(
                state,
                std::move(pieces),
                defaults,
                of_piece,
                queries.x + q * state.d(),
                queries.exact + q * state.d(),
                true);
        std::vector<float> found(piece);
        std::vector<int64_t> places(piece);
        Groups groups(state, plan);
        // looked at when there are twice as many rows as the last time
        size_t wanted = piece;
        for (bool enough = false; !enough; wanted *= 2) {
            size_t got = piece;
            while (groups.rows() < wanted && got == piece) {
                got = scan.next(found.data(), places.data());
                groups.add(got, found.data(), places.data());
            }
            enough = groups.choose() || got < piece;
        }
        groups.write(distances + q * plan.k, labels + q * plan.k);
    });
    for (const ScaNNSearchStats& counted : stats) {
        *plan.stats += counted;
    }
}

} // namespace faiss_ext
