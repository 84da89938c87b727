/* Products of rows beside sums in long double. */

#include <algorithm>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include <faiss_ext/memory/row_products.h>

#include "fixtures/random_rows.h"

namespace {

using namespace faiss_ext;

constexpr size_t kMostDimensions = 70;

struct Sums {
    long double dot = 0, distance = 0, sizes = 0;
};

Sums sums(size_t d, const float* a, const float* b) {
    Sums sums;
    for (size_t i = 0; i < d; i++) {
        long double difference = (long double)(a[i]) - b[i];
        sums.dot += (long double)(a[i]) * b[i];
        sums.distance += difference * difference;
        sums.sizes += std::fabs((long double)(a[i]) * b[i]);
    }
    return sums;
}

TEST(RowProducts, OfEveryLength) {
    for (size_t d = 0; d <= kMostDimensions; d++) {
        // of exact size, for the sanitizers
        std::vector<float> a = random_rows::normal(d, 1);
        std::vector<float> b = random_rows::normal(d, 2);
        Sums exact = sums(d, a.data(), b.data());
        double allowed = 1e-15 * double(exact.sizes);
        EXPECT_NEAR(
                precise_dot(d, a.data(), b.data()), double(exact.dot), allowed);
        EXPECT_EQ(
                precise_square(d, a.data()),
                precise_dot(d, a.data(), a.data()));
        EXPECT_NEAR(
                quick_dot(d, a.data(), b.data()),
                double(exact.dot),
                1e-6 * double(exact.sizes))
                << d;
        EXPECT_NEAR(
                quick_distance(d, a.data(), b.data()),
                double(exact.distance),
                1e-6 * double(exact.distance))
                << d;
    }
}

TEST(RowProducts, WhatFloatsWouldLose) {
    // 1e8 + 1 - 1e8 in floats is 0
    const size_t d = 24;
    std::vector<float> a(d, 0), ones(d, 1);
    a[0] = 1e8f;
    a[8] = 1;
    a[16] = -1e8f;
    EXPECT_EQ(precise_dot(d, a.data(), ones.data()), 1);
    // squares beyond the range of floats
    std::vector<float> large(d, 1e30f);
    EXPECT_NEAR(precise_square(d, large.data()), 24e60, 1e55);
}

TEST(RowProducts, OfTwoTypes) {
    const std::vector<double> a = {1e-300, 2, 3};
    const std::vector<float> b = {1, 10, 100};
    EXPECT_EQ(precise_dot(3, a.data(), b.data()), 320);
    EXPECT_EQ(precise_dot(1, a.data(), b.data()), 1e-300);
}

} // namespace
