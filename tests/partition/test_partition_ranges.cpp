/* The partition of rows and queries with offsets, of other lengths, and of
 * several kinds: exact all the same. */

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include <faiss_ext/partition/partition.h>

#include "fixtures/random_rows.h"
#include "fixtures/reference.h"

using namespace faiss_ext;

namespace {

const faiss::MetricType metrics[] = {
        faiss::METRIC_INNER_PRODUCT,
        faiss::METRIC_L2};

/// Normal values in whole numbers: small sums of products are exact.
std::vector<float> whole_normal(size_t n, float deviation, uint64_t seed) {
    std::vector<float> values = random_rows::normal(n, seed);
    for (float& value : values) {
        value = std::nearbyint(deviation * value);
    }
    return values;
}

std::vector<int64_t> exact_probes(
        const Partition& partition,
        size_t d,
        const std::vector<float>& x,
        size_t nprobe) {
    std::vector<int64_t> lists(x.size() / d * nprobe);
    std::vector<float> scores(lists.size());
    partition.probes(
            x.size() / d,
            x.data(),
            nprobe,
            ProbeScores::Exact,
            lists.data(),
            scores.data());
    return lists;
}

std::vector<int64_t>
assigned(const Partition& partition, size_t d, const std::vector<float>& x) {
    std::vector<int64_t> lists(x.size() / d);
    partition.assign(lists.size(), x.data(), lists.data());
    return lists;
}

/// Probes and lists of queries are those of brute force in doubles.
void expect_exact(
        faiss::MetricType metric,
        size_t d,
        const std::vector<float>& centroids,
        const std::vector<float>& x,
        size_t nprobe) {
    Partition partition(centroids.size() / d, d, centroids.data(), metric);
    auto probed = reference::exact_search(metric, d, centroids, x, nprobe);
    EXPECT_EQ(exact_probes(partition, d, x, nprobe), probed.labels);
    auto nearest =
            reference::exact_search(faiss::METRIC_L2, d, centroids, x, 1);
    EXPECT_EQ(assigned(partition, d, x), nearest.labels);
}

TEST(PartitionRanges, ProbesDoNotDependOnTheLengthOfQueries) {
    size_t nlist = 400, d = 24, nq = 40, nprobe = 30;
    auto centroids = random_rows::normal(nlist * d, 23);
    auto x = random_rows::normal(nq * d, 24);
    std::vector<float> gain = random_rows::normal(nlist, 25);
    for (float& value : gain) {
        value = 1 + std::abs(value);
    }
    Partition partition(
            nlist, d, centroids.data(), faiss::METRIC_INNER_PRODUCT, &gain[0]);
    auto expected = exact_probes(partition, d, x, nprobe);
    // 1e-20 to 1e20 in powers of 2, which round nothing
    for (int exponent = -66; exponent <= 66; exponent += 11) {
        std::vector<float> scaled = x;
        for (float& value : scaled) {
            value = std::ldexp(value, exponent);
        }
        EXPECT_EQ(exact_probes(partition, d, scaled, nprobe), expected)
                << exponent;
    }
}

TEST(PartitionRanges, WhatAllRowsShareChangesNoList) {
    size_t nlist = 400, d = 20, nq = 200, nprobe = 30;
    auto centroids = whole_normal(nlist * d, 30, 26);
    auto x = whole_normal(nq * d, 30, 27);
    Partition partition(nlist, d, centroids.data(), faiss::METRIC_L2);
    auto add = [](std::vector<float> values) {
        for (float& value : values) {
            value += 1000;
        }
        return values;
    };
    auto far_centroids = add(centroids), far_x = add(x);
    Partition far(nlist, d, far_centroids.data(), faiss::METRIC_L2);
    EXPECT_EQ(
            exact_probes(far, d, far_x, nprobe),
            exact_probes(partition, d, x, nprobe));
    EXPECT_EQ(assigned(far, d, far_x), assigned(partition, d, x));
    expect_exact(faiss::METRIC_L2, d, far_centroids, far_x, nprobe);
}

TEST(PartitionRanges, ConstantColumnsChangeNoList) {
    size_t nlist = 400, d = 20, nq = 200, nprobe = 30;
    auto centroids = whole_normal(nlist * d, 30, 28);
    auto x = whole_normal(nq * d, 30, 29);
    auto values = whole_normal(nq * 2, 300, 30);
    // two columns more: 1000 in the centroids, anything in the queries
    std::vector<float> more_centroids, more_x;
    for (size_t l = 0; l < nlist; l++) {
        const float* row = &centroids[l * d];
        more_centroids.push_back(1000);
        more_centroids.insert(more_centroids.end(), row, row + d);
        more_centroids.push_back(1000);
    }
    for (size_t i = 0; i < nq; i++) {
        const float* row = &x[i * d];
        more_x.push_back(values[2 * i]);
        more_x.insert(more_x.end(), row, row + d);
        more_x.push_back(values[2 * i + 1]);
    }
    for (auto metric : metrics) {
        Partition partition(nlist, d, centroids.data(), metric);
        Partition more(nlist, d + 2, more_centroids.data(), metric);
        EXPECT_EQ(
                exact_probes(more, d + 2, more_x, nprobe),
                exact_probes(partition, d, x, nprobe));
        EXPECT_EQ(assigned(more, d + 2, more_x), assigned(partition, d, x));
        expect_exact(metric, d + 2, more_centroids, more_x, nprobe);
    }
}

TEST(PartitionRanges, OneLongCentroidChangesNoOtherRank) {
    constexpr int64_t kLong = 77;
    size_t nlist = 400, d = 20, nq = 200, nprobe = 30;
    auto centroids = whole_normal(nlist * d, 30, 31);
    auto x = whole_normal(nq * d, 30, 32);
    auto with_long = centroids;
    for (size_t i = 0; i < d; i++) {
        with_long[kLong * d + i] *= 1e6f;
    }
    for (auto metric : metrics) {
        expect_exact(metric, d, with_long, x, nprobe);
        Partition partition(nlist, d, centroids.data(), metric);
        Partition other(nlist, d, with_long.data(), metric);
        // the others, as far as both go
        auto others = [&](const Partition& from, size_t i) {
            std::vector<float> query(&x[i * d], &x[i * d] + d);
            auto lists = exact_probes(from, d, query, nprobe);
            std::erase(lists, kLong);
            lists.resize(nprobe - 1);
            return lists;
        };
        for (size_t i = 0; i < nq; i++) {
            EXPECT_EQ(others(other, i), others(partition, i)) << i;
        }
        auto lists = assigned(partition, d, x);
        auto other_lists = assigned(other, d, x);
        for (size_t i = 0; i < nq; i++) {
            if (lists[i] != kLong) {
                EXPECT_EQ(other_lists[i], lists[i]);
            }
        }
    }
}

TEST(PartitionRanges, TwoKindsOfCentroidsFarApartAreExact) {
    size_t nlist = 400, d = 20, nq = 200, nprobe = 30;
    auto centroids = whole_normal(nlist * d, 10, 33);
    auto x = whole_normal(nq * d, 10, 34);
    for (auto* rows : {&centroids, &x}) {
        for (size_t i = 0; i < rows->size() / d; i += 2) {
            for (size_t j : {3, 4, 8, 19}) {
                (*rows)[i * d + j] += 500; // 1000 in all
            }
        }
    }
    for (auto metric : metrics) {
        expect_exact(metric, d, centroids, x, nprobe);
    }
}

} // namespace
