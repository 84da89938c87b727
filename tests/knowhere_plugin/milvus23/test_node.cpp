/* The plug-in in a process that looks like Milvus 2.3.5: every call of its
 * node, from many threads, and the counters. */

#include <algorithm>
#include <thread>

#include <dlfcn.h>

#include "fixtures/thread_count.h"
#include "node_fixtures.h"

using namespace fake_host;

namespace {

// nearer than the alias of <cxxabi.h>
namespace abi = knowhere_plugin::milvus23::abi;

TEST(Node, RegistersScann) {
    EXPECT_EQ(registered().size(), 1u);
    HostNode node;
    EXPECT_EQ(node.node().Type(), "SCANN");
    EXPECT_EQ(node.node().version, 1);
    EXPECT_EQ(node.node().Dim(), 0);
    EXPECT_EQ(node.node().Count(), 0);
    EXPECT_EQ(counter("pid"), uint64_t(getpid()));
    EXPECT_EQ(counter("libknowhere_scann.so"), 1u);
}

TEST(Node, BuildsSavesLoadsSearches) {
    for (const char* metric : kMetrics) {
        HostNode made = built({{"metric_type", metric}});
        EXPECT_EQ(made.node().Dim(), kDim);
        EXPECT_EQ(made.node().Count(), kRows);
        HostNode loaded;
        ASSERT_EQ(loaded.load(made.saved()), abi::Status::success);
        EXPECT_EQ(loaded.node().Dim(), kDim);
        EXPECT_EQ(loaded.node().Count(), kRows);
        EXPECT_GT(loaded.node().Size(), kRows * kDim * 4);
        auto want = exact(metric, kRows, 10);
        for (const HostNode* node : {&made, &loaded}) {
            Answer got = node->search(queries(), wide(metric));
            ASSERT_TRUE(got.ok()) << got.message;
            ASSERT_EQ(got.rows, kQueries);
            ASSERT_EQ(got.k, 10);
            EXPECT_GT(recall(got, want), .99) << metric;
            // L2: squared distances; IP and COSINE: similarities
            for (int64_t q = 0; q < kQueries; q++) {
                EXPECT_NEAR(got.distance[q * 10], want.distances[q * 10], 1e-3);
            }
        }
    }
}

/// One call for many queries, as the host merges them, answers as many calls.
TEST(Node, BatchesAnswerAsSingleQueries) {
    HostNode node = built();
    Answer batch = node.search(queries(1000), wide());
    ASSERT_TRUE(batch.ok()) << batch.message;
    EXPECT_GE(counter("max_nq"), 1000u);
    for (int64_t q = 0; q < 1000; q += 97) {
        Rows one{1, kDim, queries().x + q * kDim};
        Answer single = node.search(one, wide());
        ASSERT_TRUE(single.ok());
        for (int64_t i = 0; i < 10; i++) {
            EXPECT_EQ(batch.ids[q * 10 + i], single.ids[i]) << q << " " << i;
        }
    }
}

TEST(Node, FiltersByBitset) {
    HostNode node = built();
    uint64_t filtered = counter("filtered");
    // every row not divisible by 7 is left out
    std::vector<uint8_t> bits((kRows + 7) / 8);
    for (int64_t i = 0; i < kRows; i++) {
        bits[i / 8] |= uint8_t((i % 7 != 0) << i % 8);
    }
    Answer got = node.search(queries(), wide(), bits);
    ASSERT_TRUE(got.ok()) << got.message;
    for (int64_t id : got.ids) {
        EXPECT_EQ(id % 7, 0);
        EXPECT_GE(id, 0);
    }
    EXPECT_EQ(counter("filtered"), filtered + 1);
    // only one row passes; then none
    std::fill(bits.begin(), bits.end(), uint8_t(0xff));
    bits[125] = uint8_t(~2u); // row 1001
    got = node.search(queries(1), wide(), bits);
    ASSERT_TRUE(got.ok());
    EXPECT_EQ(got.ids[0], 1001);
    EXPECT_EQ(got.ids[1], -1);
    bits[125] = 0xff;
    got = node.search(queries(1), wide(), bits);
    ASSERT_TRUE(got.ok());
    EXPECT_EQ(got.ids[0], -1);
    // the host's usual bitset: as many bits as rows, none set
    filtered = counter("filtered");
    ASSERT_TRUE(node.search(queries(1), wide()).ok());
    EXPECT_EQ(counter("filtered"), filtered);
    // one bit set, in each of the bytes that are not whole words
    for (int64_t row : {int64_t(0), kRows - 1, kRows - 9, int64_t(63)}) {
        std::fill(bits.begin(), bits.end(), uint8_t(0));
        bits[row / 8] = uint8_t(1u << row % 8);
        Answer without =
                node.search({1, kDim, &data()[row * kDim]}, wide(), bits);
        ASSERT_TRUE(without.ok());
        EXPECT_NE(without.ids[0], row);
    }
}

TEST(Node, RangeSearchKeepsItsSides) {
    for (const char* metric : kMetrics) {
        bool l2 = std::string(metric) == "L2";
        HostNode node = built({{"metric_type", metric}});
        auto want = exact(metric, kRows, 100);
        double far = want.distances[60], near = want.distances[20];
        Answer got = node.range(
                queries(1),
                {{"k", 1000},
                 {"metric_type", metric},
                 {"nprobe", "64"},
                 {"radius", far},
                 {"range_filter", near}});
        ASSERT_TRUE(got.ok()) << got.message;
        ASSERT_EQ(got.lims.size(), 2u);
        EXPECT_NEAR(double(got.ids.size()), 40, 2) << metric;
        for (float value : got.distance) {
            EXPECT_TRUE(
                    l2 ? value >= float(near) && value < float(far)
                       : value <= float(near) && value > float(far))
                    << value;
        }
        expect_error(
                node.range(
                        queries(1),
                        {{"metric_type", metric},
                         {"radius", near},
                         {"range_filter", far}}),
                {"range_filter = ", "radius = ", metric});
        expect_error(
                node.range(queries(1), {{"metric_type", metric}}),
                {"radius is missing"});
    }
}

TEST(Node, GivesRowsBackBitByBit) {
    for (const char* metric : kMetrics) {
        HostNode made = built({{"metric_type", metric}});
        HostNode node;
        ASSERT_EQ(node.load(made.saved()), abi::Status::success);
        ASSERT_TRUE(node.node().HasRawData(metric));
        Answer got = node.vectors({5, kRows - 1, 0, 5});
        ASSERT_TRUE(got.ok()) << got.message;
        ASSERT_EQ(got.rows, 4);
        int64_t at = 0;
        for (int64_t id : {int64_t(5), kRows - 1, int64_t(0), int64_t(5)}) {
            for (int64_t j = 0; j < kDim; j++) {
                EXPECT_EQ(got.rows_found[at++], data()[id * kDim + j])
                        << metric;
            }
        }
        expect_error(node.vectors({kRows}), {"6000", "0..5999"});
        expect_error(node.vectors({-1}), {"-1", "0..5999"});
    }
    HostNode codes = built({{"with_raw_data", "false"}});
    EXPECT_FALSE(codes.node().HasRawData("L2"));
    expect_error(codes.vectors({0}), {"raw data"});
}

TEST(Node, FewRowsAreExact) {
    for (int64_t n : {1, 2, 15, 100, 1024}) {
        HostNode node =
                built({{"nlist", "1024"}, {"with_raw_data", "false"}}, n);
        Answer got = node.search(queries(), {{"k", 10}, {"nprobe", 1}});
        ASSERT_TRUE(got.ok()) << got.message;
        auto want = exact("L2", n, 10);
        EXPECT_EQ(got.ids, want.labels) << n;
    }
    HostNode none = built({}, 0);
    EXPECT_EQ(none.node().Count(), 0);
    Answer got = none.search(queries(1), {{"k", 3}});
    ASSERT_TRUE(got.ok()) << got.message;
    EXPECT_EQ(got.ids, std::vector<int64_t>(3, -1));
}

TEST(Threads, ManySearchesAtOnce) {
    HostNode node = built();
    Answer want = node.search(queries(), wide());
    std::vector<std::thread> threads;
    for (int t = 0; t < 8; t++) {
        threads.emplace_back([&] {
            for (int i = 0; i < 20; i++) {
                EXPECT_EQ(node.search(queries(), wide()).ids, want.ids);
                EXPECT_TRUE(node.vectors({1, 2, 3}).ok());
            }
        });
    }
    for (auto& thread : threads) {
        thread.join();
    }
}

/// libgomp would keep a team of threads for every thread that searches.
TEST(Threads, SearchStartsNone) {
    HostNode node = built();
    node.search(queries(), wide());
    size_t before = threads_now();
    for (int t = 0; t < 16; t++) {
        std::thread([&] {
            node.search(queries(1), wide());
            node.search(queries(500), wide());
            node.range(queries(300), {{"radius", 1.5}});
            EXPECT_LE(threads_after_exits(before + 1), before + 1);
        }).join();
    }
    EXPECT_EQ(threads_after_exits(before), before);
}

TEST(Counters, CountCallsAndTheirTime) {
    uint64_t nodes = counter("nodes"), live = counter("live_nodes");
    uint64_t builds = counter("builds"), searches = counter("searches");
    uint64_t asked = counter("queries"), errors = counter("search_failures");
    uint64_t time = counter("search_ns"), vectors = counter("vectors");
    {
        HostNode node = built();
        EXPECT_EQ(counter("live_nodes"), live + 1);
        node.search(queries(7), wide());
        node.search(queries(1), {{"k", 0}});
        node.vectors({1, 2, 3});
    }
    EXPECT_EQ(counter("nodes"), nodes + 1);
    EXPECT_EQ(counter("live_nodes"), live);
    EXPECT_EQ(counter("builds"), builds + 1);
    EXPECT_EQ(counter("searches"), searches + 1);
    EXPECT_EQ(counter("queries"), asked + 7);
    EXPECT_EQ(counter("search_failures"), errors + 1);
    EXPECT_EQ(counter("vectors"), vectors + 3);
    EXPECT_GT(counter("search_ns"), time);
}

} // namespace

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    setenv("SCANN_PLUGIN_STATS",
           (testing::TempDir() + "plugin_stats").c_str(),
           1);
    setenv("OMP_NUM_THREADS", "4", 1);
    // as LD_PRELOAD does, but also where a sanitizer must come first
    if (dlopen(SCANN_PLUGIN, RTLD_NOW) == nullptr) {
        std::fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    if (registered().count("SCANN") == 0) {
        std::fprintf(stderr, "%s registered nothing\n", SCANN_PLUGIN);
        return 1;
    }
    return RUN_ALL_TESTS();
}
