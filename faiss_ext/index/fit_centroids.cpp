#include <faiss_ext/index/fit_centroids.h>

#include <cstdint>

#include <faiss_ext/index/train_codes.h>
#include <faiss_ext/memory/row_sample.h>
#include <faiss_ext/model/options.h>
#include <faiss_ext/partition/kmeans.h>
#include <faiss_ext/partition/score_aware_centroids.h>

namespace faiss_ext {

namespace {

/// Median length of some rows; for L2, of their differences from the median
/// row.
float typical_length(
        faiss::MetricType metric,
        size_t n,
        size_t d,
        const float* x,
        uint64_t seed) {
    constexpr size_t kRows = 4096;
    const std::vector<size_t> sample = sample_rows(n, kRows, seed);
    std::vector<float> rows(sample.size() * d);
    gather_rows(sample.size(), sample.data(), d, x, rows.data());
    if (metric == faiss::METRIC_L2) {
        const std::vector<float> middle =
                dimension_medians(sample.size(), d, rows.data(), kOriginRows);
        for (size_t i = 0; i < rows.size(); i++) {
            rows[i] -= middle[i % d];
        }
    }
    return quantile(row_lengths(sample.size(), d, rows.data()), 0.5);
}

} // namespace

float eta_for_rows(const IndexState& state, size_t n, const float* x) {
    const size_t d = state.d();
    const float length =
            typical_length(state.ivf.metric_type, n, d, x, state.options.seed);
    return effective_eta(state.options, d, length);
}

std::vector<float> fit_centroids(
        const IndexState& state,
        size_t n,
        const float* x,
        float eta,
        const ScaNNProgress& progress) {
    const ScaNNOptions& options = state.options;
    const bool by_direction = state.model->by_direction;
    const size_t nlist = state.ivf.nlist;
    const size_t d = state.d();
    KMeansParameters parameters;
    parameters.k = nlist;
    parameters.rounds = options.kmeans_rounds;
    parameters.max_points_per_centroid = options.max_points_per_centroid;
    parameters.seed = options.seed;
    parameters.spherical = by_direction;
    if (progress) {
        parameters.on_round = [&](size_t done, size_t total) {
            progress("k-means", done, total);
        };
    }
    std::vector<float> centroids = kmeans(n, d, x, parameters);
    if (by_direction) {
        move_to_means(n, d, x, nlist, centroids.data());
    }
    if (options.score_aware_centroids) {
        std::vector<int64_t> lists(n);
        Partition(nlist, d, centroids.data(), state.ivf.metric_type)
                .assign(n, x, lists.data());
        make_centroids_score_aware(
                n, d, x, lists.data(), nlist, eta, centroids.data());
    }
    return centroids;
}

} // namespace faiss_ext
