/* Rows and queries as the caller gives them: what is refused, what is scaled,
 * and what stays as it is. */

#include <cfloat>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <faiss/impl/FaissException.h>
#include <gtest/gtest.h>

#include <faiss_ext/memory/query_rows.h>

#include "fixtures/random_rows.h"
#include "fixtures/reference.h"

using namespace faiss_ext;

namespace {

constexpr size_t kN = 9, kD = 11;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <class F>
std::string refusal(F&& call) {
    try {
        call();
    } catch (const faiss::FaissException& error) {
        return error.what();
    }
    return "";
}

TEST(QueryRows, OneValueThatIsNotFiniteIsFoundAnywhere) {
    EXPECT_TRUE(all_finite(0, nullptr));
    for (size_t n : {1, 7, 8, 33}) {
        std::vector<float> x(n, FLT_MAX);
        EXPECT_TRUE(all_finite(n, x.data()));
        for (size_t at = 0; at < n; at++) {
            for (float bad : {kNaN, -kNaN, kInfinity, -kInfinity}) {
                x[at] = bad;
                EXPECT_FALSE(all_finite(n, x.data())) << at << " of " << n;
            }
            x[at] = -1e-44f;
        }
        EXPECT_TRUE(all_finite(n, x.data()));
    }
}

TEST(QueryRows, TheRowThatIsNotFiniteIsNamed) {
    auto x = random_rows::normal(kN * kD, 1);
    std::vector<float> storage;
    x[4 * kD + 3] = kNaN;
    x[6 * kD] = kInfinity;
    for (auto scale :
         {RowScale::AsGiven, RowScale::Unit, RowScale::UnitOrZero}) {
        const std::string message = refusal([&] {
            checked_rows(kN, kD, x.data(), scale, "query", storage);
        });
        EXPECT_NE(message.find("query 4 has a NaN"), std::string::npos)
                << message;
    }
    EXPECT_EQ(refusal([&] { check_finite(4, kD, x.data(), "row"); }), "");
}

TEST(QueryRows, OrdinaryRowsAreNotCopied) {
    const auto x = random_rows::normal(kN * kD, 2);
    std::vector<float> storage, scales;
    EXPECT_EQ(moderate_rows(kN, kD, x.data(), storage), x.data());
    EXPECT_EQ(
            checked_rows(kN, kD, x.data(), RowScale::AsGiven, "row", storage),
            x.data());
    EXPECT_EQ(moderate_queries(kN, kD, x.data(), storage, scales), x.data());
    EXPECT_TRUE(scales.empty());
    EXPECT_TRUE(storage.empty());
    const std::vector<float> zeros(kN * kD);
    EXPECT_EQ(moderate_rows(kN, kD, zeros.data(), storage), zeros.data());
    EXPECT_EQ(
            moderate_queries(kN, kD, zeros.data(), storage, scales),
            zeros.data());
}

TEST(QueryRows, ExtremeValuesOfRowsAreBounded) {
    const float most = largest_value(kD);
    EXPECT_TRUE(std::isfinite(kD * 4 * most * most)) << "squared distances";
    auto x = random_rows::normal(kN * kD, 3);
    const auto before = x;
    x[5] = FLT_MAX;
    x[6] = -FLT_MAX;
    x[7] = 1e-40f;
    x[8] = most;
    std::vector<float> storage;
    const float* rows = moderate_rows(kN, kD, x.data(), storage);
    ASSERT_NE(rows, x.data());
    EXPECT_EQ(rows[5], most);
    EXPECT_EQ(rows[6], -most);
    EXPECT_EQ(rows[7], 0);
    EXPECT_EQ(rows[8], most);
    for (size_t i = 9; i < kN * kD; i++) {
        EXPECT_EQ(rows[i], before[i]);
    }
}

TEST(QueryRows, ExtremeQueriesAreScaledByPowersOfTwo) {
    const auto ordinary = random_rows::normal(kN * kD, 4);
    for (float factor : {1e-42f, 1e-30f, 1e20f, 1e37f}) {
        auto x = ordinary;
        for (size_t j = 0; j < kD; j++) {
            x[2 * kD + j] *= factor;
        }
        std::vector<float> storage, scales;
        const float* queries =
                moderate_queries(kN, kD, x.data(), storage, scales);
        ASSERT_EQ(scales.size(), kN);
        for (size_t i = 0; i < kN; i++) {
            int exponent;
            EXPECT_EQ(std::frexp(scales[i], &exponent), .5f);
            EXPECT_TRUE(i == 2 || scales[i] == 1);
            float largest = 0;
            for (size_t j = 0; j < kD; j++) {
                const float value = queries[i * kD + j];
                EXPECT_EQ(double(value), double(x[i * kD + j]) * scales[i])
                        << "no digit is lost";
                largest = std::max(largest, std::fabs(value));
            }
            EXPECT_LE(largest, 1e13f);
            EXPECT_GE(largest, 1e-13f);
        }
    }
}

TEST(QueryRows, UnitRowsHaveLengthOne) {
    for (float factor : {1e-40f, 1e-20f, 1.f, 1e37f}) {
        auto x = random_rows::normal(kN * kD, 5);
        for (float& value : x) {
            value *= factor;
        }
        std::vector<float> storage;
        const float* rows =
                checked_rows(kN, kD, x.data(), RowScale::Unit, "row", storage);
        const auto wanted = reference::normalized(x, kD);
        for (size_t i = 0; i < kN; i++) {
            EXPECT_NEAR(
                    reference::dot(kD, rows + i * kD, rows + i * kD), 1, 1e-6);
            for (size_t j = 0; j < kD; j++) {
                EXPECT_NEAR(rows[i * kD + j], wanted[i * kD + j], 1e-6);
            }
        }
    }
}

TEST(QueryRows, ZerosHaveNoDirection) {
    auto x = random_rows::normal(kN * kD, 6);
    std::fill_n(x.begin() + 3 * kD, kD, 0.f);
    std::vector<float> storage;
    const std::string message = refusal([&] {
        checked_rows(kN, kD, x.data(), RowScale::Unit, "row", storage);
    });
    EXPECT_NE(message.find("row 3 is zero"), std::string::npos) << message;
    const float* rows = checked_rows(
            kN, kD, x.data(), RowScale::UnitOrZero, "row", storage);
    EXPECT_EQ(reference::dot(kD, rows + 3 * kD, rows + 3 * kD), 0);
    EXPECT_NEAR(reference::dot(kD, rows, rows), 1, 1e-6);
    EXPECT_EQ(
            checked_rows(kN, kD, x.data(), RowScale::AsGiven, "row", storage),
            x.data());
}

} // namespace
