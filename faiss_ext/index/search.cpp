/*
 * Search: runs the steps of query_search.h, one query at a time or, when
 * several queries of a batch visit the same lists, list by list.
 */

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>

#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/FaissAssert.h>
#include <faiss/invlists/DirectMap.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/memory/parallel.h>
#include <faiss_ext/partition/coarse_quantizer.h>
#include <faiss_ext/memory/query_rows.h>
#include <faiss_ext/search/query_search.h>
#include <faiss_ext/search/search_plan.h>
#include <faiss_ext/search/stage_timer.h>

namespace faiss_ext {

namespace {

/// Queries whose lists are scanned together. More share more lists; beyond
/// this their tables no longer fit the L2 cache.
constexpr size_t kBatch = 128;
/// Between checks for an interrupt.
constexpr size_t kQueriesPerRound = 4096;

/// Everything that the threads of one search call share.
struct SearchCall {
    const IndexIVFScaNN& index;
    const SearchPlan& plan;
    const kernels::Kernels& kernels;
    const float* x;
    const float* exact; ///< PreparedQueries::exact
    /// probes of each query, or nullptr: found by each slice for itself
    const int64_t* assign;
    const float* scores;
    float* distances;
    int64_t* labels;
    std::mutex& stats_mutex;
};

/// Few rows pass the filter: visits further lists until as many passed as the
/// first stage keeps, so that none is missed for want of lists. A quantizer
/// such as HNSW may order lists otherwise when asked for more of them, and
/// never find some: each list is visited once, in the end all.
void extend_probes(
        const SearchCall& call,
        const float* query,
        QuerySearch& search) {
    // Ranking lists again costs more than ranking too many, but sorting
    // thousands costs more than both.
    constexpr double kSpare = 1.5;
    constexpr double kMostGrowth = 16;
    constexpr size_t kTogether = 8; // lists whose rows are tested at a time
    size_t nlist = call.index.nlist;
    size_t enough = call.plan.scan_keep;
    std::vector<int64_t> lists;
    std::vector<float> scores;
    std::vector<bool> seen(nlist);
    for (const Segment& segment : search.segments()) {
        seen[segment.list] = true;
    }
    size_t visited = call.plan.nprobe;
    while (search.passing() < enough && visited < nlist) {
        double growth = std::clamp(
                kSpare * double(enough) /
                        double(std::max<size_t>(search.passing(), 1)),
                kSpare,
                kMostGrowth);
        size_t wanted =
                std::min(nlist, size_t(std::ceil(growth * double(visited))));
        lists.resize(wanted);
        scores.resize(wanted);
        call.index.find_probes(
                1,
                query,
                wanted,
                lists.data(),
                scores.data(),
                call.plan.quantizer_params,
                call.plan.probe_scores);
        size_t fresh = 0;
        for (size_t i = 0; i < wanted; i++) {
            if (lists[i] >= 0 && !seen[lists[i]]) {
                seen[lists[i]] = true;
                lists[fresh] = lists[i];
                scores[fresh++] = scores[i];
            }
        }
        for (size_t l = 0; wanted == nlist && l < nlist; l++) {
            if (!seen[l]) {
                lists[fresh] = int64_t(l);
                scores[fresh++] = call.index.centroid_score(query, l);
            }
        }
        for (size_t i = 0; i < fresh && search.passing() < enough;
             i += kTogether) {
            size_t n = std::min(kTogether, fresh - i);
            search.add_probes(n, lists.data() + i, scores.data() + i);
            search.filter_rows();
        }
        visited = wanted;
    }
}

/// Scans the lists of a batch, each once for all queries that visit it. The
/// queries' best lists come first: they give each its threshold.
void scan_list_by_list(QuerySearch* queries, size_t n) {
    struct Task {
        uint32_t late; ///< 0: the query's best list
        uint32_t list;
        bool spilled;
        QuerySearch::Visit visit;
        bool same_list(const Task& other) const {
            return late == other.late && list == other.list &&
                   spilled == other.spilled;
        }
    };
    std::vector<Task> tasks;
    for (size_t q = 0; q < n; q++) {
        const auto& segments = queries[q].segments();
        for (size_t s = 0; s < segments.size(); s++) {
            tasks.push_back(
                    {s == 0 ? 0u : 1u,
                     segments[s].list,
                     segments[s].lists->layout().has_primary,
                     {&queries[q], s}});
        }
    }
    std::sort(tasks.begin(), tasks.end(), [](auto& a, auto& b) {
        if (a.late != b.late) {
            return a.late < b.late;
        }
        if (a.list != b.list) {
            return a.list < b.list;
        }
        return a.spilled != b.spilled ? a.spilled < b.spilled
                                      : a.visit.query < b.visit.query;
    });
    QuerySearch::Visit visits[kernels::kMaxScanQueries];
    for (size_t i = 0; i < tasks.size();) {
        size_t count = 0;
        while (count < kernels::kMaxScanQueries && i + count < tasks.size() &&
               tasks[i].same_list(tasks[i + count])) {
            visits[count] = tasks[i + count].visit;
            count++;
        }
        QuerySearch::scan(visits, count);
        i += count;
    }
}

/** Whether a batch with so many visits should go list by list. Sharing the
 * codes must pay for a worse order of lists (thresholds rise later) and for
 * changing queries at every list: with 11 KB of codes a list it is 1.4 x as
 * fast as query by query (wordnet-384), with 3 KB 0.85 x (glove-50). */
bool sharing_pays(const IndexIVFScaNN& index, size_t visits) {
    constexpr size_t kCodeBytes = 8192;
    size_t list_bytes = index.lists().layout().packed().list_bytes(
            index.ntotal / index.nlist);
    return visits >= 2 * index.nlist && list_bytes >= kCodeBytes;
}

/// Searches queries [begin, end).
void search_slice(const SearchCall& call, size_t begin, size_t end) {
    thread_local std::vector<QuerySearch> states;
    thread_local std::vector<int64_t> lists;
    thread_local std::vector<float> scores;
    const SearchPlan& plan = call.plan;
    size_t n = end - begin;
    size_t nprobe = plan.nprobe;
    size_t d = call.index.d;
    ScaNNSearchStats stats;
    stats.nq = n;
    bool timed = plan.stats != nullptr;

    const float* x = call.x + begin * d;
    const float* exact = call.exact + begin * d;
    const int64_t* probes = nullptr;
    const float* probe_scores = nullptr;
    if (call.assign != nullptr) {
        probes = call.assign + begin * nprobe;
        probe_scores = call.scores + begin * nprobe;
    }
    if (call.assign == nullptr && !plan.few_pass) {
        StageTimer timer(timed, stats.partition_time);
        lists.resize(n * nprobe);
        scores.resize(n * nprobe);
        call.index.find_filled_probes(
                n,
                x,
                nprobe,
                lists.data(),
                scores.data(),
                plan.quantizer_params,
                plan.probe_scores);
        probes = lists.data();
        probe_scores = scores.data();
    }

    bool together = plan.filter.passes_all() && n > 1 && !plan.scan_rows &&
                    sharing_pays(call.index, n * nprobe);
    if (states.size() < (together ? n : 1)) {
        states.resize(together ? n : 1);
    }
    auto begin_query = [&](QuerySearch& search, size_t i) {
        search.begin(
                call.index,
                plan,
                call.kernels,
                x + i * d,
                exact + i * d,
                stats);
    };
    auto start_query = [&](QuerySearch& search, size_t i) {
        begin_query(search, i);
        search.add_probes(
                nprobe, probes + i * nprobe, probe_scores + i * nprobe);
    };
    auto finish_query = [&](QuerySearch& search, size_t i) {
        search.write_results(
                call.distances + (begin + i) * plan.k,
                call.labels + (begin + i) * plan.k);
    };
    if (plan.few_pass) {
        for (size_t i = 0; i < n; i++) {
            begin_query(states[0], i);
            finish_query(states[0], i);
        }
    } else if (together) {
        for (size_t i = 0; i < n; i++) {
            start_query(states[i], i);
            states[i].build_table();
        }
        {
            StageTimer timer(timed, stats.scan_time);
            scan_list_by_list(states.data(), n);
        }
        for (size_t i = 0; i < n; i++) {
            finish_query(states[i], i);
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            start_query(states[0], i);
            if (!plan.filter.passes_all() && !states[0].filter_later()) {
                states[0].filter_rows();
                if (plan.may_extend) {
                    extend_probes(call, x + i * d, states[0]);
                }
            }
            states[0].scan_all();
            finish_query(states[0], i);
        }
    }
    if (plan.stats != nullptr) {
        std::lock_guard<std::mutex> lock(call.stats_mutex);
        *plan.stats += stats;
    }
}

/// Queries a thread takes at a time: whole batches if there are enough.
size_t slice_size(size_t n) {
    size_t threads = std::max(1, omp_get_max_threads());
    return std::clamp<size_t>((n + threads - 1) / threads, 1, kBatch);
}

void search_all(const SearchCall& call, size_t n) {
    for (size_t round = 0; round < n; round += kQueriesPerRound) {
        if (n > 1) {
            faiss::InterruptCallback::check();
        }
        size_t count = std::min(kQueriesPerRound, n - round);
        parallel_slices(
                count, slice_size(count), [&](size_t begin, size_t end) {
                    search_slice(call, round + begin, round + end);
                });
    }
}

/// Makes scores of scaled queries those of the queries as they were given.
void unscale(
        const PreparedQueries& queries,
        int64_t n,
        int64_t k,
        float* distances) {
    constexpr float kNone = std::numeric_limits<float>::max();
    for (int64_t i = 0; i < n * k && !queries.scales.empty(); i++) {
        if (std::fabs(distances[i]) < kNone) {
            // what no float holds counts as the largest one
            distances[i] = std::clamp(
                    distances[i] / queries.scale(i / k), -kNone, kNone);
        }
    }
}

} // namespace

void IndexIVFScaNN::search(
        idx_t n,
        const float* x,
        idx_t k,
        float* distances,
        idx_t* labels,
        const faiss::SearchParameters* params) const {
    search_lists(n, x, k, distances, labels, params, false);
}

void IndexIVFScaNN::search_lists(
        idx_t n,
        const float* x,
        idx_t k,
        float* distances,
        idx_t* labels,
        const faiss::SearchParameters* params,
        bool store_pairs) const {
    SearchPlan plan = make_search_plan(*this, k, params, 0, store_pairs);
    find_few(*this, plan);
    const PreparedQueries queries = prepare_queries(n, x);
    std::mutex stats_mutex;
    SearchCall call{
            *this,
            plan,
            active_kernels(),
            queries.x,
            queries.exact,
            nullptr,
            nullptr,
            distances,
            labels,
            stats_mutex};
    search_all(call, n);
    unscale(queries, n, k, distances);
}

/// Not Faiss' own: that asks the quantizer for lists, which may be others than
/// those that search() visits.
void IndexIVFScaNN::search_and_reconstruct(
        idx_t n,
        const float* x,
        idx_t k,
        float* distances,
        idx_t* labels,
        float* recons,
        const faiss::SearchParameters* params) const {
    search_lists(n, x, k, distances, labels, params, true);
    parallel_slices(size_t(n * k), 64, [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; i++) {
            float* row = recons + i * d;
            if (labels[i] < 0) {
                std::memset(row, -1, d * sizeof(float)); // NaN, as Faiss does
                continue;
            }
            int64_t list = faiss::lo_listno(labels[i]);
            int64_t offset = faiss::lo_offset(labels[i]);
            reconstruct_from_offset(list, offset, row);
            labels[i] = lists().get_single_id(list, offset);
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
    SearchPlan plan =
            make_search_plan(*this, k, params, lists_per_query, store_pairs);
    const PreparedQueries queries = prepare_queries(n, x);
    std::vector<float> scores =
            scores_from_distances(n, x, queries, lists_per_query, centroid_dis);
    std::mutex stats_mutex;
    SearchCall call{
            *this,
            plan,
            active_kernels(),
            queries.x,
            queries.exact,
            assign,
            scores.data(),
            distances,
            labels,
            stats_mutex};
    ScaNNSearchStats counted;
    if (ivf_stats != nullptr && plan.stats == nullptr) {
        plan.stats = &counted;
    }
    // The caller's own figures may already count earlier searches.
    ScaNNSearchStats before = plan.stats ? *plan.stats : counted;
    search_all(call, n);
    unscale(queries, n, k, distances);
    if (ivf_stats != nullptr) {
        ivf_stats->nq += n;
        ivf_stats->nlist += plan.stats->lists - before.lists;
        ivf_stats->ndis += plan.stats->codes - before.codes;
    }
}

void IndexIVFScaNN::find_probes(
        idx_t n,
        const float* x,
        size_t count,
        idx_t* lists,
        float* scores,
        const faiss::SearchParameters* quantizer_params,
        ProbeScores kind) const {
    if (quantizer_is_flat_) {
        partition_.probes(n, x, count, kind, lists, scores);
        return;
    }
    search_quantizer(
            *quantizer, n, x, count, scores, lists, quantizer_params);
    if (metric_type == faiss::METRIC_L2) {
        for (size_t i = 0; i < n * count; i++) {
            scores[i] *= -0.5f;
        }
    }
}

void IndexIVFScaNN::find_filled_probes(
        idx_t n,
        const float* x,
        size_t count,
        idx_t* lists,
        float* scores,
        const faiss::SearchParameters* quantizer_params,
        ProbeScores kind) const {
    find_probes(n, x, count, lists, scores, quantizer_params, kind);
    auto is_empty = [&](idx_t list) {
        return list >= 0 && size_t(list) < nlist &&
               this->lists().list(list).size() == 0;
    };
    std::vector<idx_t> found;
    std::vector<float> found_scores;
    for (idx_t i = 0; i < n; i++) {
        idx_t* to = lists + i * count;
        float* to_scores = scores + i * count;
        if (std::none_of(to, to + count, is_empty)) {
            continue;
        }
        found.assign(to, to + count);
        found_scores.assign(to_scores, to_scores + count);
        for (size_t filled = 0;;) {
            filled = 0;
            for (size_t l = 0; l < found.size() && filled < count; l++) {
                if (!is_empty(found[l])) {
                    to[filled] = found[l];
                    to_scores[filled++] = found_scores[l];
                }
            }
            if (filled == count || found.size() == nlist) {
                std::fill(to + filled, to + count, -1);
                break;
            }
            const size_t asked = std::min(nlist, 4 * found.size());
            found.resize(asked);
            found_scores.resize(asked);
            find_probes(
                    1,
                    x + i * d,
                    asked,
                    found.data(),
                    found_scores.data(),
                    quantizer_params,
                    kind);
        }
    }
}

} // namespace faiss_ext
