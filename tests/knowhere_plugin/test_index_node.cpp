/* Searching behind the factory: every type and metric. */

#include <algorithm>
#include <cmath>
#include <limits>

#include "fixtures/node_fixtures.h"

using namespace node_tests;

namespace {

TEST_P(IndexNodeTest, Search) {
    NodePtr node = built();
    EXPECT_STREQ(node->Type(), GetParam().type);
    EXPECT_EQ(node->Dim(), kDim);
    EXPECT_EQ(node->Count(), kRows);
    EXPECT_GT(node->Size(), kRows * kDim / 4);
    auto found = node->Search(query_set(), wide({{"k", "10"}}));
    ASSERT_TRUE(found.ok()) << found.status().message;
    EXPECT_EQ(found.value().rows, kQueries);
    EXPECT_EQ(found.value().dim, kK);
    EXPECT_GE(recall(found.value()), GetParam().recall);
    for (int64_t i = 1; i < kK; i++) {
        const float* d = found.value().distance;
        EXPECT_TRUE(l2() ? d[i - 1] <= d[i] : d[i - 1] >= d[i]);
    }
    if (node->HasRawData(metric())) {
        EXPECT_NEAR(
                found.value().distance[0],
                all.distances[0],
                1e-3 * std::abs(all.distances[0]));
    }
    // alone as in a batch
    auto one = node->Search(query_set(1), wide({{"k", "10"}}));
    ASSERT_TRUE(one.ok());
    EXPECT_TRUE(std::equal(
            one.value().ids, one.value().ids + kK, found.value().ids));
    auto none = node->Search(query_set(0), {});
    ASSERT_TRUE(none.ok()) << none.status().message;
    EXPECT_EQ(none.value().rows, 0);
    // beyond the rows
    auto many = node->Search(query_set(1), wide({{"k", "3010"}}));
    ASSERT_TRUE(many.ok()) << many.status().message;
    EXPECT_EQ(many.value().ids[3009], -1);
    EXPECT_EQ(
            many.value().distance[3009],
            l2() ? std::numeric_limits<float>::max()
                 : std::numeric_limits<float>::lowest());
    EXPECT_NEAR(recall({1, 1000, nullptr, many.value().ids}), 1, .02);
}

TEST_P(IndexNodeTest, Bitset) {
    NodePtr node = built();
    for (size_t keep_each : {2, 50, 1500}) {
        std::vector<uint8_t> bits((kRows + 7) / 8, 0xff);
        for (int64_t id = 0; id < kRows; id += keep_each) {
            bits[id / 8] &= uint8_t(~(1 << id % 8));
        }
        BitsetView filtered(bits.data(), kRows);
        int64_t passing = kRows - int64_t(filtered.count());
        EXPECT_EQ(passing, int64_t((kRows + keep_each - 1) / keep_each));
        auto found = node->Search(query_set(), wide(), filtered);
        ASSERT_TRUE(found.ok()) << found.status().message;
        std::set<int64_t> ids(
                found.value().ids, found.value().ids + kQueries * kK);
        for (int64_t id : ids) {
            EXPECT_FALSE(id >= 0 && filtered.test(id)) << id;
        }
        EXPECT_GE(recall(found.value(), filtered), GetParam().recall - .1);
        EXPECT_EQ(ids.count(-1), passing < kK ? 1u : 0u);
    }
    // rows beyond the bits are filtered out; so is everything here
    std::vector<uint8_t> few = {0xff};
    auto found = node->Search(query_set(1), {}, BitsetView(few.data(), 8));
    ASSERT_TRUE(found.ok());
    EXPECT_EQ(found.value().ids[0], -1);
    few[0] = 0;
    found = node->Search(query_set(1), wide(), BitsetView(few.data(), 8));
    ASSERT_TRUE(found.ok());
    EXPECT_GE(found.value().ids[0], 0);
    EXPECT_LT(found.value().ids[0], 8);
}

TEST_P(IndexNodeTest, FewRows) {
    for (int64_t n : {0, 1, 2, 15, 100}) {
        NodePtr node = create(GetParam().type);
        Status status = node->Build(rows(n), build_config());
        ASSERT_TRUE(status.ok()) << n << " rows: " << status.message;
        EXPECT_EQ(node->Count(), n);
        auto found = node->Search(query_set(1), wide());
        ASSERT_TRUE(found.ok()) << n << " rows: " << found.status().message;
        std::set<int64_t> ids(found.value().ids, found.value().ids + kK);
        EXPECT_EQ(ids.count(-1), n < kK ? 1u : 0u) << n;
        EXPECT_EQ(ids.size(), size_t(n < kK ? n + 1 : kK)) << n;
        auto blob = node->Serialize();
        ASSERT_TRUE(blob.ok()) << blob.status().message;
        NodePtr copy = create(GetParam().type);
        status = copy->Deserialize(blob.value());
        ASSERT_TRUE(status.ok()) << n << " rows: " << status.message;
        EXPECT_EQ(copy->Count(), n);
        EXPECT_EQ(copy->Dim(), kDim);
        auto iterators = node->AnnIterator(query_set(1), {});
        ASSERT_TRUE(iterators.ok());
        int64_t seen = 0;
        for (; iterators.value()[0]->HasNext().value(); seen++) {
            ASSERT_TRUE(iterators.value()[0]->Next().ok());
        }
        EXPECT_EQ(seen, n);
        EXPECT_EQ(
                iterators.value()[0]->Next().status().code,
                StatusCode::invalid_args);
    }
}

TEST_P(IndexNodeTest, RangeSearch) {
    NodePtr node = built();
    float radius = all.distances[100], filter = all.distances[20];
    auto text = [](float value) { return std::to_string(value); };
    Config config = wide({{"radius", text(radius)}});
    config["range_filter"] = text(filter);
    auto found = node->RangeSearch(query_set(2), config);
    ASSERT_TRUE(found.ok()) << found.status().message;
    DataSet& set = found.value();
    ASSERT_EQ(set.rows, 2);
    EXPECT_EQ(set.lims[0], 0u);
    EXPECT_GE(set.lims[1], size_t(80 * (GetParam().recall - .3)));
    for (size_t i = 0; i < set.lims[2]; i++) {
        float d = set.distance[i];
        EXPECT_TRUE(
                l2() ? d < radius + 1e-4 && d >= filter - 1e-4
                     : d > radius - 1e-4 && d <= filter + 1e-4)
                << d << " " << radius << " " << filter;
        EXPECT_TRUE(
                i == 0 || i == set.lims[1] ||
                (l2() ? set.distance[i - 1] <= d : set.distance[i - 1] >= d));
    }
    std::vector<uint8_t> bits((kRows + 7) / 8, 0x55);
    BitsetView filtered(bits.data(), kRows);
    auto some = node->RangeSearch(query_set(1), config, filtered);
    ASSERT_TRUE(some.ok());
    EXPECT_LT(some.value().lims[1], set.lims[1]);
    for (size_t i = 0; i < some.value().lims[1]; i++) {
        EXPECT_FALSE(filtered.test(some.value().ids[i]));
    }
    std::swap(config["radius"], config["range_filter"]);
    auto wrong = node->RangeSearch(query_set(1), config);
    EXPECT_EQ(wrong.status().code, StatusCode::out_of_range_in_json);
    EXPECT_NE(wrong.status().message.find("range_filter ="), std::string::npos);
    EXPECT_EQ(
            node->RangeSearch(query_set(1), {}).status().code,
            StatusCode::invalid_args);
}

/// Every row once. Distances fall back only where a wider search begins, and
/// never if every search is exact or order was asked for.
TEST_P(IndexNodeTest, Iterator) {
    NodePtr node = built();
    std::vector<uint8_t> bits((kRows + 7) / 8, 0x11);
    BitsetView filtered(bits.data(), kRows);
    for (const char* ordered : {"false", "true"}) {
        auto made = node->AnnIterator(
                query_set(2),
                wide({{"retain_iterator_order", ordered}}),
                filtered);
        ASSERT_TRUE(made.ok()) << made.status().message;
        ASSERT_EQ(made.value().size(), 2u);
        Iterator& iterator = *made.value()[1];
        std::set<int64_t> seen;
        std::vector<std::pair<int64_t, float>> hits;
        while (iterator.HasNext().value()) {
            auto hit = iterator.Next();
            ASSERT_TRUE(hit.ok());
            EXPECT_FALSE(filtered.test(hit.value().first));
            EXPECT_TRUE(seen.insert(hit.value().first).second)
                    << hit.value().first << " twice";
            hits.push_back(hit.value());
        }
        EXPECT_EQ(seen.size(), kRows - filtered.count());
        std::vector<size_t> falls;
        for (size_t i = 1; i < hits.size(); i++) {
            float before = hits[i - 1].second, now = hits[i].second;
            if (l2() ? before > now : before < now) {
                falls.push_back(i);
            }
        }
        if (exact() || ordered[0] == 't') {
            EXPECT_TRUE(falls.empty()) << "at " << falls[0];
        } else {
            for (size_t i : falls) {
                // IVF types search again for four times as many
                EXPECT_TRUE(
                        i == 128 || i == 512 ||
                        (GetParam().type == std::string("SCANN") &&
                         i % 128 == 0))
                        << i;
            }
            // what a search for as many finds, in its order
            auto want = node->Search(
                    {1, kDim, &queries[kDim]}, wide({{"k", "128"}}), filtered);
            for (size_t i = 0; i < 128; i++) {
                EXPECT_EQ(hits[i].first, want.value().ids[i]) << i;
            }
        }
    }
}

TEST_P(IndexNodeTest, IteratorKnowsTheRowsOfItsBeginning) {
    NodePtr node = create(GetParam().type);
    ASSERT_TRUE(node->Build(rows(1000), build_config()).ok());
    auto made = node->AnnIterator(query_set(1), wide());
    ASSERT_TRUE(made.ok()) << made.status().message;
    ASSERT_TRUE(node->Add(rows(500), {}).ok());
    std::set<int64_t> seen;
    while (made.value()[0]->HasNext().value()) {
        seen.insert(made.value()[0]->Next().value().first);
    }
    EXPECT_EQ(seen.size(), 1000u);
    EXPECT_EQ(*seen.rbegin(), 999);
}

TEST_P(IndexNodeTest, IteratorGoesOnAfterRowsWereAdded) {
    NodePtr node = create(GetParam().type);
    ASSERT_TRUE(node->Build(rows(2500), build_config()).ok());
    std::vector<uint8_t> bits((2500 + 7) / 8, 0x11);
    BitsetView filtered(bits.data(), 2500);
    auto made = node->AnnIterator(query_set(1), wide(), filtered);
    ASSERT_TRUE(made.ok()) << made.status().message;
    std::set<int64_t> seen;
    for (int64_t i = 0; made.value()[0]->HasNext().value(); i++) {
        if (i % 500 == 250) {
            ASSERT_TRUE(node->Add(rows(100), {}).ok());
        }
        const int64_t id = made.value()[0]->Next().value().first;
        EXPECT_TRUE(id < 2500 && !filtered.test(id)) << id;
        EXPECT_TRUE(seen.insert(id).second) << id;
    }
    EXPECT_EQ(seen.size(), 2500 - filtered.count());
}

INSTANTIATE_TEST_SUITE_P(All, IndexNodeTest, all_cases(), case_name);

} // namespace
