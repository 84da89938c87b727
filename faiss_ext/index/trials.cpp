#include <faiss_ext/index/trials.h>

#include <algorithm>
#include <numeric>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index/set_model.h>
#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/partition/kmeans.h>
#include <faiss_ext/partition/panels.h>
#include <faiss_ext/memory/row_sample.h>

namespace faiss_ext {

namespace {

/// The trial of the codes: rows, queries, neighbours of each.
constexpr size_t kTrialRows = 8192;
constexpr size_t kTrialQueries = 128;
constexpr size_t kTrialNeighbors = 10;
/// The trial of lists by direction: at most this many lists, how many of them
/// are visited, and how many rows they have at least on average.
constexpr size_t kTrialLists = 64;
constexpr size_t kTrialProbes = 4;
constexpr size_t kTrialListRows = 16;
/// Rows whose lengths differ by less need no trial: directions are then as
/// good.
constexpr float kSameLength = 1.003f;
/// A smaller gain in recall is noise.
constexpr double kTrialGain = 0.01;

/// Rows drawn for a trial: queries, and rows to be found.
struct TrialRows {
    size_t nq = 0;
    size_t n = 0;
    size_t k = 0; ///< neighbours that are looked for
    std::vector<float> queries;
    std::vector<float> rows;

    TrialRows(size_t n_given, size_t d, const float* x, uint64_t seed) {
        const std::vector<size_t> sample =
                sample_rows(n_given, kTrialRows + kTrialQueries, seed);
        nq = std::min(kTrialQueries, sample.size() / 8);
        n = sample.size() - nq;
        k = std::min(kTrialNeighbors, n);
        queries.resize(nq * d);
        rows.resize(n * d);
        gather_rows(nq, sample.data(), d, x, queries.data());
        gather_rows(n, sample.data() + nq, d, x, rows.data());
    }
};

/// The k rows with the largest inner products, query by query.
std::vector<size_t> best_rows(const TrialRows& trial, size_t d) {
    const AlignedBuffer<float> panels =
            make_panels(trial.n, d, trial.rows.data());
    const size_t padded = round_up(trial.n, kernels::kPanel);
    std::vector<float> products(trial.nq * padded);
    active_kernels().panel_products(
            {.x = trial.queries.data(),
             .nx = trial.nq,
             .ldx = d,
             .d = d,
             .panels = panels.data(),
             .ny = trial.n,
             .out = products.data(),
             .ldo = padded});
    std::vector<size_t> best(trial.nq * trial.k), order(trial.n);
    for (size_t q = 0; q < trial.nq; q++) {
        const float* scores = products.data() + q * padded;
        std::iota(order.begin(), order.end(), 0);
        std::partial_sort(
                order.begin(),
                order.begin() + trial.k,
                order.end(),
                [&](size_t a, size_t b) {
                    return scores[a] != scores[b] ? scores[a] > scores[b]
                                                  : a < b;
                });
        std::copy_n(order.begin(), trial.k, best.begin() + q * trial.k);
    }
    return best;
}

/// Mean squared distance of the rows of each list from its centroid.
std::vector<float> list_spread(
        const TrialRows& trial,
        size_t d,
        const std::vector<float>& centroids,
        const std::vector<int64_t>& list_of) {
    const size_t nlist = centroids.size() / d;
    std::vector<double> squares(nlist);
    std::vector<size_t> counts(nlist);
    for (size_t i = 0; i < trial.n; i++) {
        counts[list_of[i]]++;
        const float* centroid = &centroids[list_of[i] * d];
        for (size_t j = 0; j < d; j++) {
            double r = double(trial.rows[i * d + j]) - centroid[j];
            squares[list_of[i]] += r * r;
        }
    }
    std::vector<float> spread(nlist);
    for (size_t l = 0; l < nlist; l++) {
        spread[l] = float(squares[l] / double(std::max<size_t>(counts[l], 1)));
    }
    return spread;
}

/// The share of the best rows that lie in the kTrialProbes lists with the best
/// scores. @param spherical  lists by direction
double share_in_probed_lists(
        const IndexState& state,
        const TrialRows& trial,
        size_t nlist,
        const std::vector<size_t>& best,
        bool spherical) {
    const size_t d = state.d();
    KMeansParameters parameters;
    parameters.k = nlist;
    parameters.rounds = state.options.kmeans_rounds;
    parameters.spherical = spherical;
    parameters.seed = state.options.seed;
    std::vector<float> centroids =
            kmeans(trial.n, d, trial.rows.data(), parameters);
    if (spherical) {
        move_to_means(trial.n, d, trial.rows.data(), nlist, centroids.data());
    }
    auto make_partition = [&](const float* gains) {
        return Partition(
                nlist,
                d,
                centroids.data(),
                state.ivf.metric_type,
                gains,
                true,
                spherical);
    };
    std::vector<int64_t> list_of(trial.n), probes(trial.nq * kTrialProbes);
    make_partition(nullptr).assign(trial.n, trial.rows.data(), list_of.data());
    const std::vector<float> gains = list_gains(
            nlist,
            d,
            centroids.data(),
            list_spread(trial, d, centroids, list_of),
            spherical);
    std::vector<float> probe_scores(trial.nq * kTrialProbes);
    make_partition(gains.data())
            .probes(trial.nq,
                    trial.queries.data(),
                    kTrialProbes,
                    ProbeScores::Exact,
                    probes.data(),
                    probe_scores.data());
    size_t found = 0;
    for (size_t i = 0; i < best.size(); i++) {
        const int64_t* visited = &probes[i / trial.k * kTrialProbes];
        found += std::count(visited, visited + kTrialProbes, list_of[best[i]]);
    }
    return double(found) / double(best.size());
}

} // namespace

bool directions_are_better(const IndexState& state, size_t n, const float* x) {
    if (!may_list_by_direction(state)) {
        return false;
    }
    const size_t d = state.d();
    const TrialRows trial(n, d, x, state.options.seed + 2);
    const size_t nlist =
            std::min({state.ivf.nlist, kTrialLists, trial.n / kTrialListRows});
    if (trial.nq == 0 || nlist < 2 * kTrialProbes) {
        return false;
    }
    const std::vector<float> lengths =
            row_lengths(trial.n, d, trial.rows.data());
    if (quantile(lengths, 0.9) <= kSameLength * quantile(lengths, 0.1)) {
        return false; // as for rows of unit length: both are alike
    }
    const std::vector<size_t> best = best_rows(trial, d);
    auto share = [&](bool spherical) {
        return share_in_probed_lists(state, trial, nlist, best, spherical);
    };
    return share(true) > share(false) + kTrialGain;
}

float trial_recall(const IndexState& state, size_t n, const float* x) {
    const size_t d = state.d();
    const TrialRows trial(n, d, x, state.options.seed + 1);
    if (trial.nq == 0) {
        return 1;
    }
    ScaNNOptions options = state.options;
    options.raw_type = RowType::Float32; // whatever values training rows have
    IndexIVFScaNN index(
            state.ivf.quantizer,
            d,
            state.ivf.nlist,
            state.ivf.metric_type,
            options);
    set_model(index, state.model);
    index.nprobe = index.nlist;
    index.add(int64_t(trial.n), trial.rows.data());
    auto search = [&](bool scan_rows) {
        index.state().model.edit(
                [&](ScaNNModel& model) { model.scan_rows = scan_rows; });
        std::vector<float> found(trial.nq * trial.k);
        std::vector<int64_t> labels(found.size());
        index.search(
                int64_t(trial.nq),
                trial.queries.data(),
                int64_t(trial.k),
                found.data(),
                labels.data());
        return found;
    };
    const std::vector<float> best = search(true);
    const std::vector<float> by_codes = search(false);
    size_t hits = 0; // equally near rows are as good
    for (size_t q = 0; q < trial.nq; q++) {
        const float* found = &by_codes[q * trial.k];
        const float last = best[(q + 1) * trial.k - 1];
        hits += std::count_if(found, found + trial.k, [&](float distance) {
            return state.is_l2() ? distance <= last : distance >= last;
        });
    }
    return float(hits) / float(by_codes.size());
}

} // namespace faiss_ext
