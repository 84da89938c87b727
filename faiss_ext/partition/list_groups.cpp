#include <faiss_ext/partition/list_groups.h>

#include <algorithm>
#include <cfloat>
#include <functional>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/kernels/kernels.h>
#include <faiss_ext/memory/row_products.h>
#include <faiss_ext/partition/kmeans.h>
#include <faiss_ext/partition/nearest.h>
#include <faiss_ext/partition/panels.h>
#include <faiss_ext/partition/partition.h>

namespace faiss_ext {

using kernels::kPanel;

namespace {

/// Of the lists, at least this part is scored: 1 in so many.
constexpr size_t kScoredShare = 8;
/// and so many for each list that is wanted
constexpr size_t kScoredPerProbe = 16;

/// Rows of groups, one after the other, each begins a panel.
struct Order {
    std::vector<uint32_t> begin, size;
    std::vector<uint32_t> list_at; ///< BytePanels::kNoRow for padding

    Order(size_t groups, const std::vector<uint32_t>& group_of)
            : begin(groups), size(groups) {
        for (uint32_t group : group_of) {
            size[group]++;
        }
        size_t rows = 0;
        for (size_t g = 0; g < groups; g++) {
            begin[g] = uint32_t(rows);
            rows += round_up(size[g], kPanel);
        }
        list_at.assign(rows, BytePanels::kNoRow);
        std::vector<uint32_t> next = begin;
        for (size_t l = 0; l < group_of.size(); l++) {
            list_at[next[group_of[l]]++] = uint32_t(l);
        }
    }
};

} // namespace

std::vector<uint32_t> group_lists(
        size_t nlist,
        size_t d,
        const float* centroids,
        const std::vector<float>& gains,
        uint64_t seed) {
    std::vector<float> points(centroids, centroids + nlist * d);
    for (size_t l = 0; l < gains.size(); l++) {
        for (size_t i = 0; i < d; i++) {
            points[l * d + i] =
                    std::clamp(gains[l] * points[l * d + i], -FLT_MAX, FLT_MAX);
        }
    }
    KMeansParameters parameters;
    parameters.k = std::max<size_t>(1, nlist / kGroupLists);
    parameters.max_points_per_centroid = nlist;
    parameters.seed = seed;
    const std::vector<float> means =
            kmeans(nlist, d, points.data(), parameters);
    std::vector<int64_t> nearest(nlist);
    Partition(parameters.k, d, means.data(), faiss::METRIC_L2, nullptr, true)
            .assign(nlist, points.data(), nearest.data());
    return {nearest.begin(), nearest.end()};
}

void number_keys(uint64_t* keys, size_t count, const uint32_t* numbers) {
    for (size_t i = 0; i < count; i++) {
        keys[i] = keys[i] >> 32 << 32 | uint32_t(~numbers[uint32_t(~keys[i])]);
    }
}

void ListGroups::Scored::scores(
        const ByteQueries& query,
        float offset,
        size_t begin,
        size_t count,
        float* out) const {
    BytePanels::Coefficients coefficients;
    if (gains.empty()) {
        coefficients.terms = terms.data();
    } else {
        coefficients.gains = gains.data();
        coefficients.scales = scales.data();
        coefficients.offsets = &offset;
    }
    rows.scores(active_kernels(), query, coefficients, out, begin, count);
}

ListGroups::ListGroups(
        const NearestRows& centroids,
        const float* gains,
        const std::vector<uint32_t>& group_of)
        : nlist_(group_of.size()) {
    FAISS_THROW_IF_NOT(nlist_ > 0 && nlist_ == centroids.size());
    const size_t groups =
            size_t(*std::max_element(group_of.begin(), group_of.end())) + 1;
    Order order(groups, group_of);
    const BytePanels& bytes = centroids.bytes();
    const size_t d = bytes.dimensions();

    const bool l2 = gains == nullptr;

    lists_.rows = bytes.reordered(order.list_at);
    (l2 ? lists_.terms : lists_.gains).resize(order.list_at.size());
    for (size_t i = 0; i < order.list_at.size(); i++) {
        const uint32_t list = order.list_at[i];
        if (list == BytePanels::kNoRow) {
            order.list_at[i] = 0;
            continue;
        }
        if (l2) {
            lists_.terms.mutable_data()[i] = centroids.terms()[list];
        } else {
            lists_.gains.mutable_data()[i] = gains[list];
        }
    }

    // means of gain * (centroid - center)
    std::vector<double> sums(groups * d);
    std::vector<double> gain_sums(groups);
    std::vector<float> row(d);
    for (size_t l = 0; l < nlist_; l++) {
        const double gain = l2 ? 1 : gains[l];
        centroids.copy_row(l, row.data());
        double* sum = &sums[group_of[l] * d];
        for (size_t i = 0; i < d; i++) {
            sum[i] += gain * (double(row[i]) - centroids.center()[i]);
        }
        gain_sums[group_of[l]] += gain;
    }
    std::vector<float> means(groups * d);
    (l2 ? groups_.terms : groups_.gains).resize(round_up(groups, kPanel));
    for (size_t g = 0; g < groups; g++) {
        const double share = order.size[g] > 0 ? 1. / order.size[g] : 0;
        for (size_t i = 0; i < d; i++) {
            means[g * d + i] = float(std::clamp<double>(
                    share * sums[g * d + i], -FLT_MAX, FLT_MAX));
        }
        if (l2) {
            groups_.terms.mutable_data()[g] = float(std::max(
                    -precise_square(d, &means[g * d]) / 2, -double(FLT_MAX)));
        } else {
            groups_.gains.mutable_data()[g] = float(share * gain_sums[g]);
        }
    }
    groups_.rows = BytePanels(groups, d, means.data(), bytes.weights());
    if (!l2) {
        lists_.scales = lists_.rows.scales_for(lists_.gains.data());
        const std::vector<float> ones(groups, 1); // means have their gains
        groups_.scales = groups_.rows.scales_for(ones.data());
    }
    list_at_ = std::move(order.list_at);
    begin_ = std::move(order.begin);
    size_ = std::move(order.size);
}

size_t ListGroups::scored_lists(size_t nprobe) const {
    return std::max(nlist_ / kScoredShare, kScoredPerProbe * nprobe);
}

/// The keys of enough groups, best first, begin `keys`.
/// @return how many groups these are
size_t ListGroups::best_groups(
        const float* scores,
        size_t wanted,
        std::vector<uint64_t>& keys) const {
    const size_t groups = begin_.size();
    keys.resize(groups + kernels::kScanSlack);
    // half more than if all were equally large
    size_t taken = std::min(groups, wanted * groups * 3 / (2 * nlist_) + 1);
    while (true) {
        const size_t found = active_kernels().top_scores(
                {scores, groups, taken, keys.data()});
        std::sort(keys.begin(), keys.begin() + found, std::greater<>());
        size_t lists = 0;
        for (size_t i = 0; i < found; i++) {
            lists += size_[uint32_t(~keys[i])];
            if (lists >= wanted) {
                return i + 1;
            }
        }
        if (found == groups) {
            return groups;
        }
        taken = std::min(groups, 2 * found);
    }
}

size_t ListGroups::scores(
        const ByteQueries& query,
        float offset,
        size_t wanted,
        Scratch& s) const {
    s.group_scores.resize(groups_.rows.padded());
    groups_.scores(
            query, offset, 0, begin_.size(), s.group_scores.mutable_data());
    const size_t taken =
            best_groups(s.group_scores.data(), wanted, s.group_keys);
    size_t count = 0;
    s.lists.clear();
    for (size_t i = 0; i < taken; i++) {
        const uint32_t group = uint32_t(~s.group_keys[i]);
        const uint32_t size = size_[group];
        const uint32_t* lists = &list_at_[begin_[group]];
        s.lists.insert(s.lists.end(), lists, lists + size);
        // the next group writes over the scores of the padding
        s.scores.resize(count + round_up(size, kPanel));
        lists_.scores(
                query,
                offset,
                begin_[group],
                size,
                s.scores.mutable_data() + count);
        count += size;
    }
    return count;
}

void ListGroups::best_group(
        const ByteQueries& queries,
        AlignedBuffer<float>& scores,
        int64_t* groups) const {
    const size_t padded = groups_.rows.padded();
    scores.resize(queries.size() * padded);
    groups_.scores(queries, 0, 0, size(), scores.mutable_data());
    for (size_t q = 0; q < queries.size(); q++) {
        const float* first = scores.data() + q * padded;
        groups[q] = std::max_element(first, first + size()) - first;
    }
}

void ListGroups::score_tile(const ByteQueries& queries, size_t wanted, Tile& t)
        const {
    const size_t groups = begin_.size(), padded = groups_.rows.padded();
    t.queries = queries.size();
    t.group_scores.resize(t.queries * padded);
    groups_.scores(queries, 0, 0, groups, t.group_scores.mutable_data());
    t.groups.resize(std::max(t.groups.size(), t.queries));
    constexpr size_t kNone = ~size_t(0);
    t.begin.assign(groups, kNone);
    t.all.clear();
    size_t floats = 0;
    for (size_t q = 0; q < t.queries; q++) {
        const size_t taken =
                best_groups(t.group_scores.data() + q * padded, wanted, t.keys);
        t.groups[q].resize(taken);
        for (size_t i = 0; i < taken; i++) {
            const uint32_t group = uint32_t(~t.keys[i]);
            t.groups[q][i] = group;
            if (t.begin[group] == kNone) {
                t.begin[group] = floats;
                floats += t.queries * round_up(size_[group], kPanel);
                t.all.push_back(group);
            }
        }
    }
    t.block.resize(floats);
    for (uint32_t group : t.all) {
        lists_.scores(
                queries,
                0,
                begin_[group],
                size_[group],
                t.block.mutable_data() + t.begin[group]);
    }
}

size_t ListGroups::scores_of(
        size_t query,
        const Tile& t,
        AlignedBuffer<float>& scores,
        std::vector<uint32_t>& lists) const {
    size_t count = 0;
    for (uint32_t group : t.groups[query]) {
        count += size_[group];
    }
    scores.resize(count);
    lists.resize(count);
    count = 0;
    for (uint32_t group : t.groups[query]) {
        const size_t size = size_[group];
        const float* from = t.block.data() + t.begin[group] +
                            query * round_up(size, kPanel);
        std::copy_n(from, size, scores.mutable_data() + count);
        std::copy_n(&list_at_[begin_[group]], size, &lists[count]);
        count += size;
    }
    return count;
}

void ListGroups::products(
        const ByteQueries& query,
        const std::vector<uint32_t>& groups,
        AlignedBuffer<float>& out) const {
    size_t count = 0;
    for (uint32_t group : groups) {
        const uint32_t size = size_[group];
        out.resize(count + round_up(size, kPanel));
        lists_.rows.scores(
                active_kernels(),
                query,
                {},
                out.mutable_data() + count,
                begin_[group],
                size);
        count += size;
    }
}

size_t ListGroups::memory_usage() const {
    size_t total =
            (list_at_.size() + begin_.size() + size_.size()) * sizeof(uint32_t);
    for (const Scored* scored : {&groups_, &lists_}) {
        total += scored->rows.memory_usage() + scored->terms.allocated_bytes() +
                 scored->gains.allocated_bytes() +
                 scored->scales.allocated_bytes();
    }
    return total;
}

size_t ListGroups::estimate_memory(size_t nlist, size_t d) {
    const size_t groups = std::max<size_t>(1, nlist / kGroupLists);
    // half a panel of padding a group
    const size_t rows = nlist + groups * kPanel / 2;
    return BytePanels::estimate_memory(rows, d) +
           BytePanels::estimate_memory(groups, d) +
           (rows + groups) * 3 * sizeof(float);
}

} // namespace faiss_ext
