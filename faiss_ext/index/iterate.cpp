/*
 * Searches that go on: parameters and a query as Faiss gives them -> plan,
 * prepared query; next: search/resumable_scan.
 */

#include <utility>
#include <vector>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index/search_defaults.h>
#include <faiss_ext/model/index_state.h>
#include <faiss_ext/scann_iterator.h>
#include <faiss_ext/search/batch_search.h>
#include <faiss_ext/search/probes.h>
#include <faiss_ext/search/resumable_scan.h>
#include <faiss_ext/search/search_plan.h>

namespace faiss_ext {

/// Holds all that the scan borrows, but for the index and what `params` points
/// to.
struct ScaNNIterator::Impl {
    ScaNNLists::Changes changes;
    uint64_t made_at; ///< of `changes`
    ScaNNCalibration calibration;
    SearchDefaults defaults;
    std::vector<float> x;
    PreparedQueries query;
    ResumableScan scan;

    Impl(const IndexIVFScaNN& index,
         const float* query_row,
         SearchPlan plan,
         const CandidateNumbers& numbers)
            : changes(index.state().lists->changes()),
              made_at(*changes),
              calibration(index.calibration),
              defaults{
                      .nprobe = index.nprobe,
                      .max_codes = 0,
                      .reorder_k = index.reorder_k,
                      .refine_k = index.refine_k,
                      .calibration = calibration,
                      .profile = nullptr}, // pieces have no target recall
              x(query_row, query_row + index.d),
              query(prepare_queries(index.state(), 1, x.data())),
              scan(index.state(),
                   std::move(plan),
                   defaults,
                   numbers,
                   query.x,
                   query.exact) {}
};

ScaNNIterator::ScaNNIterator(std::unique_ptr<Impl> impl)
        : impl_(std::move(impl)) {}

ScaNNIterator::~ScaNNIterator() = default;

size_t ScaNNIterator::next(float* distances, int64_t* labels) {
    const uint64_t now = *impl_->changes;
    FAISS_THROW_IF_NOT_MSG(
            now != ScaNNLists::kGone,
            "the index of this iterator is gone: the rows given so far are all "
            "that there will be");
    FAISS_THROW_IF_NOT_MSG(
            now == impl_->made_at,
            "rows were added, removed or changed since this iterator was made; "
            "make another (allowed: no change while an iterator goes on)");
    const size_t n = impl_->scan.next(distances, labels);
    unscale(impl_->query, 1, n, distances);
    return n;
}

size_t ScaNNIterator::batch() const {
    return impl_->scan.piece();
}

bool ScaNNIterator::stale() const {
    return *impl_->changes != impl_->made_at;
}

std::unique_ptr<ScaNNIterator> IndexIVFScaNN::iterate(
        const float* x,
        idx_t batch,
        const faiss::SearchParameters* params) const {
    FAISS_THROW_IF_NOT_FMT(
            batch >= 1,
            "batch = %lld (allowed: >= 1)",
            static_cast<long long>(batch));
    check_not_grouped(params, "iterate");
    SearchPlan plan = make_search_plan(
            *state_, search_defaults(*this), batch, params, 0, false);
    FAISS_THROW_IF_NOT_FMT(
            plan.max_codes == 0,
            "max_codes = %zu (allowed for an iterator: 0, since it visits all "
            "lists in the end)",
            plan.max_codes);
    FAISS_THROW_IF_NOT_FMT(
            plan.target_recall == 0,
            "target_recall = %g (allowed for an iterator: 0, since nobody "
            "knows "
            "how many rows will be taken)",
            plan.target_recall);
    plan.profile = nullptr; // of the index, which may be gone before this
    return std::unique_ptr<ScaNNIterator>(
            new ScaNNIterator(std::make_unique<ScaNNIterator::Impl>(
                    *this, x, std::move(plan), candidate_numbers(params))));
}

} // namespace faiss_ext
