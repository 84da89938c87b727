/* Rotations: orthonormal, ordered, balanced. */

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <faiss/impl/FaissException.h>
#include <gtest/gtest.h>

#include <faiss_ext/codes/rotation.h>

#include "fixtures/random_rows.h"
#include "fixtures/reference.h"
#include "fixtures/threads.h"

using namespace faiss_ext;

namespace {

const float kNaN = std::numeric_limits<float>::quiet_NaN();

/// Rows whose covariance has eigenvalues 4 / (1 + i), in random directions.
std::vector<float> uneven_rows(size_t n, size_t d) {
    Rotation directions;
    directions.train(RotationKind::Random, 0, d, nullptr, {}, 99);
    auto x = random_rows::normal(n * d, 20);
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

TEST(Rotation, LeadingAxesAreTheBlocksAndTheOthersFollow) {
    size_t n = 3000, d = 32;
    auto x = uneven_rows(n, d);
    const std::vector<uint32_t> offsets = {0, 3, 6, 9, 12, 15, 18};
    Rotation rotation;
    rotation.train(RotationKind::Balanced, n, d, x.data(), offsets, 0);
    std::vector<float> rotated(n * d);
    rotation.apply(n, x.data(), rotated.data());
    const auto variance = variances(d, rotated);
    const auto coded = variance.begin() + 18;
    const double least = *std::min_element(variance.begin(), coded);
    for (size_t i = 18; i < d; i++) {
        EXPECT_LE(variance[i], least + 1e-5) << i;
        EXPECT_TRUE(i == 18 || variance[i] <= variance[i - 1] + 1e-5) << i;
    }
    std::vector<float> back(n * d);
    rotation.apply_transposed(n, rotated.data(), back.data());
    for (size_t i = 0; i < n * d; i++) {
        ASSERT_NEAR(back[i], x[i], 1e-5);
    }
}

TEST(Rotation, QueriesGetTheLeadingDimensions) {
    size_t n = 500, d = 45;
    auto x = uneven_rows(n, d);
    Rotation rotation;
    rotation.train(RotationKind::PCA, n, d, x.data(), {}, 0);
    std::vector<float> all(d), exact, rough;
    rotation.apply(1, x.data(), all.data());
    const double length = std::sqrt(reference::dot(d, all.data(), all.data()));
    for (size_t leading : {1, 16, 21, 45}) {
        rotation.set_importance(std::vector<float>(leading, 1));
        const float* precise = rotation.rotated(x.data(), exact);
        const float* byte = rotation.rotated_roughly(x.data(), rough);
        EXPECT_EQ(exact.size(), leading);
        for (size_t i = 0; i < leading; i++) {
            EXPECT_EQ(precise[i], all[i]) << leading << ", " << i;
            EXPECT_NEAR(byte[i], all[i], .03 * length) << leading << ", " << i;
        }
    }
}

TEST(Rotation, FewerDimensionsWhereTheyHoldMost) {
    size_t n = 3000, d = 32;
    const std::vector<uint32_t> all = {0, 8, 16, 24, 32};
    const std::vector<uint32_t> half = {0, 4, 8, 12, 16};
    auto even = random_rows::normal(n * d, 22);
    auto uneven = uneven_rows(n, d);
    // of 4 / (1 + i), 16 hold .833 of 32
    auto steep = uneven;
    Rotation axes;
    axes.train(RotationKind::PCA, n, d, uneven.data(), {}, 0);
    axes.apply(n, uneven.data(), steep.data());
    for (size_t i = 0; i < n * d; i++) {
        steep[i] /= 1 + float(i % d);
    }
    for (auto kind : {RotationKind::PCA, RotationKind::Balanced}) {
        auto takes_half = [&](const std::vector<float>& x) {
            Rotation rotation;
            const bool half_taken =
                    rotation.train(kind, n, d, x.data(), all, 0, half);
            EXPECT_FALSE(rotation.train(kind, n, d, x.data(), all, 0));
            return half_taken;
        };
        EXPECT_FALSE(takes_half(even));
        EXPECT_FALSE(takes_half(uneven));
        EXPECT_TRUE(takes_half(steep));
    }
    Rotation none;
    EXPECT_FALSE(
            none.train(RotationKind::Random, n, d, steep.data(), all, 0, half));
}

TEST(Rotation, BadArgumentsThrow) {
    Rotation rotation;
    auto x = random_rows::normal(10 * 4, 21);
    EXPECT_THROW(
            rotation.set_matrix(4, std::vector<float>(15)),
            faiss::FaissException);
    EXPECT_THROW(
            rotation.train(RotationKind::Balanced, 10, 4, x.data(), {0, 5}, 0),
            faiss::FaissException);
    EXPECT_THROW(
            rotation.train(RotationKind::Balanced, 10, 4, x.data(), {}, 0),
            faiss::FaissException);
    x[5] = kNaN;
    EXPECT_THROW(
            rotation.train(RotationKind::PCA, 10, 4, x.data(), {}, 0),
            faiss::FaissException);
}
