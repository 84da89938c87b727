#include <faiss_ext/index/neighbour_ranks.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <unordered_map>

#include <faiss/invlists/DirectMap.h>

#include <faiss_ext/index/search_defaults.h>
#include <faiss_ext/memory/parallel.h>
#include <faiss_ext/model/index_state.h>
#include <faiss_ext/search/batch_search.h>
#include <faiss_ext/search/probes.h>
#include <faiss_ext/search/recall_profile.h>

namespace faiss_ext {

namespace {

constexpr uint64_t kNoRow = ~uint64_t(0);

/// Whole numbers from 1 to `last`, at most 250, neighbours by this factor apart.
std::vector<uint32_t> rising(size_t last, double step) {
    step = std::max(step, std::pow(double(last), 1.0 / 240));
    std::vector<uint32_t> values;
    for (double value = 1; value < double(last);
         value = std::max(value * step, std::floor(value) + 1)) {
        values.push_back(uint32_t(value));
    }
    values.push_back(uint32_t(last));
    return values;
}

/// For each i below the last value: the first value above i.
std::vector<uint8_t> first_above(const std::vector<uint32_t>& values) {
    std::vector<uint8_t> first(values.back());
    for (size_t i = 0, v = 0; i < first.size(); i++) {
        v += values[v] <= i;
        first[i] = uint8_t(v);
    }
    return first;
}

/// A plan for the `keep` best rows of all lists.
/// @param candidates  of every stage
SearchPlan
plan_of_all(const IndexIVFScaNN& index, size_t keep, size_t candidates) {
    SearchParametersScaNN params;
    params.nprobe = index.nlist;
    params.refine_k = params.reorder_k = std::max(keep, candidates);
    SearchPlan plan = make_search_plan(
            index.state(),
            search_defaults(index),
            int64_t(keep),
            &params,
            0,
            true);
    plan.max_codes = 0;
    return plan;
}

SearchPlan plan_by_code(const IndexIVFScaNN& index, size_t keep) {
    SearchPlan plan = plan_of_all(index, keep, keep);
    if (plan.route == Route::Scan) { // else rows are scanned, not codes
        plan.refine = plan.rerank = false;
    }
    return plan;
}

SearchPlan plan_by_refine_code(const IndexIVFScaNN& index, size_t keep) {
    SearchPlan plan = plan_of_all(index, keep, keep);
    plan.rerank = false;
    return plan;
}

/// Rows that decide who the true neighbours are.
size_t truth_rows(size_t neighbours, size_t rows) {
    constexpr size_t kLeast = 2000;
    constexpr size_t kPerNeighbour = 10;
    return std::min(rows, std::max(kLeast, kPerNeighbour * neighbours));
}

} // namespace

RankGrid::RankGrid(size_t nlist, size_t rows) {
    constexpr size_t kDeepest = 10000;
    constexpr double kProbeStep = 1.06;
    constexpr double kCandidateStep = 1.1;
    neighbours = std::min<size_t>(ScaNNProfile::kMaxResults, rows - 1);
    deepest = std::min(kDeepest, rows - 1);
    probes = rising(nlist, kProbeStep);
    candidates = rising(deepest, kCandidateStep);
    first = first_above(probes);
    enough = first_above(candidates);
}

// one more than wanted: a row that is its own query is dropped
NeighbourRanking::NeighbourRanking(
        const IndexIVFScaNN& index,
        const RankGrid& grid)
        : state_(index.state()),
          grid_(grid),
          truth_(plan_of_all(
                  index,
                  grid.neighbours + 1,
                  truth_rows(grid.neighbours + 1, size_t(index.ntotal)))),
          by_code_(plan_by_code(index, grid.deepest + 1)),
          by_refine_code_(plan_by_refine_code(index, grid.deepest + 1)) {
    if (state_.spilled != nullptr) {
        copies_ = std::make_unique<CopyPlaces>(*state_.lists, *state_.spilled);
    }
}

/// Of a batch: places of rows, plan.k each, and the lists of each query.
struct NeighbourRanking::Found {
    std::vector<uint64_t> truth, by_code, by_refine_code;
    std::vector<int64_t> lists; ///< best first, nlist each
};

std::vector<uint64_t> NeighbourRanking::search(
        const SearchPlan& plan,
        const PreparedQueries& x,
        size_t n) const {
    std::vector<float> distances(n * plan.k);
    std::vector<int64_t> labels(n * plan.k);
    search_batches(
            state_,
            plan,
            x,
            n,
            nullptr,
            nullptr,
            distances.data(),
            labels.data());
    return {labels.begin(), labels.end()};
}

/// The first list in the query's order that has the row or its copy.
uint32_t NeighbourRanking::list_number(
        const std::vector<uint32_t>& numbers,
        uint64_t place) const {
    uint32_t number = numbers[size_t(faiss::lo_listno(int64_t(place)))];
    if (copies_ != nullptr) {
        const uint64_t copy = copies_->get(place);
        if (copy != CopyPlaces::kNone) {
            number = std::min(
                    number, numbers[size_t(faiss::lo_listno(int64_t(copy)))]);
        }
    }
    return number;
}

/** For each neighbour and number of lists: which candidates have it, if rows come
 * in this order.
 * @param order  size deepest; @param truth  size neighbours; kNoRow: none */
void NeighbourRanking::rank_in(
        const uint64_t* order,
        const uint64_t* truth,
        const std::vector<uint32_t>& numbers,
        size_t q,
        const NeighbourRanks& ranks,
        std::vector<uint8_t>& out) const {
    const size_t width = grid_.neighbours;
    const size_t grid = grid_.probes.size();
    std::unordered_map<uint64_t, size_t> neighbour_at;
    for (size_t r = 0; r < ranks.found[q]; r++) {
        neighbour_at[truth[r]] = r;
    }
    for (size_t j = 0; j < grid; j++) {
        std::fill_n(&out[(j * ranks.n + q) * width], width, kLost);
    }
    std::vector<uint32_t> before(grid); // rows so far, by the first probes
    for (size_t i = 0; i < grid_.deepest && order[i] != kNoRow; i++) {
        const size_t first = grid_.first[list_number(numbers, order[i])];
        const auto at = neighbour_at.find(order[i]);
        if (at != neighbour_at.end()) {
            size_t rank = 0;
            for (size_t j = 0; j < grid; j++) {
                rank += before[j];
                if (j >= first) {
                    out[(j * ranks.n + q) * width + at->second] =
                            grid_.enough[rank];
                }
            }
        }
        before[first]++;
    }
}

void NeighbourRanking::rank_one(
        size_t q,
        const Found& found,
        uint64_t own,
        NeighbourRanks& ranks) const {
    const size_t nlist = state_.lists->nlist;
    // a list that the quantizer never finds counts as the last one
    std::vector<uint32_t> numbers(nlist, uint32_t(nlist - 1));
    for (size_t i = 0; i < nlist; i++) {
        const int64_t list = found.lists[q * nlist + i];
        if (list >= 0) {
            numbers[size_t(list)] = uint32_t(i);
        }
    }
    auto others = [&](const std::vector<uint64_t>& places, size_t wanted) {
        const auto begin = places.begin() + ptrdiff_t(q * (wanted + 1));
        std::vector<uint64_t> kept(begin, begin + ptrdiff_t(wanted + 1));
        kept.erase(std::remove(kept.begin(), kept.end(), own), kept.end());
        kept.resize(wanted, kNoRow);
        return kept;
    };
    const auto truth = others(found.truth, grid_.neighbours);
    const auto by_code = others(found.by_code, grid_.deepest);
    auto first_of = [&](const std::vector<uint64_t>& places, uint8_t* first) {
        size_t i = 0;
        for (; i < places.size() && places[i] != kNoRow; i++) {
            first[i] = grid_.first[list_number(numbers, places[i])];
        }
        std::fill(first + i, first + places.size(), kLost);
        return uint32_t(i);
    };
    ranks.found[q] = first_of(truth, &ranks.first[q * grid_.neighbours]);
    first_of(by_code, &ranks.first_by_code[q * grid_.deepest]);
    rank_in(by_code.data(), truth.data(), numbers, q, ranks, ranks.scanned);
    if (has_refine_stage()) {
        const auto refined = others(found.by_refine_code, grid_.deepest);
        rank_in(refined.data(), truth.data(), numbers, q, ranks, ranks.refined);
    }
}

void NeighbourRanking::rank(
        const CalibrationQueries& queries,
        size_t begin,
        size_t end,
        NeighbourRanks& ranks) const {
    const size_t n = end - begin;
    const size_t nlist = state_.lists->nlist;
    const PreparedQueries x =
            prepare_queries(state_, n, queries.x.data() + begin * state_.d());
    Found found;
    found.truth = search(truth_, x, n);
    found.by_code = search(by_code_, x, n);
    if (has_refine_stage()) {
        found.by_refine_code = search(by_refine_code_, x, n);
    }
    found.lists.resize(n * nlist);
    std::vector<float> scores(n * nlist);
    find_filled_probes(
            state_,
            n,
            x.x,
            nlist,
            truth_.probes,
            found.lists.data(),
            scores.data());
    ranks.n = n;
    ranks.found.resize(n);
    ranks.first.resize(n * grid_.neighbours);
    ranks.first_by_code.resize(n * grid_.deepest);
    ranks.scanned.resize(grid_.probes.size() * n * grid_.neighbours);
    ranks.refined.resize(has_refine_stage() ? ranks.scanned.size() : 0);
    ranks.kind.resize(n);
    ranks.visits.assign(grid_.probes.size(), 0);
    for (size_t q = 0; q < n; q++) {
        ranks.kind[q] =
                kind_of_query(state_, x.x + q * state_.d(), scores[q * nlist]);
        size_t rows = 0;
        for (size_t i = 0, j = 0; i < nlist; i++) {
            const int64_t list = found.lists[q * nlist + i];
            for (const auto* lists : {&state_.lists, &state_.spilled}) {
                rows += list >= 0 && *lists ? (*lists)->list(list).size() : 0;
            }
            if (i + 1 == grid_.probes[j]) {
                ranks.visits[j++] += rows;
            }
        }
    }
    parallel_slices(n, 1, [&](size_t from, size_t to) {
        for (size_t q = from; q < to; q++) {
            const uint64_t own =
                    queries.places.empty() ? kNoRow : queries.places[begin + q];
            rank_one(q, found, own, ranks);
        }
    });
}

} // namespace faiss_ext
