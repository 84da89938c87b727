#include <faiss_ext/IndexIVFScaNN.h>

#include <algorithm>
#include <cmath>

#include <faiss/IndexFlat.h>
#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/copy_places.h>
#include <faiss_ext/direct_map.h>
#include <faiss_ext/kernels/kernels.h>
#include <faiss_ext/query_rows.h>

namespace faiss_ext {

namespace {

/// Inner product: lists are ranked by <q, c> + this * spread / 2 (spread: mean
/// squared residual). Rows reach beyond their centroid, and more so in wide
/// lists: 20 % fewer codes to scan at equal recall on glove-50, 5 % on
/// wordnet-384; 1 would rank by Euclidean distance on unit rows, and is worse
/// on wordnet-384.
constexpr float kSpreadWeight = 0.5f;

std::vector<uint32_t> block_offsets(size_t d, const ScaNNOptions& options) {
    return options.M == 0 ? uniform_block_offsets(d, options.sub_dim)
                          : even_block_offsets(d, options.M);
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
            "eta = %g (allowed: >= 1, or 0 for automatic)",
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
            options.max_points_per_centroid >= 1,
            "max_points_per_centroid = %zu (allowed: >= 1)",
            options.max_points_per_centroid);
}

faiss::IndexFlat* new_flat(size_t d, faiss::MetricType metric) {
    return new faiss::IndexFlat(d, metric);
}

} // namespace

IndexIVFScaNN::IndexIVFScaNN(
        faiss::Index* quantizer,
        size_t d,
        size_t nlist,
        faiss::MetricType metric,
        const ScaNNOptions& options)
        : faiss::IndexIVF(quantizer, d, nlist, 0, metric), options(options) {
    check_options(d, metric, options);
    is_trained = false;
    by_residual = true;
    if (nlist == 0) {
        nprobe = 0;
    }
    trained_.pq = ScoreAwarePQ(block_offsets(d, options));
    replace_lists();
}

IndexIVFScaNN::IndexIVFScaNN(
        size_t d,
        size_t nlist,
        faiss::MetricType metric,
        const ScaNNOptions& options)
        : IndexIVFScaNN(
                  (check_options(d, metric, options), new_flat(d, metric)),
                  d,
                  nlist,
                  metric,
                  options) {
    own_fields = true;
}

IndexIVFScaNN::~IndexIVFScaNN() = default;

EntryLayout IndexIVFScaNN::entry_layout() const {
    EntryLayout layout;
    layout.d = d;
    layout.M = trained_.pq.M();
    layout.refine_type = options.refine_type;
    layout.with_raw_data = options.with_raw_data;
    layout.raw_norm = options.with_raw_data && options.normalize;
    return layout;
}

void IndexIVFScaNN::replace_lists() {
    EntryLayout layout = entry_layout();
    auto lists = std::make_unique<ScaNNLists>(nlist, layout);
    std::unique_ptr<ScaNNLists> spilled;
    if (options.soar_lambda > 0) {
        spilled = std::make_unique<ScaNNLists>(nlist, layout.of_copies());
    }
    set_lists(std::move(lists), std::move(spilled));
}

void IndexIVFScaNN::set_lists(
        std::unique_ptr<ScaNNLists> lists,
        std::unique_ptr<ScaNNLists> spilled) {
    FAISS_THROW_IF_NOT(lists->nlist == nlist);
    FAISS_THROW_IF_NOT((spilled != nullptr) == (options.soar_lambda > 0));
    code_size = lists->code_size;
    replace_invlists(lists.release(), true);
    spilled_ = std::move(spilled);
    copy_places_.reset();
}

void IndexIVFScaNN::set_trained(ScaNNTrained trained) {
    FAISS_THROW_IF_NOT(trained.list_spread.size() == nlist);
    FAISS_THROW_IF_NOT(trained.pq.d() == size_t(d));
    trained_ = std::move(trained);
    rebuild_partition();
    replace_lists();
    is_trained = true;
}

/// The quantizer, if the partition can read its centroids in place and stand
/// in for it.
const faiss::IndexFlat* IndexIVFScaNN::flat_quantizer() const {
    auto flat = dynamic_cast<const faiss::IndexFlat*>(quantizer);
    return flat != nullptr && flat->metric_type == metric_type ? flat : nullptr;
}

void IndexIVFScaNN::rebuild_partition() {
    std::vector<float> bonus;
    if (metric_type == faiss::METRIC_INNER_PRODUCT &&
        !trained_.list_spread.empty()) {
        for (float spread : trained_.list_spread) {
            bonus.push_back(
                    kSpreadWeight / 2 * spread /
                    trained_.score_term.query_norm);
        }
    }
    const faiss::IndexFlat* flat = flat_quantizer();
    std::vector<float> centroids;
    if (flat == nullptr) {
        centroids.resize(nlist * d);
        quantizer->reconstruct_n(0, nlist, centroids.data());
    }
    partition_ = Partition(
            nlist,
            d,
            flat != nullptr ? flat->get_xb() : centroids.data(),
            metric_type,
            bonus.empty() ? nullptr : bonus.data(),
            flat != nullptr);
    quantizer_is_flat_ = flat != nullptr;
}

float IndexIVFScaNN::effective_eta(float typical_norm) const {
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
    // The term of score_term.h takes most of the parallel error out by itself.
    // What is left to eta: recall@10 from codes alone, eta 1 / 1.5 / 2 / 4
    // (bench/threshold): wordnet-384 .8746 .8750 .8742 .8732, sift-128 .8167
    // .8206 .8196 .8177, glove-50 .6723 .6671 .6655 .661; with half as many
    // codes wordnet-384 has .778 with 1, .790 with 2.
    return 1.5f;
}

const float* IndexIVFScaNN::checked(
        size_t n,
        const float* x,
        const char* what,
        std::vector<float>& storage) const {
    RowScale scale = !options.normalize   ? RowScale::AsGiven
                     : options.allow_zero ? RowScale::UnitOrZero
                                          : RowScale::Unit;
    return checked_rows(n, d, x, scale, what, storage);
}

void IndexIVFScaNN::check_trained() const {
    FAISS_THROW_IF_NOT_MSG(is_trained, "the index is not trained");
}

EntryCodec IndexIVFScaNN::codec() const {
    return {lists().layout(), rotation(), pq(), score_term()};
}

void IndexIVFScaNN::assign_lists(idx_t n, const float* x, idx_t* lists) const {
    if (quantizer_is_flat_) {
        partition_.assign(n, x, lists);
    } else {
        quantizer->assign(n, x, lists);
    }
}

std::vector<float> IndexIVFScaNN::centroids_of(idx_t n, const idx_t* lists)
        const {
    std::vector<float> centroids(n * d);
    for (idx_t i = 0; i < n; i++) {
        if (lists[i] >= 0) {
            quantizer->reconstruct(lists[i], centroids.data() + i * d);
        }
    }
    return centroids;
}

float IndexIVFScaNN::centroid_score(const float* query, int64_t list_no) const {
    return partition_.score(query, list_no);
}

std::vector<float> IndexIVFScaNN::scores_from_distances(
        idx_t n,
        const float* x,
        const float* queries,
        size_t per_query,
        const float* centroid_dis) const {
    std::vector<float> scores(centroid_dis, centroid_dis + n * per_query);
    for (idx_t i = 0; i < n; i++) {
        float factor = metric_type == faiss::METRIC_L2 ? -0.5f : 1;
        if (options.normalize) {
            // centroid_dis belongs to the query before it was normalised
            const float* given = x + i * d;
            size_t largest = std::max_element(
                                     given,
                                     given + d,
                                     [](float a, float b) {
                                         return std::fabs(a) < std::fabs(b);
                                     }) -
                             given;
            factor = given[largest] == 0
                             ? 0
                             : queries[i * d + largest] / given[largest];
        }
        for (size_t j = 0; j < per_query; j++) {
            scores[i * per_query + j] *= factor;
        }
    }
    return scores;
}

// ---- memory ----

size_t IndexIVFScaNN::estimate_memory(size_t n) const {
    const size_t lists_wanted = lists_for(n);
    size_t total =
            ScaNNLists::estimate_memory(lists().layout(), lists_wanted, n);
    if (spilled_ != nullptr) {
        total += ScaNNLists::estimate_memory(
                spilled_->layout(), lists_wanted, n);
    }
    if (options.rotation != RotationKind::None) {
        total += Rotation::estimate_memory(d);
    }
    size_t codebook = d * kernels::kCodewords;
    total += (codebook + lists_wanted * (d + 1)) * sizeof(float);
    return total + Partition::estimate_memory(
                           lists_wanted, d, flat_quantizer() != nullptr);
}

size_t IndexIVFScaNN::memory_usage() const {
    size_t total = lists().memory_usage() + partition_.memory_usage();
    if (spilled_ != nullptr) {
        total += spilled_->memory_usage();
    }
    total += rotation().memory_usage();
    total += trained_.list_spread.size() * sizeof(float);
    total += pq().codebook().size() * sizeof(float);
    total += size_t(quantizer->ntotal) * d * sizeof(float);
    total += copy_places_ == nullptr ? 0 : copy_places_->memory_usage();
    total += memory_of(direct_map);
    return total;
}

} // namespace faiss_ext
