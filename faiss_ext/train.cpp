/*
 * Training: rows -> centroids -> spread of the lists -> rotation, codebook and
 * term of their residuals.
 */

#include <faiss_ext/IndexIVFScaNN.h>

#include <algorithm>
#include <cmath>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/automatic.h>
#include <faiss_ext/codec.h>
#include <faiss_ext/kmeans.h>
#include <faiss_ext/row_products.h>

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

/// Evenly spaced rows, at most `wanted` of n.
std::vector<size_t> sample_rows(size_t n, size_t wanted) {
    size_t count = std::min(n, wanted);
    std::vector<size_t> rows(count);
    for (size_t i = 0; i < count; i++) {
        rows[i] = i * n / count;
    }
    return rows;
}

/// Copies rows of x, size (*, d), next to one another.
void gather_rows(
        size_t n,
        const size_t* rows,
        size_t d,
        const float* x,
        float* gathered) {
    for (size_t i = 0; i < n; i++) {
        std::copy_n(x + rows[i] * d, d, gathered + i * d);
    }
}

/// Root mean square length of the rows.
float typical_length(size_t n, size_t d, const float* x) {
    return float(std::sqrt(precise_square(n * d, x) / n));
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

    const size_t old_nlist = nlist;
    const size_t old_nprobe = nprobe;
    bool had_centroids =
            quantizer->is_trained && size_t(quantizer->ntotal) == wanted;
    try {
        nlist = wanted;
        nprobe = nprobe == 0 ? automatic_nprobe(nlist) : nprobe;
        if (!had_centroids) {
            train_centroids(n, x);
        }
        rebuild_partition(); // assigns the rows that train the codes
        set_trained(train_codes(n, x));
    } catch (...) {
        nlist = old_nlist;
        nprobe = old_nprobe;
        trained_.list_spread.clear();
        if (!had_centroids) {
            quantizer->reset();
        }
        partition_ = Partition();
        throw;
    }
}

void IndexIVFScaNN::train_centroids(idx_t n, const float* x) {
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
    std::vector<float> centroids = kmeans(n, d, x, kmeans_parameters);
    if (options.score_aware_centroids) {
        std::vector<idx_t> lists(n);
        Partition(nlist, d, centroids.data(), metric_type)
                .assign(n, x, lists.data());
        make_centroids_score_aware(
                n,
                d,
                x,
                lists.data(),
                nlist,
                effective_eta(1),
                centroids.data());
    }
    quantizer->reset();
    if (!quantizer->is_trained) {
        quantizer->train(nlist, centroids.data());
    }
    quantizer->add(nlist, centroids.data());
}

ScaNNTrained IndexIVFScaNN::train_codes(idx_t n, const float* x) const {
    std::vector<size_t> sample = sample_rows(n, kCodeTrainingRows);
    size_t count = sample.size();
    std::vector<float> rows(count * d), residuals(count * d);
    gather_rows(count, sample.data(), d, x, rows.data());
    std::vector<idx_t> assign(count);
    assign_lists(count, rows.data(), assign.data());
    std::vector<float> centroids = centroids_of(count, assign.data());
    for (size_t i = 0; i < count * d; i++) {
        residuals[i] = rows[i] - centroids[i];
    }

    ScaNNTrained made;
    made.list_spread = list_spread(n, x);
    made.pq = ScoreAwarePQ(pq().offsets());
    made.score_term.metric = metric_type;
    made.rotation.train(
            options.rotation,
            count,
            d,
            residuals.data(),
            made.pq.offsets(),
            options.seed);
    EntryLayout layout = entry_layout();
    EntryCodec codec{layout, made.rotation, made.pq, made.score_term};
    std::vector<float> rotated(count * d), directions(count * d);
    codec.rotate(
            count,
            rows.data(),
            centroids.data(),
            rotated.data(),
            residuals.data(),
            directions.data());
    ScoreAwarePQTraining training;
    training.eta = effective_eta(typical_length(count, d, rows.data()));
    training.seed = options.seed;
    if (progress) {
        training.on_round = [this](size_t done, size_t total) {
            progress("codebook", done, total);
        };
    }
    made.pq.train(count, residuals.data(), directions.data(), training);

    std::vector<uint8_t> codes(count * made.pq.M());
    std::vector<float> decoded(count * d);
    made.pq.encode(count, residuals.data(), directions.data(), codes.data());
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

/// Mean squared length of the residuals in each list; lists without rows get
/// that of all.
std::vector<float> IndexIVFScaNN::list_spread(idx_t n, const float* x) const {
    const std::vector<size_t> sample =
            sample_rows(n, std::max(kSpreadRows, kSpreadRowsPerList * nlist));
    std::vector<double> sums(nlist);
    std::vector<size_t> counts(nlist);
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
            rows[i] -= centroids[i];
        }
        for (size_t i = 0; i < size; i++) {
            if (lists[i] < 0) {
                continue; // a graph as quantizer may find none
            }
            double square = precise_square(d, rows.data() + i * d);
            sums[lists[i]] += square;
            counts[lists[i]]++;
            total += square;
            found++;
        }
    }
    std::vector<float> means(nlist);
    for (size_t l = 0; l < nlist; l++) {
        means[l] =
                float(counts[l] > 0 ? sums[l] / counts[l]
                                    : total / std::max<size_t>(found, 1));
    }
    return means;
}

} // namespace faiss_ext
