/*
 * The kinds of data that searches must be right on: one table. A kind is made
 * of a base set (or of nothing) and says for which metrics it is and what must
 * hold; test_metamorphic.cpp checks it for each way of storage.
 */

#pragma once

#include <functional>

#include "metamorphic_data.h"

namespace metamorphic {

enum Metric : unsigned { L2 = 1, IP = 2, Cosine = 4 };
constexpr unsigned kNone = 0;
constexpr unsigned kBoth = L2 | IP;
constexpr unsigned kAll = L2 | IP | Cosine;

enum class Base {
    Both,      ///< the synthetic set and the words
    Synthetic, ///< the synthetic set
    Own        ///< none: data of its own
};

struct Kind {
    const char* name;
    std::function<Set(const Set& base, Metric metric)> make;
    Base base = Base::Both;
    unsigned metrics = kBoth;
    /// metrics for which the neighbours are those of the base: codes alone
    /// find as many
    unsigned same_order = kNone;
    size_t nlist = 64;
    /// so many rows may tie with the neighbours: candidates on top
    size_t ties = 0;
    /// neighbours differ by less than 8 bits of a residual tell
    bool fine = false;
    /** Metrics for which queries, or the rows that are added, are unlike the
     * training rows where these differ most. No training knows, so that it is
     * luck which lists hold more answers, our near rows or Faiss' like
     * directions (spherical k-means): four times the lists must then do. */
    unsigned unlike = kNone;
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
    // in the queries too, except where it would only add the same to every
    // product
    auto columns = [](double per_dimension, float value) {
        return [=](const Set& base, Metric metric) {
            auto count = size_t(std::ceil(per_dimension * double(base.d)));
            return padded(base, count, [=](size_t, size_t, bool is_query) {
                return is_query && metric == IP ? 0 : value;
            });
        };
    };
    auto wild = [](size_t count, float factor) {
        return [=](const Set& base, Metric) {
            return with_wild_rows(base, count, factor);
        };
    };
    auto lengths = [](float sigma) {
        return [=](const Set& base, Metric) {
            return lognormal_lengths(base, sigma);
        };
    };
    auto own = [](auto make) {
        return [=](const Set&, Metric) { return make(); };
    };
    auto of_base = [](auto make) {
        return [=](const Set& base, Metric) { return make(base); };
    };
    static const std::vector<Kind> table = {
            // clang-format off
        {"AsItIs", of_base([](const Set& base) { return base; }),
         Base::Both, kAll, kAll},

        // moved
        {"Plus100", [](const Set& base, Metric metric) {
             Set set = base;
             scale(set.rows, 1, 100);
             scale(set.queries, 1, metric == L2 ? 100 : 0);
             return set;
         }, Base::Both, kBoth, L2},
        {"YearAndMonth", [](const Set& base, Metric metric) {
             return padded(base, 2, [=](size_t i, size_t j, bool is_query) {
                 size_t own = is_query ? base.n() + i : i;
                 size_t draw = own * 2654435761 >> 20;
                 float value = j == 0 ? 1990 + draw % 31 : 1 + draw / 31 % 12;
                 return is_query && metric == IP ? 0 : value;
             });
         }, Base::Both, kBoth, kNone, 64, 0, false, IP},
        {"MassiveDimensions", [](const Set& base, Metric metric) {
             auto z = reference::random_normal(2 * (base.n() + base.nq()), 51);
             return padded(base, 2, [&](size_t i, size_t j, bool is_query) {
                 float own = z[2 * (is_query ? base.n() + i : i) + j];
                 return metric == L2 ? 300 + own : 100 + own / 10;
             });
         }, Base::Both, kAll, kNone, 64, 0, false, IP},
        {"WholeNumbers", of_base([](const Set& base) {
             return mapped(base, [](float value, size_t) {
                 return std::clamp(std::nearbyint(128 + 30 * value), 0.f, 255.f);
             });
         }), Base::Synthetic},

        // in other units
        {"Times1em10", scaled(1e-10f, 1e-10f), Base::Both, kAll, kAll},
        {"Times1em6", scaled(1e-6f, 1e-6f), Base::Synthetic, kAll, kAll},
        {"Times1e4", scaled(1e4f, 1e4f), Base::Synthetic, kAll, kAll},
        {"Times1e8", scaled(1e8f, 1e8f), Base::Both, kAll, kAll},
        {"QueriesTimes1em5", scaled(1, 1e-5f), Base::Synthetic, IP, IP},
        {"QueriesTimes1em3", scaled(1, 1e-3f), Base::Both, IP, IP},
        {"QueriesTimes1e3", scaled(1, 1e3f), Base::Synthetic, IP, IP},
        {"UnequalColumns", of_base([](const Set& base) { // .1 to 10
             return mapped(base, [&](float value, size_t j) {
                 return value * std::pow(10.f, 2.f * j / (base.d - 1) - 1);
             });
         }), Base::Synthetic},

        // in another order
        {"Permuted", of_base([](const Set& base) {
             return reordered(base, permutation(base.n(), 52));
         }), Base::Both, kBoth, kBoth},
        {"Sorted", of_base([](const Set& base) {
             auto order = permutation(base.n(), 0);
             std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
                 return base.rows[a * base.d] < base.rows[b * base.d];
             });
             return reordered(base, order);
         }), Base::Synthetic, kBoth, kBoth},
        {"TwoKindsInTurn", own([] { return two_kinds(true); }), Base::Own},
        {"TwoKindsSorted", own([] { return two_kinds(false); }), Base::Own},
        {"Duplicated", of_base(duplicated), Base::Synthetic},

        // other axes
        {"Rotated", of_base(rotated), Base::Synthetic, kBoth, kBoth},
        // inner product: the columns change the direction of a row, in which
        // its codes' error weighs more
        {"OneColumnOf1000", columns(.01, 1000), Base::Both, kBoth, L2},
        {"ColumnsOf100", columns(.5, 100), Base::Both, kBoth, L2},
        {"ColumnsOf0", columns(.5, 0), Base::Synthetic, kAll, kAll},

        // other lengths
        {"OneWildRow", wild(1, 1e5f), Base::Both, kAll, L2 | Cosine},
        // L2: they take lists for themselves, so that fewer are left
        {"TwentyWildRows", wild(20, 1e3f), Base::Both, kAll, Cosine},
        {"ZeroRows", wild(kRows / 5, 0),
         Base::Both, kAll, kNone, 64, kRows / 5},
        {"Lengths0_5", lengths(.5f), Base::Both, kBoth},
        {"Lengths1", lengths(1), Base::Both, kAll, Cosine},
        {"Lengths1_5", lengths(1.5f), Base::Both, kAll, Cosine},
        {"FarRowsTrained", of_base([](const Set& base) {
             return with_far_rows(base, base.n() / 50, true);
         }), Base::Synthetic},
        {"FarRowsAdded", of_base([](const Set& base) {
             return with_far_rows(base, 500, false);
         }), Base::Both},
        {"NormalFarRowsTrained", own([] {
             return with_far_rows(normal_rows(5500, kQueries, 16), 110, true);
         }), Base::Own, kBoth, kNone, 16},
        {"NormalFarRowsAdded", own([] {
             return with_far_rows(normal_rows(5500, kQueries, 16), 500, false);
         }), Base::Own, kBoth, kNone, 16},
        {"Drifted", of_base(drifted),
         Base::Both, kBoth, kNone, 64, 0, false, IP},

        // other shapes
        {"ManyClouds", own([] {
             return split(32, reference::random_clustered(
                     kRows + kQueries, 32, 800, 61), kRows, kQueries);
         }), Base::Own},
        {"SparseRows", own(sparse_rows), Base::Own},
        {"HeavyTails", own(heavy_tails), Base::Own},
        {"NearDuplicates", own(near_duplicates),
         Base::Own, kBoth, kNone, 64, 0, true},
        {"ForeignQueries", of_base([](const Set& base) {
             Set set = base;
             set.queries = reference::random_normal(set.queries.size(), 53);
             return set;
         }), Base::Synthetic},
        {"EqualRows", own([] { return repeated(3000, 1, 16); }),
         Base::Own, kBoth, kNone, 16},
        {"FewDistinctRows", own([] { return repeated(3000, 100, 16); }),
         Base::Own, kBoth, kNone, 128},
        {"OneDimension", own([] { return normal_rows(kRows, kQueries, 1); }),
         Base::Own},
        {"FewRowsOf1024", own([] { return normal_rows(400, 50, 1024); }),
         Base::Own, kBoth, kNone, 16},
            // clang-format on
    };
    return table;
}

} // namespace metamorphic
