#include <faiss_ext/model/options.h>

#include <algorithm>
#include <cmath>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/codes/score_aware_loss.h>
#include <faiss_ext/codes/score_aware_pq.h>
#include <faiss_ext/memory/row_types.h>

namespace faiss_ext {

namespace {

/// so that no file can ask for a training without end
constexpr size_t kMaxRounds = 10000;

} // namespace

std::vector<uint32_t> block_offsets(size_t d, const ScaNNOptions& options) {
    FAISS_THROW_IF_NOT_FMT(
            options.coded_dims <= d,
            "coded_dims = %zu (allowed: 0..%zu, the dimensions)",
            options.coded_dims,
            d);
    FAISS_THROW_IF_NOT_FMT(
            options.auto_maintain >= 0 && std::isfinite(options.auto_maintain),
            "auto_maintain = %g (allowed: finite values of at least 0)",
            options.auto_maintain);
    FAISS_THROW_IF_NOT_MSG(
            options.auto_maintain == 0 || options.with_raw_data ||
                    options.refine_type != RefineType::None,
            "auto_maintain needs raw rows or refine codes: codes alone cannot "
            "be made anew");
    const size_t coded = options.coded_dims > 0 ? options.coded_dims : d;
    return options.M == 0 ? uniform_block_offsets(coded, options.sub_dim)
                          : even_block_offsets(coded, options.M);
}

void check_options(
        size_t d,
        faiss::MetricType metric,
        const ScaNNOptions& options) {
    bool inner_product = metric == faiss::METRIC_INNER_PRODUCT;
    FAISS_THROW_IF_NOT_FMT(
            inner_product || metric == faiss::METRIC_L2,
            "metric %d (allowed: METRIC_INNER_PRODUCT, METRIC_L2)",
            int(metric));
    FAISS_THROW_IF_NOT_FMT(
            d >= 1 && d <= 65536, "d = %zu (allowed: 1..65536)", d);
    block_offsets(d, options);
    FAISS_THROW_IF_NOT_FMT(
            options.eta == 0 ||
                    (options.eta >= 1 && std::isfinite(options.eta)),
            "eta = %g (allowed: >= 1, or 0 for the default)",
            options.eta);
    bool has_threshold = !std::isnan(options.threshold);
    FAISS_THROW_IF_NOT_FMT(
            !has_threshold || std::isfinite(options.threshold),
            "threshold = %g (allowed: finite)",
            options.threshold);
    FAISS_THROW_IF_NOT_FMT(
            !(has_threshold && options.eta != 0),
            "threshold = %g and eta = %g (allowed: one of them)",
            options.threshold,
            options.eta);
    FAISS_THROW_IF_NOT_FMT(
            options.soar_lambda >= 0 && std::isfinite(options.soar_lambda),
            "soar_lambda = %g (allowed: >= 0)",
            options.soar_lambda);
    FAISS_THROW_IF_NOT_MSG(
            inner_product || !options.normalize,
            "normalize = 1 with METRIC_L2 (allowed: METRIC_INNER_PRODUCT)");
    FAISS_THROW_IF_NOT_MSG(
            options.normalize || !options.allow_zero,
            "allow_zero = 1 without normalize = 1");
    FAISS_THROW_IF_NOT_MSG(
            inner_product || !options.score_aware_centroids,
            "score_aware_centroids = 1 with METRIC_L2 (allowed: "
            "METRIC_INNER_PRODUCT)");
    FAISS_THROW_IF_NOT_FMT(
            options.with_raw_data || options.raw_type == RowType::Float32,
            "raw rows of type %s without with_raw_data = 1",
            name_of(options.raw_type));
    FAISS_THROW_IF_NOT_FMT(
            options.max_points_per_centroid >= 1,
            "max_points_per_centroid = %zu (allowed: >= 1)",
            options.max_points_per_centroid);
    FAISS_THROW_IF_NOT_FMT(
            options.kmeans_rounds <= kMaxRounds,
            "kmeans_rounds = %zu (allowed: 0..%zu)",
            options.kmeans_rounds,
            kMaxRounds);
}

float effective_eta(const ScaNNOptions& options, size_t d, float typical_norm) {
    if (options.eta != 0) {
        return options.eta;
    }
    if (!std::isnan(options.threshold)) {
        return float(eta_from_threshold(
                options.threshold,
                typical_norm,
                std::max<size_t>(d, 2),
                options.eta_formula));
    }
    // The term of score_term.h already corrects most of the parallel error, so
    // eta has little effect: recall@10 from codes alone, eta 1 / 1.5 / 2 / 4
    // (bench/threshold): wordnet-384 .8746 .8750 .8742 .8732, sift-128 .8167
    // .8206 .8196 .8177, glove-50 .6723 .6671 .6655 .661; with half as many
    // codes wordnet-384 has .778 with 1, .790 with 2.
    return 1.5f;
}

} // namespace faiss_ext
