/*
 * Sets of rows and queries for the tests of what must not depend on how data is
 * written down: two to start from, and what can happen to them. Next:
 * metamorphic_kinds.h, the table.
 */

#pragma once

#include <cmath>
#include <cstdint>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include <faiss/utils/fp16.h>

#include "reference.h"

namespace metamorphic {

struct Set {
    size_t d;
    std::vector<float> rows;
    std::vector<float> queries;
    /// trained on, where these are not the rows
    std::vector<float> training;

    size_t n() const {
        return rows.size() / d;
    }
    size_t nq() const {
        return queries.size() / d;
    }
    const std::vector<float>& trained_on() const {
        return training.empty() ? rows : training;
    }
};

constexpr size_t kRows = 6000;
constexpr size_t kQueries = 300;

/// The first n rows, and the next nq as queries.
inline Set split(size_t d, const std::vector<float>& x, size_t n, size_t nq) {
    return {d,
            {x.begin(), x.begin() + n * d},
            {x.begin() + n * d, x.begin() + (n + nq) * d},
            {}};
}

inline std::vector<size_t> permutation(size_t n, uint64_t seed) {
    std::vector<size_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    std::mt19937_64 random(seed);
    for (size_t i = n; i > 1; i--) {
        std::swap(order[i - 1], order[random() % i]);
    }
    return order;
}

/// Gaussian clouds, a few more than lists.
inline const Set& synthetic() {
    static const Set set =
            split(32,
                  reference::random_clustered(kRows + kQueries, 32, 100, 1),
                  kRows,
                  kQueries);
    return set;
}

/// Frequent words (GloVe) as they are, of lengths 3 to 9, drawn at random.
/// Empty where the file is missing.
inline Set draw_words(size_t n, size_t nq) {
    constexpr size_t d = 50;
    std::ifstream in(
            FAISS_EXT_TEST_DATA "/glove-50-frequent.hbin", std::ios::binary);
    uint32_t shape[2] = {0, 0};
    in.read(reinterpret_cast<char*>(shape), sizeof(shape));
    std::vector<uint16_t> halves(size_t(shape[0]) * d);
    in.read(reinterpret_cast<char*>(halves.data()), 2 * halves.size());
    if (!in || shape[0] < n + nq) {
        return Set{d, {}, {}, {}};
    }
    std::vector<float> x;
    for (size_t row : permutation(shape[0], 3)) {
        for (size_t j = 0; j < d; j++) {
            x.push_back(faiss::decode_fp16(halves[row * d + j]));
        }
    }
    return split(d, x, n, nq);
}

inline const Set& words() {
    static const Set set = draw_words(kRows, kQueries);
    return set;
}

// ---- makers ----

inline void scale(std::vector<float>& x, float factor, float plus = 0) {
    for (float& value : x) {
        value = value * factor + plus;
    }
}

inline void scale_row(Set& set, size_t i, float factor) {
    for (size_t j = 0; j < set.d; j++) {
        set.rows[i * set.d + j] *= factor;
    }
}

/// Appends columns; value(i, j, is_query) is what row or query i gets in the
/// j-th of them.
template <class F>
Set padded(const Set& base, size_t columns, F&& value) {
    Set set{base.d + columns, {}, {}, {}};
    auto widen = [&](const std::vector<float>& from, bool is_query) {
        std::vector<float> to;
        for (size_t i = 0; i < from.size() / base.d; i++) {
            auto row = from.begin() + i * base.d;
            to.insert(to.end(), row, row + base.d);
            for (size_t j = 0; j < columns; j++) {
                to.push_back(value(i, j, is_query));
            }
        }
        return to;
    };
    set.rows = widen(base.rows, false);
    set.queries = widen(base.queries, true);
    return set;
}

/// f of each value; the same for rows and queries.
template <class F>
Set mapped(const Set& base, F&& f) {
    Set set = base;
    for (auto* values : {&set.rows, &set.queries}) {
        for (size_t i = 0; i < values->size(); i++) {
            (*values)[i] = f((*values)[i], i % set.d);
        }
    }
    return set;
}

/// Rows in another order; order[i] is the old place of row i.
inline Set reordered(const Set& base, const std::vector<size_t>& order) {
    Set set = base;
    for (size_t i = 0; i < order.size(); i++) {
        std::copy_n(&base.rows[order[i] * set.d], set.d, &set.rows[i * set.d]);
    }
    return set;
}

/// A random orthonormal matrix, by Gram-Schmidt. @return size d * d
inline std::vector<float> orthonormal(size_t d, uint64_t seed) {
    std::vector<float> start = reference::random_normal(d * d, seed);
    std::vector<double> m(start.begin(), start.end());
    for (size_t i = 0; i < d; i++) {
        double* row = &m[i * d];
        for (int twice = 0; twice < 2; twice++) {
            for (size_t l = 0; l < i; l++) {
                double product =
                        std::inner_product(row, row + d, &m[l * d], 0.0);
                for (size_t j = 0; j < d; j++) {
                    row[j] -= product * m[l * d + j];
                }
            }
        }
        double norm = std::sqrt(std::inner_product(row, row + d, row, 0.0));
        for (size_t j = 0; j < d; j++) {
            row[j] /= norm;
        }
    }
    return {m.begin(), m.end()};
}

inline Set rotated(const Set& base) {
    size_t d = base.d;
    std::vector<float> matrix = orthonormal(d, 5);
    auto turned = [&](const std::vector<float>& x) {
        auto y = reference::product(x.size() / d, d, d, x, matrix);
        return std::vector<float>(y.begin(), y.end());
    };
    return {d, turned(base.rows), turned(base.queries), {}};
}

/// Each of the first half of the rows twice in a row.
inline Set duplicated(const Set& base) {
    Set set = base;
    for (size_t i = 0; i < set.n(); i++) {
        std::copy_n(&base.rows[i / 2 * set.d], set.d, &set.rows[i * set.d]);
    }
    return set;
}

/// `count` rows, spread over the set, `factor` times as long.
inline Set with_wild_rows(const Set& base, size_t count, float factor) {
    Set set = base;
    for (size_t i = 0; i < count; i++) {
        scale_row(set, (2 * i + 1) * set.n() / (2 * count), factor);
    }
    return set;
}

/// Rows of unit length times lognormal numbers; queries too, for these are
/// like rows.
inline Set lognormal_lengths(const Set& base, float sigma) {
    Set set = base;
    auto relength = [&](std::vector<float>& x, uint64_t seed) {
        x = reference::normalized(x, set.d);
        std::vector<float> z = reference::random_normal(x.size() / set.d, seed);
        for (size_t i = 0; i < x.size(); i++) {
            x[i] *= std::exp(sigma * z[i / set.d]);
        }
    };
    relength(set.rows, 11);
    relength(set.queries, 12);
    return set;
}

/// Two kinds of rows, as pictures and texts: the second lies apart, in wider
/// clouds, and queries are of that kind. So many rows that training draws a
/// sample, and an even step sees one kind only.
inline Set two_kinds(bool in_turn) {
    constexpr size_t n = 65536, nq = 100, d = 16;
    auto first = reference::random_clustered(n / 2, d, 64, 21);
    auto second = reference::random_clustered(n / 2 + nq, d, 64, 22);
    scale(second, 3, 6);
    Set set = split(d, second, n / 2, nq);
    auto rows = std::move(set.rows);
    for (size_t i = 0; i < n; i++) {
        bool is_first = in_turn ? i % 2 == 0 : i < n / 2;
        size_t at = in_turn ? i / 2 : i % (n / 2);
        auto from = (is_first ? first : rows).begin() + at * d;
        set.rows.insert(set.rows.end(), from, from + d);
    }
    return set;
}

/// `far` rows 10 times as long behind the others, trained on or not.
inline Set with_far_rows(const Set& base, size_t far, bool trained) {
    Set set = base;
    size_t near = set.n() - far;
    for (size_t i = near; i < set.n(); i++) {
        scale_row(set, i, 10);
    }
    if (!trained) {
        set.training.assign(set.rows.begin(), set.rows.begin() + near * set.d);
    }
    return set;
}

/// Trained on the first half; the second comes 5 times as long and moved by 3,
/// and so do the queries.
inline Set drifted(const Set& base) {
    Set set = base;
    auto middle = base.rows.begin() + base.n() / 2 * base.d;
    set.training.assign(base.rows.begin(), middle);
    set.rows.assign(middle, base.rows.end());
    scale(set.rows, 5, 3);
    scale(set.queries, 5, 3);
    return set;
}

/// `distinct` rows, each n / distinct times; queries are the same rows.
inline Set repeated(size_t n, size_t distinct, size_t d) {
    Set set{d, {}, reference::random_normal(distinct * d, 31), {}};
    for (size_t i = 0; i < n; i++) {
        auto from = set.queries.begin() + i * distinct / n * d;
        set.rows.insert(set.rows.end(), from, from + d);
    }
    return set;
}

inline Set normal_rows(size_t n, size_t nq, size_t d) {
    return split(d, reference::random_normal((n + nq) * d, 41), n, nq);
}

/// Nine of ten values are 0, none is below, as counts of words.
inline Set sparse_rows() {
    return mapped(normal_rows(kRows, kQueries, 64), [](float value, size_t) {
        return std::max(0.f, value - 1.28f);
    });
}

/// Values of Student's t with 2 degrees of freedom: no variance.
inline Set heavy_tails() {
    constexpr size_t count = (kRows + kQueries) * 32;
    std::vector<float> x = reference::random_normal(3 * count, 42);
    for (size_t i = 0; i < count; i++) {
        x[i] /= std::hypot(x[count + i], x[2 * count + i]) / std::sqrt(2.f);
    }
    return split(32, x, kRows, kQueries);
}

/// 400 rows of which there are 20 versions each, all but equal.
inline Set near_duplicates() {
    constexpr size_t d = 32, n = kRows + kQueries;
    std::vector<float> center = reference::random_normal(400 * d, 43);
    std::vector<float> x = reference::random_normal(n * d, 44);
    for (size_t i = 0; i < n * d; i++) {
        x[i] = center[i / d % 400 * d + i % d] + x[i] * 1e-3f;
    }
    return split(d, x, kRows, kQueries);
}

} // namespace metamorphic
