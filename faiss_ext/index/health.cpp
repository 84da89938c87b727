/*
 * How well an index suits the rows that it holds now, and what to do about it.
 */

#include <algorithm>
#include <cmath>
#include <cstdio>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/codes/score_aware_loss.h>
#include <faiss_ext/index/plan_partition.h>
#include <faiss_ext/index/stored_rows.h>
#include <faiss_ext/index/trial_searches.h>
#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

namespace {

/// Rows that are encoded again to measure the error of the codes.
constexpr size_t kCodedRows = 1024;
/// Growth of the codes' error and unused bytes from which on there is something to
/// say.
constexpr double kCodeErrorGrowth = 1.2;
constexpr double kManyUnused = 0.3;

/// Share of the residuals of some rows that their codes lose.
double measure_code_error(const IndexIVFScaNN& index) {
    const IndexState& state = index.state();
    const EntryCodec codec = state.codec();
    const std::vector<uint64_t> places =
            sample_places(*state.lists, kCodedRows, state.options.seed);
    const size_t n = places.size();
    const size_t d = state.d();
    const size_t coded = state.model->pq.d();
    const StoredRows rows(index, n, places.data());
    const std::vector<float> x = rows.prepared(index);
    std::vector<float> rotated(n * d), residuals(n * d), directions(n * d);
    codec.rotate(
            n,
            x.data(),
            centroids_of(state, n, rows.lists.data()).data(),
            rotated.data(),
            residuals.data(),
            directions.data());
    std::vector<float> leading(n * coded), decoded(n * d);
    leading_columns(n, d, coded, directions.data(), leading.data());
    std::vector<uint8_t> codes(n * state.lists->layout().M);
    codec.encode_residuals(
            n, residuals.data(), leading.data(), codes.data(), decoded.data());
    return mean_lost_share(n, d, residuals.data(), decoded.data());
}

/// Bytes of the lists that no row needs.
size_t unused_bytes(const ScaNNLists& lists) {
    size_t used = ScaNNLists::estimate_memory(lists.layout(), lists.nlist, 0);
    for (size_t l = 0; l < lists.nlist; l++) {
        visit_columns(
                lists.layout(),
                [&](const char*, auto column, const auto& elements) {
                    const auto& values = lists.list(l).*column;
                    used += elements(lists.list_size(l)) *
                            sizeof(values.data()[0]);
                });
    }
    const size_t held = lists.memory_usage();
    return held > used ? held - used : 0;
}

std::vector<std::string> advice_for(
        const IndexIVFScaNN& index,
        const ScaNNHealth& h) {
    std::vector<std::string> advice;
    auto say = [&](const char* format, auto... values) {
        char text[300];
        snprintf(text, sizeof(text), format, values...);
        advice.emplace_back(text);
    };
    const PartitionCheck now{
            .list_error = float(h.list_error), .imbalance = float(h.imbalance)};
    if (h.pending_lists > 0) {
        say("maintain() has begun and has %zu lists left: call it again.",
            h.pending_lists);
    } else if (has_drifted(index, now)) {
        say("The rows have changed since the lists were fitted (mean squared "
            "distance to the centroids %.4g then, %.4g now; imbalance %.2f and "
            "%.2f): %s.",
            h.list_error_at_fit,
            h.list_error,
            h.imbalance_at_fit,
            h.imbalance,
            index.state().keeps_rows() ? "call maintain()"
                                       : "train a new index with rows like "
                                         "these");
    }
    if (h.code_error > kCodeErrorGrowth * h.code_error_at_training) {
        say("The codes lose %.3f of what they hold, %.3f at training: train a "
            "new index with rows like these.",
            h.code_error,
            h.code_error_at_training);
    } else if (h.rows_apart > kManyApart) {
        say("%.1f %% of the rows lie so far from what the codes were trained "
            "for that every query that visits their lists rescores them: train "
            "a new index with rows like these.",
            100 * h.rows_apart);
    }
    if (double(h.unused_bytes) > kManyUnused * double(index.memory_usage())) {
        say("%zu bytes of the lists hold no rows: write the index to a file "
            "and read it, or clone it.",
            h.unused_bytes);
    }
    return advice;
}

void check_queries(
        const IndexIVFScaNN& index,
        int64_t n,
        const float* queries,
        int64_t k) {
    FAISS_THROW_IF_NOT_FMT(
            n >= 0,
            "%lld queries to measure recall with (allowed: >= 0)",
            static_cast<long long>(n));
    FAISS_THROW_IF_NOT_FMT(
            n == 0 || (k >= 1 && k < index.ntotal),
            "k = %lld to measure recall for (allowed: 1..%lld, below the rows)",
            static_cast<long long>(k),
            static_cast<long long>(index.ntotal - 1));
    if (n > 0) {
        check_can_draw(index, queries, "measuring recall");
    }
}

} // namespace

ScaNNHealth IndexIVFScaNN::health(idx_t n, const float* queries, idx_t k)
        const {
    check_trained(*state_);
    check_queries(*this, n, queries, k);
    const ScaNNLists& lists = *state_->lists;
    const ModelFit& fit = state_->fit;
    ScaNNHealth h;
    h.rows = size_t(ntotal);
    h.lists = nlist;
    h.imbalance_at_fit = fit.imbalance;
    h.list_error_at_fit = fit.list_error;
    h.code_error_at_training = fit.code_error;
    h.changed_rows = size_t(fit.changed);
    for (size_t l = 0; l < nlist; l++) {
        const size_t size = lists.list_size(l);
        h.empty_lists += size == 0;
        h.largest_list = std::max(h.largest_list, size);
    }
    h.rows_apart =
            double(lists.rows_apart()) / double(std::max<size_t>(1, h.rows));
    h.unused_bytes = unused_bytes(lists) +
                     (state_->spilled ? unused_bytes(*state_->spilled) : 0);
    if (state_->plan != nullptr) {
        h.pending_lists = state_->plan->order.size() - state_->plan->next;
    }
    if (ntotal > 0) {
        const PartitionCheck now = check_partition(*this);
        h.imbalance = now.imbalance;
        h.list_error = now.list_error;
        if (state_->keeps_rows()) {
            h.code_error = measure_code_error(*this);
        }
    }
    if (n > 0) {
        CalibrationQueries asked =
                queries_or_rows(*this, n, queries, size_t(n));
        h.recall_k = size_t(k);
        h.recall = TrialSearches(*this, std::move(asked), size_t(k))
                           .run({})
                           .recall;
    }
    h.advice = advice_for(*this, h);
    return h;
}

} // namespace faiss_ext
