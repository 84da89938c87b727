/*
 * Small changes cost what they touch: with eight times the rows, of as many
 * lists in proportion, they take as long.
 *
 * The shortest of many runs counts. What is looked up in more rows is farther
 * away in the caches, a microsecond or two on a busy machine: kDistance. A walk
 * over all rows of the larger index takes twenty times that, one over all its
 * lists more than it.
 */

#include <faiss_ext/IndexIVFScaNN.h>

#include <algorithm>
#include <chrono>

#include "fixtures/index_fixtures.h"

namespace {

using namespace fixtures;
using faiss::DirectMap;

constexpr size_t kD = 4;
constexpr size_t kFew = 20000;
constexpr size_t kFactor = 8;
constexpr int kRuns = 60;
constexpr double kMost = kFactor / 2;
constexpr double kDistance = 5e-6; // seconds

/// Seconds of the fastest change.
template <class Change>
double shortest(Change&& change) {
    using Clock = std::chrono::steady_clock;
    double best = 1e9;
    for (int run = 0; run < kRuns; run++) {
        auto begin = Clock::now();
        change(run);
        std::chrono::duration<double> time = Clock::now() - begin;
        best = std::min(best, time.count());
    }
    return best;
}

std::unique_ptr<IndexIVFScaNN> made(size_t n, float soar, DirectMap::Type map) {
    // the lists are given, so that their choice costs the same
    size_t nlist = n / 50;
    std::vector<float> x = clustered_rows(n, kD, 1);
    ScaNNOptions options = tier_options(Tier::Int8Raw, soar);
    auto index = std::make_unique<IndexIVFScaNN>(kD, nlist, kL2, options);
    index->quantizer->add(int64_t(nlist), x.data()); // any centroids will do
    index->train(int64_t(nlist), x.data());
    index->set_direct_map_type(map);
    std::vector<int64_t> assign(n);
    for (size_t i = 0; i < n; i++) {
        assign[i] = i % nlist;
    }
    index->add_core(n, x.data(), nullptr, assign.data());
    return index;
}

struct Costs {
    double add, update, by_array, by_set, by_range;
};

Costs costs_of(size_t n, float soar, DirectMap::Type map) {
    auto index = made(n, soar, map);
    std::vector<float> x = clustered_rows(1000, kD, 2);
    Costs costs;
    costs.add = shortest([&](int run) {
        int64_t list = run;
        index->add_core(1, &x[run * kD], nullptr, &list);
    });
    costs.update = shortest([&](int run) {
        int64_t id = 3 * run;
        index->update_vectors(1, &id, &x[run * kD]);
    });
    costs.by_array = shortest([&](int run) {
        int64_t id = 3 * run + 1;
        index->remove_ids(faiss::IDSelectorArray(1, &id));
    });
    costs.by_set = shortest([&](int run) {
        int64_t id = 3 * run + 2;
        index->remove_ids(faiss::IDSelectorBatch(1, &id));
    });
    costs.by_range = shortest([&](int run) {
        int64_t id = 1000 + 5 * run;
        index->remove_ids(faiss::IDSelectorRange(id, id + 5));
    });
    return costs;
}

TEST(ChangeCost, DoesNotGrowWithTheRows) {
    for (float soar : {0.0f, 1.0f}) {
        for (auto map : {DirectMap::Array, DirectMap::Hashtable}) {
            Costs few = costs_of(kFew, soar, map);
            Costs many = costs_of(kFactor * kFew, soar, map);
            EXPECT_LT(many.by_array, kMost * few.by_array + kDistance);
            EXPECT_LT(many.by_set, kMost * few.by_set + kDistance);
            EXPECT_LT(many.by_range, kMost * few.by_range + kDistance);
            if (soar == 0) {
                EXPECT_LT(many.add, kMost * few.add + kDistance);
            }
            // an update looks for the nearest of more lists, some ns each
            EXPECT_LT(many.update, kMost * few.update + 100e-6);
        }
    }
}

} // namespace
