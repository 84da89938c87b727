/* The nearest centroids through groups, beside the nearest of all. */

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <faiss_ext/memory/row_products.h>
#include <faiss_ext/memory/row_sample.h>
#include <faiss_ext/partition/grouped_nearest.h>
#include <faiss_ext/partition/kmeans.h>
#include <faiss_ext/partition/list_groups.h>
#include <faiss_ext/partition/nearest.h>
#include <faiss_ext/partition/partition.h>

#include "fixtures/random_rows.h"
#include "fixtures/reference.h"
#include "fixtures/threads.h"

using namespace faiss_ext;

namespace {

constexpr size_t kD = 12, kCentroids = kMinGroupedLists, kRows = 17000;
constexpr float kLambda = 1;

/// Centroids and rows in clouds, as those of data are.
struct Data {
    std::vector<float> centroids =
            random_rows::clustered(kCentroids, kD, {60, 1}, 2);
    std::vector<float> rows = random_rows::clustered(kRows, kD, {60, 1}, 3);
    NearestRows all{kCentroids, kD, centroids.data(), true};
    GroupedNearest grouped{kCentroids, kD, centroids.data(), false, 7};

    double distance(size_t row, int64_t centroid) const {
        return reference::squared_distance(
                kD, &rows[row * kD], &centroids[centroid * kD]);
    }
    double loss(size_t row, int64_t centroid, int64_t primary) const {
        return reference::spilled_loss(
                kD,
                &rows[row * kD],
                &centroids[centroid * kD],
                &centroids[primary * kD],
                kLambda);
    }
};

const Data& data() {
    static const Data made;
    return made;
}

std::vector<int64_t> found_by_groups(size_t n = kRows) {
    std::vector<int64_t> found(n, -7);
    data().grouped.find(n, data().rows.data(), found.data());
    return found;
}

TEST(GroupedNearest, NearlyAllRowsFindTheNearest) {
    std::vector<int64_t> exact(kRows);
    data().all.find(kRows, data().rows.data(), exact.data());
    const auto found = found_by_groups();
    size_t same = 0;
    double distances = 0, least = 0;
    for (size_t i = 0; i < kRows; i++) {
        ASSERT_GE(found[i], 0);
        ASSERT_LT(found[i], int64_t(kCentroids));
        same += found[i] == exact[i];
        distances += data().distance(i, found[i]);
        least += data().distance(i, exact[i]);
    }
    EXPECT_GT(double(same), .98 * kRows);
    EXPECT_LT(distances, 1.002 * least);
}

TEST(GroupedNearest, ARowIsAloneAndOnAnyThread) {
    const auto found = found_by_groups();
    EXPECT_EQ(
            found_by_groups(100),
            std::vector<int64_t>(found.begin(), found.begin() + 100));
    same_for_any_threads([] { return found_by_groups(); });
    std::vector<size_t> numbers(500);
    for (size_t i = 0; i < numbers.size(); i++) {
        numbers[i] = (i * 37) % kRows;
    }
    std::vector<int64_t> some(numbers.size());
    data().grouped.find(
            numbers.size(), data().rows.data(), some.data(), numbers.data());
    for (size_t i = 0; i < numbers.size(); i++) {
        ASSERT_EQ(some[i], found[numbers[i]]);
    }
}

TEST(GroupedNearest, SecondListsHaveNearlyTheLeastLoss) {
    std::vector<int64_t> nearest(kRows), both(kRows), exact(kRows), far(kRows);
    data().grouped.find_both(
            kRows, data().rows.data(), kLambda, nearest.data(), both.data());
    EXPECT_EQ(nearest, found_by_groups());
    data().all.find_spilled(
            kRows, data().rows.data(), nearest.data(), kLambda, exact.data());
    double losses = 0, least = 0;
    for (size_t i = 0; i < kRows; i++) {
        ASSERT_NE(both[i], nearest[i]);
        const auto of = [&](int64_t second) {
            return data().loss(i, second < 0 ? nearest[i] : second, nearest[i]);
        };
        losses += of(both[i]);
        least += of(exact[i]);
    }
    EXPECT_LT(losses, 1.01 * least);

    // primary lists that the groups around a row do not hold
    for (size_t i = 0; i < kRows; i++) {
        far[i] = i % 9 == 0 ? -1 : int64_t(i * 31 % kCentroids);
    }
    data().grouped.find_spilled(
            kRows, data().rows.data(), far.data(), kLambda, both.data());
    data().all.find_spilled(
            kRows, data().rows.data(), far.data(), kLambda, exact.data());
    size_t same = 0;
    for (size_t i = 0; i < kRows; i++) {
        ASSERT_TRUE(both[i] == -1 || both[i] != far[i]);
        ASSERT_TRUE(far[i] != -1 || both[i] == -1);
        same += both[i] == exact[i];
    }
    EXPECT_GT(double(same), .95 * kRows);
}

TEST(GroupedNearest, DirectionsWhateverTheLengths) {
    std::vector<float> centroids = data().centroids, rows = data().rows;
    for (size_t j = 0; j < kCentroids * kD; j++) {
        centroids[j] *= 1 + float(j / kD % 5);
    }
    for (size_t i = 0; i < kRows * kD; i++) {
        rows[i] *= 1 + float(i / kD % 7);
    }
    const GroupedNearest grouped(kCentroids, kD, centroids.data(), true, 7);
    std::vector<int64_t> found(kRows), exact(kRows);
    grouped.find(kRows, rows.data(), found.data());
    scale_to_unit(kRows, kD, rows.data());
    NearestRows(kCentroids, kD, centroids.data(), true, true)
            .find(kRows, rows.data(), exact.data());
    size_t same = 0;
    for (size_t i = 0; i < kRows; i++) {
        same += found[i] == exact[i];
    }
    EXPECT_GT(double(same), .97 * kRows);
}

TEST(GroupedNearest, RowsThatAreNotFiniteHaveNoList) {
    std::vector<float> rows(data().rows.begin(), data().rows.begin() + 10 * kD);
    rows[3 * kD + 1] = NAN;
    rows[7 * kD] = HUGE_VALF;
    std::vector<int64_t> found(10), second(10);
    data().grouped.find_both(
            10, rows.data(), kLambda, found.data(), second.data());
    const auto all = found_by_groups(10);
    for (size_t i = 0; i < 10; i++) {
        const bool finite = i != 3 && i != 7;
        EXPECT_EQ(found[i], finite ? all[i] : -1);
        EXPECT_TRUE(finite || second[i] == -1);
    }
}

TEST(GroupedNearest, EqualCentroidsAndEqualRows) {
    const std::vector<float> centroids(kCentroids * kD, 1.5f);
    const std::vector<float> rows(100 * kD, 2.f);
    const GroupedNearest grouped(kCentroids, kD, centroids.data(), false, 7);
    std::vector<int64_t> found(100, -1);
    grouped.find(100, rows.data(), found.data());
    for (int64_t list : found) {
        EXPECT_GE(list, 0);
        EXPECT_EQ(list, found[0]);
    }
}

/// The partition and k-means take groups where they pay.
TEST(GroupedNearest, PartitionAndKMeansUseThem) {
    EXPECT_FALSE(GroupedNearest::pays(kRows, kMinGroupedLists - 1));
    EXPECT_FALSE(GroupedNearest::pays(100, kMinGroupedLists));
    ASSERT_TRUE(GroupedNearest::pays(kRows, kCentroids));
    const Partition partition(
            kCentroids, kD, data().centroids.data(), faiss::METRIC_L2);
    std::vector<int64_t> lists(kRows), second(kRows), again(kRows);
    partition.assign_both(
            kRows, data().rows.data(), kLambda, lists.data(), second.data());
    partition.assign(kRows, data().rows.data(), again.data());
    EXPECT_EQ(again, lists);
    partition.assign_spilled(
            kRows, data().rows.data(), lists.data(), kLambda, again.data());
    double apart = 0, exact = 0;
    std::vector<int64_t> nearest(kRows);
    data().all.find(kRows, data().rows.data(), nearest.data());
    for (size_t i = 0; i < kRows; i++) {
        apart += data().distance(i, lists[i]);
        exact += data().distance(i, nearest[i]);
    }
    EXPECT_LT(apart, 1.002 * exact);
}

/// Sum of squared distances of rows from the nearest of the centroids, and how
/// many centroids are nearest to none.
std::pair<double, size_t> error_of(
        const std::vector<float>& rows,
        const std::vector<float>& centroids) {
    const size_t n = rows.size() / kD;
    std::vector<int64_t> nearest(n);
    NearestRows(centroids.size() / kD, kD, centroids.data(), true)
            .find(n, rows.data(), nearest.data());
    double error = 0;
    for (size_t i = 0; i < n; i++) {
        error += reference::squared_distance(
                kD, &rows[i * kD], &centroids[nearest[i] * kD]);
    }
    const std::set<int64_t> used(nearest.begin(), nearest.end());
    return {error, centroids.size() / kD - used.size()};
}

TEST(GroupedNearest, KMeansInLevelsIsAsGoodAsRoundsOverAll) {
    const auto rows = random_rows::clustered(25000, kD, {60, 1}, 3);
    for (bool spherical : {false, true}) {
        KMeansParameters parameters;
        parameters.k = kCentroids;
        parameters.spherical = spherical;
        // so few rounds start from random rows
        parameters.rounds = 2;
        const auto from_rows = kmeans(25000, kD, rows.data(), parameters);
        parameters.rounds = 5;
        size_t calls = 0, last = 0;
        parameters.on_round = [&](size_t done, size_t total) {
            EXPECT_EQ(total, 5u);
            EXPECT_GE(done, last);
            last = done;
            calls++;
        };
        const auto in_levels = same_for_any_threads([&] {
            last = 0;
            return kmeans(25000, kD, rows.data(), parameters);
        });
        EXPECT_EQ(last, 5u);
        EXPECT_GE(calls, 6u);
        ASSERT_EQ(in_levels.size(), kCentroids * kD);
        auto points = rows;
        if (spherical) {
            scale_to_unit(25000, kD, points.data());
        }
        const auto [error, unused] = error_of(points, in_levels);
        const auto [other, unused_other] = error_of(points, from_rows);
        EXPECT_LT(error, 1.03 * other);
        EXPECT_LE(unused, unused_other + kCentroids / 50);
    }
}

} // namespace
