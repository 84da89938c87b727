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
/// The trial of lists by direction: lists, of which so many are visited; rows of
/// (nearly) the same length need none, and a gain below this is noise.
constexpr size_t kTrialLists = 64;
constexpr size_t kTrialProbes = 4;
constexpr float kSameLength = 1.003f;
constexpr double kTrialGain = 0.01;

/// The k rows with the largest scores, row by row. @param scores  size nq * n
std::vector<size_t>
best_rows(size_t nq, size_t n, size_t k, const std::vector<float>& scores) {
    std::vector<size_t> best(nq * k), order(n);
    for (size_t q = 0; q < nq; q++) {
        const float* of_query = scores.data() + q * n;
        std::iota(order.begin(), order.end(), 0);
        std::partial_sort(
                order.begin(),
                order.begin() + k,
                order.end(),
                [&](size_t a, size_t b) {
                    return of_query[a] != of_query[b]
                                   ? of_query[a] > of_query[b]
                                   : a < b;
                });
        std::copy_n(order.begin(), k, best.begin() + q * k);
    }
    return best;
}

} // namespace

bool directions_serve_better(
        const IndexState& state,
        size_t n,
        const float* x) {
    const ScaNNOptions& options = state.options;
    const size_t d = state.d();
    const size_t nlist = state.ivf.nlist;
    if (!may_list_by_direction(state)) {
        return false;
    }
    const std::vector<size_t> sample =
            sample_rows(n, kTrialRows + kTrialQueries, options.seed + 2);
    const size_t nq = std::min(kTrialQueries, sample.size() / 8);
    const size_t rows = sample.size() - nq;
    const size_t lists = std::min({nlist, kTrialLists, rows / 16});
    const size_t k = std::min(kTrialNeighbors, rows);
    if (nq == 0 || lists < 2 * kTrialProbes) {
        return false;
    }
    std::vector<float> queries(nq * d), stored(rows * d);
    gather_rows(nq, sample.data(), d, x, queries.data());
    gather_rows(rows, sample.data() + nq, d, x, stored.data());
    const std::vector<float> lengths = row_lengths(rows, d, stored.data());
    if (quantile(lengths, 0.9) <= kSameLength * quantile(lengths, 0.1)) {
        return false; // as for rows of unit length: both are alike
    }
    const AlignedBuffer<float> panels = make_panels(rows, d, stored.data());
    const size_t padded = round_up(rows, kernels::kPanel);
    std::vector<float> products(nq * padded), scores(nq * rows);
    active_kernels().panel_products(
            {queries.data(),
             nq,
             d,
             d,
             panels.data(),
             rows,
             products.data(),
             padded});
    for (size_t q = 0; q < nq; q++) {
        std::copy_n(&products[q * padded], rows, &scores[q * rows]);
    }
    const std::vector<size_t> best = best_rows(nq, rows, k, scores);

    auto hits_of = [&](bool spherical) {
        KMeansParameters parameters;
        parameters.k = lists;
        parameters.rounds = options.kmeans_rounds;
        parameters.spherical = spherical;
        parameters.seed = options.seed;
        std::vector<float> centroids =
                kmeans(rows, d, stored.data(), parameters);
        if (spherical) {
            move_to_means(rows, d, stored.data(), lists, centroids.data());
        }
        auto make = [&](const float* gains) {
            return Partition(
                    lists,
                    d,
                    centroids.data(),
                    state.ivf.metric_type,
                    gains,
                    true,
                    spherical);
        };
        std::vector<int64_t> list_of(rows), probes(nq * kTrialProbes);
        make(nullptr).assign(rows, stored.data(), list_of.data());
        std::vector<double> squares(lists);
        std::vector<size_t> counts(lists);
        for (size_t i = 0; i < rows; i++) {
            counts[list_of[i]]++;
            const float* centroid = &centroids[list_of[i] * d];
            for (size_t j = 0; j < d; j++) {
                double r = double(stored[i * d + j]) - centroid[j];
                squares[list_of[i]] += r * r;
            }
        }
        std::vector<float> spread(lists), probe_scores(nq * kTrialProbes);
        for (size_t l = 0; l < lists; l++) {
            spread[l] =
                    float(squares[l] / double(std::max<size_t>(counts[l], 1)));
        }
        make(list_gains(lists, d, centroids.data(), spread, spherical).data())
                .probes(nq,
                        queries.data(),
                        kTrialProbes,
                        ProbeScores::Exact,
                        probes.data(),
                        probe_scores.data());
        size_t hits = 0;
        for (size_t q = 0; q < nq; q++) {
            const int64_t* visited = &probes[q * kTrialProbes];
            for (size_t i = 0; i < k; i++) {
                hits += std::count(
                        visited,
                        visited + kTrialProbes,
                        list_of[best[q * k + i]]);
            }
        }
        return double(hits) / double(nq * k);
    };
    return hits_of(true) > hits_of(false) + kTrialGain;
}

float trial_recall(const IndexState& state, size_t n, const float* x) {
    const ScaNNOptions& options = state.options;
    const size_t d = state.d();
    const std::vector<size_t> sample =
            sample_rows(n, kTrialRows + kTrialQueries, options.seed + 1);
    const size_t nq = std::min(kTrialQueries, sample.size() / 8);
    const size_t rows = sample.size() - nq;
    const size_t k = std::min(kTrialNeighbors, rows);
    if (nq == 0) {
        return 1;
    }
    std::vector<float> queries(nq * d), stored(rows * d);
    gather_rows(nq, sample.data(), d, x, queries.data());
    gather_rows(rows, sample.data() + nq, d, x, stored.data());
    IndexIVFScaNN trial(
            state.ivf.quantizer,
            d,
            state.ivf.nlist,
            state.ivf.metric_type,
            options);
    set_model(trial, state.model);
    trial.nprobe = trial.nlist;
    trial.add(int64_t(rows), stored.data());
    std::vector<int64_t> labels(nq * k);
    auto search = [&](bool scan_rows) {
        trial.state().model.scan_rows = scan_rows;
        std::vector<float> found(nq * k);
        trial.search(
                int64_t(nq),
                queries.data(),
                int64_t(k),
                found.data(),
                labels.data());
        return found;
    };
    const std::vector<float> best = search(true);
    const std::vector<float> by_codes = search(false);
    size_t hits = 0; // equally near rows are as good
    for (size_t q = 0; q < nq; q++) {
        const float last = best[q * k + k - 1];
        hits += std::count_if(
                &by_codes[q * k], &by_codes[q * k] + k, [&](float distance) {
                    return state.is_l2() ? distance <= last : distance >= last;
                });
    }
    return float(hits) / float(nq * k);
}

} // namespace faiss_ext
