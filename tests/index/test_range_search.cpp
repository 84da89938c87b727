/* Range search against brute force, and against the list scanner. */

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/model/index_state.h>
#include <faiss_ext/search/probes.h>

#include <map>
#include <set>

#include "fixtures/index_fixtures.h"

namespace {

using namespace fixtures;

constexpr size_t kD = 16;
constexpr size_t kN = 1500;
constexpr size_t kLists = 20;
constexpr size_t kQueries = 12;

/// Hits of each query: label -> distance.
using Found = std::vector<std::map<int64_t, float>>;

Found found_in(const faiss::RangeSearchResult& result) {
    Found found(result.nq);
    for (size_t q = 0; q < result.nq; q++) {
        for (size_t i = result.lims[q]; i < result.lims[q + 1]; i++) {
            bool first = found[q].emplace(result.labels[i], result.distances[i])
                                 .second;
            EXPECT_TRUE(first) << "id twice";
        }
    }
    return found;
}

size_t count(const Found& found) {
    size_t sum = 0;
    for (const auto& of_query : found) {
        sum += of_query.size();
    }
    return sum;
}

class RangeSearchTest : public testing::TestWithParam<Kind> {
 protected:
    RangeSearchTest() {
        index_ = made_once(GetParam().name(), [] {
            return filled(GetParam(), rows(), kD, kLists);
        });
    }
    static const std::vector<float>& rows() {
        static const std::vector<float> x = whole_rows(kN, kD, 1);
        return x;
    }
    bool l2() const {
        return GetParam().metric == kL2;
    }
    Found range_search(
            float radius,
            const faiss::SearchParameters* params = nullptr) const {
        faiss::RangeSearchResult result(kQueries);
        index_->range_search(
                kQueries, queries_.data(), radius, &result, params);
        return found_in(result);
    }
    Found exact(float radius, const faiss::IDSelector* sel = nullptr) const {
        Found found(kQueries);
        for (size_t q = 0; q < kQueries; q++) {
            for (size_t i = 0; i < kN; i++) {
                float distance = float(reference::distance(
                        GetParam().metric,
                        kD,
                        &queries_[q * kD],
                        &rows()[i * kD]));
                bool in = l2() ? distance < radius : distance > radius;
                if (in && allowed(sel, i)) {
                    found[q][i] = distance;
                }
            }
        }
        return found;
    }
    std::vector<float> radii() const {
        return l2() ? std::vector<
                              float>{-1, 0, 1e-20f, 1, 1e3f, 2e4f, 5e4f, 1e5f, 2e5f, 1e6f, 1e9f, kLargest}
                    : std::vector<float>{
                              kLargest,
                              1e9f,
                              1e6f,
                              2e5f,
                              1e5f,
                              2e4f,
                              1,
                              1e-20f,
                              0,
                              -1,
                              -2e4f,
                              -1e5f,
                              -1e6f,
                              -1e9f,
                              -kLargest};
    }
    /// A radius that some rows pass and some do not.
    float middle() const {
        return l2() ? 8e4f : 3e4f;
    }

    IndexIVFScaNN* index_;
    const std::vector<float> queries_ = whole_rows(kQueries, kD, 2);
};

TEST_P(RangeSearchTest, RawRowsEqualBruteForceAtEveryRadius) {
    if (!index_->options.with_raw_data) {
        GTEST_SKIP() << "approximate distances";
    }
    for (float radius : radii()) {
        EXPECT_EQ(range_search(radius), exact(radius)) << radius;
    }
}

TEST_P(RangeSearchTest, WiderRadiusNeverLosesHits) {
    Found before(kQueries);
    for (float radius : radii()) {
        Found found = range_search(radius);
        for (size_t q = 0; q < kQueries; q++) {
            for (auto hit : before[q]) {
                ASSERT_TRUE(found[q].count(hit.first)) << radius;
            }
        }
        before = std::move(found);
    }
    EXPECT_EQ(count(before), kN * kQueries);
}

TEST_P(RangeSearchTest, ApproximateScoresFindAboutTheSame) {
    Found found = range_search(middle()), expected = exact(middle());
    size_t both = 0;
    for (size_t q = 0; q < kQueries; q++) {
        for (auto hit : expected[q]) {
            both += found[q].count(hit.first);
        }
    }
    EXPECT_GT(count(expected), 100u);
    EXPECT_LT(count(expected), kN * kQueries - 100);
    bool codes = GetParam().tier == Tier::Codes;
    EXPECT_GE(both, (codes ? .8 : .97) * count(expected));
    EXPECT_LE(count(found), (codes ? 1.25 : 1.03) * count(expected));
}

TEST_P(RangeSearchTest, HitsNeverFallAsNprobeGrows) {
    SearchParametersScaNN params;
    Found before(kQueries);
    for (size_t nprobe = 1; nprobe <= kLists; nprobe++) {
        params.nprobe = nprobe;
        Found found = range_search(middle(), &params);
        for (size_t q = 0; q < kQueries; q++) {
            for (auto hit : before[q]) {
                ASSERT_TRUE(found[q].count(hit.first)) << nprobe;
            }
        }
        before = std::move(found);
    }
    EXPECT_GT(count(before), 0u);
}

TEST_P(RangeSearchTest, PreassignedEqualsRangeSearch) {
    for (size_t nprobe : {1, 4, int(kLists)}) {
        SearchParametersScaNN params;
        params.nprobe = nprobe;
        std::vector<int64_t> lists(kQueries * nprobe);
        std::vector<float> distances(kQueries * nprobe);
        faiss_ext::find_probes(
                index_->state(),
                kQueries,
                queries_.data(),
                nprobe,
                {},
                lists.data(),
                distances.data());
        for (float& distance : distances) {
            distance *= l2() ? -2 : 1;
        }
        for (bool store_pairs : {false, true}) {
            faiss::RangeSearchResult result(kQueries);
            index_->range_search_preassigned(
                    kQueries,
                    queries_.data(),
                    middle(),
                    lists.data(),
                    distances.data(),
                    &result,
                    store_pairs,
                    &params);
            Found found = found_in(result);
            Found expected = range_search(middle(), &params);
            if (!store_pairs) {
                EXPECT_EQ(found, expected);
                continue;
            }
            for (size_t q = 0; q < kQueries; q++) {
                ASSERT_EQ(found[q].size(), expected[q].size());
                for (auto [pair, distance] : found[q]) {
                    int64_t id = index_->invlists->get_single_id(
                            faiss::lo_listno(pair), faiss::lo_offset(pair));
                    EXPECT_EQ(distance, expected[q][id]);
                }
            }
        }
    }
}

TEST_P(RangeSearchTest, FilterAllowsItsRowsOnly) {
    std::vector<int64_t> ids;
    for (size_t i = 0; i < kN; i += 7) {
        ids.push_back(i);
    }
    faiss::IDSelectorBatch sel(ids.size(), ids.data());
    SearchParametersScaNN params;
    params.nprobe = kLists;
    params.sel = &sel;
    Found found = range_search(middle(), &params);
    Found all = range_search(middle());
    for (auto& of_query : all) {
        std::erase_if(of_query, [](auto& hit) { return hit.first % 7 != 0; });
    }
    EXPECT_EQ(found, all);
}

TEST_P(RangeSearchTest, DistancesAreThoseOfTheListScanner) {
    Found found = range_search(l2() ? kLargest : -kLargest);
    std::unique_ptr<faiss::InvertedListScanner> scanner(
            index_->get_InvertedListScanner(false));
    for (size_t q = 0; q < kQueries; q += 3) {
        const float* query = &queries_[q * kD];
        scanner->set_query(query);
        size_t seen = 0;
        for (size_t l = 0; l < kLists; l++) {
            scanner->set_list(l, 0);
            faiss::InvertedLists::ScopedCodes codes(index_->invlists, l);
            for (size_t i = 0; i < index_->invlists->list_size(l); i++) {
                float distance = scanner->distance_to_code(
                        codes.get() + i * index_->code_size);
                int64_t id = index_->invlists->get_single_id(l, i);
                ASSERT_FLOAT_EQ(found[q][id], distance);
                seen++;
            }
        }
        EXPECT_EQ(seen, kN);
    }
}

TEST_P(RangeSearchTest, ScannersOfFaissAgree) {
    float radius = middle();
    Found found = range_search(radius);
    std::unique_ptr<faiss::InvertedListScanner> scanner(
            index_->get_InvertedListScanner(false));
    scanner->set_query(queries_.data());
    faiss::RangeSearchResult result(1);
    faiss::RangeSearchPartialResult partial(&result);
    faiss::RangeQueryResult& hits = partial.new_result(0);
    for (size_t l = 0; l < kLists; l++) {
        scanner->set_list(l, 0);
        faiss::InvertedLists::ScopedCodes codes(index_->invlists, l);
        faiss::InvertedLists::ScopedIds ids(index_->invlists, l);
        scanner->scan_codes_range(
                index_->invlists->list_size(l),
                codes.get(),
                ids.get(),
                radius,
                hits);
    }
    partial.finalize();
    std::set<int64_t> expected, got;
    for (auto hit : found[0]) {
        expected.insert(hit.first);
    }
    Found by_scanner = found_in(result);
    for (auto hit : by_scanner[0]) {
        got.insert(hit.first);
    }
    EXPECT_EQ(got, expected);
}

TEST_P(RangeSearchTest, DistancesAgreeWithThoseOfSearch) {
    SearchParametersScaNN params = exhaustive(*index_);
    Hits hits = search(*index_, queries_, 20, &params);
    Found found = range_search(l2() ? kLargest : -kLargest);
    for (size_t i = 0; i < hits.labels.size(); i++) {
        float expected = found[i / 20][hits.labels[i]];
        EXPECT_NEAR(
                hits.distances[i], expected, 1e-4 * std::abs(expected) + 1e-2);
    }
}

TEST_P(RangeSearchTest, NoQueriesGiveNoHits) {
    faiss::RangeSearchResult result(0);
    index_->range_search(0, queries_.data(), middle(), &result);
    EXPECT_EQ(result.lims[0], 0u);
}

INSTANTIATE_TEST_SUITE_P(
        Kinds,
        RangeSearchTest,
        testing::ValuesIn(all_kinds()),
        kind_name);

} // namespace
