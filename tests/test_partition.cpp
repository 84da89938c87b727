/* k-means, partition and rotation against brute force. */

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <stdexcept>
#include <vector>

#include <faiss/Clustering.h>
#include <faiss/impl/FaissException.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <faiss_ext/kmeans.h>
#include <faiss_ext/parallel.h>
#include <faiss_ext/partition.h>
#include <faiss_ext/rotation.h>

#include "reference.h"

using namespace faiss_ext;

namespace {

const float kNaN = std::numeric_limits<float>::quiet_NaN();
const float kInfinity = std::numeric_limits<float>::infinity();

/// Calls f with 1, then with 2 OpenMP threads, and compares the results.
template <class F>
auto same_for_any_threads(F f) {
    int before = omp_get_max_threads();
    omp_set_num_threads(1);
    auto one = f();
    omp_set_num_threads(2);
    auto two = f();
    omp_set_num_threads(before);
    EXPECT_EQ(one, two);
    return one;
}

/// Mean squared distance to the nearest centroid.
double objective(
        size_t d,
        const std::vector<float>& x,
        const std::vector<float>& centroids) {
    auto nearest = reference::knn(faiss::METRIC_L2, d, centroids, x, 1);
    double sum = 0;
    for (float distance : nearest.distances) {
        sum += distance;
    }
    return sum / double(nearest.distances.size());
}

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

TEST(KMeans, AsGoodAsFaiss) {
    size_t n = 4000, d = 24, k = 64;
    auto x = reference::random_clustered(n, d, 100, 1);
    KMeansParameters parameters;
    parameters.k = k;
    auto ours = same_for_any_threads(
            [&] { return kmeans(n, d, x.data(), parameters); });
    ASSERT_EQ(ours.size(), k * d);
    std::vector<float> theirs(k * d);
    faiss::kmeans_clustering(d, n, k, x.data(), theirs.data());
    EXPECT_LE(objective(d, x, ours), 1.03 * objective(d, x, theirs));
}

TEST(KMeans, FirstRoundsOnASampleAreAsGood) {
    // 200 rows per list: the first rounds see 32 of them
    size_t n = 6400, d = 8, k = 32;
    auto x = reference::random_clustered(n, d, 60, 5);
    KMeansParameters parameters;
    parameters.k = k;
    parameters.rounds = 25; // Faiss' default
    auto ours = kmeans(n, d, x.data(), parameters);
    std::vector<float> theirs(k * d);
    faiss::kmeans_clustering(d, n, k, x.data(), theirs.data());
    EXPECT_LE(objective(d, x, ours), 1.03 * objective(d, x, theirs));
}

TEST(KMeans, SeedDecides) {
    auto x = reference::random_normal(500 * 10, 2);
    KMeansParameters parameters;
    parameters.k = 20;
    auto first = kmeans(500, 10, x.data(), parameters);
    EXPECT_EQ(first, kmeans(500, 10, x.data(), parameters));
    parameters.seed++;
    EXPECT_NE(first, kmeans(500, 10, x.data(), parameters));
}

TEST(KMeans, CentroidsAreMeans) {
    // k = 1: the mean, whatever happens on the way
    auto x = reference::random_normal(300 * 7, 3);
    KMeansParameters parameters;
    parameters.k = 1;
    auto centroid = kmeans(300, 7, x.data(), parameters);
    for (size_t j = 0; j < 7; j++) {
        double mean = 0;
        for (size_t i = 0; i < 300; i++) {
            mean += x[i * 7 + j] / 300.0;
        }
        // 256 of the rows at most
        EXPECT_NEAR(centroid[j], mean, 0.1);
    }
    parameters.max_points_per_centroid = 300;
    centroid = kmeans(300, 7, x.data(), parameters);
    for (size_t j = 0; j < 7; j++) {
        double mean = 0;
        for (size_t i = 0; i < 300; i++) {
            mean += x[i * 7 + j] / 300.0;
        }
        EXPECT_NEAR(centroid[j], mean, 1e-6);
    }
}

TEST(KMeans, EveryRowItsOwnList) {
    auto x = reference::random_normal(40 * 5, 4);
    KMeansParameters parameters;
    parameters.k = 40;
    EXPECT_NEAR(objective(5, x, kmeans(40, 5, x.data(), parameters)), 0, 1e-9);
}

TEST(KMeans, EmptyListsAreFilled) {
    // half of the rows are equal: lists that start there are empty
    auto x = reference::random_clustered(1000, 6, 30, 5);
    for (size_t i = 0; i < 500; i++) {
        std::copy_n(x.begin(), 6, x.begin() + i * 6);
    }
    KMeansParameters parameters;
    parameters.k = 50;
    parameters.rounds = 20;
    auto centroids = kmeans(1000, 6, x.data(), parameters);
    auto nearest = reference::knn(faiss::METRIC_L2, 6, centroids, x, 1);
    std::set<int64_t> used(nearest.labels.begin(), nearest.labels.end());
    EXPECT_GE(used.size(), 44u);

    std::vector<float> equal(200 * 3, 1.5f); // nothing to split
    parameters.k = 7;
    for (float value : kmeans(200, 3, equal.data(), parameters)) {
        EXPECT_NEAR(value, 1.5f, 0.1f);
    }
}

TEST(KMeans, Spherical) {
    auto x = reference::random_clustered(800, 12, 20, 6);
    KMeansParameters parameters;
    parameters.k = 16;
    parameters.spherical = true;
    auto centroids = kmeans(800, 12, x.data(), parameters);
    for (size_t l = 0; l < 16; l++) {
        const float* c = &centroids[l * 12];
        EXPECT_NEAR(reference::dot(12, c, c), 1, 1e-6);
    }
}

TEST(KMeans, BadArgumentsAndInterruptsThrow) {
    auto x = reference::random_normal(50 * 4, 7);
    KMeansParameters parameters;
    parameters.k = 51;
    try {
        kmeans(50, 4, x.data(), parameters);
        FAIL();
    } catch (const faiss::FaissException& e) {
        std::string message = e.what();
        EXPECT_NE(message.find("50"), std::string::npos);
        EXPECT_NE(message.find("51"), std::string::npos);
    }
    parameters.k = 5;
    parameters.on_round = [](size_t done, size_t total) {
        EXPECT_LE(done, total);
        if (done == 3) {
            throw std::runtime_error("stop");
        }
    };
    EXPECT_THROW(kmeans(50, 4, x.data(), parameters), std::runtime_error);
    parameters.on_round = nullptr;
    for (float bad : {kNaN, kInfinity, -kInfinity}) {
        x[77] = bad;
        EXPECT_THROW(
                kmeans(50, 4, x.data(), parameters), faiss::FaissException);
    }
}

TEST(ScoreAwareCentroids, MinimiseTheLoss) {
    size_t n = 300, d = 10, k = 6;
    auto x = reference::random_clustered(n, d, 5, 8);
    std::fill(x.begin(), x.begin() + d, 0.f); // has no direction: skipped
    std::vector<int64_t> lists(n);
    for (size_t i = 0; i < n; i++) {
        lists[i] = i % (k - 1); // the last list stays empty
    }
    for (float eta : {1.f, 4.f, 9.5f}) {
        auto start = reference::random_normal(k * d, 9);
        auto centroids = same_for_any_threads([&] {
            auto c = start;
            make_centroids_score_aware(
                    n, d, x.data(), lists.data(), k, eta, c.data());
            return c;
        });
        for (size_t j = (k - 1) * d; j < k * d; j++) {
            EXPECT_EQ(centroids[j], start[j]);
        }
        // sum ||x||^(eta-1) (||e||^2 + (eta-1) <e, x/||x||>^2), e = x - c: its
        // gradient vanishes
        for (size_t l = 0; l + 1 < k; l++) {
            std::vector<double> gradient(d);
            double size = 0;
            for (size_t i = 0; i < n; i++) {
                double norm =
                        std::sqrt(reference::dot(d, &x[i * d], &x[i * d]));
                if (lists[i] != int64_t(l) || norm == 0) {
                    continue;
                }
                double weight = std::pow(norm, eta - 1);
                double parallel = 0;
                for (size_t j = 0; j < d; j++) {
                    double e = double(x[i * d + j]) - centroids[l * d + j];
                    parallel += e * x[i * d + j] / norm;
                }
                for (size_t j = 0; j < d; j++) {
                    double e = double(x[i * d + j]) - centroids[l * d + j];
                    gradient[j] += weight * (e + (eta - 1) * parallel *
                                                         x[i * d + j] / norm);
                }
                size += weight * norm * eta;
            }
            for (size_t j = 0; j < d; j++) {
                EXPECT_NEAR(gradient[j], 0, 1e-6 * size);
            }
        }
    }
    std::vector<float> out(k * d);
    lists[3] = int64_t(k);
    EXPECT_THROW(
            make_centroids_score_aware(
                    n, d, x.data(), lists.data(), k, 4, out.data()),
            faiss::FaissException);
}

TEST(Partition, AssignIsNearest) {
    for (size_t nlist : {1, 7, 16, 300}) {
        for (size_t d : {1, 3, 32, 50}) {
            size_t n = 333;
            auto centroids = reference::random_normal(nlist * d, 10);
            auto x = reference::random_normal(n * d, 11);
            for (auto metric : metrics) {
                Partition partition(nlist, d, centroids.data(), metric);
                auto lists = same_for_any_threads([&] {
                    std::vector<int64_t> out(n);
                    partition.assign(n, x.data(), out.data());
                    return out;
                });
                auto expected =
                        reference::knn(faiss::METRIC_L2, d, centroids, x, 1);
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
    auto centroids = reference::random_normal(100 * 8, 12);
    auto x = reference::random_normal(5 * 8, 13);
    x[0 * 8 + 3] = kNaN;
    x[2 * 8 + 7] = kInfinity;
    x[3 * 8 + 0] = -kInfinity;
    Partition partition(100, 8, centroids.data(), faiss::METRIC_L2);
    std::vector<int64_t> lists(5), spilled(5), probed(5 * 4);
    std::vector<float> scores(5 * 4);
    partition.assign(5, x.data(), lists.data());
    partition.assign_spilled(5, x.data(), lists.data(), 1, spilled.data());
    partition.probes(5, x.data(), 4, probed.data(), scores.data());
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

TEST(Partition, SpilledIsTheFormula) {
    size_t n = 400, d = 20, nlist = 290;
    auto centroids = reference::random_normal(nlist * d, 14);
    auto x = reference::random_normal(n * d, 15);
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

TEST(Partition, ProbesAreTheBest) {
    for (auto metric : metrics) {
        for (size_t nlist : {5, 64, 100, 1000}) {
            for (size_t d : {2, 33, 64}) {
                size_t nq = 40;
                // off the origin: the 8-bit codes must not lose the rest
                auto centroids = reference::random_normal(nlist * d, 16);
                auto x = reference::random_normal(nq * d, 17);
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
                                out.data(),
                                scores.data());
                        return out;
                    });
                    auto expected =
                            reference::knn(metric, d, centroids, x, nprobe);
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

TEST(Partition, ProbesAloneEqualProbesAmongOthers) {
    size_t nlist = 700, d = 48, nq = 37;
    auto centroids = reference::random_normal(nlist * d, 18);
    auto x = reference::random_normal(nq * d, 19);
    for (auto metric : metrics) {
        Partition partition(nlist, d, centroids.data(), metric);
        for (size_t nprobe : {1, 20, 400}) {
            std::vector<int64_t> lists(nq * nprobe), alone(nprobe);
            std::vector<float> scores(nq * nprobe), score(nprobe);
            partition.probes(nq, x.data(), nprobe, lists.data(), scores.data());
            for (size_t i = 0; i < nq; i++) {
                partition.probes(
                        1, &x[i * d], nprobe, alone.data(), score.data());
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
        partition.probes(3, x.data(), 10, lists.data(), scores.data());
        for (size_t p = 0; p < 30; p++) {
            EXPECT_EQ(lists[p], int64_t(p % 10));
        }
        EXPECT_THROW(
                partition.probes(1, x.data(), 501, lists.data(), scores.data()),
                faiss::FaissException);
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

namespace {

/// Rows whose covariance has eigenvalues 4 / (1 + i), in random directions.
std::vector<float> uneven_rows(size_t n, size_t d) {
    Rotation directions;
    directions.train(RotationKind::Random, 0, d, nullptr, {}, 99);
    auto x = reference::random_normal(n * d, 20);
    for (size_t i = 0; i < n * d; i++) {
        x[i] *= 2 / std::sqrt(1.f + i % d);
    }
    std::vector<float> out(n * d);
    directions.apply_transposed(n, x.data(), out.data());
    return out;
}

/// Mean square of each dimension.
std::vector<double> variances(size_t d, const std::vector<float>& x) {
    std::vector<double> result(d);
    for (size_t i = 0; i < x.size(); i++) {
        result[i % d] += double(x[i]) * x[i] * d / x.size();
    }
    return result;
}

} // namespace

TEST(Rotation, OrthonormalAndInvertible) {
    size_t n = 300;
    for (size_t d : {1, 10, 16, 45}) {
        auto x = uneven_rows(n, d);
        std::vector<uint32_t> offsets;
        for (uint32_t o = 0; o < d; o += 4) {
            offsets.push_back(o);
        }
        offsets.push_back(uint32_t(d));
        for (auto kind :
             {RotationKind::None,
              RotationKind::PCA,
              RotationKind::Balanced,
              RotationKind::Random}) {
            Rotation rotation;
            auto matrix = same_for_any_threads([&] {
                rotation.train(kind, n, d, x.data(), offsets, 5);
                return rotation.matrix();
            });
            EXPECT_EQ(rotation.is_identity(), kind == RotationKind::None);
            EXPECT_EQ(rotation.d(), d);
            std::vector<float> rotated(n * d), back(n * d);
            rotation.apply(n, x.data(), rotated.data());
            rotation.apply_transposed(n, rotated.data(), back.data());
            for (size_t i = 0; i < n * d; i++) {
                EXPECT_NEAR(back[i], x[i], 1e-5);
            }
            if (matrix.empty()) {
                EXPECT_EQ(rotated, x);
                continue;
            }
            for (size_t i = 0; i < d; i++) {
                for (size_t j = 0; j <= i; j++) {
                    EXPECT_NEAR(
                            reference::dot(d, &matrix[i * d], &matrix[j * d]),
                            i == j,
                            1e-5);
                }
                EXPECT_NEAR(
                        rotated[i],
                        reference::dot(d, &matrix[i * d], x.data()),
                        1e-5);
            }
            std::vector<float> one(d); // alone as among others
            rotation.apply(1, &x[7 * d], one.data());
            EXPECT_TRUE(std::equal(one.begin(), one.end(), &rotated[7 * d]));
        }
    }
}

TEST(Rotation, PrincipalAxesDescend) {
    size_t n = 3000, d = 20;
    auto x = uneven_rows(n, d);
    Rotation rotation;
    rotation.train(RotationKind::PCA, n, d, x.data(), {}, 0);
    std::vector<float> rotated(n * d);
    rotation.apply(n, x.data(), rotated.data());
    auto variance = variances(d, rotated);
    for (size_t i = 0; i < d; i++) {
        EXPECT_NEAR(variance[i], 4.0 / (1 + i), 0.15 * 4.0 / (1 + i) + 0.02);
        EXPECT_TRUE(i == 0 || variance[i] <= variance[i - 1] + 1e-5);
        for (size_t j = 0; j < i; j++) { // uncorrelated
            double sum = 0;
            for (size_t r = 0; r < n; r++) {
                sum += double(rotated[r * d + i]) * rotated[r * d + j] / n;
            }
            EXPECT_NEAR(sum, 0, 1e-4);
        }
    }
}

TEST(Rotation, BalancedBlocksAreAlike) {
    size_t n = 3000, d = 32;
    auto x = uneven_rows(n, d);
    std::vector<uint32_t> offsets = {0, 4, 8, 12, 16, 20, 24, 28, 32};
    Rotation rotation;
    rotation.train(RotationKind::Balanced, n, d, x.data(), offsets, 0);
    std::vector<float> rotated(n * d);
    rotation.apply(n, x.data(), rotated.data());
    auto variance = variances(d, rotated);
    double smallest = HUGE_VAL, largest = -HUGE_VAL;
    for (size_t m = 0; m + 1 < offsets.size(); m++) {
        double log_product = 0;
        for (size_t i = offsets[m]; i < offsets[m + 1]; i++) {
            log_product += std::log(variance[i]);
        }
        smallest = std::min(smallest, log_product);
        largest = std::max(largest, log_product);
    }
    // in order of variance they differ by a factor of 1e5
    EXPECT_LT(std::exp(largest - smallest), 1.5);
}

TEST(Rotation, BadArgumentsThrow) {
    Rotation rotation;
    auto x = reference::random_normal(10 * 4, 21);
    EXPECT_THROW(
            rotation.set_matrix(4, std::vector<float>(15)),
            faiss::FaissException);
    EXPECT_THROW(
            rotation.train(RotationKind::Balanced, 10, 4, x.data(), {0, 2}, 0),
            faiss::FaissException);
    x[5] = kNaN;
    EXPECT_THROW(
            rotation.train(RotationKind::PCA, 10, 4, x.data(), {}, 0),
            faiss::FaissException);
}
