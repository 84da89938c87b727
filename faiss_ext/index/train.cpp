/*
 * Training: rows -> centroids -> spread of the lists (list_statistics.h) ->
 * rotation, codebook and term (train_codes.h) -> trials (trials.h).
 */

#include <faiss_ext/index/train.h>

#include <algorithm>
#include <vector>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index/fit_centroids.h>
#include <faiss_ext/index/list_statistics.h>
#include <faiss_ext/index/set_model.h>
#include <faiss_ext/index/train_codes.h>
#include <faiss_ext/index/trials.h>
#include <faiss_ext/memory/row_sample.h>
#include <faiss_ext/memory/row_types.h>
#include <faiss_ext/model/defaults.h>
#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

namespace {

/// With less recall in the trial, searches rescore all rows of their lists.
/// Codes of 2 and of 4 dimensions have .99 and more on the three real sets.
constexpr float kMinTrialRecall = 0.97f;

/// Rows of other types that become floats for training: so many of each list,
/// and in all.
constexpr size_t kConvertedPerList = 64;
constexpr size_t kConverted = 100000;

/// Fills the quantizer with centroids of these rows.
void train_centroids(
        IndexIVFScaNN& index,
        size_t n,
        const float* x,
        float eta) {
    const std::vector<float> centroids =
            fit_centroids(index.state(), n, x, eta, index.progress);
    faiss::Index* quantizer = index.quantizer;
    quantizer->reset();
    if (!quantizer->is_trained) {
        quantizer->train(int64_t(index.nlist), centroids.data());
    }
    quantizer->add(int64_t(index.nlist), centroids.data());
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
        index.state().partition.swap(partition_);
    }
    /// Does not fail.
    void restore() {
        IndexState& state = index_.state();
        index_.nlist = nlist_;
        index_.nprobe = nprobe_;
        index_.is_trained = false;
        state.model.swap(model_);
        state.partition.swap(partition_);
        state.quantizer_is_flat = was_flat_;
        take_lists(index_, std::move(lists_));
    }

 private:
    IndexIVFScaNN& index_;
    size_t nlist_;
    size_t nprobe_;
    SharedValue<ScaNNModel> model_;
    bool was_flat_;
    ListSets lists_;
    SharedValue<Partition> partition_;
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
    IndexState& state = index.state();
    faiss::Index* quantizer = index.quantizer;
    std::vector<float> unit;
    x = prepare_rows(state, n, x, "training row", unit);

    BeforeTraining before(index);
    const bool had_centroids =
            quantizer->is_trained && size_t(quantizer->ntotal) == wanted;
    try {
        index.nlist = wanted;
        // the same for centroids and codes
        const float eta = eta_for_rows(state, n, x);
        if (!had_centroids) {
            const bool by_direction = directions_are_better(state, n, x);
            state.model.edit([&](ScaNNModel& model) {
                model.by_direction = by_direction;
            });
            train_centroids(index, n, x, eta);
        }
        // assigns the rows that train the codes
        state.partition = make_partition(state, state.model);
        state.quantizer_is_flat = flat_quantizer(state) != nullptr;
        ListStatistics statistics = measure_lists(state, n, x, lists);
        TrainedCodes made = train_codes(
                state,
                n,
                x,
                eta,
                std::move(statistics.spread),
                index.progress,
                lists);
        made.model.list_groups = make_list_groups(state, made.model);
        set_model(index, std::move(made.model));
        state.fit = {
                .list_error = statistics.error,
                .code_error = made.code_error,
                .imbalance = float(imbalance(statistics.rows))};
        if (index.nprobe == 0) {
            index.nprobe = probes_for_rows(state, n, x, statistics.rows);
        }
        if (state.keeps_rows()) {
            const float recall = trial_recall(state, n, x);
            state.model.edit([&](ScaNNModel& model) {
                model.trial_recall = recall;
                model.scan_rows = recall < kMinTrialRecall;
            });
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
