#include <faiss_ext/index/measure_profile.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include <faiss_ext/index/neighbour_ranks.h>
#include <faiss_ext/index/search_cost.h>
#include <faiss_ext/memory/parallel.h>
#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

namespace {

constexpr uint32_t kResults[] = {1, 3, 10, 30, 100, 300, 1000, 3000, 10000};
constexpr float kTargets[] = {0.5f,   0.6f,   0.7f,   0.75f, 0.8f,   0.85f,
                              0.88f,  0.9f,   0.92f,  0.94f, 0.95f,  0.96f,
                              0.97f,  0.98f,  0.985f, 0.99f, 0.993f, 0.995f,
                              0.997f, 0.998f, 0.999f};
/// More are thinned out: these take as long as the trials of one target.
constexpr size_t kQueries = 320;
constexpr size_t kBatch = 64;
/// Candidates are measured in so many lists that they hold this share.
constexpr float kMostNeighbours = 0.97f;
/// Of lost neighbours, those that lists may lose where more than kMaxResults are
/// wanted, for a filter; candidates lose the others.
constexpr double kLostByLists = 0.7;

/// Numbers of results with tables of their own.
std::vector<uint32_t> measured_results(const RankGrid& grid) {
    std::vector<uint32_t> ks;
    for (uint32_t k : kResults) {
        const bool near = k <= ScaNNProfile::kMaxResults;
        if (k <= (near ? grid.neighbours : grid.deepest)) {
            ks.push_back(k);
        }
    }
    return ks;
}

/// Counts, for every setting, the neighbours that it finds.
class FoundCounts {
 public:
    FoundCounts(const RankGrid& grid, bool scans, bool refines)
            : grid_(grid),
              ks_(measured_results(grid)),
              columns_(scans ? grid.candidates.size() : 1),
              refined_columns_(refines ? grid.candidates.size() : 1),
              scans_(scans),
              refines_(refines) {
        near_ = size_t(
                std::upper_bound(
                        ks_.begin(), ks_.end(), ScaNNProfile::kMaxResults) -
                ks_.begin());
        found_.resize(near_ * probes() * columns_ * refined_columns_);
        all_.resize(near_);
        sums_.resize(ks_.size() * probes());
        squares_.resize(sums_.size());
    }

    void add(const NeighbourRanks& ranks) {
        for_tiles(probes(), [&](size_t j) {
            add_probes(ranks, j);
            add_candidates(ranks, j);
        });
        for (size_t q = 0; q < ranks.n; q++) {
            for (size_t k = 0; k < near_; k++) {
                all_[k] += std::min(ks_[k], ranks.found[q]);
            }
        }
        queries_ += ranks.n;
    }
    /// Once, after all queries: neighbours found by at most so many candidates,
    /// of at most k.
    void accumulate() {
        for (size_t row = 0; row < found_.size(); row += refined_columns_) {
            for (size_t c = 1; c < refined_columns_; c++) {
                found_[row + c] += found_[row + c - 1];
            }
        }
        add_from(refined_columns_, columns_);
        add_from(probes() * columns_ * refined_columns_, near_);
    }

    size_t probes() const {
        return grid_.probes.size();
    }
    size_t columns() const {
        return columns_;
    }
    size_t refined_columns() const {
        return refined_columns_;
    }
    const std::vector<uint32_t>& ks() const {
        return ks_;
    }
    /// of ks: those with candidates of their own
    size_t near() const {
        return near_;
    }
    /// The share in the first lists, and its standard error.
    double in_lists(size_t k, size_t j) const {
        return sums_[k * probes() + j] / double(queries_);
    }
    double error(size_t k, size_t j) const {
        const double mean = in_lists(k, j);
        const double square = squares_[k * probes() + j] / double(queries_);
        return std::sqrt(
                std::max(0.0, square - mean * mean) / double(queries_));
    }
    /// The share that a setting finds. @param c, r  columns
    double found(size_t k, size_t j, size_t c, size_t r) const {
        const size_t row = (k * probes() + j) * columns_ + c;
        return double(found_[row * refined_columns_ + r]) /
               double(std::max<uint64_t>(all_[k], 1));
    }

 private:
    void add_probes(const NeighbourRanks& ranks, size_t j);
    void add_candidates(const NeighbourRanks& ranks, size_t j);
    /// Sums of blocks of this size, within groups of `count` of them.
    void add_from(size_t size, size_t count) {
        for (size_t i = size; i < found_.size(); i++) {
            if (i / size % count != 0) {
                found_[i] += found_[i - size];
            }
        }
    }

    const RankGrid& grid_;
    std::vector<uint32_t> ks_;
    size_t columns_;
    size_t refined_columns_;
    bool scans_;
    bool refines_;
    size_t near_;
    size_t queries_ = 0;
    std::vector<uint32_t> found_; ///< near_ x probes x columns_ x refined
    std::vector<uint64_t> all_;   ///< neighbours there are, of near_
    std::vector<double> sums_;    ///< ks x probes: shares in the first lists
    std::vector<double> squares_;
};

void FoundCounts::add_probes(const NeighbourRanks& ranks, size_t j) {
    for (size_t q = 0; q < ranks.n; q++) {
        for (size_t k = 0, r = 0, hits = 0; k < ks_.size(); k++) {
            // far neighbours: by the codes, which is good enough for lists
            const bool far = k >= near_;
            const uint8_t* first = far ? &ranks.first_by_code[q * grid_.deepest]
                                       : &ranks.first[q * grid_.neighbours];
            r = k == near_ ? 0 : r;
            hits = k == near_ ? 0 : hits;
            const size_t there =
                    far ? ks_[k] : std::min(ks_[k], ranks.found[q]);
            for (; r < there; r++) {
                hits += first[r] <= j;
            }
            const double share = there == 0 ? 1 : double(hits) / double(there);
            sums_[k * probes() + j] += share;
            squares_[k * probes() + j] += share * share;
        }
    }
}

void FoundCounts::add_candidates(const NeighbourRanks& ranks, size_t j) {
    const size_t width = grid_.neighbours;
    for (size_t q = 0; q < ranks.n; q++) {
        const size_t row = (j * ranks.n + q) * width;
        for (size_t r = 0, k = 0; r < ranks.found[q]; r++) {
            k += r >= ks_[k];
            if (k == near_) {
                break;
            }
            const size_t c = scans_ ? ranks.scanned[row + r] : 0;
            const size_t refined = refines_ ? ranks.refined[row + r] : 0;
            if (ranks.first[q * width + r] > j || c == kLost ||
                refined == kLost) {
                continue;
            }
            found_[((k * probes() + j) * columns_ + c) * refined_columns_ +
                   refined]++;
        }
    }
}

/// Chooses the cheapest settings by the counts.
class ProfileFit {
 public:
    /// @param rows_visited  by a query, for each of the grid's probes
    ProfileFit(
            const RankGrid& grid,
            const FoundCounts& counts,
            const EntryLayout& layout,
            std::vector<double> rows_visited)
            : grid_(grid),
              counts_(counts),
              layout_(layout),
              rows_visited_(std::move(rows_visited)),
              last_(counts.columns() - 1),
              last_refined_(counts.refined_columns() - 1) {}

    ScaNNProfile::Setting choose(size_t k, float target) const {
        if (k >= counts_.near()) {
            return lists_alone(k, target);
        }
        const size_t widest = counts_.probes() - 1;
        const double reachable = counts_.found(k, widest, last_, last_refined_);
        Choice best{widest, last_, last_refined_};
        double cheapest = HUGE_VAL;
        for (size_t j = 0; j <= widest; j++) {
            const double goal = std::min(target + margin(k, j), reachable);
            if (counts_.found(k, j, last_, last_refined_) < goal) {
                continue;
            }
            const Choice choice = fewest_candidates(k, j, goal);
            const double cost = cost_of(k, choice);
            if (cost < cheapest) {
                cheapest = cost;
                best = choice;
            }
        }
        return setting(k, best);
    }

 private:
    struct Choice {
        size_t j;
        size_t scanned; ///< columns
        size_t refined;
    };

    /// One standard error, since the queries are a sample; two for k = 1, whose
    /// queries say yes or no (with one, .93 of .95 on glove-50).
    double margin(size_t k, size_t j) const {
        return (1 + 1 / double(counts_.ks()[k])) * counts_.error(k, j);
    }

    /// For numbers of results that only filters ask for.
    ScaNNProfile::Setting lists_alone(size_t k, float target) const {
        const double goal = 1 - (1 - target) * kLostByLists;
        size_t j = 0;
        while (j + 1 < counts_.probes() &&
               counts_.in_lists(k, j) < goal + margin(k, j)) {
            j++;
        }
        Choice choice{j, 0, 0};
        return setting(k, choice);
    }

    /// The first number of 0..last that passes, or last.
    template <class Passes>
    static size_t first(size_t last, Passes&& passes) {
        size_t low = 0;
        while (low < last) {
            const size_t middle = (low + last) / 2;
            if (passes(middle)) {
                last = middle;
            } else {
                low = middle + 1;
            }
        }
        return low;
    }

    Choice fewest_candidates(size_t k, size_t j, double goal) const {
        const size_t least = first(last_, [&](size_t c) {
            return counts_.found(k, j, c, last_refined_) >= goal;
        });
        // some more codes, for which fewer refined rows may do
        constexpr size_t kMore[] = {0, 2, 4};
        Choice best{j, least, last_refined_};
        double cheapest = HUGE_VAL;
        for (size_t more : kMore) {
            const size_t scanned = std::min(last_, least + more);
            const Choice choice{j, scanned, first(last_refined_, [&](size_t r) {
                                    return counts_.found(k, j, scanned, r) >=
                                           goal;
                                })};
            const double cost = cost_of(k, choice);
            if (cost < cheapest) {
                cheapest = cost;
                best = choice;
            }
        }
        return best;
    }

    ScaNNProfile::Setting setting(size_t k, const Choice& choice) const {
        auto rows = [&](size_t columns, size_t column) {
            return columns == 1
                           ? 0
                           : std::max(
                                     counts_.ks()[k], grid_.candidates[column]);
        };
        ScaNNProfile::Setting made{
                grid_.probes[choice.j],
                rows(counts_.columns(), choice.scanned),
                rows(counts_.refined_columns(), choice.refined)};
        if (layout_.refine_type == RefineType::None) {
            std::swap(made.refine_k, made.reorder_k); // codes, then raw rows
        }
        return made;
    }

    double cost_of(size_t k, const Choice& choice) const {
        const ScaNNProfile::Setting s = setting(k, choice);
        return search_cost(
                layout_,
                {double(s.nprobe),
                 rows_visited_[choice.j],
                 double(s.refine_k),
                 double(s.reorder_k)});
    }

    const RankGrid& grid_;
    const FoundCounts& counts_;
    const EntryLayout& layout_;
    const std::vector<double> rows_visited_;
    const size_t last_;
    const size_t last_refined_;
};

/// More results and higher targets need at least as much.
void make_monotone(ScaNNProfile& profile) {
    const size_t targets = profile.targets.size();
    for (size_t i = 0; i < profile.settings.size(); i++) {
        auto& s = profile.settings[i];
        auto at_least = [&](const ScaNNProfile::Setting& less) {
            s.nprobe = std::max(s.nprobe, less.nprobe);
            s.refine_k = std::max(s.refine_k, less.refine_k);
            s.reorder_k = std::max(s.reorder_k, less.reorder_k);
        };
        if (i % targets > 0) {
            at_least(profile.settings[i - 1]);
        }
        if (i >= targets) {
            at_least(profile.settings[i - targets]);
        }
    }
}

/// Tables of the recall that settings reach.
void fill_recalls(const FoundCounts& counts, ScaNNProfile& profile) {
    const size_t last = counts.columns() - 1;
    const size_t last_refined = counts.refined_columns() - 1;
    for (size_t k = 0; k < counts.ks().size(); k++) {
        size_t typical = 0;
        for (size_t j = 0; j < counts.probes(); j++) {
            profile.probe_recall.push_back(float(counts.in_lists(k, j)));
            typical += profile.probe_recall.back() < kMostNeighbours;
        }
        typical = std::min(typical, counts.probes() - 1);
        const size_t near = std::min(k, counts.near() - 1);
        const double held = std::max(1e-9, counts.in_lists(near, typical));
        for (size_t c = 0; c <= last && last > 0; c++) {
            profile.scan_recall.push_back(std::min(
                    1.f,
                    float(counts.found(near, typical, c, last_refined) /
                          held)));
        }
        for (size_t r = 0; r <= last_refined && last_refined > 0; r++) {
            profile.refine_recall.push_back(std::min(
                    1.f, float(counts.found(near, typical, last, r) / held)));
        }
    }
}

/// Scores between which all queries are, and some more.
void set_kind(std::vector<float> kinds, ScaNNProfile& profile) {
    constexpr float kMargin = 0.25f; // of the range of the middle nine tenths
    std::sort(kinds.begin(), kinds.end());
    const size_t twentieth = kinds.size() / 20;
    const float range = kinds[kinds.size() - 1 - twentieth] - kinds[twentieth];
    profile.lowest_score = kinds[twentieth] - kMargin * range;
    profile.highest_score =
            kinds[kinds.size() - 1 - twentieth] + kMargin * range;
}

/// Every so many-th of the queries, so that at most kQueries are left.
CalibrationQueries thinned(const CalibrationQueries& queries, size_t d) {
    const size_t n = queries.x.size() / d;
    const size_t kept = std::min(n, kQueries);
    CalibrationQueries some;
    for (size_t i = 0; i < kept; i++) {
        const size_t from = i * n / kept;
        const float* row = queries.x.data() + from * d;
        some.x.insert(some.x.end(), row, row + d);
        if (!queries.places.empty()) {
            some.places.push_back(queries.places[from]);
        }
    }
    return some;
}

} // namespace

ScaNNProfile measure_profile(
        const IndexIVFScaNN& index,
        const CalibrationQueries& given) {
    const size_t d = size_t(index.d);
    const CalibrationQueries queries = thinned(given, d);
    const size_t n = queries.x.size() / d;
    const RankGrid grid(index.nlist, size_t(index.ntotal));
    const NeighbourRanking ranking(index, grid);
    FoundCounts counts(
            grid, ranking.has_scan_stage(), ranking.has_refine_stage());
    std::vector<float> kinds;
    std::vector<double> visited(grid.probes.size());
    NeighbourRanks ranks;
    for (size_t begin = 0; begin < n; begin += kBatch) {
        if (index.progress) {
            index.progress("calibrate", begin / kBatch, 0);
        }
        ranking.rank(queries, begin, std::min(n, begin + kBatch), ranks);
        counts.add(ranks);
        kinds.insert(kinds.end(), ranks.kind.begin(), ranks.kind.end());
        for (size_t j = 0; j < visited.size(); j++) {
            visited[j] += double(ranks.visits[j]) / double(n);
        }
    }
    counts.accumulate();
    ScaNNProfile profile;
    profile.ks = counts.ks();
    profile.targets.assign(std::begin(kTargets), std::end(kTargets));
    profile.probes = grid.probes;
    if (ranking.has_scan_stage()) {
        profile.candidates = grid.candidates;
    }
    const ProfileFit fit(
            grid, counts, index.state().lists->layout(), std::move(visited));
    for (size_t k = 0; k < profile.ks.size(); k++) {
        for (float target : profile.targets) {
            profile.settings.push_back(fit.choose(k, target));
        }
    }
    make_monotone(profile);
    fill_recalls(counts, profile);
    set_kind(std::move(kinds), profile);
    profile.rows = size_t(index.ntotal);
    return profile;
}

} // namespace faiss_ext
