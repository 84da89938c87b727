/* Samples of rows, and robust figures. */

#include <algorithm>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include <faiss_ext/memory/row_sample.h>

#include "fixtures/random_rows.h"
#include "fixtures/reference.h"

using namespace faiss_ext;

TEST(SampleRows, AreDistinctAndInRange) {
    for (size_t n : {0, 1, 2, 3, 7, 100, 1001, 65537}) {
        for (size_t wanted : {0, 1, 2, 50, 99, 100, 1000, 100000}) {
            for (uint64_t seed : {0, 1, 1234}) {
                auto rows = sample_rows(n, wanted, seed);
                ASSERT_EQ(rows.size(), std::min(n, wanted));
                EXPECT_EQ(rows, sample_rows(n, wanted, seed));
                std::sort(rows.begin(), rows.end());
                EXPECT_EQ(
                        std::adjacent_find(rows.begin(), rows.end()),
                        rows.end());
                EXPECT_TRUE(rows.empty() || rows.back() < n);
            }
        }
    }
}

TEST(SampleRows, ComeInRandomOrderAndDifferBySeed) {
    auto rows = sample_rows(10000, 1000, 1),
         others = sample_rows(10000, 1000, 2);
    EXPECT_NE(rows, others);
    // ascending pairs: as many as not
    size_t ascending = 0;
    for (size_t i = 1; i < rows.size(); i++) {
        ascending += rows[i] > rows[i - 1];
    }
    EXPECT_NEAR(double(ascending), 500, 60);
    // the front of the order is from everywhere
    double mean = 0;
    for (size_t i = 0; i < 100; i++) {
        mean += double(rows[i]) / 100;
    }
    EXPECT_NEAR(mean, 5000, 1200);
}

TEST(SampleRows, SeeEveryPartAndEveryPeriod) {
    constexpr size_t kRows = 65536;
    for (size_t wanted : {32768, 16384, 20000}) {
        auto rows = sample_rows(kRows, wanted, 3);
        for (size_t period : {2, 3, 4, 8}) {
            std::vector<size_t> seen(period);
            for (size_t row : rows) {
                seen[row % period]++;
            }
            for (size_t count : seen) {
                EXPECT_NEAR(double(count) * period / wanted, 1, 0.1)
                        << period << " of " << wanted;
            }
        }
        // of each sixteenth of the rows, as many
        std::vector<size_t> parts(16);
        for (size_t row : rows) {
            parts[row / (kRows / 16)]++;
        }
        for (size_t count : parts) {
            EXPECT_NEAR(double(count), double(wanted) / 16, 1);
        }
    }
    auto rows = sample_rows(kRows, 32768, 4);
    size_t even = std::count_if(
            rows.begin(), rows.end(), [](size_t row) { return row % 2 == 0; });
    EXPECT_NEAR(double(even), 16384, 500);
}

TEST(SampleRows, AreGathered) {
    auto x = random_rows::normal(50 * 3, 1);
    auto rows = sample_rows(50, 20, 5);
    std::vector<float> gathered(20 * 3);
    gather_rows(20, rows.data(), 3, x.data(), gathered.data());
    for (size_t i = 0; i < 20; i++) {
        for (size_t j = 0; j < 3; j++) {
            EXPECT_EQ(gathered[i * 3 + j], x[rows[i] * 3 + j]);
        }
    }
}

TEST(RobustFigures, QuantileIsTheValueOfTheSortedOnes) {
    EXPECT_EQ(quantile({}, 0.5), 0);
    EXPECT_EQ(quantile({7}, 0), 7);
    EXPECT_EQ(quantile({7}, 1), 7);
    EXPECT_EQ(quantile({3, 1, 2}, 0.5), 2);
    for (size_t n : {1, 2, 5, 100, 101}) {
        auto values = random_rows::normal(n, n);
        auto sorted = values;
        std::sort(sorted.begin(), sorted.end());
        for (double share : {0., .001, .25, .5, .9, .999, 1.}) {
            EXPECT_EQ(quantile(values, share), sorted[size_t(share * (n - 1))]);
        }
        EXPECT_EQ(quantile(values, 0), sorted.front());
        EXPECT_EQ(quantile(values, 1), sorted.back());
    }
}

TEST(RobustFigures, TheLargestIsAtMostTwiceTheMedian) {
    EXPECT_EQ(robust_largest({}), 0);
    EXPECT_EQ(robust_largest({4}), 4);
    EXPECT_EQ(robust_largest({1, 2, 3}), 3);
    EXPECT_EQ(robust_largest({1, 2, 3, 2, 1e9f}), 4);
    EXPECT_EQ(robust_largest({0, 0, 0, 5}), 5); // no median to speak of
    EXPECT_EQ(robust_largest({0, 0}), 0);
}

TEST(RobustFigures, MediansDoNotFollowFewRows) {
    constexpr size_t kRows = 1000, kD = 5;
    auto x = random_rows::normal(kRows * kD, 2);
    for (size_t i = 0; i < kRows; i++) {
        for (size_t j = 0; j < kD; j++) {
            x[i * kD + j] += float(j);
        }
    }
    // all rows: the medians of the columns
    auto medians = dimension_medians(kRows, kD, x.data(), kRows);
    ASSERT_EQ(medians.size(), kD);
    for (size_t j = 0; j < kD; j++) {
        std::vector<float> column;
        for (size_t i = 0; i < kRows; i++) {
            column.push_back(x[i * kD + j]);
        }
        EXPECT_EQ(medians[j], quantile(column, 0.5));
    }
    EXPECT_EQ(dimension_medians(kRows, kD, x.data(), 5 * kRows), medians);
    // some rows: about them
    auto some = dimension_medians(kRows, kD, x.data(), 300);
    for (size_t i = 0; i < kRows; i += 50) { // 2 % far out
        std::fill_n(&x[i * kD], kD, 1e9f);
    }
    auto wild = dimension_medians(kRows, kD, x.data(), kRows);
    for (size_t j = 0; j < kD; j++) {
        EXPECT_NEAR(some[j], double(j), 0.3);
        EXPECT_NEAR(wild[j], medians[j], 0.1);
    }
    EXPECT_EQ(
            dimension_medians(1, kD, x.data() + kD, 10),
            std::vector<float>(x.begin() + kD, x.begin() + 2 * kD));
}

TEST(RobustFigures, LengthsOfRows) {
    for (size_t d : {1, 3, 8, 50}) {
        auto x = random_rows::normal(20 * d, d);
        std::fill_n(x.begin(), d, 0.f);
        auto lengths = row_lengths(20, d, x.data());
        ASSERT_EQ(lengths.size(), 20);
        for (size_t i = 0; i < 20; i++) {
            double length = std::sqrt(reference::dot(d, &x[i * d], &x[i * d]));
            EXPECT_NEAR(lengths[i], length, 1e-6 * length);
        }
    }
    std::vector<float> huge = {3e30f, 4e30f}; // squares are no floats
    EXPECT_NEAR(row_lengths(1, 2, huge.data())[0] / 5e30, 1, 1e-6);
}
