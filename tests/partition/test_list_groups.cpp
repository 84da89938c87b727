/* Groups of lists beside the scores of all lists. */

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include <faiss/impl/FaissException.h>
#include <gtest/gtest.h>

#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/partition/list_groups.h>
#include <faiss_ext/partition/nearest.h>
#include <faiss_ext/partition/partition.h>

#include "fixtures/random_rows.h"
#include "fixtures/threads.h"

using namespace faiss_ext;

namespace {

constexpr size_t kD = 11;

/// Lists in clouds, as those of data are.
struct Lists {
    size_t n;
    std::vector<float> centroids;
    std::vector<float> gains; ///< empty for L2
    NearestRows nearest;

    Lists(size_t n, bool with_gains)
            : n(n),
              centroids(random_rows::clustered(n, kD, {20, 1}, 2)),
              gains(with_gains ? random_rows::uniform(n, 3)
                               : std::vector<float>()),
              nearest(n, kD, centroids.data(), true) {}

    const float* gains_or_null() const {
        return gains.empty() ? nullptr : gains.data();
    }

    /// Scores of all lists by their panels.
    std::vector<float> all_scores(const ByteQueries& query, float offset)
            const {
        const BytePanels& bytes = nearest.bytes();
        std::vector<float> scores(bytes.padded());
        std::vector<float> padded = gains;
        padded.resize(bytes.padded());
        AlignedBuffer<float> scales;
        BytePanels::Coefficients coefficients{.terms = nearest.terms()};
        if (!gains.empty()) {
            scales = bytes.scales_for(gains.data());
            coefficients = {
                    .gains = padded.data(),
                    .scales = scales.data(),
                    .offsets = &offset};
        }
        bytes.scores(active_kernels(), query, coefficients, scores.data());
        return scores;
    }
};

ByteQueries byte_query(const Lists& lists, const float* x) {
    ByteQueries query;
    query.set(lists.nearest.bytes(), 1, x, nullptr);
    return query;
}

/// Scores of the best groups, by list; each list at most once.
std::map<uint32_t, float>
scored(const ListGroups& groups, const ByteQueries& query, size_t wanted) {
    ListGroups::Scratch scratch;
    const size_t count = groups.scores(query, .5f, wanted, scratch);
    EXPECT_EQ(scratch.lists.size(), count);
    std::map<uint32_t, float> scores;
    for (size_t i = 0; i < count; i++) {
        EXPECT_TRUE(scores.emplace(scratch.lists[i], scratch.scores[i]).second);
    }
    return scores;
}

TEST(ListGroups, ScoresAreThoseOfTheLists) {
    for (bool with_gains : {false, true}) {
        for (size_t n : {1, 16, 40, 1000}) {
            Lists lists(n, with_gains);
            const std::vector<uint32_t> group_of =
                    group_lists(n, kD, lists.centroids.data(), lists.gains, 1);
            ListGroups groups(lists.nearest, lists.gains_or_null(), group_of);
            for (int seed = 0; seed < 5; seed++) {
                std::vector<float> x = random_rows::normal(kD, 10 + seed);
                ByteQueries query = byte_query(lists, x.data());
                const std::vector<float> all = lists.all_scores(query, .5f);
                for (size_t wanted : {size_t(1), n / 10 + 1, n / 2 + 1, n}) {
                    auto scores = scored(groups, query, wanted);
                    EXPECT_GE(scores.size(), wanted);
                    for (auto [list, score] : scores) {
                        ASSERT_EQ(score, all[list]) << n << ", " << list;
                    }
                }
                EXPECT_EQ(scored(groups, query, n).size(), n);
            }
        }
    }
}

TEST(ListGroups, AreOfNeighbours) {
    const size_t n = 2000;
    Lists lists(n, false);
    auto group_of = same_for_any_threads(
            [&] { return group_lists(n, kD, lists.centroids.data(), {}, 1); });
    EXPECT_EQ(std::set(group_of.begin(), group_of.end()).size(), n / 32);
    // nearer to their own mean than to that of all
    std::map<uint32_t, std::vector<double>> sums;
    std::map<uint32_t, size_t> counts;
    std::vector<double> all(kD);
    for (size_t l = 0; l < n; l++) {
        auto& sum = sums[group_of[l]];
        sum.resize(kD);
        counts[group_of[l]]++;
        for (size_t i = 0; i < kD; i++) {
            sum[i] += lists.centroids[l * kD + i];
            all[i] += lists.centroids[l * kD + i] / double(n);
        }
    }
    double within = 0, about = 0;
    for (size_t l = 0; l < n; l++) {
        for (size_t i = 0; i < kD; i++) {
            const uint32_t group = group_of[l];
            double x = lists.centroids[l * kD + i];
            double to_mean = x - sums[group][i] / double(counts[group]);
            within += to_mean * to_mean;
            about += (x - all[i]) * (x - all[i]);
        }
    }
    EXPECT_LT(within, .3 * about);
}

TEST(ListGroups, OfAnySizes) {
    const size_t n = 300;
    Lists lists(n, true);
    std::vector<uint32_t> group_of(n);
    for (size_t l = 0; l < n; l++) {
        // one of 200, some of one list, some of none
        group_of[l] = l < 200 ? 3 : uint32_t(2 * l);
    }
    ListGroups groups(lists.nearest, lists.gains.data(), group_of);
    std::vector<float> x = random_rows::normal(kD, 4);
    ByteQueries query = byte_query(lists, x.data());
    const std::vector<float> all = lists.all_scores(query, .5f);
    for (size_t wanted : {size_t(1), size_t(150), n}) {
        for (auto [list, score] : scored(groups, query, wanted)) {
            ASSERT_EQ(score, all[list]);
        }
    }
    EXPECT_EQ(scored(groups, query, n).size(), n);
}

TEST(ListGroups, MemoryIsAsEstimated) {
    const size_t n = 3000;
    Lists lists(n, true);
    ListGroups groups(
            lists.nearest,
            lists.gains.data(),
            group_lists(n, kD, lists.centroids.data(), lists.gains, 1));
    const double estimate = double(ListGroups::estimate_memory(n, kD));
    EXPECT_NEAR(double(groups.memory_usage()), estimate, .1 * estimate);
}

/// The share of the nprobe best lists that probes with groups find.
double
share_found(faiss::MetricType metric, size_t nlist, size_t nprobe, size_t nq) {
    const size_t d = 24;
    std::vector<float> rows =
            random_rows::clustered(nlist + nq, d, {nlist / 50, 1}, 2);
    const float* x = rows.data() + nlist * d;
    Partition all(nlist, d, rows.data(), metric);
    Partition grouped(nlist, d, rows.data(), metric);
    grouped.use_groups(group_lists(nlist, d, rows.data(), {}, 1));
    std::vector<int64_t> best(nq * nprobe);
    std::vector<float> best_scores(nq * nprobe);
    all.probes(
            nq, x, nprobe, ProbeScores::Exact, best.data(), best_scores.data());
    size_t found = 0;
    for (auto kind : {ProbeScores::Exact, ProbeScores::Rough}) {
        auto probed = same_for_any_threads([&] {
            std::vector<int64_t> lists(nq * nprobe);
            std::vector<float> scores(nq * nprobe);
            grouped.probes(nq, x, nprobe, kind, lists.data(), scores.data());
            for (size_t i = 0; i < lists.size(); i++) {
                EXPECT_NEAR(
                        scores[i],
                        grouped.score(x + i / nprobe * d, lists[i]),
                        kind == ProbeScores::Exact ? 1e-4 : .5);
            }
            return lists;
        });
        for (size_t q = 0; q < nq; q++) {
            std::set<int64_t> lists(
                    &probed[q * nprobe], &probed[q * nprobe] + nprobe);
            EXPECT_EQ(lists.size(), nprobe) << "each list once";
            for (size_t p = 0; p < nprobe; p++) {
                found += lists.count(best[q * nprobe + p]);
            }
        }
    }
    return double(found) / double(2 * nq * nprobe);
}

TEST(ListGroups, ProbesFindTheBestLists) {
    for (auto metric : {faiss::METRIC_L2, faiss::METRIC_INNER_PRODUCT}) {
        EXPECT_GE(share_found(metric, 8192, 32, 100), .97);
        // groups have nothing to offer
        EXPECT_GE(share_found(metric, 1000, 200, 20), .97);
    }
}

} // namespace
