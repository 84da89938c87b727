/* The nearest rows, and those that a spilled copy goes to, against brute force.
 * In whole numbers the answer is one row, ties included. */

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <faiss_ext/partition/nearest.h>

#include "fixtures/random_rows.h"
#include "fixtures/reference.h"

using namespace faiss_ext;
using reference::spilled_loss;

namespace {

constexpr auto kL2 = faiss::METRIC_L2;
constexpr random_rows::Clouds kClouds{30, 5, 1.5f, 1};

std::vector<int64_t>
nearest(const NearestRows& rows, size_t d, const std::vector<float>& x) {
    std::vector<int64_t> out(x.size() / d, -7);
    rows.find(out.size(), x.data(), out.data());
    return out;
}

std::vector<int64_t> spilled(
        const NearestRows& rows,
        size_t d,
        const std::vector<float>& x,
        const std::vector<int64_t>& primary,
        float lambda) {
    std::vector<int64_t> out(x.size() / d, -7);
    rows.find_spilled(out.size(), x.data(), primary.data(), lambda, out.data());
    return out;
}

TEST(Nearest, AsBruteForce) {
    for (size_t d : {1, 3, 32, 50, 64}) {
        for (size_t n : {1, 2, 16, 17, 300}) {
            const auto base = random_rows::whole(n, d, kClouds, 1);
            // tiles of 32 rows: none, a part of one, all, and more
            for (size_t nx : {0, 1, 31, 32, 33, 200}) {
                const auto x = random_rows::whole(nx, d, kClouds, 2);
                const auto exact = reference::exact_search(kL2, d, base, x, 1);
                const NearestRows rows(n, d, base.data(), true);
                ASSERT_EQ(rows.size(), n);
                ASSERT_EQ(nearest(rows, d, x), exact.labels)
                        << "n " << n << " d " << d;
            }
        }
    }
}

TEST(Nearest, OfEqualRowsTheFirst) {
    constexpr size_t n = 90, d = 10;
    auto base = random_rows::whole(n, d, kClouds, 3);
    for (size_t i = 30; i < n; i++) {
        std::copy_n(&base[i % 30 * d], d, &base[i * d]);
    }
    const auto x = random_rows::whole(100, d, kClouds, 4);
    const NearestRows rows(n, d, base.data(), false);
    const auto found = nearest(rows, d, x);
    EXPECT_EQ(found, reference::exact_search(kL2, d, base, x, 1).labels);
    EXPECT_LT(*std::max_element(found.begin(), found.end()), 30);

    const std::vector<float> equal(40 * d, 3);
    const NearestRows same(40, d, equal.data(), false);
    EXPECT_EQ(nearest(same, d, x), std::vector<int64_t>(100, 0));
}

/// Rows whose distances are all but alike: full precision decides.
TEST(Nearest, FarFromTheOrigin) {
    constexpr size_t n = 200, d = 24;
    auto base = random_rows::clustered(n, d, kClouds, 5);
    auto x = random_rows::clustered(150, d, kClouds, 6);
    for (float factor : {1.f, 1e-12f, 1e12f}) {
        for (float plus : {0.f, 1000.f}) {
            auto moved = [&](std::vector<float> values) {
                for (float& value : values) {
                    value = factor * (value + plus);
                }
                return values;
            };
            const auto rows_there = moved(base), x_there = moved(x);
            const NearestRows rows(n, d, rows_there.data(), true);
            const auto found = nearest(rows, d, x_there);
            const auto exact =
                    reference::exact_search(kL2, d, rows_there, x_there, 1);
            for (size_t i = 0; i < found.size(); i++) {
                const double distance = reference::squared_distance(
                        d, &x_there[i * d], &rows_there[found[i] * d]);
                EXPECT_LE(distance, exact.distances[i] * (1 + 1e-4))
                        << factor << ", " << plus;
            }
        }
    }
}

TEST(Nearest, RowsThatAreNotFiniteHaveNone) {
    constexpr size_t n = 20, d = 6;
    const auto base = random_rows::normal(n * d, 7);
    auto x = random_rows::normal(5 * d, 8);
    x[2] = std::numeric_limits<float>::quiet_NaN();
    x[3 * d] = std::numeric_limits<float>::infinity();
    x[4 * d + 5] = -std::numeric_limits<float>::infinity();
    const NearestRows rows(n, d, base.data(), true);
    std::vector<int64_t> found(5), copies(5);
    rows.find_both(5, x.data(), 1, found.data(), copies.data());
    EXPECT_EQ(found, nearest(rows, d, x));
    for (size_t i : {0, 3, 4}) {
        EXPECT_EQ(found[i], -1) << i;
        EXPECT_EQ(copies[i], -1) << i;
    }
    for (size_t i : {1, 2}) {
        EXPECT_GE(found[i], 0) << i;
        EXPECT_GE(copies[i], 0) << i;
        EXPECT_NE(found[i], copies[i]) << i;
    }
}

TEST(Nearest, ValuesNearTheLargestFloat) {
    constexpr size_t n = 20, d = 6;
    auto base = random_rows::normal(n * d, 9);
    for (size_t i = 0; i < d; i++) {
        base[i] = i % 2 ? FLT_MAX : -FLT_MAX;
    }
    auto x = random_rows::normal(3 * d, 10);
    std::copy_n(base.begin(), d, x.begin());
    const NearestRows rows(n, d, base.data(), false);
    std::vector<int64_t> found(3), copies(3);
    rows.find_both(3, x.data(), 1, found.data(), copies.data());
    EXPECT_EQ(found[0], 0);
    for (size_t i = 0; i < 3; i++) {
        EXPECT_GE(found[i], 0);
        EXPECT_LT(found[i], int64_t(n));
        EXPECT_GE(copies[i], -1);
        EXPECT_LT(copies[i], int64_t(n));
    }
}

TEST(Nearest, UnitRowsCountAsIfOfLengthOne) {
    constexpr size_t n = 120, d = 20;
    auto base = random_rows::lognormal_lengths(
            random_rows::clustered(n, d, kClouds, 11), d, 1, 12);
    std::fill_n(base.begin() + 5 * d, d, 0.f); // has no direction: stays
    const auto units = reference::normalized(base, d);
    const auto x = reference::normalized(
            random_rows::clustered(100, d, kClouds, 13), d);
    const NearestRows rows(n, d, base.data(), true, true);
    const auto found = nearest(rows, d, x);
    const auto exact = reference::exact_search(kL2, d, units, x, 1);
    for (size_t i = 0; i < found.size(); i++) {
        EXPECT_NEAR(
                reference::squared_distance(d, &x[i * d], &units[found[i] * d]),
                exact.distances[i],
                1e-5);
    }
}

TEST(Nearest, BorrowsOrCopies) {
    constexpr size_t n = 50, d = 7;
    const auto given = random_rows::whole(n, d, kClouds, 14);
    const auto x = random_rows::whole(60, d, kClouds, 15);
    const NearestRows borrowed(n, d, given.data(), true);
    EXPECT_EQ(borrowed.row(0), given.data());
    auto changed = given;
    const NearestRows copied(n, d, changed.data(), false);
    std::fill(changed.begin(), changed.end(), 0.f);
    EXPECT_EQ(nearest(copied, d, x), nearest(borrowed, d, x));
    for (size_t j = 0; j < n; j++) {
        EXPECT_TRUE(
                std::equal(copied.row(j), copied.row(j) + d, &given[j * d]));
    }
}

TEST(Nearest, MemoryIsWhatWasEstimated) {
    constexpr size_t n = 999, d = 30;
    const auto base = random_rows::normal(n * d, 20);
    for (bool borrow : {false, true}) {
        const NearestRows rows(n, d, base.data(), borrow);
        const size_t estimate = NearestRows::estimate_memory(n, d, borrow);
        EXPECT_NEAR(double(estimate) / double(rows.memory_usage()), 1, .02);
    }
}

/// Every loss is at most that of the best other row; all of these forms.
TEST(Nearest, SpilledIsTheLeastLoss) {
    for (size_t d : {1, 2, 19, 50}) {
        for (size_t n : {2, 3, 16, 40, 700}) {
            const auto base = random_rows::clustered(n, d, kClouds, 16);
            auto x = random_rows::clustered(70, d, kClouds, 17);
            // a third lies near one row, so that few others come into question
            for (size_t i = 0; i < 70 * d;
                 i += i % d == d - 1 ? 2 * d + 1 : 1) {
                x[i] = base[i % (n * d)] + x[i] / 20;
            }
            std::copy_n(base.begin(), d, x.begin()); // residual 0
            const NearestRows rows(n, d, base.data(), true);
            const auto primary = nearest(rows, d, x);
            for (float lambda : {0.f, .5f, 3.f}) {
                const auto found = spilled(rows, d, x, primary, lambda);
                std::vector<int64_t> both(70), copies(70);
                rows.find_both(
                        70, x.data(), lambda, both.data(), copies.data());
                EXPECT_EQ(both, primary);
                EXPECT_EQ(copies, found);
                for (size_t i = 0; i < 70; i++) {
                    const float* first = &base[primary[i] * d];
                    auto loss = [&](size_t j) {
                        return spilled_loss(
                                d, &x[i * d], &base[j * d], first, lambda);
                    };
                    double least = HUGE_VAL;
                    for (size_t j = 0; j < n; j++) {
                        least = std::min(least, loss(j));
                    }
                    // -1: no other row has less than the primary one
                    const size_t at = found[i] < 0 ? primary[i] : found[i];
                    EXPECT_NE(found[i], primary[i]);
                    EXPECT_NEAR(loss(at), least, 1e-4 * (1 + least))
                            << "n " << n << " d " << d << " lambda " << lambda
                            << " row " << i;
                }
            }
        }
    }
}

TEST(Nearest, WithoutAPrimaryRowNoneIsSpilled) {
    constexpr size_t n = 30, d = 5;
    const auto base = random_rows::normal(n * d, 18);
    const auto x = random_rows::normal(40 * d, 19);
    const NearestRows rows(n, d, base.data(), true);
    std::vector<int64_t> primary = nearest(rows, d, x);
    const auto all = spilled(rows, d, x, primary, 1);
    for (size_t i = 0; i < 40; i += 3) {
        primary[i] = -1;
    }
    const auto some = spilled(rows, d, x, primary, 1);
    for (size_t i = 0; i < 40; i++) {
        EXPECT_EQ(some[i], i % 3 == 0 ? -1 : all[i]);
    }
    const NearestRows one(1, d, base.data(), true);
    EXPECT_EQ(nearest(one, d, x), std::vector<int64_t>(40, 0));
    EXPECT_EQ(
            spilled(one, d, x, std::vector<int64_t>(40, 0), 1),
            std::vector<int64_t>(40, -1));
}

} // namespace
