#include <faiss_ext/search/batch_search.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <tuple>
#include <vector>

#include <faiss/impl/AuxIndexStructures.h>

#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/memory/parallel.h>
#include <faiss_ext/search/query_search.h>
#include <faiss_ext/search/stage_timer.h>

namespace faiss_ext {

namespace {

/// Queries whose lists are scanned together. With more, their tables no longer
/// fit the L2 cache.
constexpr size_t kBatch = 128;
/// Queries of a thread whose rows are read from a file at the same time, and their
/// rows: as many as the queues of today's disks hold.
constexpr size_t kInFlight = 64;
constexpr size_t kRowsInFlight = 1024;
/// Queries between checks for an interrupt.
constexpr size_t kQueriesPerRound = 4096;

/// Shared by the threads of one search call.
struct SearchCall {
    const IndexState& state;
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

/// Scans the lists of a batch, each once for all queries that visit it. The
/// queries' best lists come first: they give each its threshold.
void scan_list_by_list(QuerySearch* queries, size_t n) {
    struct Task {
        bool first; ///< the query's best list
        QuerySearch::SharedProbe visit;

        auto list() const {
            return std::tuple(!first, visit.probe->list, visit.probe->spilled);
        }
    };
    std::vector<Task> tasks;
    for (size_t q = 0; q < n; q++) {
        for (const kernels::Probe& probe : queries[q].probes()) {
            const bool first = &probe == queries[q].probes().data();
            tasks.push_back({first, {&queries[q], &probe}});
        }
    }
    std::sort(tasks.begin(), tasks.end(), [](auto& a, auto& b) {
        return a.list() != b.list() ? a.list() < b.list()
                                    : a.visit.query < b.visit.query;
    });
    QuerySearch::SharedProbe shared[kernels::kMaxScanQueries];
    for (size_t i = 0; i < tasks.size();) {
        size_t count = 0;
        while (count < kernels::kMaxScanQueries && i + count < tasks.size() &&
               tasks[i].list() == tasks[i + count].list()) {
            shared[count] = tasks[i + count].visit;
            count++;
        }
        QuerySearch::scan_shared(shared, count);
        i += count;
    }
}

/** Whether a batch with this many visits of lists is searched faster list by list
 * than query by query. Reading codes once for several queries saves time; that
 * lists come in a worse order (thresholds rise later), and that queries change
 * at every list, costs some. With 11 KB of codes per list it is 1.4 x as fast
 * (wordnet-384), with 3 KB 0.85 x (glove-50). */
bool sharing_pays(const IndexState& state, size_t visits) {
    constexpr size_t kMinCodeBytes = 8192;
    constexpr size_t kMinVisits = 2; // per list
    const size_t nlist = state.ivf.nlist;
    size_t list_bytes = state.lists->layout().packed().list_bytes(
            size_t(state.ivf.ntotal) / nlist);
    return visits >= kMinVisits * nlist && list_bytes >= kMinCodeBytes;
}

/// Buffers of a thread, kept from slice to slice.
struct SliceMemory {
    std::vector<QuerySearch> searches;
    std::vector<int64_t> lists;
    std::vector<float> scores;
};

/// Queries [begin, end) of a call, searched by one thread.
class Slice {
 public:
    Slice(const SearchCall& call, size_t begin, size_t end, SliceMemory& memory)
            : call_(call), begin_(begin), n_(end - begin), memory_(memory) {
        stats_.nq = n_;
    }

    void search() {
        const SearchPlan& plan = call_.plan;
        if (plan.route != Route::DirectMap) {
            find_lists();
        }
        if (plan.route == Route::Scan && n_ > 1 &&
            sharing_pays(call_.state, n_ * plan.nprobe)) {
            search_list_by_list();
        } else {
            search_one_by_one();
        }
        if (plan.stats != nullptr) {
            std::lock_guard<std::mutex> lock(call_.stats_mutex);
            *plan.stats += stats_;
        }
    }

 private:
    /// The caller's lists, or the best ones.
    void find_lists() {
        const size_t nprobe = call_.plan.nprobe;
        if (call_.assign != nullptr) {
            lists_ = call_.assign + begin_ * nprobe;
            scores_ = call_.scores + begin_ * nprobe;
            return;
        }
        StageTimer timer(call_.plan.stats != nullptr, stats_.partition_time);
        memory_.lists.resize(n_ * nprobe);
        memory_.scores.resize(n_ * nprobe);
        find_filled_probes(
                call_.state,
                n_,
                call_.x + begin_ * call_.state.d(),
                nprobe,
                call_.plan.probes,
                memory_.lists.data(),
                memory_.scores.data());
        lists_ = memory_.lists.data();
        scores_ = memory_.scores.data();
    }

    /// Queries whose raw rows are read from a file at the same time, at most.
    size_t in_flight() const {
        const bool reads = call_.plan.rerank &&
                           call_.state.lists->on_demand_rows() != nullptr;
        return reads ? std::min(n_, kInFlight) : 1;
    }

    /// Finds queries while the rows of those before are being read.
    /// @param find  of a query, size_t(size_t i): rows that are being read
    /// @param each  of query i, QuerySearch&(size_t i)
    template <class Find, class Each>
    void find_and_finish(Find&& find, Each&& each) {
        const size_t most = in_flight();
        for (size_t begin = 0; begin < n_;) {
            size_t end = begin;
            size_t rows = 0;
            while (end < n_ && end - begin < most && rows < kRowsInFlight) {
                rows += find(end++);
            }
            for (; begin < end; begin++) {
                each(begin).finish(distances(begin), labels(begin));
            }
        }
    }

    void search_one_by_one() {
        const size_t slots = in_flight();
        QuerySearch* some = searches(slots);
        auto each = [&](size_t i) -> QuerySearch& { return some[i % slots]; };
        auto find = [&](size_t i) {
            start(each(i), i);
            return each(i).find();
        };
        find_and_finish(find, each);
    }

    void search_list_by_list() {
        QuerySearch* each = searches(n_);
        for (size_t i = 0; i < n_; i++) {
            start(each[i], i);
            each[i].build_table();
        }
        {
            StageTimer timer(call_.plan.stats != nullptr, stats_.scan_time);
            scan_list_by_list(each, n_);
        }
        find_and_finish(
                [&](size_t i) { return each[i].find_scanned(); },
                [&](size_t i) -> QuerySearch& { return each[i]; });
    }

    QuerySearch* searches(size_t n) {
        if (memory_.searches.size() < n) {
            memory_.searches.resize(n);
        }
        return memory_.searches.data();
    }
    void start(QuerySearch& search, size_t i) {
        const size_t at = (begin_ + i) * call_.state.d();
        search.begin(
                call_.state,
                call_.plan,
                call_.kernels,
                call_.x + at,
                call_.exact + at,
                stats_);
        if (lists_ != nullptr) {
            const size_t nprobe = call_.plan.nprobe;
            search.add_probes(
                    nprobe, lists_ + i * nprobe, scores_ + i * nprobe);
        }
    }
    float* distances(size_t i) const {
        return call_.distances + (begin_ + i) * call_.plan.k;
    }
    int64_t* labels(size_t i) const {
        return call_.labels + (begin_ + i) * call_.plan.k;
    }

    const SearchCall& call_;
    const size_t begin_;
    const size_t n_;
    SliceMemory& memory_;
    ScaNNSearchStats stats_;
    const int64_t* lists_ = nullptr; ///< nprobe of each; none by a direct map
    const float* scores_ = nullptr;
};

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
                    thread_local SliceMemory memory;
                    Slice(call, round + begin, round + end, memory).search();
                });
    }
}

} // namespace

float unscaled(float distance, float scale) {
    constexpr float kNone = std::numeric_limits<float>::max();
    return std::fabs(distance) < kNone
                   ? std::clamp(distance / scale, -kNone, kNone)
                   : distance;
}

void unscale(
        const PreparedQueries& queries,
        size_t n,
        size_t k,
        float* distances) {
    for (size_t i = 0; i < n * k && !queries.scales.empty(); i++) {
        distances[i] = unscaled(distances[i], queries.scale(i / k));
    }
}

void search_batches(
        const IndexState& state,
        const SearchPlan& plan,
        const PreparedQueries& queries,
        size_t n,
        const int64_t* assign,
        const float* scores,
        float* distances,
        int64_t* labels) {
    std::mutex stats_mutex;
    const SearchCall call{
            .state = state,
            .plan = plan,
            .kernels = active_kernels(),
            .x = queries.x,
            .exact = queries.exact,
            .assign = assign,
            .scores = scores,
            .distances = distances,
            .labels = labels,
            .stats_mutex = stats_mutex};
    search_all(call, n);
    unscale(queries, n, plan.k, distances);
}

} // namespace faiss_ext
