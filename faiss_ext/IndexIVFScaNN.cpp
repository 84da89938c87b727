#include <faiss_ext/IndexIVFScaNN.h>

#include <algorithm>
#include <cmath>

#include <faiss/IndexFlat.h>
#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/model/automatic.h>
#include <faiss_ext/model/codec.h>
#include <faiss_ext/lists/copy_places.h>
#include <faiss_ext/lists/direct_map.h>
#include <faiss_ext/kernels/kernels.h>
#include <faiss_ext/memory/query_rows.h>
#include <faiss_ext/partition/coarse_quantizer.h>
#include <faiss_ext/memory/row_products.h>

namespace faiss_ext {

namespace {

/// Share of rows kept apart from which notes() mentions them.
constexpr double kManyApart = 0.05;

constexpr size_t kMostRounds = 10000;

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
    // so that no file can ask for a training without end
    FAISS_THROW_IF_NOT_FMT(
            options.kmeans_rounds <= kMostRounds,
            "kmeans_rounds = %zu (allowed: 0..%zu)",
            options.kmeans_rounds,
            kMostRounds);
}

/// Root mean square of the codewords' values in each dimension, size d: what a query
/// has there counts as much for its tables.
std::vector<float> codeword_spread(const ScoreAwarePQ& pq) {
    std::vector<float> spread(pq.d());
    for (size_t i = 0; i < pq.d(); i++) {
        const float* values = pq.codebook().data() + i * kernels::kCodewords;
        spread[i] = float(std::sqrt(
                precise_square(kernels::kCodewords, values) /
                kernels::kCodewords));
    }
    return spread;
}

std::unique_ptr<faiss::Index> new_flat(size_t d, faiss::MetricType metric) {
    return std::make_unique<faiss::IndexFlat>(d, metric);
}

} // namespace

IndexIVFScaNN::IndexIVFScaNN(
        faiss::Index* quantizer,
        size_t d,
        size_t nlist,
        faiss::MetricType metric,
        const ScaNNOptions& options)
        // Faiss' own lists would only be thrown away
        : faiss::IndexIVF(quantizer, d, 0, 0, metric), options(options) {
    check_options(d, metric, options);
    this->nlist = nlist;
    is_trained = false;
    by_residual = true;
    if (nlist == 0) {
        nprobe = 0;
    }
    trained_.pq = ScoreAwarePQ(block_offsets(d, options));
    // no list before training: a file of some bytes may ask for many
    EmptyLists empty = empty_lists(0);
    take_lists(std::move(empty.lists), std::move(empty.spilled));
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
                  options) {}

IndexIVFScaNN::IndexIVFScaNN(
        std::unique_ptr<faiss::Index> quantizer,
        size_t d,
        size_t nlist,
        faiss::MetricType metric,
        const ScaNNOptions& options)
        : IndexIVFScaNN(quantizer.get(), d, nlist, metric, options) {
    quantizer.release();
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

IndexIVFScaNN::EmptyLists IndexIVFScaNN::empty_lists(size_t count) const {
    EntryLayout layout = entry_layout();
    EmptyLists empty;
    empty.lists = std::make_unique<ScaNNLists>(count, layout);
    if (options.soar_lambda > 0) {
        empty.spilled = std::make_unique<ScaNNLists>(count, layout.of_copies());
    }
    return empty;
}

void IndexIVFScaNN::set_lists(
        std::unique_ptr<ScaNNLists> lists,
        std::unique_ptr<ScaNNLists> spilled) {
    check_lists(*lists, spilled.get());
    take_lists(std::move(lists), std::move(spilled));
}

void IndexIVFScaNN::check_lists(
        const ScaNNLists& lists,
        const ScaNNLists* spilled) const {
    FAISS_THROW_IF_NOT(lists.nlist == nlist);
    FAISS_THROW_IF_NOT((spilled != nullptr) == (options.soar_lambda > 0));
}

/// Does not fail.
void IndexIVFScaNN::take_lists(
        std::unique_ptr<ScaNNLists> lists,
        std::unique_ptr<ScaNNLists> spilled) {
    code_size = lists->code_size;
    // not replace_invlists(), which wants nlist of them before training too
    if (own_invlists) {
        delete invlists;
    }
    invlists = lists.release();
    own_invlists = true;
    spilled_ = std::move(spilled);
    copy_places_.reset();
}

void IndexIVFScaNN::set_trained(ScaNNTrained trained) {
    EmptyLists empty = empty_lists(nlist);
    set_trained(
            std::move(trained),
            std::move(empty.lists),
            std::move(empty.spilled));
}

void IndexIVFScaNN::set_trained(
        ScaNNTrained trained,
        std::unique_ptr<ScaNNLists> lists,
        std::unique_ptr<ScaNNLists> spilled) {
    FAISS_THROW_IF_NOT(trained.list_spread.size() == nlist);
    FAISS_THROW_IF_NOT(trained.pq.d() == size_t(d));
    check_lists(*lists, spilled.get());
    trained.rotation.set_importance(codeword_spread(trained.pq).data());
    Partition partition = make_partition(trained);
    // nothing fails from here on
    trained_ = std::move(trained);
    partition_ = std::move(partition);
    quantizer_is_flat_ = flat_quantizer() != nullptr;
    take_lists(std::move(lists), std::move(spilled));
    is_trained = true;
}

/// The quantizer, if the partition can read its centroids in place and stand
/// in for it.
const faiss::IndexFlat* IndexIVFScaNN::flat_quantizer() const {
    auto flat = dynamic_cast<const faiss::IndexFlat*>(quantizer);
    return flat != nullptr && flat->metric_type == metric_type ? flat : nullptr;
}

Partition IndexIVFScaNN::make_partition(const ScaNNTrained& trained) const {
    const faiss::IndexFlat* flat = flat_quantizer();
    std::vector<float> copied;
    if (flat == nullptr) {
        copied.resize(nlist * d);
        quantizer->reconstruct_n(0, nlist, copied.data());
    }
    const float* centroids = flat != nullptr ? flat->get_xb() : copied.data();
    std::vector<float> gains;
    if (metric_type == faiss::METRIC_INNER_PRODUCT &&
        !trained.list_spread.empty()) {
        gains = list_gains(
                nlist, d, centroids, trained.list_spread, trained.by_direction);
    }
    return Partition(
            nlist,
            d,
            centroids,
            metric_type,
            gains.empty() ? nullptr : gains.data(),
            flat != nullptr,
            trained.by_direction);
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

PreparedQueries IndexIVFScaNN::prepare_queries(idx_t n, const float* x) const {
    PreparedQueries queries;
    if (metric_type == faiss::METRIC_INNER_PRODUCT && !options.normalize) {
        check_finite(n, d, x, "query");
        queries.x = moderate_queries(n, d, x, queries.moderate, queries.scales);
    } else {
        queries.x = checked(n, x, "query", queries.unit);
    }
    queries.exact = metric_type == faiss::METRIC_L2 ? x : queries.x;
    return queries;
}

void IndexIVFScaNN::check_trained() const {
    FAISS_THROW_IF_NOT_MSG(is_trained, "the index is not trained");
}

EntryCodec IndexIVFScaNN::codec() const {
    return {lists().layout(), trained_, keeps_rows()};
}

void IndexIVFScaNN::assign_lists(idx_t n, const float* x, idx_t* lists) const {
    if (quantizer_is_flat_) {
        partition_.assign(n, x, lists);
    } else {
        std::vector<float> distances(n);
        search_quantizer(*quantizer, n, x, 1, distances.data(), lists);
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
        const PreparedQueries& queries,
        size_t per_query,
        const float* centroid_dis) const {
    std::vector<float> scores(centroid_dis, centroid_dis + n * per_query);
    for (idx_t i = 0; i < n; i++) {
        float factor =
                metric_type == faiss::METRIC_L2 ? -0.5f : queries.scale(i);
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
                             : queries.x[i * d + largest] / given[largest];
        }
        for (size_t j = 0; j < per_query; j++) {
            scores[i * per_query + j] *= factor;
        }
    }
    return scores;
}

std::vector<std::string> IndexIVFScaNN::notes() const {
    std::vector<std::string> notes;
    auto note = [&](const char* format, auto... values) {
        char text[300];
        snprintf(text, sizeof(text), format, values...);
        notes.emplace_back(text);
    };
    if (!is_trained) {
        return notes;
    }
    if (options.rotation != RotationKind::None && rotation().is_identity()) {
        note("The codes are not rotated: for %zu dimensions, there were too "
             "few training rows for a rotation to pay.",
             size_t(d));
    }
    if (trained_.scan_rows) {
        note("All rows of the visited lists are rescored, since the codes rank "
             "these rows badly: of the nearest 10, a trial in training found "
             "%.3f by codes.",
             double(trained_.trial_recall));
    }
    size_t apart = 0;
    for (size_t l = 0; l < nlist; l++) {
        apart += lists().list(l).apart.size();
    }
    if (!trained_.scan_rows && double(apart) > kManyApart * double(ntotal)) {
        note("%zu of %zu rows lie so far from what the codes were trained for "
             "that every query that visits their lists rescores them: train "
             "again with rows like these.",
             apart,
             size_t(ntotal));
    }
    return notes;
}

// ---- memory ----

/// Training decides (trials.cpp).
bool IndexIVFScaNN::may_list_by_direction() const {
    return metric_type == faiss::METRIC_INNER_PRODUCT && !options.normalize &&
           !options.score_aware_centroids && flat_quantizer() != nullptr;
}

size_t IndexIVFScaNN::estimate_memory(size_t n) const {
    FAISS_THROW_IF_NOT_FMT(
            n <= size_t(1) << 40, "n = %zu (allowed: 0..2^40)", n);
    const size_t lists_wanted = lists_for(n);
    size_t total =
            ScaNNLists::estimate_memory(lists().layout(), lists_wanted, n);
    if (spilled_ != nullptr) {
        total += ScaNNLists::estimate_memory(
                spilled_->layout(), lists_wanted, n);
    }
    if (rotation_pays(options.rotation, n, d)) {
        total += Rotation::estimate_memory(d);
    }
    size_t codebook = d * kernels::kCodewords;
    total += (codebook + lists_wanted * (d + 1)) * sizeof(float);
    return total + Partition::estimate_memory(
                           lists_wanted,
                           d,
                           flat_quantizer() != nullptr,
                           is_trained ? trained_.by_direction
                                      : may_list_by_direction());
}

size_t IndexIVFScaNN::memory_usage() const {
    size_t total = lists().memory_usage() + partition_.memory_usage();
    if (spilled_ != nullptr) {
        total += spilled_->memory_usage();
    }
    total += rotation().memory_usage();
    total += (trained_.list_spread.size() + trained_.origin.size()) *
             sizeof(float);
    total += pq().codebook().size() * sizeof(float);
    total += size_t(quantizer->ntotal) * d * sizeof(float);
    total += copy_places_ == nullptr ? 0 : copy_places_->memory_usage();
    total += memory_of(direct_map);
    return total;
}

} // namespace faiss_ext
