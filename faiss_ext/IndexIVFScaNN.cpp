#include <faiss_ext/IndexIVFScaNN.h>

#include <cstdio>

#include <faiss/IndexFlat.h>
#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/index/set_model.h>
#include <faiss_ext/model/index_state.h>
#include <faiss_ext/model/options.h>

namespace faiss_ext {

namespace {

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
        // nlist 0: Faiss' own lists would be replaced at once
        : faiss::IndexIVF(quantizer, d, 0, 0, metric),
          options(options),
          state_(std::make_unique<IndexState>(*this, this->options)) {
    check_options(d, metric, options);
    this->nlist = nlist;
    is_trained = false;
#if FAISS_EXT_FAISS_VERSION >= 10800
    by_residual = true;
#endif
    if (nlist == 0) {
        nprobe = 0;
    }
    state_->model.edit([&](ScaNNModel& model) {
        model.pq = ScoreAwarePQ(block_offsets(d, options));
    });
    // no lists before training: a file of a few bytes may ask for many
    take_lists(*this, empty_lists(*state_, 0));
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

IndexState& IndexIVFScaNN::state() {
    return *state_;
}

const IndexState& IndexIVFScaNN::state() const {
    return *state_;
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
    const ScaNNModel& model = state_->model;
    if (options.rotation != RotationKind::None &&
        model.rotation.is_identity()) {
        note("The codes are not rotated: for %zu dimensions, there were too "
             "few training rows for a rotation to pay.",
             size_t(d));
    }
    if (model.scan_rows) {
        note("All rows of the visited lists are rescored, since the codes rank "
             "these rows badly: of the nearest 10, a trial in training found "
             "%.3f by codes.",
             double(model.trial_recall));
    }
    const size_t apart = state_->lists->rows_apart();
    if (!model.scan_rows && double(apart) > kManyApart * double(ntotal)) {
        note("%zu of %zu rows lie so far from what the codes were trained for "
             "that every query that visits their lists rescores them: train "
             "again with rows like these.",
             apart,
             size_t(ntotal));
    }
    return notes;
}

size_t IndexIVFScaNN::estimate_memory(size_t n) const {
    return faiss_ext::estimate_memory(*state_, n);
}

size_t IndexIVFScaNN::memory_usage() const {
    return faiss_ext::memory_usage(*state_);
}

} // namespace faiss_ext
