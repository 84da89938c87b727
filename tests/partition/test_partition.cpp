/* The partition against brute force. */

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <stdexcept>
#include <vector>

#include <faiss/impl/FaissException.h>
#include <gtest/gtest.h>

#include <faiss_ext/memory/parallel.h>
#include <faiss_ext/partition/partition.h>

#include "fixtures/random_rows.h"
#include "fixtures/reference.h"
#include "fixtures/threads.h"

using namespace faiss_ext;

namespace {

const float kNaN = std::numeric_limits<float>::quiet_NaN();
const float kInfinity = std::numeric_limits<float>::infinity();

/// -||q - c||^2 / 2 or <q, c>
double
similarity(faiss::MetricType metric, size_t d, const float* q, const float* c) {
    return metric == faiss::METRIC_L2
                   ? -reference::squared_distance(d, q, c) / 2
                   : reference::dot(d, q, c);
}

const faiss::MetricType metrics[] = {
        faiss::METRIC_INNER_PRODUCT,
        faiss::METRIC_L2};

} // namespace

TEST(Partition, AssignIsNearest) {
    for (size_t nlist : {1, 7, 16, 300}) {
        for (size_t d : {1, 3, 32, 50}) {
            size_t n = 333;
            auto centroids = random_rows::normal(nlist * d, 10);
            auto x = random_rows::normal(n * d, 11);
            for (auto metric : metrics) {
                Partition partition(nlist, d, centroids.data(), metric);
                auto lists = same_for_any_threads([&] {
                    std::vector<int64_t> out(n);
                    partition.assign(n, x.data(), out.data());
                    return out;
                });
                auto expected = reference::exact_search(
                        faiss::METRIC_L2, d, centroids, x, 1);
                for (size_t i = 0; i < n; i++) {
                    ASSERT_GE(lists[i], 0);
                    ASSERT_LT(lists[i], int64_t(nlist));
                    double found = reference::squared_distance(
                            d, &x[i * d], &centroids[lists[i] * d]);
                    EXPECT_NEAR(found, expected.distances[i], 1e-4);
                }
            }
        }
    }
}

TEST(Partition, RowsThatAreNotFiniteHaveNoList) {
    auto centroids = random_rows::normal(100 * 8, 12);
    auto x = random_rows::normal(5 * 8, 13);
    x[0 * 8 + 3] = kNaN;
    x[2 * 8 + 7] = kInfinity;
    x[3 * 8 + 0] = -kInfinity;
    Partition partition(100, 8, centroids.data(), faiss::METRIC_L2);
    std::vector<int64_t> lists(5), spilled(5), probed(5 * 4);
    std::vector<float> scores(5 * 4);
    partition.assign(5, x.data(), lists.data());
    partition.assign_spilled(5, x.data(), lists.data(), 1, spilled.data());
    partition.probes(
            5, x.data(), 4, ProbeScores::Exact, probed.data(), scores.data());
    for (size_t i = 0; i < 5; i++) {
        bool finite = i == 1 || i == 4;
        EXPECT_EQ(lists[i] >= 0, finite);
        EXPECT_TRUE(finite || spilled[i] == -1);
        for (size_t p = 0; p < 4; p++) {
            EXPECT_EQ(probed[i * 4 + p] >= 0, finite);
        }
    }
    centroids[5] = kNaN;
    EXPECT_THROW(
            Partition(100, 8, centroids.data(), faiss::METRIC_L2),
            faiss::FaissException);
}

/// @param noise  of the rows around centroids: if small, few lists come into
///               question, and these are compared alone
void expect_spilled_by_formula(size_t nlist, size_t d, float noise) {
    size_t n = 400;
    auto centroids = random_rows::normal(nlist * d, 14);
    auto x = random_rows::normal(n * d, 15);
    for (size_t i = 0; i < n * d; i++) {
        x[i] = noise * x[i] + (1 - noise) * centroids[i % (nlist * d)];
    }
    std::copy_n(centroids.begin(), d, x.begin()); // residual 0
    Partition partition(nlist, d, centroids.data(), faiss::METRIC_L2);
    std::vector<int64_t> primary(n);
    partition.assign(n, x.data(), primary.data());
    for (float lambda : {0.f, 0.5f, 1.5f}) {
        auto spilled = same_for_any_threads([&] {
            std::vector<int64_t> out(n);
            partition.assign_spilled(
                    n, x.data(), primary.data(), lambda, out.data());
            return out;
        });
        EXPECT_EQ(spilled, same_for_any_threads([&] {
                      std::vector<int64_t> lists(n), out(n);
                      partition.assign_both(
                              n, x.data(), lambda, lists.data(), out.data());
                      EXPECT_EQ(lists, primary);
                      return out;
                  }));
        size_t copies = 0;
        for (size_t i = 0; i < n; i++) {
            auto cost = [&](int64_t list) {
                double distance = 0, product = 0, r2 = 0;
                for (size_t j = 0; j < d; j++) {
                    double e = double(x[i * d + j]) - centroids[list * d + j];
                    double r = double(x[i * d + j]) -
                               centroids[primary[i] * d + j];
                    distance += e * e;
                    product += e * r;
                    r2 += r * r;
                }
                return distance +
                       (r2 > 0 ? lambda * product * product / r2 : 0);
            };
            double best = cost(0);
            for (size_t l = 1; l < nlist; l++) {
                best = std::min(best, cost(int64_t(l)));
            }
            ASSERT_NE(spilled[i], primary[i]);
            int64_t chosen = spilled[i] >= 0 ? spilled[i] : primary[i];
            EXPECT_NEAR(cost(chosen), best, 1e-3);
            copies += spilled[i] >= 0 ? 1 : 0;
        }
        EXPECT_EQ(spilled[0], -1);
        EXPECT_EQ(copies > 0, lambda > 0);
    }
}

TEST(Partition, SpilledIsTheFormulaAmongManyLists) {
    expect_spilled_by_formula(290, 20, 1);
    expect_spilled_by_formula(1500, 20, 1);
}

TEST(Partition, SpilledIsTheFormulaWhereFewListsAreNear) {
    expect_spilled_by_formula(1500, 6, 0.7f);
    expect_spilled_by_formula(1500, 2, 1);
}

TEST(Partition, SpilledOfRowsBeyondTheRangeOfFloatsIsAList) {
    size_t n = 40, d = 4, nlist = 1100;
    auto centroids = random_rows::normal(nlist * d, 16);
    auto x = random_rows::normal(n * d, 17);
    for (float& value : x) {
        value *= 1e30f; // squares are infinite
    }
    Partition partition(nlist, d, centroids.data(), faiss::METRIC_L2);
    std::vector<int64_t> lists(n), spilled(n);
    partition.assign_both(n, x.data(), 1, lists.data(), spilled.data());
    for (size_t i = 0; i < n; i++) {
        EXPECT_TRUE(lists[i] >= 0 && lists[i] < int64_t(nlist));
        EXPECT_TRUE(spilled[i] >= -1 && spilled[i] < int64_t(nlist));
    }
}

TEST(Partition, ProbesAreTheBest) {
    for (auto metric : metrics) {
        for (size_t nlist : {5, 64, 100, 1000}) {
            for (size_t d : {2, 33, 64}) {
                size_t nq = 40;
                // off the origin: the 8-bit codes must not lose the rest
                auto centroids = random_rows::normal(nlist * d, 16);
                auto x = random_rows::normal(nq * d, 17);
                for (float& value : centroids) {
                    value += 3;
                }
                Partition partition(nlist, d, centroids.data(), metric);
                for (size_t nprobe : {size_t(1), size_t(8), nlist / 2, nlist}) {
                    nprobe = std::min(nprobe, nlist);
                    std::vector<float> scores(nq * nprobe);
                    auto lists = same_for_any_threads([&] {
                        std::vector<int64_t> out(nq * nprobe);
                        partition.probes(
                                nq,
                                x.data(),
                                nprobe,
                                ProbeScores::Exact,
                                out.data(),
                                scores.data());
                        return out;
                    });
                    auto expected = reference::exact_search(
                            metric, d, centroids, x, nprobe);
                    size_t found = 0;
                    for (size_t i = 0; i < nq; i++) {
                        std::set<int64_t> seen;
                        auto best = expected.labels.begin() + i * nprobe;
                        for (size_t p = 0; p < nprobe; p++) {
                            int64_t list = lists[i * nprobe + p];
                            ASSERT_GE(list, 0);
                            ASSERT_LT(list, int64_t(nlist));
                            EXPECT_TRUE(seen.insert(list).second);
                            float score = scores[i * nprobe + p];
                            EXPECT_NEAR(
                                    score,
                                    similarity(
                                            metric,
                                            d,
                                            &x[i * d],
                                            &centroids[list * d]),
                                    1e-5 * d * 9);
                            EXPECT_TRUE(
                                    p == 0 ||
                                    score <= scores[i * nprobe + p - 1]);
                            found += std::count(best, best + nprobe, list);
                        }
                    }
                    EXPECT_GE(double(found), 0.998 * nq * nprobe)
                            << "nlist " << nlist << ", d " << d << ", nprobe "
                            << nprobe;
                    if (nprobe == nlist) {
                        EXPECT_EQ(found, nq * nlist);
                    }
                }
            }
        }
    }
}

TEST(Partition, RoughProbesErrByTheirSteps) {
    size_t nq = 40, nlist = 500;
    for (auto metric : metrics) {
        for (size_t d : {3, 50, 128}) {
            auto centroids = random_rows::normal(nlist * d, 21);
            auto x = random_rows::normal(nq * d, 22);
            for (float& value : centroids) {
                value += 3;
            }
            for (size_t i = 0; i < nq; i++) {
                x[i * d] *= 10; // one dimension takes most of the range
            }
            const bool ip = metric == faiss::METRIC_INNER_PRODUCT;
            std::vector<float> gain(nlist, 1);
            for (size_t l = 0; l < nlist && ip; l++) {
                gain[l] = 1 + float(l % 7) * 0.1f;
            }
            Partition partition(
                    nlist,
                    d,
                    centroids.data(),
                    metric,
                    ip ? gain.data() : nullptr);
            for (size_t nprobe : {size_t(1), size_t(30), nlist}) {
                std::vector<int64_t> lists(nq * nprobe);
                std::vector<float> scores(nq * nprobe);
                partition.probes(
                        nq,
                        x.data(),
                        nprobe,
                        ProbeScores::Rough,
                        lists.data(),
                        scores.data());
                for (size_t q = 0; q < nq; q++) {
                    const float* query = &x[q * d];
                    // of a query with 63 steps, of rows with 127; the mean of
                    // the centroids is about 3, their values within 4.5 of it
                    float largest = 0;
                    for (size_t i = 0; i < d; i++) {
                        largest = std::max(largest, std::abs(query[i] - 3));
                    }
                    float error = largest * 4.5f * d * (.5f / 63 + .5f / 127);
                    auto exact_score = [&](size_t list) {
                        return similarity(
                                metric, d, query, &centroids[list * d]);
                    };
                    std::vector<double> ranks(nlist);
                    for (size_t l = 0; l < nlist; l++) {
                        ranks[l] = gain[l] * exact_score(l);
                    }
                    std::vector<double> sorted = ranks;
                    std::sort(sorted.rbegin(), sorted.rend());
                    const float largest_gain = ip ? 1.6f : 1;
                    std::set<int64_t> seen;
                    double last = HUGE_VAL;
                    for (size_t p = 0; p < nprobe; p++) {
                        int64_t list = lists[q * nprobe + p];
                        ASSERT_TRUE(seen.insert(list).second);
                        double score = scores[q * nprobe + p];
                        EXPECT_NEAR(score, exact_score(list), error);
                        EXPECT_GE(
                                ranks[list],
                                sorted[p] - 2 * largest_gain * error);
                        EXPECT_LE(gain[list] * score, last + 1e-3);
                        last = gain[list] * score;
                    }
                }
            }
        }
    }
}

TEST(Partition, ProbesAloneEqualProbesAmongOthers) {
    size_t nlist = 700, d = 48, nq = 37;
    auto centroids = random_rows::normal(nlist * d, 18);
    auto x = random_rows::normal(nq * d, 19);
    for (auto metric : metrics) {
        Partition partition(nlist, d, centroids.data(), metric);
        for (auto [kind, nprobe] :
             {std::pair(ProbeScores::Rough, size_t(20)),
              std::pair(ProbeScores::Exact, size_t(1)),
              std::pair(ProbeScores::Exact, size_t(20)),
              std::pair(ProbeScores::Exact, size_t(400))}) {
            std::vector<int64_t> lists(nq * nprobe), alone(nprobe);
            std::vector<float> scores(nq * nprobe), score(nprobe);
            partition.probes(
                    nq, x.data(), nprobe, kind, lists.data(), scores.data());
            for (size_t i = 0; i < nq; i++) {
                partition.probes(
                        1, &x[i * d], nprobe, kind, alone.data(), score.data());
                for (size_t p = 0; p < nprobe; p++) {
                    EXPECT_EQ(alone[p], lists[i * nprobe + p]);
                    EXPECT_EQ(score[p], scores[i * nprobe + p]);
                }
            }
        }
    }
}

TEST(Partition, EqualScoresGoToTheSmallerList) {
    std::vector<float> centroids(500 * 4, 1.f);
    std::vector<float> x = {1, 2, 3, 4, 0, 0, 0, 0, 3e38f, 3e38f, -3e38f, 1};
    for (auto metric : metrics) {
        Partition partition(500, 4, centroids.data(), metric);
        std::vector<int64_t> lists(3 * 10);
        std::vector<float> scores(3 * 10);
        for (auto kind : {ProbeScores::Rough, ProbeScores::Exact}) {
            partition.probes(
                    3, x.data(), 10, kind, lists.data(), scores.data());
            for (size_t p = 0; p < 30; p++) {
                EXPECT_EQ(lists[p], int64_t(p % 10));
            }
            EXPECT_THROW(
                    partition.probes(
                            1,
                            x.data(),
                            501,
                            kind,
                            lists.data(),
                            scores.data()),
                    faiss::FaissException);
        }
    }
}

TEST(ForTiles, ThrowsTheExceptionOfATile) {
    EXPECT_THROW(
            for_tiles(
                    100,
                    [](size_t tile) {
                        if (tile == 57) {
                            throw std::runtime_error("tile 57");
                        }
                    }),
            std::runtime_error);
    for_tiles(0, [](size_t) { FAIL(); });
}
