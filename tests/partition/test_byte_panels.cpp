/* Products of rows in 8 bits against doubles: never further off than the
 * rounding of both sides allows. */

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/partition/byte_panels.h>
#include <faiss_ext/partition/panels.h>

#include "fixtures/random_rows.h"
#include "fixtures/reference.h"

using namespace faiss_ext;

namespace {

std::vector<float> scores_of(
        const BytePanels& panels,
        const ByteQueries& queries,
        const BytePanels::Coefficients& terms = {}) {
    std::vector<float> out(queries.size() * panels.padded(), -7);
    panels.scores(active_kernels(), queries, terms, out.data());
    return out;
}

double largest(size_t d, const float* x, const std::vector<float>& factors) {
    double most = 0;
    for (size_t i = 0; i < d; i++) {
        most = std::max(most, std::abs(double(x[i]) * factors[i]));
    }
    return most;
}

/// What rounding may make of a product: half a step on either side. A query has
/// 63 steps, a row 127.
double bound(
        size_t d,
        const float* q,
        const float* row,
        const std::vector<float>& weights) {
    std::vector<float> inverses;
    for (float weight : weights) {
        inverses.push_back(weight > 0 ? 1 / weight : 0);
    }
    const double q_half = largest(d, q, weights) / 63 / 2;
    const double row_half = largest(d, row, inverses) / 127 / 2;
    double sum = 0;
    for (size_t i = 0; i < d; i++) {
        const double a = std::abs(double(q[i]) * weights[i]);
        const double b = std::abs(double(row[i]) * inverses[i]);
        sum += a * row_half + b * q_half + q_half * row_half;
    }
    return 1.001 * sum + 1e-6;
}

TEST(BytePanels, ScoresAreProductsWithinTheRounding) {
    for (size_t d : {1, 3, 4, 5, 50, 130}) {
        for (size_t n : {1, 15, 16, 17, 100}) {
            const auto rows = random_rows::normal(n * d, 1 + d);
            const auto x = random_rows::normal(7 * d, 2 + d);
            std::vector<float> weights(d);
            for (size_t i = 0; i < d; i++) {
                weights[i] = 0.5f + float(i % 3);
            }
            for (bool weighted : {false, true}) {
                const std::vector<float> used =
                        weighted ? weights : std::vector<float>(d, 1);
                BytePanels panels(
                        n,
                        d,
                        rows.data(),
                        weighted ? weights : std::vector<float>());
                EXPECT_EQ(panels.size(), n);
                EXPECT_EQ(panels.padded(), round_up(n, kernels::kPanel));
                ByteQueries queries;
                queries.set(panels, 7, x.data(), nullptr);
                const auto scores = scores_of(panels, queries);
                for (size_t q = 0; q < 7; q++) {
                    for (size_t j = 0; j < n; j++) {
                        const float *a = &x[q * d], *b = &rows[j * d];
                        ASSERT_NEAR(
                                scores[q * panels.padded() + j],
                                reference::dot(d, a, b),
                                bound(d, a, b, used))
                                << "n " << n << " d " << d << " row " << j;
                    }
                }
            }
        }
    }
}

TEST(BytePanels, QueriesAreShiftedFirst) {
    constexpr size_t n = 20, d = 9, nq = 5;
    const auto rows = random_rows::normal(n * d, 3);
    auto x = random_rows::normal(nq * d, 4);
    const auto shift = random_rows::normal(d, 5);
    BytePanels panels(n, d, rows.data());
    ByteQueries shifted, moved;
    shifted.set(panels, nq, x.data(), shift.data());
    for (size_t i = 0; i < nq * d; i++) {
        x[i] -= shift[i % d];
    }
    moved.set(panels, nq, x.data(), nullptr);
    EXPECT_EQ(scores_of(panels, shifted), scores_of(panels, moved));
}

TEST(BytePanels, TermsGainsAndOffsets) {
    constexpr size_t n = 37, d = 6, nq = 3;
    const auto rows = random_rows::normal(n * d, 6);
    const auto x = random_rows::normal(nq * d, 7);
    BytePanels panels(n, d, rows.data());
    ByteQueries queries;
    queries.set(panels, nq, x.data(), nullptr);
    const auto plain = scores_of(panels, queries);
    const auto terms = random_rows::normal(panels.padded(), 8);
    const auto gains = random_rows::normal(panels.padded(), 9);
    const auto offsets = random_rows::normal(nq, 10);
    const auto with_terms = scores_of(panels, queries, {terms.data()});
    const AlignedBuffer<float> scales = panels.scales_for(gains.data());
    const auto with_gains = scores_of(
            panels,
            queries,
            {terms.data(), gains.data(), scales.data(), offsets.data()});
    for (size_t q = 0; q < nq; q++) {
        for (size_t j = 0; j < n; j++) {
            const size_t at = q * panels.padded() + j;
            EXPECT_NEAR(with_terms[at], plain[at] + terms[j], 1e-5);
            EXPECT_NEAR(
                    with_gains[at],
                    gains[j] * (plain[at] + offsets[q]) + terms[j],
                    1e-5);
        }
    }
}

TEST(BytePanels, RowsAndQueriesOfZerosScoreTheTerm) {
    constexpr size_t n = 18, d = 5;
    auto rows = random_rows::normal(n * d, 11);
    std::fill_n(rows.begin() + 4 * d, d, 0.f);
    std::vector<float> x = random_rows::normal(2 * d, 12);
    std::fill_n(x.begin() + d, d, 0.f);
    BytePanels panels(n, d, rows.data());
    EXPECT_EQ(panels.length(4), 0);
    ByteQueries queries;
    queries.set(panels, 2, x.data(), nullptr);
    const auto terms = random_rows::normal(panels.padded(), 13);
    const auto scores = scores_of(panels, queries, {terms.data()});
    EXPECT_EQ(scores[4], terms[4]);
    for (size_t j = 0; j < n; j++) {
        EXPECT_EQ(scores[panels.padded() + j], terms[j]);
    }
    EXPECT_EQ(panels.error(queries, 1, 1.f), 0);
}

TEST(BytePanels, NoNumbersCountAsZeroAndInfinitiesAsTheLargest) {
    constexpr size_t n = 16, d = 4;
    const auto rows = random_rows::normal(n * d, 14);
    constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    const std::vector<float> x = {1,    kNaN, 2,         3, //
                                  1,    0,    2,         3, //
                                  0,    0,    kInfinity, 0, //
                                  0,    0,    FLT_MAX,   0, //
                                  kNaN, kNaN, kNaN,      -kInfinity};
    BytePanels panels(n, d, rows.data());
    ByteQueries queries;
    queries.set(panels, 5, x.data(), nullptr);
    const auto scores = scores_of(panels, queries);
    for (size_t j = 0; j < n; j++) {
        EXPECT_EQ(scores[j], scores[n + j]);
        EXPECT_EQ(scores[2 * n + j], scores[3 * n + j]);
        for (size_t q = 0; q < 5; q++) {
            EXPECT_TRUE(std::isfinite(scores[q * n + j])) << q << ", " << j;
        }
    }
}

/// What a query has where all rows are 0 takes no steps from the rest.
TEST(BytePanels, DimensionsWithoutRowsTakeNoPrecision) {
    constexpr size_t n = 50, d = 8;
    auto rows = random_rows::normal(n * d, 15);
    std::vector<double> squares(d);
    for (size_t i = 0; i < n * d; i++) {
        rows[i] = i % d == 2 ? 0 : rows[i];
        squares[i % d] += double(rows[i]) * rows[i] / n;
    }
    const std::vector<float> weights = balanced_weights(squares);
    EXPECT_EQ(weights[2], 0);
    BytePanels panels(n, d, rows.data(), weights);
    auto x = random_rows::normal(d, 16);
    ByteQueries modest, large;
    modest.set(panels, 1, x.data(), nullptr);
    const auto before = scores_of(panels, modest);
    x[2] = 1e20f;
    large.set(panels, 1, x.data(), nullptr);
    EXPECT_EQ(scores_of(panels, large), before);
}

TEST(BytePanels, WeightsGrowWithTheRows) {
    EXPECT_EQ(balanced_weights({4, 4, 4}), (std::vector<float>{1, 1, 1}))
            << "equal dimensions";
    EXPECT_EQ(balanced_weights({0, 0}), (std::vector<float>{0, 0}));
    const auto weights = balanced_weights({1e-30, 1, 16, 256});
    EXPECT_EQ(weights.front(), 0) << "next to nothing counts as 0";
    EXPECT_TRUE(std::is_sorted(weights.begin(), weights.end()));
    EXPECT_EQ(weights.back(), 1);
    EXPECT_FLOAT_EQ(weights[2], 2 * weights[1]) << "deviations of 1 and 4";
}

TEST(BytePanels, MemoryIsWhatWasEstimated) {
    for (size_t d : {7, 50, 128}) {
        const auto rows = random_rows::normal(1001 * d, 23);
        const BytePanels panels(1001, d, rows.data());
        const double estimate = double(BytePanels::estimate_memory(1001, d));
        EXPECT_NEAR(estimate / double(panels.memory_usage()), 1, .02) << d;
    }
}

TEST(BytePanels, OneMemoryForAllQueries) {
    constexpr size_t d = 11;
    const auto rows = random_rows::normal(40 * d, 17);
    const auto x = random_rows::normal(9 * d, 18);
    BytePanels panels(40, d, rows.data()), few(5, d, rows.data());
    ByteQueries kept;
    kept.set(panels, 9, x.data(), nullptr);
    for (size_t nq : {2, 9, 0, 1}) {
        for (const BytePanels* each : {&panels, &few}) {
            ByteQueries fresh;
            fresh.set(*each, nq, x.data(), nullptr);
            kept.set(*each, nq, x.data(), nullptr);
            EXPECT_EQ(kept.size(), nq);
            EXPECT_EQ(scores_of(*each, kept), scores_of(*each, fresh));
        }
    }
}

/// error() is what a search takes its margins from.
TEST(BytePanels, ErrorIsTheDeviationOfTheScores) {
    constexpr size_t n = 2000, nq = 40;
    for (size_t d : {8, 50, 200}) {
        const auto rows = random_rows::normal(n * d, 19);
        const auto x = random_rows::normal(nq * d, 20);
        BytePanels panels(n, d, rows.data());
        ByteQueries queries;
        queries.set(panels, nq, x.data(), nullptr);
        const auto scores = scores_of(panels, queries);
        for (size_t q = 0; q < nq; q++) {
            double square = 0, length = 0;
            for (size_t j = 0; j < n; j++) {
                const double off = scores[q * panels.padded() + j] -
                                   reference::dot(d, &x[q * d], &rows[j * d]);
                square += off * off / n;
                length += double(panels.length(j)) / n;
            }
            const double ratio =
                    std::sqrt(square) / panels.error(queries, q, float(length));
            EXPECT_GT(ratio, .3) << d;
            EXPECT_LT(ratio, 1.1) << d;
        }
    }
}

TEST(BytePanels, LengthsOfRowsNearAQuery) {
    constexpr size_t n = 101, d = 6;
    auto rows = reference::normalized(random_rows::normal(n * d, 21), d);
    for (size_t i = 0; i < d; i++) {
        rows[i] *= 1000; // one row is far from all others
    }
    BytePanels panels(n, d, rows.data());
    EXPECT_NEAR(panels.length(0), 1000, 1e-2);
    EXPECT_NEAR(panels.length(1), 1, 1e-5);
    auto x = reference::normalized(random_rows::normal(3 * d, 22), d);
    for (size_t i = 0; i < d; i++) {
        x[i] *= .01f;
        x[2 * d + i] *= 400;
    }
    ByteQueries queries;
    queries.set(panels, 3, x.data(), nullptr);
    for (size_t q : {0, 1}) {
        EXPECT_NEAR(panels.length_near(queries, q), 2, 1e-4) << q;
    }
    EXPECT_GE(panels.length_near(queries, 2), 400);
    EXPECT_LE(panels.length_near(queries, 2), 1000.01f);
}

} // namespace
