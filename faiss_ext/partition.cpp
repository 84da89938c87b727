#include <faiss_ext/partition.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/panels.h>
#include <faiss_ext/parallel.h>
#include <faiss_ext/query_rows.h>
#include <faiss_ext/row_products.h>

namespace faiss_ext {

namespace {

constexpr float kInfinity = HUGE_VALF;
/// rows per tile of assign()
constexpr size_t kTileRows = 128;
/// queries per tile of probes()
constexpr size_t kTileQueries = 8;
/// Scores this many standard deviations below the worst list found may be
/// better. Two scores are off, so this is 2.8 of their difference.
constexpr float kMargin = 4;
/// Lists that may be among the best, besides half as many again: rough scores
/// are good enough.
constexpr size_t kFewMore = 16;

void check_lambda(float lambda) {
    FAISS_THROW_IF_NOT_FMT(
            lambda >= 0 && std::isfinite(lambda),
            "lambda is %g, expected a finite value of at least 0",
            lambda);
}

/// The score in a key of top_scores().
float key_score(uint64_t key) {
    uint32_t bits = uint32_t(key >> 32);
    bits ^= bits >> 31 ? 0x80000000u : 0xffffffffu;
    float score;
    std::memcpy(&score, &bits, sizeof(score));
    return score;
}

/// What one query needs; kept by each thread, so that searches do not allocate.
struct ProbeScratch {
    ByteQueries query;
    AlignedBuffer<float> scores;
    float length; ///< of the query, for bonuses
    std::vector<uint64_t> keys;
    std::vector<uint64_t> below; ///< for select_keys()
    std::vector<uint64_t> close; ///< keys of lists that may be among the best
    std::vector<const void*> rows;
    std::vector<float> exact;
    std::vector<std::pair<float, int64_t>> ranked; ///< -rank, position
};

thread_local ProbeScratch scratch;

} // namespace

Partition::Partition(
        size_t nlist,
        size_t d,
        const float* centroids,
        faiss::MetricType metric,
        const float* list_bonus,
        bool borrow_centroids)
        : nlist_(nlist), d_(d), metric_(metric) {
    FAISS_THROW_IF_NOT_FMT(
            metric == faiss::METRIC_L2 || metric == faiss::METRIC_INNER_PRODUCT,
            "metric %d is not supported, only inner product and L2",
            int(metric));
    FAISS_THROW_IF_NOT_MSG(
            all_finite(nlist * d, centroids),
            "a centroid has a NaN or infinite value");
    nearest_ = NearestRows(nlist, d, centroids, borrow_centroids);
    const size_t padded = nearest_.bytes().padded();
    if (list_bonus != nullptr) {
        bonus_.resize(padded);
        std::copy(list_bonus, list_bonus + nlist, bonus_.mutable_data());
    }
}

size_t Partition::memory_usage() const {
    return nearest_.memory_usage() + bonus_.allocated_bytes();
}

size_t
Partition::estimate_memory(size_t nlist, size_t d, bool borrow_centroids) {
    size_t bonuses = round_up(nlist, kernels::kPanel);
    return NearestRows::estimate_memory(nlist, d, borrow_centroids) +
           bonuses * sizeof(float);
}

float Partition::similarity(const float* query, const float* row) const {
    return metric_ == faiss::METRIC_L2 ? -quick_distance(d_, query, row) / 2
                                       : quick_dot(d_, query, row);
}

float Partition::score(const float* query, int64_t list_no) const {
    return similarity(query, nearest_.row(list_no));
}

void Partition::assign(size_t n, const float* x, int64_t* lists) const {
    parallel_slices(n, kTileRows, [&](size_t begin, size_t end) {
        nearest_.find(end - begin, x + begin * d_, lists + begin);
    });
}

void Partition::assign_spilled(
        size_t n,
        const float* x,
        const int64_t* primary,
        float lambda,
        int64_t* spilled) const {
    check_lambda(lambda);
    parallel_slices(n, kTileRows, [&](size_t begin, size_t end) {
        nearest_.find_spilled(
                end - begin,
                x + begin * d_,
                primary + begin,
                lambda,
                spilled + begin);
    });
}

void Partition::assign_both(
        size_t n,
        const float* x,
        float lambda,
        int64_t* lists,
        int64_t* spilled) const {
    check_lambda(lambda);
    parallel_slices(n, kTileRows, [&](size_t begin, size_t end) {
        nearest_.find_both(
                end - begin,
                x + begin * d_,
                lambda,
                lists + begin,
                spilled + begin);
    });
}

void Partition::probes(
        size_t n,
        const float* x,
        size_t nprobe,
        ProbeScores kind,
        int64_t* lists,
        float* scores) const {
    FAISS_THROW_IF_NOT_FMT(
            nprobe <= nlist_,
            "nprobe is %zd, expected at most nlist = %zd",
            nprobe,
            nlist_);
    if (nprobe == 0) {
        return;
    }
    auto probe = [&](size_t i) {
        const float* query = x + i * d_;
        int64_t* to = lists + i * nprobe;
        float* to_scores = scores + i * nprobe;
        if (!all_finite(d_, query)) {
            std::fill_n(to, nprobe, -1);
            std::fill_n(to_scores, nprobe, -kInfinity);
            return;
        }
        size_t close = rank_lists(query, nprobe);
        bool rough = kind == ProbeScores::Rough &&
                     close <= nprobe + nprobe / 2 + kFewMore;
        rough ? rough_probes(query, nprobe, to, to_scores)
              : exact_probes(query, nprobe, close, to, to_scores);
    };
    if (n == 1) {
        probe(0);
        return;
    }
    for_tiles((n + kTileQueries - 1) / kTileQueries, [&](size_t tile) {
        size_t end = std::min(n, (tile + 1) * kTileQueries);
        for (size_t i = tile * kTileQueries; i < end; i++) {
            probe(i);
        }
    });
}

/** Fills scratch.keys with those of the lists that may be among the best
 * `nprobe`, these first, in any order, and scratch.length with what bonuses are
 * multiplied with.
 * @return number of keys, nprobe and more */
size_t Partition::rank_lists(const float* x, size_t nprobe) const {
    ProbeScratch& s = scratch;
    const kernels::Kernels& kernels = active_kernels();
    const BytePanels& bytes = nearest_.bytes();
    const bool l2 = metric_ == faiss::METRIC_L2;
    s.length = bonus_.empty() ? 0 : std::sqrt(quick_dot(d_, x, x));
    s.query.set(1, d_, x, l2 ? nearest_.center() : nullptr, nearest_.weights());
    s.scores.resize(bytes.padded());
    bytes.scores(
            kernels,
            s.query,
            {l2 ? nearest_.terms() : nullptr,
             bonus_.empty() ? nullptr : bonus_.data(),
             &s.length},
            s.scores.mutable_data());
    s.keys.resize(nlist_ + kernels::kScanSlack);
    size_t found = kernels.top_scores(
            {s.scores.data(), nlist_, nprobe, s.keys.data()});
    s.below.resize(found + kernels::kSelectSlack);
    float worst = key_score(kernels.select_keys(
            {s.keys.data(), found, nprobe, s.below.data()}));
    float bound = worst - kMargin * bytes.error(s.query, 0);
    bound = bound > -FLT_MAX ? bound : -FLT_MAX; // NaN too
    s.close.resize(nlist_ + kernels::kScanSlack);
    return kernels.reaching({s.scores.data(), nlist_, bound, s.close.data()});
}

void Partition::rough_probes(
        const float* x,
        size_t nprobe,
        int64_t* lists,
        float* scores) const {
    ProbeScratch& s = scratch;
    std::sort(s.keys.begin(), s.keys.begin() + nprobe, std::greater<>());
    // what all similarities of the query share
    const float shared = similarity(x, nearest_.center());
    for (size_t p = 0; p < nprobe; p++) {
        size_t list = uint32_t(~s.keys[p]);
        float bonus = bonus_.empty() ? 0 : s.length * bonus_[list];
        lists[p] = int64_t(list);
        scores[p] = key_score(s.keys[p]) - bonus + shared;
    }
}

void Partition::exact_probes(
        const float* x,
        size_t nprobe,
        size_t close,
        int64_t* lists,
        float* scores) const {
    ProbeScratch& s = scratch;
    s.rows.resize(close);
    s.exact.resize(close);
    s.ranked.resize(close);
    for (size_t i = 0; i < close; i++) {
        s.rows[i] = nearest_.row(uint32_t(~s.close[i]));
    }
    const kernels::Kernels& kernels = active_kernels();
    bool l2 = metric_ == faiss::METRIC_L2;
    (l2 ? kernels.float_rows_l2 : kernels.float_rows_dot)(
            {s.rows.data(), close, d_, x, s.exact.data()});
    for (size_t i = 0; i < close; i++) {
        uint32_t list = uint32_t(~s.close[i]);
        float& score = s.exact[i];
        score = l2 ? -score / 2 : score;
        score = score >= -kInfinity ? score : -kInfinity; // no NaN
        float bonus = bonus_.empty() ? 0 : s.length * bonus_[list];
        // equal ranks: the smaller list
        s.ranked[i] = {-(score + bonus), int64_t(list) << 32 | int64_t(i)};
    }
    auto ranked = s.ranked.begin();
    std::partial_sort(ranked, ranked + nprobe, s.ranked.end());
    for (size_t p = 0; p < nprobe; p++) {
        lists[p] = ranked[p].second >> 32;
        scores[p] = s.exact[uint32_t(ranked[p].second)];
    }
}

} // namespace faiss_ext
