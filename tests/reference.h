/* Brute force that the tests compare with: short, serial, in doubles, without
 * kernels. */

#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include <faiss/MetricType.h>

namespace reference {

/// Standard normal values; the same for a seed on every platform.
inline std::vector<float> random_normal(size_t n, uint64_t seed) {
    std::mt19937_64 random(seed);
    auto uniform = [&random] { // (0, 1)
        return (double(random() >> 12) + 0.5) * 0x1p-52;
    };
    std::vector<float> values(n);
    for (float& value : values) {
        double angle = 2 * std::acos(-1.0) * uniform();
        value = float(std::sqrt(-2 * std::log(uniform())) * std::cos(angle));
    }
    return values;
}

/// Rows around `centers` random centers, spread 0.5 against their 1.
inline std::vector<float>
random_clustered(size_t n, size_t d, size_t centers, uint64_t seed) {
    std::vector<float> center = random_normal(centers * d, seed);
    std::vector<float> rows = random_normal(n * d, seed + 1);
    std::mt19937_64 random(seed + 2);
    for (size_t i = 0; i < n; i++) {
        size_t c = random() % centers;
        for (size_t j = 0; j < d; j++) {
            rows[i * d + j] = center[c * d + j] + rows[i * d + j] / 2;
        }
    }
    return rows;
}

inline double dot(size_t d, const float* a, const float* b) {
    double sum = 0;
    for (size_t i = 0; i < d; i++) {
        sum += double(a[i]) * b[i];
    }
    return sum;
}

inline double squared_distance(size_t d, const float* a, const float* b) {
    double sum = 0;
    for (size_t i = 0; i < d; i++) {
        sum += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    }
    return sum;
}

/// Each row divided by its length; rows of length 0 stay.
inline std::vector<float> normalized(std::vector<float> rows, size_t d) {
    for (size_t i = 0; i < rows.size() / d; i++) {
        double norm = std::sqrt(dot(d, &rows[i * d], &rows[i * d]));
        for (size_t j = 0; j < d && norm > 0; j++) {
            rows[i * d + j] = float(rows[i * d + j] / norm);
        }
    }
    return rows;
}

/// a (n x k) times b (k x m), row-major.
inline std::vector<double> product(
        size_t n,
        size_t k,
        size_t m,
        const std::vector<float>& a,
        const std::vector<float>& b) {
    std::vector<double> out(n * m);
    for (size_t i = 0; i < n; i++) {
        for (size_t l = 0; l < k; l++) {
            for (size_t j = 0; j < m; j++) {
                out[i * m + j] += double(a[i * k + l]) * b[l * m + j];
            }
        }
    }
    return out;
}

struct Neighbors {
    std::vector<float> distances; ///< size nq * k
    std::vector<int64_t> labels;  ///< size nq * k
};

/** Exact search as Faiss does it: inner products descending, or squared
 * distances ascending, equal ones by id; label -1 and the worst distance
 * beyond n. */
inline Neighbors knn(
        faiss::MetricType metric,
        size_t d,
        const std::vector<float>& base,
        const std::vector<float>& queries,
        size_t k) {
    bool ip = metric == faiss::METRIC_INNER_PRODUCT;
    size_t n = base.size() / d;
    size_t nq = queries.size() / d;
    float worst = std::numeric_limits<float>::max() * (ip ? -1.f : 1.f);
    Neighbors result{
            std::vector<float>(nq * k, worst),
            std::vector<int64_t>(nq * k, -1)};
    for (size_t q = 0; q < nq; q++) {
        const float* query = &queries[q * d];
        std::vector<std::pair<double, int64_t>> order;
        for (size_t i = 0; i < n; i++) {
            const float* row = &base[i * d];
            order.emplace_back(
                    ip ? -dot(d, query, row) : squared_distance(d, query, row),
                    int64_t(i));
        }
        std::sort(order.begin(), order.end());
        for (size_t r = 0; r < std::min(k, n); r++) {
            double value = order[r].first;
            result.distances[q * k + r] = float(ip ? -value : value);
            result.labels[q * k + r] = order[r].second;
        }
    }
    return result;
}

} // namespace reference
