/* Results must not depend on the number of threads. */

#pragma once

#include <gtest/gtest.h>
#include <omp.h>

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
