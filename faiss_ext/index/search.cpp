/*
 * The search methods: parameters and queries as Faiss gives them -> plan,
 * prepared queries; next: search/batch_search.
 */

#include <algorithm>
#include <cstring>
#include <vector>

#include <faiss/impl/FaissAssert.h>
#include <faiss/invlists/DirectMap.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index/search_defaults.h>
#include <faiss_ext/memory/parallel.h>
#include <faiss_ext/memory/row_types.h>
#include <faiss_ext/model/index_state.h>
#include <faiss_ext/search/batch_search.h>
#include <faiss_ext/search/grouped_search.h>
#include <faiss_ext/search/probes.h>
#include <faiss_ext/search/search_plan.h>

namespace faiss_ext {

namespace {

void search_probes(
        const IndexIVFScaNN& index,
        int64_t n,
        const float* x,
        int64_t k,
        float* distances,
        int64_t* labels,
        const faiss::SearchParameters* params,
        bool store_pairs) {
    const IndexState& state = index.state();
    const SearchPlan plan = make_search_plan(
            state, search_defaults(index), k, params, 0, store_pairs);
    const PreparedQueries queries = prepare_queries(state, size_t(n), x);
    if (plan.max_per_group > 0) {
        search_groups(
                state,
                plan,
                search_defaults(index),
                queries,
                size_t(n),
                distances,
                labels);
        return;
    }
    search_batches(
            state,
            plan,
            queries,
            size_t(n),
            nullptr,
            nullptr,
            distances,
            labels);
}

} // namespace

void IndexIVFScaNN::search(
        idx_t n,
        const float* x,
        idx_t k,
        float* distances,
        idx_t* labels,
        const faiss::SearchParameters* params) const {
    search_probes(*this, n, x, k, distances, labels, params, false);
}

void IndexIVFScaNN::search_rows(
        idx_t n,
        const void* x,
        RowType type,
        idx_t k,
        float* distances,
        idx_t* labels,
        const faiss::SearchParameters* params) const {
    constexpr idx_t kQueries = 4096; // floats at a time
    const TypedRows rows(x, type, size_t(d));
    std::vector<float> floats;
    idx_t begin = 0;
    do { // at least once: parameters are checked without queries, too
        const idx_t count =
                type == RowType::Float32 ? n : std::min(kQueries, n - begin);
        search(count,
               rows.floats(size_t(begin), size_t(count), floats),
               k,
               distances + begin * k,
               labels + begin * k,
               params);
        begin += count;
    } while (begin < n);
}

/// Faiss' own would ask the quantizer for lists, which may differ from those
/// that search() visits.
void IndexIVFScaNN::search_and_reconstruct(
        idx_t n,
        const float* x,
        idx_t k,
        float* distances,
        idx_t* labels,
        float* recons,
        const faiss::SearchParameters* params) const {
    search_probes(*this, n, x, k, distances, labels, params, true);
    constexpr size_t kReconstructSlice = 64;
    parallel_slices(
            size_t(n * k), kReconstructSlice, [&](size_t begin, size_t end) {
                for (size_t i = begin; i < end; i++) {
                    float* row = recons + i * d;
                    if (labels[i] < 0) {
                        std::memset(
                                row,
                                -1,
                                d * sizeof(float)); // NaN, as Faiss does
                        continue;
                    }
                    int64_t list = faiss::lo_listno(labels[i]);
                    int64_t offset = faiss::lo_offset(labels[i]);
                    reconstruct_from_offset(list, offset, row);
                    labels[i] = state_->lists->get_single_id(list, offset);
                }
            });
}

void IndexIVFScaNN::search_preassigned(
        idx_t n,
        const float* x,
        idx_t k,
        const idx_t* assign,
        const float* centroid_dis,
        float* distances,
        idx_t* labels,
        bool store_pairs,
        const faiss::IVFSearchParameters* params,
        faiss::IndexIVFStats* ivf_stats) const {
    size_t lists_per_query =
            params != nullptr && params->nprobe != 0 ? params->nprobe : nprobe;
    FAISS_THROW_IF_NOT_FMT(
            lists_per_query >= 1, "nprobe = %zu (allowed: >= 1)", nprobe);
    check_not_grouped(params, "search_preassigned");
    SearchPlan plan = make_search_plan(
            *state_,
            search_defaults(*this),
            k,
            params,
            lists_per_query,
            store_pairs);
    const PreparedQueries queries = prepare_queries(*state_, size_t(n), x);
    std::vector<float> scores = scores_from_distances(
            *state_, size_t(n), x, queries, lists_per_query, centroid_dis);
    ScaNNSearchStats counted;
    if (ivf_stats != nullptr && plan.stats == nullptr) {
        plan.stats = &counted;
    }
    // the caller's statistics may already count earlier searches
    ScaNNSearchStats before = plan.stats ? *plan.stats : counted;
    search_batches(
            *state_,
            plan,
            queries,
            size_t(n),
            assign,
            scores.data(),
            distances,
            labels);
    if (ivf_stats != nullptr) {
        ivf_stats->nq += n;
        ivf_stats->nlist += plan.stats->lists - before.lists;
        ivf_stats->ndis += plan.stats->codes - before.codes;
    }
}

} // namespace faiss_ext
