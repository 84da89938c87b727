/*
 * The same data written down otherwise, and data as people have it: one table
 * of kinds, for the tests of what must not depend on it.
 *
 * A kind makes rows, training rows and queries of a base set (or of nothing)
 * and says which metrics it is for and what must hold; test_metamorphic.cpp
 * checks it for each way of storage.
 */

#pragma once

#include <cmath>
#include <cstdint>
#include <fstream>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include <faiss/utils/fp16.h>

#include "reference.h"

namespace metamorphic {

enum Metric : unsigned { L2 = 1, IP = 2, Cosine = 4 };
constexpr unsigned kBoth = L2 | IP;
constexpr unsigned kAll = L2 | IP | Cosine;

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
};

constexpr size_t kRows = 8000;
constexpr size_t kQueries = 200;

/// The first n rows, and the next nq as queries.
inline Set split(size_t d, const std::vector<float>& x, size_t n, size_t nq) {
    return {d,
            {x.begin(), x.begin() + n * d},
            {x.begin() + n * d, x.begin() + (n + nq) * d},
            {}};
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
inline const Set& words() {
    static const Set set = [] {
        constexpr size_t d = 50;
        std::ifstream in(
                FAISS_EXT_TEST_DATA "/glove-50-frequent.hbin",
                std::ios::binary);
        uint32_t shape[2] = {0, 0};
        in.read(reinterpret_cast<char*>(shape), sizeof(shape));
        std::vector<uint16_t> halves(size_t(shape[0]) * d);
        in.read(reinterpret_cast<char*>(halves.data()), 2 * halves.size());
        if (!in || shape[0] < kRows + kQueries) {
            return Set{d, {}, {}, {}};
        }
        std::mt19937_64 random(3);
        std::vector<size_t> order(shape[0]);
        std::iota(order.begin(), order.end(), 0);
        std::vector<float> x;
        for (size_t i = 0; i < kRows + kQueries; i++) {
            std::swap(order[i], order[i + random() % (order.size() - i)]);
            for (size_t j = 0; j < d; j++) {
                x.push_back(faiss::decode_fp16(halves[order[i] * d + j]));
            }
        }
        return split(d, x, kRows, kQueries);
    }();
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

/// Appends columns; their values are given by value(row or query, is_query).
template <class F>
Set padded(const Set& base, size_t columns, F&& value) {
    Set set{base.d + columns, {}, {}, {}};
    auto widen = [&](const std::vector<float>& from, bool is_query) {
        std::vector<float> to;
        for (size_t i = 0; i < from.size() / base.d; i++) {
            auto row = from.begin() + i * base.d;
            to.insert(to.end(), row, row + base.d);
            for (size_t j = 0; j < columns; j++) {
                to.push_back(value(i, is_query));
            }
        }
        return to;
    };
    set.rows = widen(base.rows, false);
    set.queries = widen(base.queries, true);
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

inline std::vector<size_t> permutation(size_t n, uint64_t seed) {
    std::vector<size_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    std::mt19937_64 random(seed);
    for (size_t i = n; i > 1; i--) {
        std::swap(order[i - 1], order[random() % i]);
    }
    return order;
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

// ---- the table ----

struct Kind {
    const char* name;
    std::function<Set(const Set& base, Metric metric)> make;
    unsigned metrics = kBoth;
    /// for these, neighbours are those of the base: codes alone are as good
    unsigned same_order = 0;
    /// data of its own, whatever the base
    bool own_data = false;
    size_t nlist = 64;
};

inline const std::vector<Kind>& kinds() {
    auto scaled = [](float rows, float queries) {
        return [=](const Set& base, Metric) {
            Set set = base;
            scale(set.rows, rows);
            scale(set.queries, queries);
            return set;
        };
    };
    // a constant column: in the queries too, except where it would only add
    // the same to every product
    auto columns = [](size_t count, float value) {
        return [=](const Set& base, Metric metric) {
            size_t added = count == 0 ? base.d : count;
            return padded(base, added, [=](size_t, bool is_query) {
                return is_query && metric == IP ? 0 : value;
            });
        };
    };
    auto lengths = [](float sigma) {
        return [=](const Set& base, Metric) {
            return lognormal_lengths(base, sigma);
        };
    };
    static const std::vector<Kind> table = {
            // clang-format off
            {"AsItIs", [](const Set& base, Metric) { return base; },
             kAll, kAll},
            // translated
            {"Plus100", [](const Set& base, Metric metric) {
                 Set set = base;
                 scale(set.rows, 1, 100);
                 scale(set.queries, 1, metric == L2 ? 100 : 0);
                 return set;
             }, kBoth, L2},
            {"YearColumn", [](const Set& base, Metric metric) {
                 return padded(base, 1, [=](size_t i, bool is_query) {
                     return is_query && metric == IP
                             ? 0.f : float(1990 + i * 7919 % 31);
                 });
             }, kBoth},
            {"MassiveDimension", [](const Set& base, Metric) {
                 auto z = reference::random_normal(base.n(), 51);
                 return padded(base, 1, [z](size_t i, bool) {
                     return 300 + z[i];
                 });
             }, kBoth},
            // scaled
            {"Times1em10", scaled(1e-10f, 1e-10f), kAll, kAll},
            {"Times1em6", scaled(1e-6f, 1e-6f), kAll, kAll},
            {"Times1e4", scaled(1e4f, 1e4f), kAll, kAll},
            {"Times1e8", scaled(1e8f, 1e8f), kAll, kAll},
            {"QueriesTimes1em5", scaled(1, 1e-5f), IP, IP},
            {"QueriesTimes1em3", scaled(1, 1e-3f), IP, IP},
            {"QueriesTimes1e3", scaled(1, 1e3f), IP, IP},
            // in another order
            {"Permuted", [](const Set& base, Metric) {
                 return reordered(base, permutation(base.n(), 52));
             }, kBoth, kBoth},
            {"Sorted", [](const Set& base, Metric) {
                 auto order = permutation(base.n(), 0);
                 std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
                     return base.rows[a * base.d] < base.rows[b * base.d];
                 });
                 return reordered(base, order);
             }, kBoth, kBoth},
            {"TwoKindsInTurn", [](const Set&, Metric) {
                 return two_kinds(true);
             }, kBoth, 0, true},
            {"TwoKindsSorted", [](const Set&, Metric) {
                 return two_kinds(false);
             }, kBoth, 0, true},
            {"Duplicated", [](const Set& base, Metric) {
                 return duplicated(base);
             }, kBoth},
            // other axes
            {"Rotated", [](const Set& base, Metric) { return rotated(base); },
             kBoth, kBoth},
            {"OneColumnOf1000", columns(1, 1000), kBoth, kBoth},
            {"ColumnsOf100", columns(0, 100), kBoth, kBoth},
            {"ColumnsOf0", columns(0, 0), kAll, kAll},
            // lengths
            {"OneWildRow", [](const Set& base, Metric) {
                 return with_wild_rows(base, 1, 1e5f);
             }, kAll, L2 | Cosine},
            {"TwentyWildRows", [](const Set& base, Metric) {
                 return with_wild_rows(base, 20, 1e3f);
             }, kAll, L2 | Cosine},
            {"ZeroRows", [](const Set& base, Metric) {
                 return with_wild_rows(base, base.n() / 5, 0);
             }, kAll},
            {"Lengths0_5", lengths(.5f), kAll, Cosine},
            {"Lengths1", lengths(1), kAll, Cosine},
            {"Lengths1_5", lengths(1.5f), kAll, Cosine},
            {"FarRowsTrained", [](const Set& base, Metric) {
                 return with_far_rows(base, base.n() / 50, true);
             }, kBoth},
            {"FarRowsAdded", [](const Set& base, Metric) {
                 return with_far_rows(base, 500, false);
             }, kBoth},
            {"Drifted", [](const Set& base, Metric) { return drifted(base); },
             kBoth},
            // clouds and shapes
            {"ManyClouds", [](const Set&, Metric) {
                 return split(32, reference::random_clustered(
                         kRows + kQueries, 32, 800, 61), kRows, kQueries);
             }, kBoth, 0, true},
            {"EqualRows", [](const Set&, Metric) {
                 return repeated(3000, 1, 16);
             }, kBoth, 0, true, 16},
            {"FewDistinctRows", [](const Set&, Metric) {
                 return repeated(3000, 100, 16);
             }, kBoth, 0, true, 128},
            {"OneDimension", [](const Set&, Metric) {
                 return normal_rows(kRows, kQueries, 1);
             }, kBoth, 0, true},
            {"FewRowsOf1024", [](const Set&, Metric) {
                 return normal_rows(400, 50, 1024);
             }, kBoth, 0, true, 16},
            // clang-format on
    };
    return table;
}

} // namespace metamorphic
