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

/** @param queries  normalised if the index does
 *  @param scores   as find_probes() gives them */
void range_search_lists(
        const IndexState& state,
        size_t n,
        const PreparedQueries& queries,
        float radius,
        const int64_t* assign,
        const float* scores,
        const SearchPlan& plan,
        faiss::RangeSearchResult* result) {
    const kernels::Kernels& kernels = active_kernels();
    const ScaNNLists& lists = *state.lists;
    const ScaNNModel& model = state.model;
    const size_t d = state.d();
    const bool l2 = state.is_l2();
    bool codes_only = !plan.refine && !plan.rerank;
    struct Found {
        float distance;
        int64_t label;
    };
    std::vector<std::vector<Found>> found(n);
    std::vector<ScaNNSearchStats> stats(n);
    parallel_slices(n, 1, [&](size_t q, size_t) {
        const float* query = queries.x + q * d;
        std::vector<float> shifted;
        const float* from_origin = model.from_origin(1, query, shifted);
        LookupTable table;
        if (codes_only) {
            std::vector<float> rotated;
            table.build(
                    kernels,
                    model.pq,
                    model.rotation.rotated(from_origin, rotated),
                    0);
        }
        Rescorer rescorer;
        rescorer.begin(
                lists,
                model.score_term,
                query,
                queries.exact + q * d,
                from_origin);
        std::vector<Row> rows;
        for (size_t p = 0; p < plan.nprobe; p++) {
            int64_t list_no = assign[q * plan.nprobe + p];
            if (list_no < 0) {
                continue;
            }
            FAISS_THROW_IF_NOT_FMT(
                    size_t(list_no) < lists.nlist,
                    "list %lld is not below nlist = %zu",
                    static_cast<long long>(list_no),
                    lists.nlist);
            const ScaNNList& list = lists.list(list_no);
            stats[q].lists++;
            rows.clear();
            for (size_t i = 0; i < list.size(); i++) {
                if (plan.filter.passes(list.ids[i])) {
                    rows.push_back(
                            {uint32_t(list_no),
                             uint32_t(i),
                             scores[q * plan.nprobe + p],
                             0});
                }
            }
            rescorer.rescore_best(kernels, table, rows);
            stats[q].codes += rows.size();
            for (const Row& row : rows) {
                float distance = l2 ? std::max(0.0f, -2 * row.score)
                                    : row.score / queries.scale(q);
                if (l2 ? distance < radius : distance > radius) {
                    int64_t label = plan.store_pairs
                                            ? int64_t(faiss::lo_build(
                                                      row.list, row.offset))
                                            : list.ids[row.offset];
                    found[q].push_back({distance, label});
                }
            }
            if (plan.max_codes > 0 && stats[q].codes >= plan.max_codes) {
                break;
            }
        }
    });
    for (size_t q = 0; q < n; q++) {
        result->lims[q] = found[q].size();
    }
    result->do_allocation();
    for (size_t q = 0; q < n; q++) {
        size_t at = result->lims[q];
        for (const Found& hit : found[q]) {
            result->distances[at] = hit.distance;
            result->labels[at++] = hit.label;
        }
        if (plan.stats != nullptr) {
            plan.stats->nq++;
            plan.stats->lists += stats[q].lists;
            plan.stats->codes += stats[q].codes;
            plan.stats->refined += plan.refine ? stats[q].codes : 0;
            plan.stats->reranked += plan.rerank ? stats[q].codes : 0;
        }
    }
}

} // namespace

void IndexIVFScaNN::range_search(
        idx_t n,
        const float* x,
        float radius,
        faiss::RangeSearchResult* result,
        const faiss::SearchParameters* params) const {
    SearchPlan plan = make_search_plan(
            *state_, search_defaults(*this), 1, params, 0, false);
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
            *state_,
            size_t(n),
            queries,
            radius,
            assign.data(),
            scores.data(),
            plan,
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
    SearchPlan plan = make_search_plan(
            *state_, search_defaults(*this), 1, params, per_query, store_pairs);
    const PreparedQueries queries = prepare_queries(*state_, size_t(n), x);
    std::vector<float> scores = scores_from_distances(
            *state_, size_t(n), x, queries, per_query, centroid_dis);
    ScaNNSearchStats counted;
    if (plan.stats == nullptr) {
        plan.stats = &counted;
    }
    ScaNNSearchStats before = *plan.stats;
    range_search_lists(
            *state_,
            size_t(n),
            queries,
            radius,
            assign,
            scores.data(),
            plan,
            result);
    if (ivf_stats != nullptr) {
        ivf_stats->nq += n;
        ivf_stats->nlist += plan.stats->lists - before.lists;
        ivf_stats->ndis += plan.stats->codes - before.codes;
    }
}

} // namespace faiss_ext
