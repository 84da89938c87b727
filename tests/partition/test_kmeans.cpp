/* k-means and score-aware centroids against brute force and Faiss. */

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <stdexcept>
#include <vector>

#include <faiss/Clustering.h>
#include <faiss/impl/FaissException.h>
#include <gtest/gtest.h>

#include <faiss_ext/partition/kmeans.h>
#include <faiss_ext/partition/score_aware_centroids.h>

#include "fixtures/random_rows.h"
#include "fixtures/reference.h"
#include "fixtures/threads.h"

using namespace faiss_ext;

namespace {

const float kNaN = std::numeric_limits<float>::quiet_NaN();
const float kInfinity = std::numeric_limits<float>::infinity();

/// Mean squared distance to the nearest centroid.
double objective(
        size_t d,
        const std::vector<float>& x,
        const std::vector<float>& centroids) {
    auto nearest =
            reference::exact_search(faiss::METRIC_L2, d, centroids, x, 1);
    double sum = 0;
    for (float distance : nearest.distances) {
        sum += distance;
    }
    return sum / double(nearest.distances.size());
}

} // namespace

TEST(KMeans, AsGoodAsFaiss) {
    size_t n = 4000, d = 24, k = 64;
    auto x = random_rows::clustered(n, d, {100, 1}, 1);
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
    auto x = random_rows::clustered(n, d, {60, 5}, 5);
    KMeansParameters parameters;
    parameters.k = k;
    parameters.rounds = 25; // Faiss' default
    auto ours = kmeans(n, d, x.data(), parameters);
    std::vector<float> theirs(k * d);
    faiss::kmeans_clustering(d, n, k, x.data(), theirs.data());
    EXPECT_LE(objective(d, x, ours), 1.03 * objective(d, x, theirs));
}

TEST(KMeans, SeedDecides) {
    auto x = random_rows::normal(500 * 10, 2);
    KMeansParameters parameters;
    parameters.k = 20;
    auto first = kmeans(500, 10, x.data(), parameters);
    EXPECT_EQ(first, kmeans(500, 10, x.data(), parameters));
    parameters.seed++;
    EXPECT_NE(first, kmeans(500, 10, x.data(), parameters));
}

TEST(KMeans, CentroidsAreMeans) {
    // k = 1: the mean, whatever happens on the way
    auto x = random_rows::normal(300 * 7, 3);
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
    auto x = random_rows::normal(40 * 5, 4);
    KMeansParameters parameters;
    parameters.k = 40;
    EXPECT_NEAR(objective(5, x, kmeans(40, 5, x.data(), parameters)), 0, 1e-9);
}

TEST(KMeans, EmptyListsAreFilled) {
    // half of the rows are equal: lists that start there are empty
    auto x = random_rows::clustered(1000, 6, {30, 5}, 5);
    for (size_t i = 0; i < 500; i++) {
        std::copy_n(x.begin(), 6, x.begin() + i * 6);
    }
    KMeansParameters parameters;
    parameters.k = 50;
    parameters.rounds = 20;
    auto centroids = kmeans(1000, 6, x.data(), parameters);
    auto nearest =
            reference::exact_search(faiss::METRIC_L2, 6, centroids, x, 1);
    std::set<int64_t> used(nearest.labels.begin(), nearest.labels.end());
    EXPECT_GE(used.size(), 44u);

    std::vector<float> equal(200 * 3, 1.5f); // nothing to split
    parameters.k = 7;
    for (float value : kmeans(200, 3, equal.data(), parameters)) {
        EXPECT_NEAR(value, 1.5f, 0.1f);
    }
}

TEST(KMeans, Spherical) {
    auto x = random_rows::clustered(800, 12, {20, 6}, 6);
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
    auto x = random_rows::normal(50 * 4, 7);
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
    auto x = random_rows::clustered(n, d, {5, 8}, 8);
    std::fill(x.begin(), x.begin() + d, 0.f); // has no direction: skipped
    std::vector<int64_t> lists(n);
    for (size_t i = 0; i < n; i++) {
        lists[i] = i % (k - 1); // the last list stays empty
    }
    for (float eta : {1.f, 4.f, 9.5f}) {
        auto start = random_rows::normal(k * d, 9);
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
