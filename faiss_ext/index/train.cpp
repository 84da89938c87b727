/*
 * Training: rows -> centroids -> spread of the lists -> rotation, codebook and
 * term of their residuals.
 */

#include <faiss_ext/IndexIVFScaNN.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <numeric>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/model/automatic.h>
#include <faiss_ext/model/codec.h>
#include <faiss_ext/partition/kmeans.h>
#include <faiss_ext/memory/row_products.h>
#include <faiss_ext/memory/row_sample.h>

namespace faiss_ext {

namespace {

/// Rows that the rotation and the term learn from.
constexpr size_t kCodeTrainingRows = 32768;
/// Rows that the lists' spread is measured on; with 8 to 16 a list, recall at
/// the same nprobe is up to .005 worse (4096 lists of glove-50, wordnet-384).
constexpr size_t kSpreadRows = 65536;
constexpr size_t kSpreadRowsPerList = 32;
/// Rows assigned together.
constexpr size_t kTileRows = 4096;
/// Rows coded together: of wide ones, an array of them all is much.
constexpr size_t kCodeTileRows = 1024;

/// Residuals longer than so many times the median are shortened to that before
/// rotation and codebook see them, or few rows decide what all codes can say.
/// Where codes are all that tells rows apart, and the longest are the answers
/// (inner product), these have more to say.
constexpr float kLongestResidual = 3;
constexpr float kLongestAnswer = 30;
/// Rows that the origin is the median of.
constexpr size_t kOriginRows = 1024;
/// Rows that tell how many lists hold the share of rows that a query visits.
constexpr size_t kProbeRows = 256;
/// With less recall in the trial, searches rescore all rows of their lists; on
/// clean data, codes of 2 and of 4 dimensions have .99 and more.
constexpr float kLeastTrialRecall = 0.97f;

/// Median length of some rows; for L2, from the middle of them all.
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

/// Rows as they were before they were shortened.
struct LongRows {
    std::vector<size_t> rows;
    std::vector<float> values;

    void restore(size_t d, float* to) const {
        for (size_t i = 0; i < rows.size(); i++) {
            std::copy_n(&values[i * d], d, to + rows[i] * d);
        }
    }
};

/// Shortens rows that are more than `most` times as long as the median.
LongRows shorten_longest(size_t n, size_t d, float most, float* rows) {
    const std::vector<float> lengths = row_lengths(n, d, rows);
    const float median = quantile(lengths, 0.5);
    // where most rows are equal to their centroids, those of the others
    const float typical = median > 0 ? median : quantile(lengths, 0.9);
    const float longest = most * typical;
    LongRows before;
    for (size_t i = 0; i < n && longest > 0; i++) {
        float* row = rows + i * d;
        if (lengths[i] > longest) {
            before.rows.push_back(i);
            before.values.insert(before.values.end(), row, row + d);
            for (size_t j = 0; j < d; j++) {
                row[j] *= longest / lengths[i];
            }
        }
    }
    return before;
}

/// Medians of some rows of the sample.
std::vector<float>
origin_of(const std::vector<size_t>& sample, size_t d, const float* x) {
    const size_t count = std::min(kOriginRows, sample.size());
    std::vector<size_t> chosen(count);
    for (size_t i = 0; i < count; i++) {
        chosen[i] = sample[i * sample.size() / count];
    }
    std::vector<float> rows(count * d);
    gather_rows(count, chosen.data(), d, x, rows.data());
    return dimension_medians(count, d, rows.data(), count);
}

} // namespace

size_t IndexIVFScaNN::lists_for(size_t n) const {
    return nlist == 0 ? automatic_nlist(n, options.soar_lambda > 0) : nlist;
}

void IndexIVFScaNN::train(idx_t n, const float* x) {
    if (is_trained) {
        return;
    }
    FAISS_THROW_IF_NOT_FMT(
            n >= 1,
            "%lld training rows (allowed: >= 1)",
            static_cast<long long>(n));
    const size_t wanted = lists_for(n);
    FAISS_THROW_IF_NOT_FMT(
            size_t(n) >= wanted,
            "%lld training rows for nlist = %zu lists (needed: >= %zu)",
            static_cast<long long>(n),
            wanted,
            wanted);
    std::vector<float> unit;
    x = checked(n, x, "training row", unit);

    // What a failure puts back, made before: that needs no memory then.
    const size_t old_nlist = nlist;
    const size_t old_nprobe = nprobe;
    ScaNNTrained old_trained = trained_;
    EmptyLists old_lists = empty_lists(0);
    Partition old_partition;
    const bool was_flat = quantizer_is_flat_;
    const bool had_centroids =
            quantizer->is_trained && size_t(quantizer->ntotal) == wanted;
    std::swap(partition_, old_partition);
    try {
        nlist = wanted;
        // the same for centroids and codes
        const float eta = effective_eta(
                typical_length(metric_type, n, d, x, options.seed));
        if (!had_centroids) {
            trained_.by_direction = directions_serve_better(n, x);
            train_centroids(n, x, eta);
        }
        // assigns the rows that train the codes
        partition_ = make_partition(trained_);
        quantizer_is_flat_ = flat_quantizer() != nullptr;
        ListFigures figures = list_figures(n, x);
        set_trained(train_codes(n, x, eta, std::move(figures.spread)));
        nprobe = nprobe == 0 ? probes_for_rows(n, x, figures.rows) : nprobe;
        if (keeps_rows()) {
            trained_.trial_recall = trial_recall(n, x);
            trained_.scan_rows = trained_.trial_recall < kLeastTrialRecall;
        }
    } catch (...) {
        nlist = old_nlist;
        nprobe = old_nprobe;
        is_trained = false;
        trained_ = std::move(old_trained);
        partition_ = std::move(old_partition);
        quantizer_is_flat_ = was_flat;
        take_lists(std::move(old_lists.lists), std::move(old_lists.spilled));
        if (!had_centroids) {
            quantizer->reset();
        }
        throw;
    }
}

void IndexIVFScaNN::train_centroids(idx_t n, const float* x, float eta) {
    KMeansParameters kmeans_parameters;
    kmeans_parameters.k = nlist;
    kmeans_parameters.rounds = options.kmeans_rounds;
    kmeans_parameters.max_points_per_centroid = options.max_points_per_centroid;
    kmeans_parameters.seed = options.seed;
    if (progress) {
        kmeans_parameters.on_round = [this](size_t done, size_t total) {
            progress("k-means", done, total);
        };
    }
    kmeans_parameters.spherical = trained_.by_direction;
    std::vector<float> centroids = kmeans(n, d, x, kmeans_parameters);
    if (trained_.by_direction) {
        move_to_means(n, d, x, nlist, centroids.data());
    }
    if (options.score_aware_centroids) {
        std::vector<idx_t> lists(n);
        Partition(nlist, d, centroids.data(), metric_type)
                .assign(n, x, lists.data());
        make_centroids_score_aware(
                n, d, x, lists.data(), nlist, eta, centroids.data());
    }
    quantizer->reset();
    if (!quantizer->is_trained) {
        quantizer->train(nlist, centroids.data());
    }
    quantizer->add(nlist, centroids.data());
}

ScaNNTrained IndexIVFScaNN::train_codes(
        idx_t n,
        const float* x,
        float eta,
        std::vector<float> list_spread) const {
    const std::vector<size_t> sample =
            sample_rows(n, kCodeTrainingRows, options.seed);
    const size_t count = sample.size();
    const float longest_residual =
            metric_type == faiss::METRIC_L2 || keeps_rows() ? kLongestResidual
                                                            : kLongestAnswer;
    /// Calls work(first, size, rows) for some rows of the sample at a time.
    auto by_tiles = [&](auto&& work) {
        std::vector<float> rows(std::min(kCodeTileRows, count) * d);
        for (size_t begin = 0; begin < count; begin += kCodeTileRows) {
            const size_t size = std::min(kCodeTileRows, count - begin);
            gather_rows(size, &sample[begin], d, x, rows.data());
            work(begin, size, rows.data());
        }
    };
    ScaNNTrained made;
    made.list_spread = std::move(list_spread);
    made.by_direction = trained_.by_direction;
    made.pq = ScoreAwarePQ(pq().offsets());
    made.score_term.metric = metric_type;
    if (metric_type == faiss::METRIC_L2) {
        made.origin = origin_of(sample, d, x);
    }
    std::vector<idx_t> assign(count);
    std::vector<float> residuals(count * d);
    by_tiles([&](size_t begin, size_t size, const float* rows) {
        assign_lists(size, rows, &assign[begin]);
        const std::vector<float> centroids = centroids_of(size, &assign[begin]);
        for (size_t i = 0; i < size * d; i++) {
            residuals[begin * d + i] =
                    std::clamp(rows[i] - centroids[i], -FLT_MAX, FLT_MAX);
        }
    });
    if (rotation_pays(options.rotation, n, d)) {
        shorten_longest(count, d, longest_residual, residuals.data());
        made.rotation.train(
                options.rotation,
                count,
                d,
                residuals.data(),
                made.pq.offsets(),
                options.seed);
    } else {
        made.rotation.set_matrix(d, {});
    }
    const EntryLayout layout = entry_layout();
    const EntryCodec codec{layout, made, keeps_rows()};
    std::vector<float> rotated(count * d), directions(count * d);
    by_tiles([&](size_t begin, size_t size, const float* rows) {
        codec.rotate(
                size,
                rows,
                centroids_of(size, &assign[begin]).data(),
                &rotated[begin * d],
                &residuals[begin * d],
                &directions[begin * d]);
    });
    ScoreAwarePQTraining training;
    training.eta = eta;
    training.seed = options.seed;
    if (progress) {
        training.on_round = [this](size_t done, size_t total) {
            progress("codebook", done, total);
        };
    }
    const LongRows long_rows =
            shorten_longest(count, d, longest_residual, residuals.data());
    made.pq.train(count, residuals.data(), directions.data(), training);
    long_rows.restore(d, residuals.data());

    std::vector<uint8_t> codes(count * made.pq.M());
    made.pq.encode(count, residuals.data(), directions.data(), codes.data());
    std::vector<float> decoded = std::move(directions); // not needed any more
    made.pq.decode(count, codes.data(), decoded.data());
    made.score_term.train(
            count,
            d,
            rotated.data(),
            residuals.data(),
            decoded.data(),
            options.seed);
    return made;
}

/// Spread and rows of the lists, of a sample of the training rows.
IndexIVFScaNN::ListFigures IndexIVFScaNN::list_figures(idx_t n, const float* x)
        const {
    const std::vector<size_t> sample = sample_rows(
            n, std::max(kSpreadRows, kSpreadRowsPerList * nlist), options.seed);
    ListFigures figures;
    figures.rows.resize(nlist);
    std::vector<double> sums(nlist);
    double total = 0;
    size_t found = 0;
    std::vector<float> rows(std::min(kTileRows, sample.size()) * d);
    std::vector<idx_t> lists(kTileRows);
    for (size_t begin = 0; begin < sample.size(); begin += kTileRows) {
        size_t size = std::min(kTileRows, sample.size() - begin);
        gather_rows(size, &sample[begin], d, x, rows.data());
        assign_lists(size, rows.data(), lists.data());
        std::vector<float> centroids = centroids_of(size, lists.data());
        for (size_t i = 0; i < size * d; i++) {
            rows[i] = std::clamp(rows[i] - centroids[i], -FLT_MAX, FLT_MAX);
        }
        for (size_t i = 0; i < size; i++) {
            if (lists[i] < 0) {
                continue; // a graph as quantizer may find none
            }
            double square = precise_square(d, rows.data() + i * d);
            sums[lists[i]] += square;
            figures.rows[lists[i]]++;
            total += square;
            found++;
        }
    }
    figures.spread.resize(nlist);
    const double mean = total / double(std::max<size_t>(found, 1));
    for (size_t l = 0; l < nlist; l++) {
        const size_t count = figures.rows[l];
        const double spread = count > 0 ? sums[l] / double(count) : mean;
        figures.spread[l] = float(std::min(spread, double(FLT_MAX)));
    }
    return figures;
}

/// Lists in which rows as queries find as many rows as 1/32 of all lists have
/// on average, and at least those: where the lists that come first are small
/// (inner product with rows of very different lengths), these are more.
size_t IndexIVFScaNN::probes_for_rows(
        idx_t n,
        const float* x,
        const std::vector<size_t>& list_rows) const {
    const size_t least = automatic_nprobe(nlist);
    const size_t total =
            std::accumulate(list_rows.begin(), list_rows.end(), size_t(0));
    const double wanted = double(total) * double(least) / double(nlist);
    const std::vector<size_t> sample = sample_rows(n, kProbeRows, options.seed);
    std::vector<float> query(d), scores(nlist);
    std::vector<idx_t> lists(nlist);
    std::vector<float> needed;
    for (size_t i : sample) {
        size_t held = 0, count = 0;
        for (size_t asked = least; count < nlist && held < wanted;
             asked = std::min(nlist, 4 * asked)) {
            find_probes(1, x + i * d, asked, lists.data(), scores.data());
            for (; count < asked && held < wanted; count++) {
                held += lists[count] < 0 ? 0 : list_rows[lists[count]];
            }
        }
        needed.push_back(float(count));
    }
    return std::max(least, size_t(quantile(needed, 0.5)));
}

} // namespace faiss_ext
