/*
 * Training: rows -> centroids -> spread of the lists (list_statistics.h) ->
 * rotation, codebook and term (train_codes.h) -> trials (trials.h).
 */

#include <faiss_ext/index/train.h>

#include <algorithm>
#include <vector>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index/list_statistics.h>
#include <faiss_ext/index/set_model.h>
#include <faiss_ext/index/train_codes.h>
#include <faiss_ext/index/trials.h>
#include <faiss_ext/memory/row_sample.h>
#include <faiss_ext/memory/row_types.h>
#include <faiss_ext/model/defaults.h>
#include <faiss_ext/model/index_state.h>
#include <faiss_ext/model/options.h>
#include <faiss_ext/partition/kmeans.h>
#include <faiss_ext/partition/score_aware_centroids.h>

namespace faiss_ext {

namespace {

/// With less recall in the trial, searches rescore all rows of their lists.
/// Codes of 2 and of 4 dimensions have .99 and more on the three real sets.
constexpr float kMinTrialRecall = 0.97f;

/// Rows of other types that become floats for training: so many of each list,
/// and in all.
constexpr size_t kConvertedPerList = 64;
constexpr size_t kConverted = 100000;

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

/// K-means, and the quantizer filled with what it finds.
void train_centroids(
        IndexIVFScaNN& index,
        size_t n,
        const float* x,
        float eta) {
    const ScaNNOptions& options = index.options;
    const ScaNNProgress& progress = index.progress;
    const bool by_direction = index.state().model.by_direction;
    const size_t nlist = index.nlist;
    const size_t d = index.state().d();
    faiss::Index* quantizer = index.quantizer;
    KMeansParameters parameters;
    parameters.k = nlist;
    parameters.rounds = options.kmeans_rounds;
    parameters.max_points_per_centroid = options.max_points_per_centroid;
    parameters.seed = options.seed;
    if (progress) {
        parameters.on_round = [&](size_t done, size_t total) {
            progress("k-means", done, total);
        };
    }
    parameters.spherical = by_direction;
    std::vector<float> centroids = kmeans(n, d, x, parameters);
    if (by_direction) {
        move_to_means(n, d, x, nlist, centroids.data());
    }
    if (options.score_aware_centroids) {
        std::vector<int64_t> lists(n);
        Partition(nlist, d, centroids.data(), index.metric_type)
                .assign(n, x, lists.data());
        make_centroids_score_aware(
                n, d, x, lists.data(), nlist, eta, centroids.data());
    }
    quantizer->reset();
    if (!quantizer->is_trained) {
        quantizer->train(int64_t(nlist), centroids.data());
    }
    quantizer->add(int64_t(nlist), centroids.data());
}

/// The state that a failed training restores; prepared before, since restoring
/// must not need memory.
class BeforeTraining {
 public:
    explicit BeforeTraining(IndexIVFScaNN& index)
            : index_(index),
              nlist_(index.nlist),
              nprobe_(index.nprobe),
              model_(index.state().model),
              was_flat_(index.state().quantizer_is_flat),
              lists_(empty_lists(index.state(), 0)) {
        std::swap(index.state().partition, partition_);
    }
    /// Does not fail.
    void restore() {
        IndexState& state = index_.state();
        index_.nlist = nlist_;
        index_.nprobe = nprobe_;
        index_.is_trained = false;
        state.model = std::move(model_);
        state.partition = std::move(partition_);
        state.quantizer_is_flat = was_flat_;
        take_lists(index_, std::move(lists_));
    }

 private:
    IndexIVFScaNN& index_;
    size_t nlist_;
    size_t nprobe_;
    ScaNNModel model_;
    bool was_flat_;
    ListSets lists_;
    Partition partition_;
};

/// nlist of the index, or what is chosen for so many rows.
/// @throws faiss::FaissException if there are fewer rows to train centroids
size_t wanted_lists(const IndexIVFScaNN& index, size_t n, bool have_lists) {
    const size_t wanted =
            index.nlist == 0 ? default_nlist(n, index.options) : index.nlist;
    FAISS_THROW_IF_NOT_FMT(
            n >= wanted || have_lists,
            "%zu training rows for nlist = %zu lists (needed: >= %zu)",
            n,
            wanted,
            wanted);
    return wanted;
}

/// @param lists   of the rows, size n, or nullptr: found by the partition
/// @param wanted  number of lists
void train_lists(
        IndexIVFScaNN& index,
        size_t n,
        const float* x,
        const int64_t* lists,
        size_t wanted) {
    const ScaNNOptions& options = index.options;
    IndexState& state = index.state();
    const size_t d = state.d();
    faiss::Index* quantizer = index.quantizer;
    std::vector<float> unit;
    x = prepare_rows(state, n, x, "training row", unit);

    BeforeTraining before(index);
    const bool had_centroids =
            quantizer->is_trained && size_t(quantizer->ntotal) == wanted;
    try {
        index.nlist = wanted;
        // the same for centroids and codes
        const float eta = effective_eta(
                options,
                d,
                typical_length(index.metric_type, n, d, x, options.seed));
        if (!had_centroids) {
            state.model.by_direction = directions_are_better(state, n, x);
            train_centroids(index, n, x, eta);
        }
        // assigns the rows that train the codes
        state.partition = make_partition(state, state.model);
        state.quantizer_is_flat = flat_quantizer(state) != nullptr;
        ListStatistics statistics = measure_lists(state, n, x, lists);
        ScaNNModel model = train_codes(
                state,
                n,
                x,
                eta,
                std::move(statistics.spread),
                index.progress,
                lists);
        model.list_groups = make_list_groups(state, model);
        set_model(index, std::move(model));
        if (index.nprobe == 0) {
            index.nprobe = probes_for_rows(state, n, x, statistics.rows);
        }
        if (state.keeps_rows()) {
            ScaNNModel& model = state.model;
            model.trial_recall = trial_recall(state, n, x);
            model.scan_rows = model.trial_recall < kMinTrialRecall;
        }
    } catch (...) {
        before.restore();
        if (!had_centroids) {
            quantizer->reset();
        }
        throw;
    }
}

} // namespace

void IndexIVFScaNN::train(idx_t n, const float* x) {
    train_rows(n, x, RowType::Float32);
}

void IndexIVFScaNN::train_rows(idx_t n, const void* x, RowType type) {
    if (is_trained) {
        return;
    }
    FAISS_THROW_IF_NOT_FMT(
            n >= 1,
            "%lld training rows (allowed: >= 1)",
            static_cast<long long>(n));
    if (type == RowType::Float32) {
        train_lists(
                *this,
                size_t(n),
                static_cast<const float*>(x),
                nullptr,
                wanted_lists(*this, size_t(n), false));
        return;
    }
    const TypedRows rows(x, type, size_t(d));
    const TrainingSample sample = training_sample(*this, size_t(n));
    std::vector<float> floats(sample.count * size_t(d));
    const std::vector<size_t> numbers = sample.rows();
    if (numbers.empty()) {
        to_floats(type, floats.size(), x, floats.data());
    } else {
        rows.gather(sample.count, numbers.data(), floats.data());
    }
    train_on_sample(*this, sample, floats.data());
}

std::vector<size_t> TrainingSample::rows() const {
    return count < n ? sample_rows(n, count, seed) : std::vector<size_t>();
}

TrainingSample training_sample(const IndexIVFScaNN& index, size_t n) {
    const ScaNNOptions& options = index.options;
    const size_t nlist = wanted_lists(index, n, false);
    const size_t per_list =
            std::min(kConvertedPerList, options.max_points_per_centroid);
    const size_t count = std::min(n, std::max(kConverted, per_list * nlist));
    return {n, nlist, count, options.seed};
}

void train_on_sample(
        IndexIVFScaNN& index,
        const TrainingSample& sample,
        const float* x) {
    train_lists(index, sample.count, x, nullptr, sample.nlist);
}

void train_in_lists(
        IndexIVFScaNN& index,
        size_t n,
        const float* x,
        const int64_t* lists) {
    train_lists(index, n, x, lists, wanted_lists(index, n, true));
}

} // namespace faiss_ext
