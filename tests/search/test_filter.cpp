/* Filters: every IDSelector of Faiss 1.7.3, few and many allowed rows. */

#include <faiss_ext/search/filter.h>
#include <faiss_ext/index_factory.h>

#include <algorithm>
#include <list>
#include <map>
#include <numeric>

#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/model/index_state.h>
#include <faiss_ext/search/probes.h>

#include "fixtures/index_fixtures.h"

namespace {

using namespace fixtures;

constexpr size_t kD = 16;
constexpr size_t kN = 3000;
constexpr size_t kLists = 30;
constexpr size_t k = 10;

/// Selectors of every class, with what they refer to.
struct Selectors {
    explicit Selectors(size_t n) {
        std::mt19937 random(4);
        bitmap.resize(n / 8 / 2); // ids of the upper half lie beyond it
        for (uint8_t& byte : bitmap) {
            byte = random();
        }
        for (size_t i = 0; i < n / 20; i++) {
            ids.push_back(random() % n);
        }
        ids.push_back(-5);
        ids.push_back(int64_t(1) << 40);
        add("range", std::make_unique<faiss::IDSelectorRange>(n / 3, n / 2));
        add("range of sorted ids",
            std::make_unique<faiss::IDSelectorRange>(5, n - 5, true));
        add("array",
            std::make_unique<faiss::IDSelectorArray>(ids.size(), ids.data()));
        add("batch",
            std::make_unique<faiss::IDSelectorBatch>(ids.size(), ids.data()));
        add("bitmap",
            std::make_unique<faiss::IDSelectorBitmap>(
                    bitmap.size(), bitmap.data()));
        add("not batch",
            std::make_unique<faiss::IDSelectorNot>(all[3].second.get()));
        add("not bitmap",
            std::make_unique<faiss::IDSelectorNot>(all[4].second.get()));
        add("all", std::make_unique<faiss::IDSelectorAll>());
        tabulate("tabled range", 0);
        tabulate("tabled batch", 3);
        tabulate("tabled not bitmap", 6);
    }
    /// With a table of the ids in the lower half.
    void tabulate(const char* name, size_t which) {
        const faiss::IDSelector& whole = *all[which].second;
        std::vector<uint8_t>& bits = tables.emplace_back(bitmap.size());
        for (size_t id = 0; id < 8 * bits.size(); id++) {
            bits[id / 8] |= uint8_t(whole.is_member(id)) << (id % 8);
        }
        add(name,
            std::make_unique<faiss_ext::TabledSelector>(
                    whole, bits.data(), bits.size()));
    }
    void add(const char* name, std::unique_ptr<faiss::IDSelector> sel) {
        all.emplace_back(name, std::move(sel));
    }

    std::vector<uint8_t> bitmap;
    std::list<std::vector<uint8_t>> tables;
    std::vector<int64_t> ids;
    std::vector<std::pair<const char*, std::unique_ptr<faiss::IDSelector>>> all;
};

TEST(Filter, MasksAreThoseOfTheSelector) {
    std::mt19937 random(9);
    Selectors selectors(kN);
    for (size_t n : {0, 1, 31, 32, 33, 63, 64, 65, 500}) {
        std::vector<int64_t> ids(n);
        for (int64_t& id : ids) {
            id = random() % 8 == 0 ? -1 - int64_t(random())
                                   : int64_t(random() % (2 * kN));
        }
        for (const auto& [name, sel] : selectors.all) {
            faiss_ext::Filter filter(sel.get());
            std::vector<uint32_t> words((n + 31) / 32, ~0u);
            size_t passing = filter.masks(
                    faiss_ext::active_kernels(), ids.data(), n, words.data());
            size_t expected = 0;
            for (size_t i = 0; i < words.size() * 32; i++) {
                bool bit = words[i / 32] >> (i % 32) & 1;
                ASSERT_EQ(bit, i < n && sel->is_member(ids[i]))
                        << name << " " << i;
                expected += bit;
            }
            EXPECT_EQ(passing, expected);
        }
    }
}

TEST(Filter, ListsTheIdsOfSelectorsThatHaveThem) {
    Selectors selectors(kN);
    for (const auto& [name, sel] : selectors.all) {
        std::vector<int64_t> expected;
        for (int64_t id = -10; id < int64_t(2 * kN); id++) {
            if (sel->is_member(id)) {
                expected.push_back(id);
            }
        }
        if (sel->is_member(selectors.ids.back())) {
            expected.push_back(selectors.ids.back());
        }
        faiss_ext::Filter filter(sel.get());
        std::vector<int64_t> ids;
        bool can = filter.list_ids(2 * kN, ids);
        auto tabled = dynamic_cast<const faiss_ext::TabledSelector*>(sel.get());
        const faiss::IDSelector* whole = tabled ? &tabled->whole : sel.get();
        auto is = [&](auto* kind) {
            return dynamic_cast<decltype(kind)>(whole) != nullptr;
        };
        EXPECT_EQ(
                can,
                is(static_cast<const faiss::IDSelectorBitmap*>(nullptr)) ||
                        is(static_cast<const faiss::IDSelectorArray*>(
                                nullptr)) ||
                        is(static_cast<const faiss::IDSelectorBatch*>(
                                nullptr)) ||
                        is(static_cast<const faiss::IDSelectorRange*>(nullptr)))
                << name;
        if (!can) {
            continue;
        }
        std::sort(ids.begin(), ids.end());
        EXPECT_EQ(ids, expected) << name;
        // an array may hold an id twice
        size_t held = name == std::string("array") ? selectors.ids.size()
                                                   : expected.size();
        EXPECT_TRUE(filter.list_ids(held, ids)) << name;
        EXPECT_FALSE(filter.list_ids(held - 1, ids)) << name;
    }
    faiss::IDSelectorRange all(INT64_MIN, INT64_MAX), none(5, -5);
    std::vector<int64_t> ids;
    EXPECT_FALSE(faiss_ext::Filter(&all).list_ids(10, ids));
    EXPECT_TRUE(faiss_ext::Filter(&none).list_ids(0, ids));
    EXPECT_TRUE(ids.empty());
}

TEST(Filter, NoSelectorPassesAll) {
    faiss_ext::Filter filter(nullptr);
    EXPECT_TRUE(filter.passes_all());
    EXPECT_TRUE(filter.passes(-7));
    faiss::IDSelectorAll all;
    EXPECT_FALSE(faiss_ext::Filter(&all).passes_all());
}

class FilterTest : public testing::TestWithParam<Kind> {
 protected:
    FilterTest() {
        index_ = made_once(GetParam().name(), [] {
            return filled(GetParam(), rows(), kD, kLists);
        });
    }
    static const std::vector<float>& rows() {
        static const std::vector<float> x = whole_rows(kN, kD, 1);
        return x;
    }
    Hits exact(const faiss::IDSelector* sel, size_t count = k) const {
        return exact_search(
                GetParam().metric, kD, rows(), queries_, count, sel);
    }
    bool has_raw() const {
        return index_->options.with_raw_data;
    }
    /// All that exist are returned, nothing else is.
    void expect_all_of(
            const Hits& hits,
            size_t count,
            const std::vector<int64_t>& ids) const {
        for (size_t at = 0; at < hits.labels.size(); at += count) {
            std::vector<int64_t> got(
                    hits.labels.begin() + at,
                    hits.labels.begin() + at + ids.size());
            std::sort(got.begin(), got.end());
            ASSERT_EQ(got, ids);
            for (size_t i = ids.size(); i < count; i++) {
                ASSERT_EQ(hits.labels[at + i], -1);
            }
        }
    }

    IndexIVFScaNN* index_;
    const std::vector<float> queries_ = whole_rows(15, kD, 2);
};

TEST_P(FilterTest, EverySelectorEqualsBruteForceOverWhatItAllows) {
    Selectors selectors(kN);
    for (const auto& [name, sel] : selectors.all) {
        SearchParametersScaNN params = exhaustive(*index_);
        params.sel = sel.get();
        Hits hits = search(*index_, queries_, k, &params);
        Hits expected = exact(sel.get());
        for (int64_t label : hits.labels) {
            ASSERT_TRUE(label >= 0 && sel->is_member(label)) << name;
        }
        if (has_raw()) {
            EXPECT_TRUE(hits == expected) << name;
        } else {
            EXPECT_GE(recall(hits, expected, k), .5) << name;
        }
    }
}

TEST_P(FilterTest, FewAllowedRowsAreAllFoundAtSmallNprobe) {
    std::mt19937 random(6);
    for (size_t count : {1, 5, 20}) {
        std::vector<int64_t> ids(kN);
        std::iota(ids.begin(), ids.end(), 0);
        std::shuffle(ids.begin(), ids.end(), random);
        ids.resize(count);
        std::sort(ids.begin(), ids.end());
        auto bits = bitmap_of(kN, ids);
        faiss::IDSelectorBitmap bitmap(bits.size(), bits.data());
        faiss::IDSelectorBatch batch(count, ids.data());
        for (faiss::IDSelector* sel :
             std::vector<faiss::IDSelector*>{&bitmap, &batch}) {
            for (size_t nprobe : {1, 3}) {
                SearchParametersScaNN params;
                params.nprobe = nprobe;
                params.sel = sel;
                expect_all_of(search(*index_, queries_, 20, &params), 20, ids);
            }
        }
    }
}

TEST_P(FilterTest, WhereFewRowsPassNoneIsLeftOutForItsCodes) {
    const auto& options = index_->options;
    bool rescores =
            has_raw() || options.refine_type != faiss_ext::RefineType::None;
    for (size_t each : {2, 40, 300}) {
        std::vector<int64_t> ids;
        for (size_t i = 0; i < kN; i += each) {
            ids.push_back(i);
        }
        faiss::IDSelectorBatch sel(ids.size(), ids.data());
        faiss_ext::ScaNNSearchStats stats;
        SearchParametersScaNN params;
        params.nprobe = index_->nlist;
        params.reorder_k = params.refine_k = k;
        params.sel = &sel;
        params.stats = &stats;
        Hits hits = search(*index_, queries_, k, &params);
        EXPECT_EQ(stats.codes == 0, rescores && each > 2) << each;
        if (has_raw() && each > 2 &&
            options.refine_type == faiss_ext::RefineType::None) {
            EXPECT_TRUE(hits == exact(&sel)) << each;
        }
    }
}

TEST_P(FilterTest, WithADirectMapFewRowsAreExactAndNoListIsVisited) {
    const auto& options = index_->options;
    if (!has_raw() && options.refine_type == faiss_ext::RefineType::None) {
        GTEST_SKIP() << "codes are not rescored";
    }
    using Map = faiss::DirectMap;
    for (Map::Type type : {Map::Array, Map::Hashtable}) {
        auto index = filled(GetParam(), rows(), kD, kLists);
        index->set_direct_map_type(type);
        if (type == Map::Hashtable) {
            faiss::IDSelectorRange gone(75, 76);
            index->remove_ids(gone);
        }
        std::vector<int64_t> ids = {-3, int64_t(kN) + 5};
        for (size_t i = 0; i < kN; i += 75) {
            ids.push_back(int64_t(i));
        }
        std::vector<int64_t> there(ids.begin() + 2, ids.end());
        if (type == Map::Hashtable) {
            there.erase(there.begin() + 1);
        }
        faiss::IDSelectorBatch sel(ids.size(), ids.data());
        faiss::IDSelectorBatch allowed(there.size(), there.data());
        faiss_ext::ScaNNSearchStats stats;
        SearchParametersScaNN params;
        params.nprobe = 1;
        params.sel = &sel;
        params.stats = &stats;
        Hits hits = search(*index, queries_, k, &params);
        EXPECT_EQ(stats.lists, 0u);
        EXPECT_EQ(stats.candidates, 15 * there.size());
        Hits expected = exact(&allowed);
        if (has_raw()) {
            EXPECT_TRUE(hits == expected);
        } else {
            EXPECT_GE(recall(hits, expected, k), .9);
        }
        // all of them, beyond what there is
        expect_all_of(search(*index, queries_, 50, &params), 50, there);
        // many rows pass: lists are visited
        faiss::IDSelectorRange half(0, kN / 2);
        params.sel = &half;
        stats = {};
        search(*index, queries_, k, &params);
        EXPECT_GT(stats.lists, 0u);
    }
}

TEST_P(FilterTest, MoreAllowedRowsThanKStillGiveK) {
    std::vector<int64_t> ids;
    for (size_t i = 0; i < kN; i += 75) {
        ids.push_back(i); // 40 rows
    }
    faiss::IDSelectorBatch sel(ids.size(), ids.data());
    SearchParametersScaNN params;
    params.nprobe = 1;
    params.sel = &sel;
    for (size_t count : {20, 39, 40}) {
        params.reorder_k = params.refine_k = count;
        Hits hits = search(*index_, queries_, count, &params);
        EXPECT_EQ(std::count(hits.labels.begin(), hits.labels.end(), -1), 0)
                << count;
    }
}

TEST_P(FilterTest, OneQueryEqualsTheBatch) {
    Selectors selectors(kN);
    for (const auto& [name, sel] : selectors.all) {
        SearchParametersScaNN params;
        params.nprobe = 4;
        params.sel = sel.get();
        Hits batch = search(*index_, queries_, k, &params);
        for (size_t q = 0; q < 15; q++) {
            auto begin = queries_.begin() + q * kD;
            Hits one = search(*index_, {begin, begin + kD}, k, &params);
            EXPECT_TRUE(std::equal(
                    one.labels.begin(),
                    one.labels.end(),
                    batch.labels.begin() + q * k))
                    << name;
        }
    }
}

TEST_P(FilterTest, NothingAllowedGivesNothing) {
    std::vector<uint8_t> zeros(kN / 8 + 1);
    faiss::IDSelectorBitmap none(zeros.size(), zeros.data());
    faiss::IDSelectorRange beyond(kN, 2 * kN);
    faiss::IDSelectorBatch empty(0, nullptr);
    for (faiss::IDSelector* sel :
         std::vector<faiss::IDSelector*>{&none, &beyond, &empty}) {
        SearchParametersScaNN params;
        params.nprobe = 2;
        params.sel = sel;
        expect_all_of(search(*index_, queries_, k, &params), k, {});
    }
}

TEST_P(FilterTest, AllowingAllEqualsNoFilter) {
    faiss::IDSelectorAll all;
    SearchParametersScaNN params = exhaustive(*index_);
    Hits without = search(*index_, queries_, k, &params);
    params.sel = &all;
    EXPECT_TRUE(search(*index_, queries_, k, &params) == without);
}

TEST_P(FilterTest, SingleRowsAroundBlockBordersAreFound) {
    for (size_t n : {31, 32, 33, 64, 65, 77}) {
        Kind kind = GetParam();
        std::vector<float> x = whole_rows(kN, kD, 1);
        auto index = trained(kind, x, kD, 1);
        index->add(n, x.data());
        for (int64_t id : {0, 15, 16, 17, 30, int(n) - 1, int(n) / 2}) {
            auto bits = bitmap_of(n, {id});
            faiss::IDSelectorBitmap sel(bits.size(), bits.data());
            SearchParametersScaNN params;
            params.nprobe = 1;
            params.sel = &sel;
            expect_all_of(search(*index, queries_, 3, &params), 3, {id});
        }
    }
}

TEST_P(FilterTest, PreassignedStaysInTheGivenLists) {
    std::vector<int64_t> ids(60);
    std::iota(ids.begin(), ids.end(), 100);
    faiss::IDSelectorBatch sel(ids.size(), ids.data());
    SearchParametersScaNN params;
    params.nprobe = 2;
    params.sel = &sel;
    std::vector<int64_t> lists(15 * 2);
    std::vector<float> distances(15 * 2);
    faiss_ext::find_probes(
            index_->state(),
            15,
            queries_.data(),
            2,
            {},
            lists.data(),
            distances.data());
    for (float& distance : distances) {
        distance *= GetParam().metric == kL2 ? -2 : 1;
    }
    Hits hits{std::vector<float>(15 * k), std::vector<int64_t>(15 * k)};
    index_->search_preassigned(
            15,
            queries_.data(),
            k,
            lists.data(),
            distances.data(),
            hits.distances.data(),
            hits.labels.data(),
            true,
            &params);
    for (size_t i = 0; i < hits.labels.size(); i++) {
        int64_t list = hits.labels[i] >> 32;
        size_t q = i / k;
        bool given = hits.labels[i] == -1 ||
                     GetParam().soar_lambda > 0 || // found by a copy in them
                     list == lists[2 * q] || list == lists[2 * q + 1];
        EXPECT_TRUE(given);
    }
}

INSTANTIATE_TEST_SUITE_P(
        Kinds,
        FilterTest,
        testing::Values(
                Kind{kIP, Tier::Codes},
                Kind{kL2, Tier::Codes},
                Kind{kIP, Tier::Int8},
                Kind{kIP, Tier::Raw},
                Kind{kL2, Tier::Raw},
                Kind{kL2, Tier::Int8Raw},
                Kind{kIP, Tier::Raw, 1},
                Kind{kL2, Tier::Codes, 1},
                Kind{kL2, Tier::Raw, 1}),
        kind_name);

} // namespace
