/* Search: exactness, every k, every way to call it. */

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/model/index_state.h>
#include <faiss_ext/search/probes.h>

#include <omp.h>

#include <algorithm>
#include <map>
#include <set>
#include <thread>

#include "fixtures/index_fixtures.h"

namespace {

using namespace fixtures;

constexpr size_t kD = 16;
constexpr size_t kN = 2000;
constexpr size_t kLists = 25;
constexpr size_t kQueries = 20;

/// One index of each kind, of whole rows; built once.
class SearchTest : public testing::TestWithParam<Kind> {
 protected:
    SearchTest() : index_(index_of(GetParam())) {}

    static IndexIVFScaNN& index_of(const Kind& kind) {
        return *made_once(kind.name(), [&] {
            auto index = filled(kind, rows(), kD, kLists);
            index->nprobe = 5;
            return index;
        });
    }
    static const std::vector<float>& rows() {
        static const std::vector<float> x = whole_rows(kN, kD, 1);
        return x;
    }
    static const std::vector<float>& queries() {
        static const std::vector<float> q = whole_rows(kQueries, kD, 2);
        return q;
    }
    Hits exact(size_t k) const {
        return exact_search(index_.metric_type, kD, rows(), queries(), k);
    }
    bool has_raw() const {
        return index_.options.with_raw_data;
    }
    /// The lists search() visits, as search_preassigned() wants them.
    void probe(
            size_t nprobe,
            std::vector<int64_t>& lists,
            std::vector<float>& distances) const {
        lists.resize(kQueries * nprobe);
        distances.resize(kQueries * nprobe);
        faiss_ext::find_probes(
                index_.state(),
                kQueries,
                queries().data(),
                nprobe,
                {},
                lists.data(),
                distances.data());
        for (float& distance : distances) {
            distance *= index_.metric_type == kL2 ? -2 : 1;
        }
    }
    Hits preassigned(
            size_t k,
            const std::vector<int64_t>& lists,
            const std::vector<float>& distances,
            bool store_pairs,
            const faiss::IVFSearchParameters* params = nullptr) const {
        Hits hits{std::vector<float>(kQueries * k, 7), {}};
        hits.labels.assign(kQueries * k, 7);
        index_.search_preassigned(
                kQueries,
                queries().data(),
                k,
                lists.data(),
                distances.data(),
                hits.distances.data(),
                hits.labels.data(),
                store_pairs,
                params);
        return hits;
    }

    IndexIVFScaNN& index_;
};

TEST_P(SearchTest, AllListsAndAllCandidatesOfRawRowsAreExact) {
    if (!has_raw()) {
        GTEST_SKIP() << "approximate scores";
    }
    SearchParametersScaNN params = exhaustive(index_);
    for (size_t k : {1, 2, 10, 33, 100, 700, int(kN)}) {
        Hits hits = search(index_, queries(), k, &params);
        EXPECT_TRUE(hits == exact(k)) << "k " << k;
    }
}

TEST_P(SearchTest, EveryKReturnsEachIdOnceBestFirst) {
    index_.nprobe = kLists;
    for (size_t k : {1, 2, 3, 31, 32, 33, 500, int(kN) - 1, int(kN)}) {
        Hits hits = search(index_, queries(), k);
        for (size_t q = 0; q < kQueries; q++) {
            std::set<int64_t> seen;
            for (size_t i = q * k; i < (q + 1) * k; i++) {
                ASSERT_TRUE(seen.insert(hits.labels[i]).second);
                ASSERT_TRUE(hits.labels[i] >= 0 && hits.labels[i] < int(kN))
                        << "k " << k << " rank " << i % k;
                bool rises =
                        i > q * k &&
                        (index_.metric_type == kL2
                                 ? hits.distances[i] < hits.distances[i - 1]
                                 : hits.distances[i] > hits.distances[i - 1]);
                ASSERT_FALSE(rises);
            }
        }
    }
    index_.nprobe = 5;
}

TEST_P(SearchTest, BeyondWhatExistsIsPaddedAsInFaiss) {
    constexpr size_t k = kN + 7;
    SearchParametersScaNN params = exhaustive(index_);
    Hits hits = search(index_, queries(), k, &params);
    for (size_t q = 0; q < kQueries; q++) {
        for (size_t i = 0; i < k; i++) {
            ASSERT_EQ(hits.labels[q * k + i] == -1, i >= kN) << i;
        }
        float padding = hits.distances[q * k + kN + 3];
        EXPECT_EQ(padding, index_.metric_type == kL2 ? kLargest : -kLargest);
    }
}

TEST_P(SearchTest, OutputsAreNotRead) {
    constexpr size_t k = 10;
    Hits expected = search(index_, queries(), k);
    for (float rubbish : {-kLargest, kLargest, NAN, 0.0f}) {
        Hits hits{std::vector<float>(kQueries * k, rubbish), {}};
        hits.labels.assign(kQueries * k, 3);
        index_.search(
                kQueries,
                queries().data(),
                k,
                hits.distances.data(),
                hits.labels.data());
        EXPECT_TRUE(hits == expected);
    }
}

/// A query gets the same bits alone, in a batch and on any number of threads.
void expect_same_bits_in_any_batch(
        IndexIVFScaNN& index,
        const std::vector<float>& queries) {
    size_t d = index.d;
    int threads = omp_get_max_threads();
    size_t nprobe_before = index.nprobe;
    for (size_t nprobe : {size_t(1), index.nlist / 5 + 1, index.nlist}) {
        index.nprobe = nprobe;
        omp_set_num_threads(1);
        Hits batch = search(index, queries, 10);
        Hits alone;
        for (size_t q = 0; q < queries.size() / d; q++) {
            auto begin = queries.begin() + q * d;
            Hits one = search(index, {begin, begin + d}, 10);
            alone.distances.insert(
                    alone.distances.end(),
                    one.distances.begin(),
                    one.distances.end());
            alone.labels.insert(
                    alone.labels.end(), one.labels.begin(), one.labels.end());
        }
        EXPECT_TRUE(alone == batch) << "nprobe " << nprobe;
        for (int count : {2, 3, 8}) {
            omp_set_num_threads(count);
            EXPECT_TRUE(search(index, queries, 10) == batch)
                    << count << " threads";
        }
    }
    index.nprobe = nprobe_before;
    omp_set_num_threads(threads);
}

TEST_P(SearchTest, OneQueryABatchAndThreadsGiveTheSameBits) {
    expect_same_bits_in_any_batch(index_, queries());
}

TEST_P(SearchTest, LongListsAreScannedForSeveralQueriesAtOnce) {
    // 16 bytes of codes or more, 750 vectors a list: search.cpp shares them
    constexpr size_t kLongD = 64;
    auto index = filled(GetParam(), whole_rows(3000, kLongD, 3), kLongD, 4);
    expect_same_bits_in_any_batch(*index, whole_rows(37, kLongD, 4));
}

TEST_P(SearchTest, ThreadsOfTheCallerDoNotDisturbEachOther) {
    Hits expected = search(index_, queries(), 10);
    std::vector<Hits> hits(4);
    std::vector<std::thread> threads;
    for (Hits& of_thread : hits) {
        threads.emplace_back([&] {
            for (int i = 0; i < 10; i++) {
                of_thread = search(index_, queries(), 10);
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    for (const Hits& of_thread : hits) {
        EXPECT_TRUE(of_thread == expected);
    }
}

TEST_P(SearchTest, PreassignedEqualsSearch) {
    std::vector<int64_t> lists;
    std::vector<float> distances;
    for (size_t nprobe : {1, 5, int(kLists)}) {
        probe(nprobe, lists, distances);
        index_.nprobe = nprobe;
        EXPECT_TRUE(
                preassigned(10, lists, distances, false) ==
                search(index_, queries(), 10))
                << "nprobe " << nprobe;
    }
    index_.nprobe = 5;
}

TEST_P(SearchTest, PreassignedSkipsListsOfMinusOne) {
    std::vector<int64_t> lists, some_lists;
    std::vector<float> distances, some_distances;
    index_.nprobe = 4;
    probe(4, lists, distances);
    // what a quantizer gives that finds nothing, or a caller that masks
    for (float rubbish : {kLargest, -kLargest, NAN}) {
        some_lists.clear();
        some_distances.clear();
        for (size_t i = 0; i < lists.size(); i++) {
            some_lists.insert(some_lists.end(), {-1, lists[i]});
            some_distances.insert(
                    some_distances.end(), {rubbish, distances[i]});
        }
        SearchParametersScaNN params;
        params.nprobe = 8;
        EXPECT_TRUE(
                preassigned(10, some_lists, some_distances, false, &params) ==
                preassigned(10, lists, distances, false))
                << rubbish;
    }
    index_.nprobe = 5;
}

TEST_P(SearchTest, StorePairsNameListAndOffset) {
    std::vector<int64_t> lists;
    std::vector<float> distances;
    probe(5, lists, distances);
    Hits pairs = preassigned(10, lists, distances, true);
    Hits hits = preassigned(10, lists, distances, false);
    EXPECT_EQ(pairs.distances, hits.distances);
    for (size_t i = 0; i < pairs.labels.size(); i++) {
        int64_t id = index_.invlists->get_single_id(
                faiss::lo_listno(pairs.labels[i]),
                faiss::lo_offset(pairs.labels[i]));
        // equal distances are ordered by label, so by another one here
        bool tie = i > 0 && pairs.distances[i] == pairs.distances[i - 1];
        bool tie_after = i + 1 < pairs.labels.size() &&
                         pairs.distances[i] == pairs.distances[i + 1];
        EXPECT_TRUE(id == hits.labels[i] || tie || tie_after);
    }
}

TEST_P(SearchTest, SearchAndReconstructReturnsTheStoredRows) {
    constexpr size_t k = 10;
    // few lists: both must visit the same
    index_.nprobe = 2;
    Hits expected = search(index_, queries(), k);
    Hits hits = expected;
    std::vector<float> found(kQueries * k * kD);
    index_.search_and_reconstruct(
            kQueries,
            queries().data(),
            k,
            hits.distances.data(),
            hits.labels.data(),
            found.data());
    index_.nprobe = 5;
    EXPECT_EQ(hits.distances, expected.distances);
    for (size_t i = 0; has_raw() && i < hits.labels.size(); i++) {
        if (hits.labels[i] < 0) {
            EXPECT_TRUE(std::isnan(found[i * kD]));
            continue;
        }
        EXPECT_TRUE(std::equal(
                found.begin() + i * kD,
                found.begin() + (i + 1) * kD,
                rows().begin() + hits.labels[i] * kD));
    }
}

TEST_P(SearchTest, MaxCodesLimitsWhatIsScanned) {
    faiss_ext::ScaNNSearchStats all, few;
    SearchParametersScaNN params;
    params.nprobe = kLists;
    params.stats = &all;
    search(index_, queries(), 10, &params);
    params.max_codes = 200;
    params.stats = &few;
    Hits hits = search(index_, queries(), 10, &params);
    EXPECT_GE(all.codes, kN * kQueries);
    EXPECT_GE(few.codes, 200 * kQueries);
    EXPECT_LT(few.codes, all.codes / 2);
    EXPECT_GT(few.lists, 0u);
    index_.max_codes = 200;
    index_.nprobe = kLists;
    EXPECT_TRUE(search(index_, queries(), 10) == hits);
    index_.max_codes = 0;
    index_.nprobe = 5;
}

TEST_P(SearchTest, PlainFaissParametersAreAccepted) {
    faiss::SearchParametersIVF plain;
    plain.nprobe = 3;
    SearchParametersScaNN own;
    own.nprobe = 3;
    Hits hits = search(index_, queries(), 10, &plain);
    EXPECT_TRUE(search(index_, queries(), 10, &own) == hits);
    index_.nprobe = 3;
    EXPECT_TRUE(search(index_, queries(), 10) == hits);
    faiss::SearchParameters base;
    EXPECT_TRUE(search(index_, queries(), 10, &base) == hits);
    index_.nprobe = 5;
}

TEST_P(SearchTest, ParametersOfTheCallBeatThoseOfTheIndex) {
    if (!has_raw()) {
        GTEST_SKIP() << "nothing to rerank";
    }
    SearchParametersScaNN params;
    params.reorder_k = 15;
    Hits by_call = search(index_, queries(), 10, &params);
    index_.reorder_k = 15;
    EXPECT_TRUE(search(index_, queries(), 10) == by_call);
    index_.reorder_k = 12;
    EXPECT_TRUE(search(index_, queries(), 10, &params) == by_call);
    index_.reorder_k = 0;
}

TEST_P(SearchTest, StatisticsCountTheWork) {
    faiss_ext::ScaNNSearchStats stats;
    SearchParametersScaNN params;
    params.nprobe = 5;
    params.stats = &stats;
    search(index_, queries(), 10, &params);
    EXPECT_EQ(stats.nq, kQueries);
    EXPECT_EQ(stats.lists, 5 * kQueries);
    EXPECT_GE(stats.codes, 10 * kQueries);
    EXPECT_GE(stats.candidates, 10 * kQueries);
    bool refines = index_.options.refine_type != RefineType::None;
    EXPECT_EQ(stats.refined >= 10 * kQueries, refines);
    EXPECT_EQ(stats.reranked >= 10 * kQueries, has_raw());
    EXPECT_GT(stats.partition_time, 0);
    EXPECT_GT(stats.scan_time, 0);
    faiss_ext::ScaNNSearchStats once = stats;
    search(index_, queries(), 10, &params);
    EXPECT_EQ(stats.codes, 2 * once.codes);
}

TEST_P(SearchTest, FewestCandidatesStillGiveK) {
    SearchParametersScaNN params;
    params.nprobe = kLists;
    for (size_t k : {1, 20, 300}) {
        params.reorder_k = params.refine_k = k;
        Hits hits = search(index_, queries(), k, &params);
        EXPECT_EQ(std::count(hits.labels.begin(), hits.labels.end(), -1), 0)
                << "k " << k;
    }
}

INSTANTIATE_TEST_SUITE_P(
        Kinds,
        SearchTest,
        testing::ValuesIn(all_kinds()),
        kind_name);

} // namespace
