#include <faiss_ext/index/plan_partition.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <map>
#include <numeric>
#include <queue>
#include <utility>

#include <faiss/IndexFlat.h>
#include <faiss/invlists/DirectMap.h>

#include <faiss_ext/index/fit_centroids.h>
#include <faiss_ext/index/list_statistics.h>
#include <faiss_ext/index/stored_rows.h>
#include <faiss_ext/memory/row_products.h>
#include <faiss_ext/memory/row_sample.h>
#include <faiss_ext/model/index_state.h>
#include <faiss_ext/partition/kmeans.h>
#include <faiss_ext/partition/nearest.h>

namespace faiss_ext {

namespace {

/// Rows a list that centroids are fitted to. With 32, the 16 best of 512 lists
/// of wordnet-384 hold .012 less of the neighbours, with 16 .05.
constexpr size_t kFitRows = 64;
/// Rows a list, and in all, that they are compared on.
constexpr size_t kCheckRows = 8;
constexpr size_t kLeastCheckRows = 4096;
/// The seed of the check differs from that of the fit: other rows.
constexpr uint64_t kCheckSeed = 77;

/// Share of rows that must have changed before anything is looked at.
constexpr double kLeastChanged = 0.01;
/// Growth of error and imbalance that is drift.
constexpr float kErrorGrowth = 1.05f;
constexpr float kImbalanceGrowth = 1.25f;
/// Share of the error that a plan must take away.
constexpr float kLeastGain = 0.02f;
/// A centroid has left its rows if it moved by more than this share of the squared
/// distance of a row.
constexpr float kGone = 1;

/// Lists of more than this many times the mean are divided, if that saves so many
/// times n_s * mean.
constexpr double kDivided = 2;
constexpr double kDivisionGain = 8;
/// Rows of a part, at least.
constexpr double kLeastPart = 8;
/// k-means of a list's rows: of so many for each part.
constexpr size_t kDivisionRounds = 6;
constexpr size_t kDivisionRows = 256;

/// Lists around each part whose rows are compared with it. SPFresh takes 64 (arXiv
/// 2410.14452); here 16 brought .02 of recall, on wordnet-384.
constexpr size_t kNeighbours = 16;

StoredRows rows_to_check(const IndexIVFScaNN& index) {
    const size_t wanted = std::max(kLeastCheckRows, kCheckRows * index.nlist);
    const std::vector<uint64_t> places = sample_places(
            *index.state().lists, wanted, index.options.seed + kCheckSeed);
    return {index, places.size(), places.data()};
}

/// Mean squared distance of rows to the centroids of their lists.
/// @param centroid_of  of row i
template <class CentroidOf>
float error_of(
        size_t d,
        const std::vector<float>& x,
        CentroidOf&& centroid_of) {
    const size_t n = x.size() / d;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += quick_distance(d, &x[i * d], centroid_of(i));
    }
    const double mean = sum / double(std::max<size_t>(1, n));
    return float(std::min(mean, double(FLT_MAX))); // files want a number
}

Partition partition_of(const IndexState& state, const float* centroids) {
    return Partition(
            state.ivf.nlist,
            state.d(),
            centroids,
            state.ivf.metric_type,
            nullptr,
            true,
            state.model->by_direction);
}

/// Of the rows in the lists that these centroids would give them.
float error_with(
        const IndexState& state,
        const std::vector<float>& x,
        const std::vector<float>& centroids) {
    std::vector<int64_t> lists(x.size() / state.d());
    partition_of(state, centroids.data())
            .assign(lists.size(), x.data(), lists.data());
    return error_of(state.d(), x, [&](size_t i) {
        return &centroids[size_t(lists[i]) * state.d()];
    });
}

/// Gives fresh centroids the numbers of near ones that are there: rows that
/// change their lists one after the other then have a near centroid meanwhile.
std::vector<float>
number_centroids(size_t d, const float* old, const std::vector<float>& fresh) {
    const size_t nlist = fresh.size() / d;
    std::vector<int64_t> nearest(nlist);
    NearestRows(nlist, d, fresh.data(), true).find(nlist, old, nearest.data());
    std::vector<std::pair<float, size_t>> pairs;
    for (size_t l = 0; l < nlist; l++) {
        const float* to = &fresh[size_t(nearest[l]) * d];
        pairs.emplace_back(quick_distance(d, old + l * d, to), l);
    }
    std::sort(pairs.begin(), pairs.end());
    constexpr size_t kNone = SIZE_MAX;
    std::vector<size_t> taken_by(nlist, kNone);
    std::vector<size_t> without;
    for (const auto& [distance, l] : pairs) {
        size_t& taker = taken_by[size_t(nearest[l])];
        if (taker == kNone) {
            taker = l;
        } else {
            without.push_back(l);
        }
    }
    std::vector<float> numbered(fresh.size());
    size_t next = 0;
    for (size_t j = 0; j < nlist; j++) {
        const size_t l = taken_by[j] == kNone ? without[next++] : taken_by[j];
        std::copy_n(&fresh[j * d], d, &numbered[l * d]);
    }
    return numbered;
}

/// Lists whose centroid goes elsewhere first, so that their numbers are empty
/// when rows come; then those with most rows and the largest way.
void order_lists(
        const IndexState& state,
        const float* old,
        PartitionPlan& plan) {
    const size_t d = state.d();
    const size_t nlist = state.ivf.nlist;
    std::vector<double> urgency(nlist);
    for (size_t l = 0; l < nlist; l++) {
        const float moved =
                quick_distance(d, old + l * d, &plan.centroids[l * d]);
        urgency[l] = moved > kGone * plan.list_error
                             ? HUGE_VAL
                             : double(state.lists->list_size(l)) * moved;
    }
    plan.order.resize(nlist);
    std::iota(plan.order.begin(), plan.order.end(), 0);
    std::stable_sort(plan.order.begin(), plan.order.end(), [&](auto a, auto b) {
        return urgency[a] > urgency[b];
    });
}

/// A list to be divided, and those whose numbers its other parts get.
struct Division {
    size_t list;
    std::vector<size_t> starved;
};

/** Pairs of a list with many rows and one with few, as long as dividing the one
 * saves clearly more scans than giving up the other costs: half of n_l^2 against 2
 * n_s times the mean.
 * @param most  rows of all of them, about */
std::vector<Division> choose_divisions(const IndexState& state, size_t most) {
    const size_t nlist = state.ivf.nlist;
    const double mean = double(state.ivf.ntotal) / double(nlist);
    const double least = std::max(kDivided * mean, 2 * kLeastPart);
    std::vector<size_t> sizes(nlist), by_size(nlist);
    // (rows of a part, -list): among equals the first
    std::priority_queue<std::pair<double, int64_t>> largest;
    for (size_t l = 0; l < nlist; l++) {
        sizes[l] = state.lists->list_size(l);
        if (double(sizes[l]) > least) {
            largest.emplace(double(sizes[l]), -int64_t(l));
        }
    }
    if (largest.empty()) {
        return {}; // of most calls that add rows: without sorting
    }
    std::iota(by_size.begin(), by_size.end(), size_t(0));
    std::stable_sort(by_size.begin(), by_size.end(), [&](auto a, auto b) {
        return sizes[a] < sizes[b];
    });
    std::map<size_t, Division> divisions; // by list: the same order each time
    size_t rows = 0;
    for (size_t s = 0; !largest.empty() && rows < most; s++) {
        const size_t starved = by_size[s];
        const auto [part, negated] = largest.top();
        if (part <= least ||
            part * part <= kDivisionGain * double(sizes[starved]) * mean ||
            double(sizes[starved]) > mean) {
            break;
        }
        const size_t list = size_t(-negated);
        Division& division = divisions[list];
        division.list = list;
        rows += sizes[starved] + (division.starved.empty() ? sizes[list] : 0);
        division.starved.push_back(starved);
        largest.pop();
        const double parts = double(division.starved.size() + 1);
        largest.emplace(double(sizes[list]) / parts, negated);
    }
    std::vector<Division> chosen;
    chosen.reserve(divisions.size());
    for (auto& [list, division] : divisions) {
        chosen.push_back(std::move(division));
    }
    return chosen;
}

/// Centroids of the parts of a list; empty if they would be no better.
std::vector<float> divide(
        const IndexIVFScaNN& index,
        const Division& division) {
    const size_t d = size_t(index.d);
    const size_t n = index.state().lists->list_size(division.list);
    KMeansParameters parameters;
    parameters.k = division.starved.size() + 1;
    parameters.rounds = kDivisionRounds;
    parameters.max_points_per_centroid = kDivisionRows;
    parameters.spherical = index.state().model->by_direction;
    parameters.seed = index.options.seed;
    std::vector<uint64_t> places;
    const size_t wanted = kDivisionRows * parameters.k;
    for (size_t i : sample_rows(n, wanted, index.options.seed)) {
        places.push_back(faiss::lo_build(division.list, i));
    }
    const std::vector<float> x =
            StoredRows(index, places.size(), places.data()).prepared(index);
    std::vector<float> parts = kmeans(places.size(), d, x.data(), parameters);
    const float* whole =
            flat_quantizer(index.state())->get_xb() + division.list * d;
    const float before = error_of(d, x, [&](size_t) { return whole; });
    std::vector<int64_t> nearest(places.size());
    NearestRows(parameters.k, d, parts.data(), true)
            .find(places.size(), x.data(), nearest.data());
    const float after = error_of(
            d, x, [&](size_t i) { return &parts[size_t(nearest[i]) * d]; });
    if (!(after < (1 - kLeastGain) * before)) {
        parts.clear();
    }
    return parts;
}

/// The lists nearest to those that change, besides these.
std::vector<uint32_t> neighbours_of(
        const IndexState& state,
        const PartitionPlan& plan) {
    const size_t d = state.d();
    const size_t nlist = state.ivf.nlist;
    std::vector<uint8_t> chosen(nlist);
    std::vector<std::pair<float, uint32_t>> near(nlist);
    const size_t wanted = std::min(kNeighbours, nlist);
    for (uint32_t changed : plan.order) {
        const float* centroid = &plan.centroids[changed * d];
        for (size_t l = 0; l < nlist; l++) {
            near[l] = {
                    quick_distance(d, centroid, &plan.centroids[l * d]),
                    uint32_t(l)};
        }
        std::nth_element(
                near.begin(), near.begin() + ptrdiff_t(wanted - 1), near.end());
        for (size_t i = 0; i < wanted; i++) {
            chosen[near[i].second] = 1;
        }
    }
    for (uint32_t changed : plan.order) {
        chosen[changed] = 0;
    }
    std::vector<uint32_t> lists;
    for (size_t l = 0; l < nlist; l++) {
        if (chosen[l] != 0) {
            lists.push_back(uint32_t(l));
        }
    }
    return lists;
}

} // namespace

PartitionCheck check_partition(const IndexIVFScaNN& index) {
    const IndexState& state = index.state();
    const StoredRows rows = rows_to_check(index);
    const std::vector<float> centroids =
            centroids_of(state, rows.size(), rows.lists.data());
    const float error = error_of(rows.d, rows.prepared(index), [&](size_t i) {
        return &centroids[i * rows.d];
    });
    return {.list_error = error, .imbalance = float(imbalance(*state.lists))};
}

bool has_drifted(const IndexIVFScaNN& index, const PartitionCheck& now) {
    const ModelFit& then = index.state().fit;
    return double(then.changed) >= kLeastChanged * double(index.ntotal) &&
           (now.list_error > kErrorGrowth * then.list_error ||
            now.imbalance > kImbalanceGrowth * then.imbalance);
}

std::unique_ptr<PartitionPlan> plan_partition(
        const IndexIVFScaNN& index,
        const PartitionCheck& now,
        const ScaNNProgress& progress) {
    const IndexState& state = index.state();
    const size_t nlist = index.nlist;
    if (size_t(index.ntotal) < nlist) {
        return nullptr; // too few rows to fit centroids to
    }
    const std::vector<uint64_t> places =
            sample_places(*state.lists, kFitRows * nlist, index.options.seed);
    const std::vector<float> x =
            StoredRows(index, places.size(), places.data()).prepared(index);
    const std::vector<float> others = rows_to_check(index).prepared(index);
    const float* old = flat_quantizer(state)->get_xb();
    const size_t n = places.size();
    const float eta = eta_for_rows(state, n, x.data());
    auto plan = std::make_unique<PartitionPlan>();
    plan->centroids = number_centroids(
            state.d(), old, fit_centroids(state, n, x.data(), eta, progress));
    plan->list_error = error_with(state, others, plan->centroids);
    if (!(plan->list_error < (1 - kLeastGain) * now.list_error)) {
        return nullptr;
    }
    order_lists(state, old, *plan);
    plan->partition = partition_of(state, plan->centroids.data());
    return plan;
}

std::unique_ptr<PartitionPlan> plan_divisions(
        const IndexIVFScaNN& index,
        size_t most) {
    const IndexState& state = index.state();
    const size_t d = state.d();
    const std::vector<Division> divisions = choose_divisions(state, most);
    if (divisions.empty()) {
        return nullptr;
    }
    auto plan = std::make_unique<PartitionPlan>();
    plan->whole = false;
    const float* old = flat_quantizer(state)->get_xb();
    plan->centroids.assign(old, old + index.nlist * d);
    std::vector<uint32_t> divided;
    for (const Division& division : divisions) {
        const std::vector<float> parts = divide(index, division);
        if (parts.empty()) {
            continue; // of copies of a row, for instance
        }
        std::copy_n(&parts[0], d, &plan->centroids[division.list * d]);
        divided.push_back(uint32_t(division.list));
        for (size_t i = 0; i < division.starved.size(); i++) {
            const size_t l = division.starved[i];
            std::copy_n(&parts[(i + 1) * d], d, &plan->centroids[l * d]);
            plan->order.push_back(uint32_t(l));
        }
    }
    if (divided.empty()) {
        return nullptr;
    }
    plan->order.insert(plan->order.end(), divided.begin(), divided.end());
    plan->partition = partition_of(state, plan->centroids.data());
    plan->neighbours = neighbours_of(state, *plan);
    return plan;
}

double cost_of_plan(const IndexIVFScaNN& index) {
    const double d = double(index.d);
    const double nlist = double(index.nlist);
    const double rows = std::min(double(index.ntotal), kFitRows * nlist);
    const double rounds = double(index.options.kmeans_rounds);
    // A row costs d products of 8 bits a centroid, four times as fast as the
    // floats of its rotation (d each) and its codes (some 128).
    const double encoding = 4 * d * (d + 128);
    return rows * rounds * nlist * d / encoding;
}

} // namespace faiss_ext
