#include <faiss_ext/partition/partition.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/partition/panels.h>
#include <faiss_ext/memory/parallel.h>
#include <faiss_ext/memory/query_rows.h>
#include <faiss_ext/memory/row_products.h>
#include <faiss_ext/memory/row_sample.h>

namespace faiss_ext {

namespace {

constexpr float kInfinity = HUGE_VALF;
/// rows that a thread assigns to lists at a time
constexpr size_t kSliceRows = 128;
/// queries whose probes a thread finds at a time
constexpr size_t kSliceQueries = 8;
/// A list whose score is this many standard deviations below that of the worst
/// list found may still be better. Both scores have an error, so this is 2.8
/// standard deviations of their difference.
constexpr float kListMargin = 4;
/// Rough scores are good enough if no more than 1.5 nprobe lists, and this many
/// more, may be among the best.
constexpr size_t kFewMore = 16;

/// Any will do: groups serve one call.
constexpr uint64_t kGroupSeed = 1;

/// Largest gain of a list, whose centroid may have a length near 0.
constexpr double kLargestGain = 8;

/// A centroid of 1e-40 has a direction, but its reciprocal is no float.
constexpr double kMaxGain = FLT_MAX;

void check_lambda(float lambda) {
    FAISS_THROW_IF_NOT_FMT(
            lambda >= 0 && std::isfinite(lambda),
            "lambda is %g (allowed: finite values of at least 0)",
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

/// Buffers of a thread, kept so that searches do not allocate.
struct ProbeScratch {
    ByteQueries query;
    AlignedBuffer<float> all_scores;
    ListGroups::Scratch groups;
    const float* scores; ///< those of all lists, or of the best groups'
    bool grouped;        ///< keys hold places in groups.lists, not lists
    float offset;        ///< part that all similarities of the query share
    std::vector<uint64_t> keys;
    std::vector<uint64_t> below; ///< for select_keys()
    std::vector<uint64_t> close; ///< keys of lists that may be among the best
    std::vector<const void*> rows;
    std::vector<float> exact;
    std::vector<std::pair<float, int64_t>> ranked; ///< -rank, position
};

thread_local ProbeScratch scratch;

} // namespace

std::vector<float> list_gains(
        size_t nlist,
        size_t d,
        const float* centroids,
        const std::vector<float>& spread,
        bool by_direction) {
    std::vector<float> gains(nlist, 1);
    for (size_t l = 0; l < nlist; l++) {
        const double square = precise_square(d, centroids + l * d);
        if (square > 0) {
            const double gain =
                    by_direction ? 1 / std::sqrt(square)
                                 : std::min(
                                           std::sqrt(1 + spread[l] / square),
                                           kLargestGain);
            gains[l] = float(std::min(gain, kMaxGain));
        }
    }
    return gains;
}

Partition::Partition(
        size_t nlist,
        size_t d,
        const float* centroids,
        faiss::MetricType metric,
        const float* list_gain,
        bool borrow_centroids,
        bool by_direction)
        : nlist_(nlist), d_(d), metric_(metric) {
    FAISS_THROW_IF_NOT_FMT(
            metric == faiss::METRIC_L2 || metric == faiss::METRIC_INNER_PRODUCT,
            "metric %d (allowed: METRIC_INNER_PRODUCT, METRIC_L2)",
            int(metric));
    FAISS_THROW_IF_NOT_MSG(
            all_finite(nlist * d, centroids),
            "a centroid has a NaN or infinite value");
    nearest_ = NearestRows(nlist, d, centroids, borrow_centroids);
    if (by_direction) {
        directions_ = NearestRows(nlist, d, centroids, borrow_centroids, true);
    }
    if (metric == faiss::METRIC_INNER_PRODUCT) {
        gain_.resize(nearest_.bytes().padded());
        for (size_t l = 0; l < nlist; l++) {
            gain_.mutable_data()[l] = list_gain == nullptr ? 1 : list_gain[l];
        }
        scales_ = nearest_.bytes().scales_for(gain_.data());
    }
}

void Partition::use_groups(const std::vector<uint32_t>& group_of) {
    FAISS_THROW_IF_NOT(group_of.size() == nlist_);
    const bool l2 = metric_ == faiss::METRIC_L2;
    groups_ = ListGroups(nearest_, l2 ? nullptr : gain_.data(), group_of);
}

size_t Partition::memory_usage() const {
    return nearest_.memory_usage() + directions_.memory_usage() +
           gain_.allocated_bytes() + scales_.allocated_bytes() +
           groups_.memory_usage();
}

size_t Partition::estimate_memory(
        size_t nlist,
        size_t d,
        bool borrow_centroids,
        bool by_direction,
        bool grouped) {
    size_t padded = round_up(nlist, kernels::kPanel); // gains and scales
    size_t rows = NearestRows::estimate_memory(nlist, d, borrow_centroids);
    return (by_direction ? 2 * rows + nlist * sizeof(double) : rows) +
           2 * padded * sizeof(float) +
           (grouped ? ListGroups::estimate_memory(nlist, d) : 0);
}

float Partition::similarity(const float* query, const float* row) const {
    return metric_ == faiss::METRIC_L2 ? -quick_distance(d_, query, row) / 2
                                       : quick_dot(d_, query, row);
}

float Partition::score(const float* query, int64_t list_no) const {
    return similarity(query, nearest_.row(list_no));
}

GroupedNearest Partition::grouped() const {
    const bool unit = directions_.size() > 0;
    return GroupedNearest(nlist_, d_, nearest_.row(0), unit, kGroupSeed);
}

void Partition::assign(size_t n, const float* x, int64_t* lists) const {
    if (GroupedNearest::pays(n, nlist_)) {
        grouped().find(n, x, lists);
        return;
    }
    parallel_slices(n, kSliceRows, [&](size_t begin, size_t end) {
        const size_t size = end - begin;
        const float* rows = x + begin * d_;
        if (directions_.size() == 0) {
            nearest_.find(size, rows, lists + begin);
            return;
        }
        std::vector<float> units(rows, rows + size * d_);
        scale_to_unit(size, d_, units.data());
        directions_.find(size, units.data(), lists + begin);
    });
}

void Partition::assign_spilled(
        size_t n,
        const float* x,
        const int64_t* primary,
        float lambda,
        int64_t* spilled) const {
    check_lambda(lambda);
    if (GroupedNearest::pays(n, nlist_)) {
        GroupedNearest(nlist_, d_, nearest_.row(0), false, kGroupSeed)
                .find_spilled(n, x, primary, lambda, spilled);
        return;
    }
    parallel_slices(n, kSliceRows, [&](size_t begin, size_t end) {
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
    if (directions_.size() > 0) {
        assign(n, x, lists);
        assign_spilled(n, x, lists, lambda, spilled);
        return;
    }
    if (GroupedNearest::pays(n, nlist_)) {
        grouped().find_both(n, x, lambda, lists, spilled);
        return;
    }
    parallel_slices(n, kSliceRows, [&](size_t begin, size_t end) {
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
            "nprobe is %zd (allowed: 0..nlist = %zd)",
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
        size_t close = rank_lists(query, nprobe, kind);
        bool rough = kind == ProbeScores::Rough &&
                     close <= nprobe + nprobe / 2 + kFewMore;
        rough ? rough_probes(nprobe, to, to_scores)
              : exact_probes(query, nprobe, close, to, to_scores);
    };
    if (n == 1) {
        probe(0);
        return;
    }
    for_tiles((n + kSliceQueries - 1) / kSliceQueries, [&](size_t tile) {
        size_t end = std::min(n, (tile + 1) * kSliceQueries);
        for (size_t i = tile * kSliceQueries; i < end; i++) {
            probe(i);
        }
    });
}

/** Scores all lists, or those of the best groups: scratch.scores.
 * @return how many */
size_t Partition::score_lists(const float* x, size_t nprobe) const {
    ProbeScratch& s = scratch;
    const BytePanels& bytes = nearest_.bytes();
    const bool l2 = metric_ == faiss::METRIC_L2;
    const float* center = nearest_.center();
    s.query.set(bytes, 1, x, l2 ? center : nullptr);
    s.offset =
            l2 ? -quick_distance(d_, x, center) / 2 : quick_dot(d_, x, center);
    s.grouped = !groups_.empty() && groups_.scored_lists(nprobe) < nlist_;
    if (s.grouped) {
        const size_t n = groups_.scores(
                s.query, s.offset, groups_.scored_lists(nprobe), s.groups);
        s.scores = s.groups.scores.data();
        return n;
    }
    BytePanels::Coefficients coefficients;
    if (l2) {
        coefficients.terms = nearest_.terms();
    } else {
        coefficients.gains = gain_.data();
        coefficients.scales = scales_.data();
        coefficients.offsets = &s.offset;
    }
    s.all_scores.resize(bytes.padded());
    bytes.scores(
            active_kernels(),
            s.query,
            coefficients,
            s.all_scores.mutable_data());
    s.scores = s.all_scores.data();
    return nlist_;
}

/** Fills scratch.keys with those of the best `nprobe` lists by 8 bits, in any
 * order, and scratch.close with those that may be among the best. For rough
 * scores scratch.close stays as it was if these are clearly few.
 * @return number of the latter, at least nprobe */
size_t Partition::rank_lists(const float* x, size_t nprobe, ProbeScores kind)
        const {
    ProbeScratch& s = scratch;
    const kernels::Kernels& kernels = active_kernels();
    const BytePanels& bytes = nearest_.bytes();
    const bool l2 = metric_ == faiss::METRIC_L2;
    const size_t n = score_lists(x, nprobe);
    s.keys.resize(n + kernels::kScanSlack);
    size_t found = kernels.top_scores({s.scores, n, nprobe, s.keys.data()});
    s.below.resize(found + kernels::kSelectSlack);
    float worst = key_score(kernels.select_keys(
            {s.keys.data(), found, nprobe, s.below.data()}));
    if (s.grouped) {
        number_keys(s.keys.data(), nprobe, s.groups.lists.data());
    }
    float length = 0; // largest of the lists found, taken for the others too
    uint64_t best = 0;
    for (size_t p = 0; p < nprobe; p++) {
        uint32_t list = uint32_t(~s.keys[p]);
        float gain = l2 ? 1 : gain_[list];
        length = std::max(length, gain * bytes.length(list));
        best = std::max(best, s.keys[p]);
    }
    const float margin = kListMargin * bytes.error(s.query, 0, length);
    if (kind == ProbeScores::Rough && 2 * margin < key_score(best) - worst) {
        return nprobe; // the margin is small: few others can be among them
    }
    float bound = worst - margin;
    bound = bound > -FLT_MAX ? bound : -FLT_MAX; // NaN too
    s.close.resize(n + kernels::kScanSlack);
    const size_t close =
            kernels.select_at_least({s.scores, n, bound, s.close.data()});
    if (s.grouped) {
        number_keys(s.close.data(), close, s.groups.lists.data());
    }
    return close;
}

void Partition::rough_probes(size_t nprobe, int64_t* lists, float* scores)
        const {
    ProbeScratch& s = scratch;
    std::sort(s.keys.begin(), s.keys.begin() + nprobe, std::greater<>());
    const bool l2 = metric_ == faiss::METRIC_L2;
    for (size_t p = 0; p < nprobe; p++) {
        size_t list = uint32_t(~s.keys[p]);
        float rank = key_score(s.keys[p]);
        lists[p] = int64_t(list);
        scores[p] = l2 ? rank + s.offset : rank / gain_[list];
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
        float rank = l2 ? score : gain_[list] * score;
        rank = rank >= -kInfinity ? rank : -kInfinity; // no NaN
        // equal ranks: the smaller list
        s.ranked[i] = {-rank, int64_t(list) << 32 | int64_t(i)};
    }
    auto ranked = s.ranked.begin();
    std::partial_sort(ranked, ranked + nprobe, s.ranked.end());
    for (size_t p = 0; p < nprobe; p++) {
        lists[p] = ranked[p].second >> 32;
        scores[p] = s.exact[uint32_t(ranked[p].second)];
    }
}

} // namespace faiss_ext
