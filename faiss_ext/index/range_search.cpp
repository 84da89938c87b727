/*
 * Range search: rescores every row of the probed lists that passes the
 * filter, so that the result is exact with respect to the rescored scores.
 */

#include <algorithm>

#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index/search_defaults.h>
#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/search/lookup_table.h>
#include <faiss_ext/memory/parallel.h>
#include <faiss_ext/model/index_state.h>
#include <faiss_ext/search/probes.h>
#include <faiss_ext/search/rerank.h>
#include <faiss_ext/search/search_plan.h>

namespace faiss_ext {

namespace {

struct RangeHit {
    float distance;
    int64_t label;
};

/// Shared by the queries of one call.
struct RangeCall {
    const IndexState& state;
    const SearchPlan& plan;
    const kernels::Kernels& kernels;
    const PreparedQueries& queries;
    float radius;
    const int64_t* assign; ///< plan.nprobe lists a query
    const float* scores;   ///< of these, as find_probes() gives them
};

/// One query; not reused.
class RangeQuery {
 public:
    RangeQuery(const RangeCall& call, size_t q) : call_(call), q_(q) {
        const ScaNNModel& model = call.state.model;
        const size_t at = q * call.state.d();
        const float* query = call.queries.x + at;
        const float* from_origin = model.from_origin(1, query, shifted_);
        if (!call.plan.rescores()) {
            std::vector<float> rotated;
            table_.build(
                    call.kernels,
                    model.pq,
                    model.rotation.rotated(from_origin, rotated),
                    0);
        }
        rescorer_.begin(
                *call.state.lists,
                model.score_term,
                query,
                call.queries.exact + at,
                from_origin);
    }

    /// @param stats  out
    std::vector<RangeHit> run(ScaNNSearchStats& stats) {
        const SearchPlan& plan = call_.plan;
        std::vector<RangeHit> hits;
        for (size_t p = 0; p < plan.nprobe; p++) {
            const int64_t list = call_.assign[q_ * plan.nprobe + p];
            if (list < 0) {
                continue;
            }
            FAISS_THROW_IF_NOT_FMT(
                    size_t(list) < call_.state.lists->nlist,
                    "list %lld is not below nlist = %zu",
                    static_cast<long long>(list),
                    call_.state.lists->nlist);
            take_passing(size_t(list), call_.scores[q_ * plan.nprobe + p]);
            rescorer_.rescore_best(call_.kernels, table_, rows_);
            keep_within(hits);
            stats.lists++;
            stats.codes += rows_.size();
            if (plan.max_codes > 0 && stats.codes >= plan.max_codes) {
                break;
            }
        }
        rescorer_.count_reads(stats);
        return hits;
    }

 private:
    /// The rows of a list that pass the filter.
    void take_passing(size_t list, float score) {
        const auto& ids = call_.state.lists->list(list).ids;
        rows_.clear();
        for (size_t i = 0; i < ids.size(); i++) {
            if (call_.plan.filter.passes(ids[i])) {
                rows_.push_back({uint32_t(list), uint32_t(i), score, 0});
            }
        }
    }

    /// Appends those of them that lie within the radius.
    void keep_within(std::vector<RangeHit>& hits) const {
        const bool l2 = call_.state.is_l2();
        for (const Candidate& row : rows_) {
            const float distance = l2 ? std::max(0.0f, -2 * row.score)
                                      : row.score / call_.queries.scale(q_);
            if (l2 ? distance < call_.radius : distance > call_.radius) {
                const ScaNNList& list = call_.state.lists->list(row.list);
                hits.push_back(
                        {distance,
                         call_.plan.store_pairs ? int64_t(faiss::lo_build(
                                                          row.list, row.offset))
                                                : list.ids[row.offset]});
            }
        }
    }

    const RangeCall& call_;
    const size_t q_;
    std::vector<float> shifted_;
    LookupTable table_; ///< used if the lists keep only codes
    Rescorer rescorer_;
    std::vector<Candidate> rows_;
};

void write_hits(
        const std::vector<std::vector<RangeHit>>& hits,
        faiss::RangeSearchResult& result) {
    for (size_t q = 0; q < hits.size(); q++) {
        result.lims[q] = hits[q].size();
    }
    result.do_allocation();
    for (size_t q = 0; q < hits.size(); q++) {
        size_t at = result.lims[q];
        for (const RangeHit& hit : hits[q]) {
            result.distances[at] = hit.distance;
            result.labels[at++] = hit.label;
        }
    }
}

void range_search_lists(
        const RangeCall& call,
        size_t n,
        faiss::RangeSearchResult* result) {
    std::vector<std::vector<RangeHit>> hits(n);
    std::vector<ScaNNSearchStats> stats(n);
    parallel_slices(n, 1, [&](size_t q, size_t) {
        hits[q] = RangeQuery(call, q).run(stats[q]);
    });
    write_hits(hits, *result);
    const SearchPlan& plan = call.plan;
    for (size_t q = 0; q < n && plan.stats != nullptr; q++) {
        plan.stats->nq++;
        plan.stats->lists += stats[q].lists;
        plan.stats->codes += stats[q].codes;
        plan.stats->refined += plan.refine ? stats[q].codes : 0;
        plan.stats->reranked += plan.rerank ? stats[q].codes : 0;
        plan.stats->cached_rows += stats[q].cached_rows;
        plan.stats->file_reads += stats[q].file_reads;
        plan.stats->disk_reads += stats[q].disk_reads;
    }
}

} // namespace

void IndexIVFScaNN::range_search(
        idx_t n,
        const float* x,
        float radius,
        faiss::RangeSearchResult* result,
        const faiss::SearchParameters* params) const {
    check_not_grouped(params, "range_search");
    const SearchPlan plan =
            make_range_plan(*state_, search_defaults(*this), params, 0, false);
    const PreparedQueries queries = prepare_queries(*state_, size_t(n), x);
    std::vector<idx_t> assign(n * plan.nprobe);
    std::vector<float> scores(n * plan.nprobe);
    find_filled_probes(
            *state_,
            size_t(n),
            queries.x,
            plan.nprobe,
            plan.probes, // as search() finds them
            assign.data(),
            scores.data());
    range_search_lists(
            {.state = *state_,
             .plan = plan,
             .kernels = active_kernels(),
             .queries = queries,
             .radius = radius,
             .assign = assign.data(),
             .scores = scores.data()},
            size_t(n),
            result);
}

void IndexIVFScaNN::range_search_preassigned(
        idx_t n,
        const float* x,
        float radius,
        const idx_t* assign,
        const float* centroid_dis,
        faiss::RangeSearchResult* result,
        bool store_pairs,
        const faiss::IVFSearchParameters* params,
        faiss::IndexIVFStats* ivf_stats) const {
    size_t per_query =
            params != nullptr && params->nprobe != 0 ? params->nprobe : nprobe;
    check_not_grouped(params, "range_search_preassigned");
    SearchPlan plan = make_range_plan(
            *state_, search_defaults(*this), params, per_query, store_pairs);
    const PreparedQueries queries = prepare_queries(*state_, size_t(n), x);
    std::vector<float> scores = scores_from_distances(
            *state_, size_t(n), x, queries, per_query, centroid_dis);
    ScaNNSearchStats counted;
    if (plan.stats == nullptr) {
        plan.stats = &counted;
    }
    ScaNNSearchStats before = *plan.stats;
    range_search_lists(
            {.state = *state_,
             .plan = plan,
             .kernels = active_kernels(),
             .queries = queries,
             .radius = radius,
             .assign = assign,
             .scores = scores.data()},
            size_t(n),
            result);
    if (ivf_stats != nullptr) {
        ivf_stats->nq += n;
        ivf_stats->nlist += plan.stats->lists - before.lists;
        ivf_stats->ndis += plan.stats->codes - before.codes;
    }
}

} // namespace faiss_ext
