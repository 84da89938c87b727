/*
 * Products of two rows: in double precision for making codes and models; in
 * floats, by the kernels, for searching.
 */

#pragma once

#include <cstddef>

#include <faiss_ext/kernels/dispatch.h>

namespace faiss_ext {

/// <a, b> in doubles. In lanes, since additions to one sum would each wait for
/// the one before.
template <class A, class B>
double precise_dot(size_t d, const A* a, const B* b) {
    constexpr size_t kLanes = 8;
    double lanes[kLanes] = {};
    size_t i = 0;
    for (; i + kLanes <= d; i += kLanes) {
        for (size_t l = 0; l < kLanes; l++) {
            lanes[l] += double(a[i + l]) * b[i + l];
        }
    }
    for (; i < d; i++) {
        lanes[i % kLanes] += double(a[i]) * b[i];
    }
    double sum = 0;
    for (double lane : lanes) {
        sum += lane;
    }
    return sum;
}

/// ||a||^2
template <class A>
double precise_square(size_t d, const A* a) {
    return precise_dot(d, a, a);
}

/// <a, b> in floats
inline float quick_dot(size_t d, const float* a, const float* b) {
    const void* row = a;
    float out;
    active_kernels().float_rows_dot({&row, 1, d, b, &out});
    return out;
}

/// ||a - b||^2 in floats
inline float quick_distance(size_t d, const float* a, const float* b) {
    const void* row = a;
    float out;
    active_kernels().float_rows_l2({&row, 1, d, b, &out});
    return out;
}

} // namespace faiss_ext
