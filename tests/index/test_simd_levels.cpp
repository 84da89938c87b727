/* One index, searched at every SIMD level of this machine: the same labels,
 * whatever is stored and whichever way the queries take. */

#include <cmath>
#include <functional>
#include <map>
#include <numeric>

#include <faiss_ext/simd_level.h>

#include "fixtures/index_fixtures.h"

namespace {

using namespace fixtures;

constexpr size_t kD = 24, kN = 1000, kLists = 10, kQueries = 9;

/// Sums of floats in another order; beside |q| |x|, which is below this.
constexpr float kRounding = 1e-6f * 250 * 250 * kD;

/// Leaves the level as it was.
class AtLevel {
 public:
    explicit AtLevel(const std::string& level)
            : before_(faiss_ext::simd_level()) {
        faiss_ext::set_simd_level(level);
    }
    ~AtLevel() {
        faiss_ext::set_simd_level(before_);
    }

 private:
    std::string before_;
};

class SimdLevels : public testing::TestWithParam<Kind> {
 protected:
    void SetUp() override {
        if (faiss_ext::simd_levels().size() == 1) {
            GTEST_SKIP() << "this machine has one level: nothing to compare";
        }
    }
    static const std::vector<float>& rows() {
        static const std::vector<float> made = whole_rows(kN, kD, 1);
        return made;
    }
    IndexIVFScaNN& index() const {
        return *made_once(GetParam().name(), [] {
            return filled(GetParam(), rows(), kD, kLists);
        });
    }

    /// The same hits at every level. @param search  makes them
    void expect_same(
            const std::string& what,
            const std::function<Hits()>& search) const {
        Hits first;
        std::string best;
        for (const std::string& level : faiss_ext::simd_levels()) {
            const AtLevel at(level);
            const Hits hits = search();
            if (best.empty()) {
                best = level;
                first = hits;
            }
            ASSERT_EQ(hits.labels, first.labels)
                    << what << ": " << level << " and " << best;
            for (size_t i = 0; i < hits.labels.size(); i++) {
                if (hits.labels[i] >= 0) {
                    ASSERT_NEAR(
                            hits.distances[i], first.distances[i], kRounding)
                            << what << ": " << level << " and " << best;
                }
            }
        }
    }

    const std::vector<float> queries_ = whole_rows(kQueries, kD, 2);
};

TEST_P(SimdLevels, SearchesFindTheSame) {
    for (size_t nprobe : {size_t(3), kLists}) {
        for (size_t k : {1, 10, 100}) {
            SearchParametersScaNN params;
            params.nprobe = nprobe;
            expect_same("k " + std::to_string(k), [&] {
                return search(index(), queries_, k, &params);
            });
        }
    }
    // all rows: of thousands of estimates some differ by less than rounding, so
    // only the set is compared, and the distance of each
    {
        constexpr size_t k = kN + 5;
        SearchParametersScaNN params;
        params.nprobe = kLists;
        expect_same("all rows", [&] {
            const Hits hits = search(index(), queries_, k, &params);
            Hits sorted;
            for (size_t q = 0; q < kQueries; q++) {
                std::map<int64_t, float> distances;
                for (size_t i = q * k; i < (q + 1) * k; i++) {
                    distances[hits.labels[i]] = hits.distances[i];
                }
                for (auto [label, distance] : distances) {
                    sorted.labels.push_back(label);
                    sorted.distances.push_back(distance);
                }
            }
            return sorted;
        });
    }
    // one by one, and few candidates
    SearchParametersScaNN params;
    params.nprobe = 3;
    params.reorder_k = params.refine_k = 12;
    expect_same("one by one", [&] {
        Hits all;
        for (size_t q = 0; q < kQueries; q++) {
            const std::vector<float> one(
                    &queries_[q * kD], &queries_[q * kD] + kD);
            const Hits hits = search(index(), one, 10, &params);
            all.labels.insert(
                    all.labels.end(), hits.labels.begin(), hits.labels.end());
            all.distances.insert(
                    all.distances.end(),
                    hits.distances.begin(),
                    hits.distances.end());
        }
        return all;
    });
}

/// From nearly all rows to one, so that each route is taken.
TEST_P(SimdLevels, FilteredSearchesFindTheSame) {
    std::vector<int64_t> every_third;
    for (size_t i = 0; i < kN; i += 3) {
        every_third.push_back(int64_t(i));
    }
    faiss::IDSelectorBatch third(every_third.size(), every_third.data());
    faiss::IDSelectorRange most(20, kN), half(0, kN / 2), few(100, 140),
            one(7, 8), none(kN, kN + 9);
    faiss::IDSelectorArray some(15, every_third.data());
    for (auto map : {faiss::DirectMap::NoMap, faiss::DirectMap::Array}) {
        index().set_direct_map_type(map);
        for (faiss::IDSelector* sel : std::vector<faiss::IDSelector*>{
                     &third, &most, &half, &few, &one, &none, &some}) {
            for (size_t nprobe : {size_t(4), kLists}) {
                SearchParametersScaNN params;
                params.nprobe = nprobe;
                params.sel = sel;
                expect_same(typeid(*sel).name(), [&] {
                    return search(index(), queries_, 10, &params);
                });
            }
        }
    }
    index().set_direct_map_type(faiss::DirectMap::NoMap);
}

TEST_P(SimdLevels, RangeSearchesFindTheSame) {
    const Hits near = exact_search(GetParam().metric, kD, rows(), queries_, 30);
    faiss::IDSelectorRange half(0, kN / 2);
    for (faiss::IDSelector* sel :
         {(faiss::IDSelector*)nullptr, (faiss::IDSelector*)&half}) {
        for (size_t nprobe : {size_t(4), kLists}) {
            SearchParametersScaNN params;
            params.nprobe = nprobe;
            params.sel = sel;
            // no row's distance: estimates of the codes lie on either side
            const float radius = near.distances[29] + 0.3f;
            expect_same("radius", [&] {
                faiss::RangeSearchResult found(kQueries);
                index().range_search(
                        kQueries, queries_.data(), radius, &found, &params);
                std::map<std::pair<size_t, int64_t>, float> sorted;
                for (size_t q = 0; q < kQueries; q++) {
                    for (size_t i = found.lims[q]; i < found.lims[q + 1]; i++) {
                        sorted[{q, found.labels[i]}] = found.distances[i];
                    }
                }
                Hits hits;
                for (auto [key, distance] : sorted) {
                    hits.labels.push_back(int64_t(key.first * kN) + key.second);
                    hits.distances.push_back(distance);
                }
                return hits;
            });
        }
    }
}

/// A handful of rows, of which a search rescores all.
TEST_P(SimdLevels, FewRowsAreFoundTheSame) {
    auto few = trained_like(index());
    for (size_t n : {0, 1, 1, 35}) { // 37 in the end
        few->add(int64_t(n), rows().data());
        for (size_t k : {1, 10, 50}) {
            expect_same(std::to_string(few->ntotal) + " rows", [&] {
                return search(*few, queries_, k);
            });
        }
    }
}

/// Training and adding, too, give an index that finds as much.
TEST_P(SimdLevels, IndexesMadeAtEachLevelFindAsMuch) {
    if (GetParam().tier != Tier::Int8) {
        GTEST_SKIP() << "trained as with 8-bit codes";
    }
    const Hits exact =
            exact_search(GetParam().metric, kD, rows(), queries_, 10);
    std::map<std::string, double> found;
    for (const std::string& level : faiss_ext::simd_levels()) {
        const AtLevel at(level);
        auto made = filled(GetParam(), rows(), kD, kLists);
        found[level] = recall(search(*made, queries_, 10), exact, 10);
    }
    for (auto [level, reached] : found) {
        EXPECT_NEAR(reached, found.begin()->second, .02) << level;
    }
}

INSTANTIATE_TEST_SUITE_P(
        Kinds,
        SimdLevels,
        testing::ValuesIn(all_kinds()),
        kind_name);

} // namespace
