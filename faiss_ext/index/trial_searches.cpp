#include <faiss_ext/index/trial_searches.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include <faiss/impl/AuxIndexStructures.h>

#include <faiss_ext/index/search_cost.h>
#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

namespace {

/// Candidates of the exhaustive search: at least this many, and this many times
/// k.
constexpr size_t kTruthRows = 2000;
constexpr size_t kTruthRowsPerResult = 20;
} // namespace

TrialSearches::TrialSearches(
        const IndexIVFScaNN& index,
        CalibrationQueries queries,
        size_t k)
        : index_(index),
          queries_(std::move(queries)),
          nq_(queries_.x.size() / size_t(index.d)),
          k_(k) {
    const size_t all = std::max<size_t>(size_t(index.ntotal), 1);
    const size_t rows =
            std::min(all, std::max(kTruthRows, kTruthRowsPerResult * k));
    truth_ = search({index.nlist, rows, rows}, nullptr);
}

TrialSearches::Outcome TrialSearches::run(const SearchSetting& setting) const {
    faiss::InterruptCallback::check();
    ScaNNSearchStats stats;
    std::vector<int64_t> found = search(setting, &stats);
    double sum = 0, squares = 0;
    for (size_t q = 0; q < nq_; q++) {
        auto truth = truth_.begin() + q * k_;
        auto mine = found.begin() + q * k_;
        size_t there = k_ - std::count(truth, truth + k_, -1);
        size_t hits = 0;
        for (size_t i = 0; i < there; i++) {
            hits += std::count(mine, mine + k_, truth[i]);
        }
        double share = there == 0 ? 1 : double(hits) / double(there);
        sum += share;
        squares += share * share;
    }
    double recall = sum / double(nq_);
    double variance = std::max(0.0, squares / double(nq_) - recall * recall);
    const double cost = search_cost(
            index_.state().lists->layout(),
            {double(stats.lists),
             double(stats.codes),
             double(stats.refined),
             double(stats.reranked)});
    return {recall, std::sqrt(variance / double(nq_)), cost / double(nq_)};
}

/// The k best of each query but itself. @return size nq_ * k, -1 for none
std::vector<int64_t> TrialSearches::search(
        const SearchSetting& setting,
        ScaNNSearchStats* stats) const {
    size_t wanted = k_ + 1;
    SearchParametersScaNN params;
    params.nprobe = setting.nprobe;
    params.refine_k =
            setting.refine_k == 0 ? 0 : std::max(setting.refine_k, wanted);
    params.reorder_k =
            setting.reorder_k == 0 ? 0 : std::max(setting.reorder_k, wanted);
    params.stats = stats;
    std::vector<float> distances(nq_ * wanted);
    std::vector<int64_t> labels(nq_ * wanted);
    index_.search(
            nq_,
            queries_.x.data(),
            wanted,
            distances.data(),
            labels.data(),
            &params);
    std::vector<int64_t> kept;
    kept.reserve(nq_ * k_);
    for (size_t q = 0; q < nq_; q++) {
        auto row = labels.begin() + q * wanted;
        auto end = queries_.ids.empty()
                           ? row + k_
                           : std::remove(row, row + wanted, queries_.ids[q]);
        size_t count = std::min(k_, size_t(end - row));
        kept.insert(kept.end(), row, row + count);
        kept.resize((q + 1) * k_, -1);
    }
    return kept;
}

} // namespace faiss_ext
