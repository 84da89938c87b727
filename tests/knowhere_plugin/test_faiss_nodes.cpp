/* What is particular to FLAT, IVF_FLAT, IVF_PQ and HNSW behind the factory. */

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include <knowhere_plugin/index_factory.h>

#include "fixtures/random_rows.h"

using namespace knowhere_plugin;

namespace {

constexpr int64_t kDim = 16;
constexpr int64_t kRows = 4000;
constexpr int64_t kQueries = 50;

const std::vector<float>& data() {
    static const std::vector<float> rows =
            random_rows::clustered(kRows, kDim, {40, 11}, 11);
    return rows;
}

DataSet rows(int64_t n = kRows) {
    return {n, kDim, data().data()};
}

/// Few links, so that ef is what decides.
NodePtr graph() {
    static const NodePtr node = [] {
        NodePtr made = IndexFactory::Instance().Create("HNSW").value();
        // one thread: the same graph each time
        Status status = made->Build(
                rows(),
                {{"M", "4"},
                 {"efConstruction", "20"},
                 {"num_build_thread", "1"}});
        EXPECT_TRUE(status.ok()) << status.message;
        return made;
    }();
    return node;
}

NodePtr flat() {
    static const NodePtr node = [] {
        NodePtr made = IndexFactory::Instance().Create("FLAT").value();
        EXPECT_TRUE(made->Build(rows(), {}).ok());
        return made;
    }();
    return node;
}

/// Filters out all rows but each `keep`-th.
std::vector<uint8_t> all_but(int64_t keep) {
    std::vector<uint8_t> bits((kRows + 7) / 8, 0xff);
    for (int64_t id = 0; id < kRows; id += keep) {
        bits[id / 8] &= uint8_t(~(1 << id % 8));
    }
    return bits;
}

double recall(const Config& config, const BitsetView& filtered = {}) {
    auto got = graph()->Search(rows(kQueries), config, filtered);
    auto want = flat()->Search(rows(kQueries), {}, filtered);
    EXPECT_TRUE(got.ok()) << got.status().message;
    size_t hits = 0;
    for (int64_t q = 0; q < kQueries; q++) {
        const int64_t* ids = want.value().ids + q * 10;
        std::set<int64_t> near(ids, ids + 10);
        for (int64_t i = 0; i < 10; i++) {
            hits += near.count(got.value().ids[q * 10 + i]);
        }
    }
    return double(hits) / (10 * kQueries);
}

TEST(HnswNode, EfDecides) {
    double low = recall({{"ef", "10"}});
    double usual = recall({});
    double high = recall({{"ef", "1500"}});
    EXPECT_LT(low, .95);
    EXPECT_GT(usual, low + .02);
    EXPECT_GT(high, .98);
    EXPECT_EQ(recall({{"ef", "64"}}), usual);
}

TEST(HnswNode, EfBelowKIsRefused) {
    Status status = graph()->Search(rows(1), {{"ef", "9"}}).status();
    EXPECT_EQ(status.code, StatusCode::out_of_range_in_json);
    EXPECT_NE(status.message.find("ef = 9"), std::string::npos);
    EXPECT_NE(status.message.find("k = 10"), std::string::npos);
}

/// Above 7 % the graph is walked, ef decides; below, all rows are scanned.
TEST(HnswNode, Filter) {
    for (int64_t keep : {2, 8}) {
        auto bits = all_but(keep);
        BitsetView filtered(bits.data(), kRows);
        double low = recall({{"ef", "10"}}, filtered);
        double high = recall({{"ef", "500"}}, filtered);
        EXPECT_LT(low, 1) << keep;
        EXPECT_GT(high, low) << keep;
        EXPECT_GT(high, .97) << keep;
    }
    for (int64_t keep : {20, 300, 3000}) {
        auto bits = all_but(keep);
        BitsetView filtered(bits.data(), kRows);
        auto got = graph()->Search(rows(kQueries), {{"ef", "10"}}, filtered);
        auto want = flat()->Search(rows(kQueries), {}, filtered);
        ASSERT_TRUE(got.ok()) << got.status().message;
        EXPECT_TRUE(std::equal(
                got.value().ids,
                got.value().ids + kQueries * 10,
                want.value().ids))
                << keep;
    }
}

TEST(HnswNode, Range) {
    // from no hit to more than half of the rows
    for (const char* radius : {"0", "1", "6", "12", "40"}) {
        Config config = {{"radius", radius}};
        auto want = flat()->RangeSearch(rows(kQueries), config);
        config["ef"] = "300";
        auto got = graph()->RangeSearch(rows(kQueries), config);
        ASSERT_TRUE(got.ok()) << got.status().message;
        size_t hits = 0, all = want.value().lims[kQueries];
        for (int64_t q = 0; q < kQueries; q++) {
            const int64_t *ids = want.value().ids, *found = got.value().ids;
            const size_t *lims = want.value().lims, *at = got.value().lims;
            std::set<int64_t> near(ids + lims[q], ids + lims[q + 1]);
            for (size_t i = at[q]; i < at[q + 1]; i++) {
                EXPECT_EQ(near.count(found[i]), 1u);
                hits++;
            }
        }
        EXPECT_GE(double(hits), .95 * double(all)) << radius << " " << all;
    }
}

/// Queries alone and in a batch that Faiss would hand to BLAS.
TEST(FaissNodes, BatchesAreAsQueriesAlone) {
    for (const char* type : {"FLAT", "IVF_FLAT", "IVF_PQ"}) {
        for (const char* metric : {"L2", "IP"}) {
            NodePtr node = IndexFactory::Instance().Create(type).value();
            Config config = {{"metric_type", metric}};
            if (type == std::string("IVF_PQ")) {
                config["m"] = "4";
                config["nbits"] = "4";
            }
            ASSERT_TRUE(node->Build(rows(), config).ok());
            auto batch = node->Search(rows(kQueries), {});
            ASSERT_TRUE(batch.ok()) << batch.status().message;
            for (int64_t q = 0; q < kQueries; q++) {
                auto one = node->Search({1, kDim, &data()[q * kDim]}, {});
                EXPECT_TRUE(std::equal(
                        one.value().ids,
                        one.value().ids + 10,
                        batch.value().ids + q * 10))
                        << type << " " << metric << " " << q;
            }
        }
    }
}

/// A row, or a query, of length zero has similarity 0 to everything.
class ZeroRowsTest : public testing::TestWithParam<const char*> {};

TEST_P(ZeroRowsTest, UnderCosine) {
    std::vector<float> x(data().begin(), data().begin() + 2500 * kDim);
    for (int64_t row : {7, 2499}) {
        std::fill_n(&x[row * kDim], kDim, 0.f);
    }
    std::string type = GetParam();
    NodePtr node = IndexFactory::Instance().Create(type).value();
    Config config = {{"metric_type", "COSINE"}};
    if (type == "IVF_PQ") {
        config["m"] = "8";
    }
    Status status = node->Build({2500, kDim, x.data()}, config);
    ASSERT_TRUE(status.ok()) << status.message;
    Config search = {{"k", "2500"}};
    if (type != "HNSW" && type != "FLAT") {
        search["nprobe"] = "65536";
    }
    auto found = node->Search({1, kDim, x.data()}, search);
    ASSERT_TRUE(found.ok()) << found.status().message;
    size_t zeros = 0;
    float tolerance = node->Type() == std::string("IVF_PQ") ? .3f : 0.f;
    for (int64_t i = 0; i < 2500; i++) {
        int64_t id = found.value().ids[i];
        if (id == 7 || id == 2499) {
            EXPECT_NEAR(found.value().distance[i], 0, tolerance);
            zeros++;
        }
    }
    EXPECT_EQ(zeros, 2u);
    found = node->Search({1, kDim, &x[7 * kDim]}, {{"k", "20"}});
    ASSERT_TRUE(found.ok()) << found.status().message;
    for (int64_t i = 0; i < 20; i++) {
        EXPECT_NE(found.value().ids[i], -1);
        EXPECT_EQ(found.value().distance[i], 0);
    }
    auto range =
            node->RangeSearch({1, kDim, &x[7 * kDim]}, {{"radius", "0.1"}});
    ASSERT_TRUE(range.ok()) << range.status().message;
    EXPECT_EQ(range.value().lims[1], 0u);
    // nothing but zeros
    std::vector<float> nothing(100 * kDim);
    status = node->Build({100, kDim, nothing.data()}, config);
    ASSERT_TRUE(status.ok()) << status.message;
    found = node->Search({1, kDim, x.data()}, {});
    ASSERT_TRUE(found.ok()) << found.status().message;
    EXPECT_NE(found.value().ids[9], -1);
    EXPECT_NEAR(found.value().distance[9], 0, tolerance);
}

INSTANTIATE_TEST_SUITE_P(
        All,
        ZeroRowsTest,
        testing::Values("SCANN", "FLAT", "IVF_FLAT", "IVF_PQ", "HNSW"),
        [](const auto& info) { return std::string(info.param); });

} // namespace
