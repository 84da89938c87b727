/* The plug-in in a process that looks like Milvus 2.3.5: every call of its
 * node, what users see of errors, the counters. */

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <set>
#include <sstream>
#include <thread>

#include <dirent.h>
#include <dlfcn.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "../reference.h"
#include "host_node.h"

using namespace fake_host;

namespace {

// nearer than the alias of <cxxabi.h>
namespace abi = knowhere_plugin::milvus23::abi;

constexpr int64_t kDim = 24;
constexpr int64_t kRows = 6000;
constexpr int64_t kQueries = 50;
const char* const kMetrics[] = {"L2", "IP", "COSINE"};

const std::vector<float>& data() {
    static const std::vector<float> rows =
            reference::random_clustered(kRows, kDim, 100, 3);
    return rows;
}

Rows rows(int64_t n = kRows) {
    return {n, kDim, data().data()};
}

/// Rows 0, 1, ... are queries too, a little off.
Rows queries(int64_t n = kQueries) {
    static const std::vector<float> moved = [] {
        std::vector<float> x(data().begin(), data().begin() + 1000 * kDim);
        std::vector<float> noise = reference::random_normal(x.size(), 9);
        for (size_t i = 0; i < x.size(); i++) {
            x[i] += noise[i] / 10;
        }
        return x;
    }();
    return {n, kDim, moved.data()};
}

/// Exact answers; distances as the metric has them.
reference::Neighbors exact(const std::string& metric, int64_t n, size_t k) {
    std::vector<float> base = data();
    base.resize(n * kDim);
    std::vector<float> q(queries().x, queries().x + kQueries * kDim);
    if (metric == "COSINE") {
        base = reference::normalized(base, kDim);
        q = reference::normalized(q, kDim);
    }
    return reference::knn(
            metric == "L2" ? faiss::METRIC_L2 : faiss::METRIC_INNER_PRODUCT,
            kDim,
            base,
            q,
            k);
}

double recall(const Answer& got, const reference::Neighbors& want) {
    size_t hits = 0;
    for (int64_t q = 0; q < got.rows; q++) {
        std::set<int64_t> mine(
                got.ids.begin() + q * got.k, got.ids.begin() + (q + 1) * got.k);
        for (int64_t i = 0; i < got.k; i++) {
            hits += mine.count(want.labels[q * got.k + i]);
        }
    }
    return double(hits) / double(got.rows * got.k);
}

HostNode built(Request request = {}, int64_t n = kRows) {
    HostNode node;
    request.insert({"metric_type", "L2"});
    request.insert({"nlist", "64"});
    request.insert({"dim", "24"});
    EXPECT_EQ(node.build(rows(n), request), abi::Status::success);
    return node;
}

Request wide(const char* metric = "L2") {
    return {{"k", 10}, {"metric_type", metric}, {"nprobe", 64}};
}

void expect_error(
        const Answer& answer,
        std::initializer_list<const char*> parts) {
    EXPECT_FALSE(answer.ok());
    for (const char* part : parts) {
        EXPECT_NE(answer.message.find(part), std::string::npos)
                << part << " not in: " << answer.message;
    }
}

/// Value of a counter, read as tests of the server do.
uint64_t counter(const std::string& name) {
    std::ifstream in(std::getenv("SCANN_PLUGIN_STATS"), std::ios::binary);
    char record[32];
    while (in.read(record, sizeof(record))) {
        if (name == record) {
            uint64_t value;
            std::copy_n(record + 24, 8, reinterpret_cast<char*>(&value));
            return value;
        }
    }
    ADD_FAILURE() << "no counter " << name;
    return 0;
}

/// What `work` writes to stderr.
template <class Work>
std::string log_of(Work&& work) {
    std::string path = testing::TempDir() + "plugin_log";
    std::fflush(stderr);
    int before = dup(STDERR_FILENO);
    FILE* file = std::fopen(path.c_str(), "w");
    dup2(fileno(file), STDERR_FILENO);
    work();
    dup2(before, STDERR_FILENO);
    close(before);
    std::fclose(file);
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
}

void expect_in(
        const std::string& text,
        std::initializer_list<const char*> parts) {
    for (const char* part : parts) {
        EXPECT_NE(text.find(part), std::string::npos)
                << part << " not in: " << text;
    }
}

size_t threads_now() {
    size_t count = 0;
    DIR* tasks = opendir("/proc/self/task");
    while (readdir(tasks) != nullptr) {
        count++;
    }
    closedir(tasks);
    return count;
}

// ----------------------------------------------------------------- calls

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

// ------------------------------------------------------------ parameters

TEST(Parameters, EverySpellingWorks) {
    for (const char* yes : {"True", "true", "TRUE", "\"true\""}) {
        EXPECT_TRUE(built({{"with_raw_data", yes}, {"nlist", "\"16\""}})
                            .node()
                            .HasRawData("L2"))
                << yes;
    }
    for (const char* no : {"False", "false"}) {
        EXPECT_FALSE(built({{"with_raw_data", no}}).node().HasRawData("L2"));
    }
    HostNode node = built();
    EXPECT_TRUE(node.search(queries(1),
                            {{"k", "10"},
                             {"nprobe", "16"},
                             {"reorder_k", "100"},
                             {"ensure_topk_full", "true"}})
                        .ok());
    EXPECT_TRUE(node.search(queries(1),
                            {{"k", 10},
                             {"nprobe", 16},
                             {"reorder_k", 100},
                             {"ensure_topk_full", true}})
                        .ok());
}

TEST(Parameters, SearchErrorsSayKeyValueAndRange) {
    HostNode node = built();
    auto with = [&](const char* key, Json value) {
        Request request = {{"k", 10}, {"metric_type", "L2"}};
        request.insert_or_assign(key, value);
        return node.search(queries(1), request);
    };
    expect_error(with("reorder_k", 9), {"reorder_k = 9", "k = 10", "allowed"});
    expect_error(with("nprobe", 0), {"nprobe", "\"0\"", "1..65536"});
    expect_error(with("nprobe", 65537), {"nprobe", "65537", "1..65536"});
    expect_error(with("nprobe", int64_t(1) << 33), {"nprobe"});
    expect_error(with("k", 0), {"k = \"0\"", "1.."});
    expect_error(with("ef", 64), {"unknown parameter ef = \"64\"", "nprobe"});
    expect_error(
            with("leaves_to_search", "7"),
            {"unknown parameter leaves_to_search", "reorder_k"});
    expect_error(with("metric_type", "IP"), {"\"IP\"", "L2"});
    expect_error(with("metric_type", "XYZ"), {"XYZ", "L2|IP|COSINE"});
    // more lists than there are: all of them
    EXPECT_TRUE(with("nprobe", 65536).ok());
    Answer many = with("k", 16384);
    ASSERT_TRUE(many.ok()) << many.message;
    EXPECT_EQ(many.k, 16384);
}

TEST(Parameters, BadQueriesAreErrors) {
    HostNode node = built();
    std::vector<float> query(queries().x, queries().x + kDim);
    expect_error(
            node.search({1, kDim - 1, query.data()}, {{"k", 1}}),
            {"dim = 23", "24"});
    for (float bad :
         {std::numeric_limits<float>::quiet_NaN(),
          std::numeric_limits<float>::infinity()}) {
        query[5] = bad;
        expect_error(
                node.search({1, kDim, query.data()}, {{"k", 1}}),
                {"row 0", "dimension 5", "not finite"});
    }
    HostNode empty;
    Answer got = empty.search(queries(1), {{"k", 1}});
    EXPECT_EQ(int(got.status), 6); // empty_index
    expect_error(got, {"neither built nor loaded"});
    EXPECT_FALSE(empty.vectors({0}).ok());
    abi::BinarySet set;
    EXPECT_NE(empty.node().Serialize(set), abi::Status::success);
}

/// The host would retry a failed build for ever and tell nobody.
TEST(Parameters, BadBuildValuesAreReplacedAndLogged) {
    struct Case {
        const char* key;
        const char* value;
        const char* used;
    };
    for (Case c :
         {Case{"nlist", "0", "using 1"},
          Case{"nlist", "65537", "using 65536"},
          Case{"nlist", "abc", "using 128"},
          Case{"nlist", "99999999999999999999", "using 65536"},
          Case{"sub_dim", "9", "using 8"},
          Case{"sub_dim", "1.6", "using 2"},
          Case{"sub_dim", "-1", "using 1"},
          Case{"sub_dim", "", "using 2"},
          Case{"with_raw_data", "yes", "using true"},
          Case{"with_raw_data", "0", "using false"},
          Case{"with_raw_data", "maybe", "using true"},
          Case{"eta", "0.5", "using 1"},
          Case{"eta", "nan", "using the default"},
          Case{"soar_lambda", "-3", "using 0"},
          Case{"refine_type", "int4", "using none"},
          Case{"num_build_thread", "0", "using 1"}}) {
        uint64_t repairs = counter("repairs");
        HostNode node;
        abi::Status status{};
        std::string log = log_of([&] {
            status = node.build(
                    rows(500), {{"metric_type", "L2"}, {c.key, c.value}});
        });
        EXPECT_EQ(status, abi::Status::success) << c.key;
        expect_in(
                log,
                {"faiss_ext: libknowhere_scann.so build: ",
                 c.key,
                 c.value,
                 "allowed",
                 c.used});
        EXPECT_EQ(counter("repairs"), repairs + 1) << log;
        EXPECT_EQ(node.node().Count(), 500);
    }
    HostNode node;
    std::string log = log_of([&] {
        node.build(rows(500), {{"eta", "2"}, {"anisotropic_threshold", "0.2"}});
    });
    expect_in(log, {"eta = 2", "anisotropic_threshold = 0.2", "using eta"});
    EXPECT_EQ(node.node().Count(), 500);
    // nothing to say of good values
    EXPECT_EQ(log_of([&] { built({{"eta", "2"}, {"sub_dim", "4"}}); }), "");
}

/// What cannot be repaired is a status and a line in the log.
TEST(Parameters, BadRowsAreStatuses) {
    std::vector<float> x(data().begin(), data().begin() + 100 * kDim);
    x[kDim * 7 + 3] = std::numeric_limits<float>::quiet_NaN();
    HostNode node;
    uint64_t failures = counter("build_failures");
    std::string log = log_of([&] {
        EXPECT_NE(
                node.build({100, kDim, x.data()}, {{"eta", "3"}}),
                abi::Status::success);
    });
    expect_in(log, {"build failed: ", "row 7", "dimension 3", "not finite"});
    EXPECT_EQ(counter("build_failures"), failures + 1);
}

// ----------------------------------------------------------------- blobs

void expect_refused(std::vector<uint8_t> bytes, const char* name = "SCANN") {
    HostNode node;
    uint64_t failures = counter("load_failures");
    std::string log = log_of([&] {
        EXPECT_EQ(
                node.load(std::move(bytes), name),
                abi::Status::invalid_binary_set);
    });
    expect_in(log, {"load failed: ", "not a blob of SCANN"});
    EXPECT_EQ(counter("load_failures"), failures + 1);
    EXPECT_EQ(node.node().Count(), 0);
}

TEST(Blobs, ForeignOnesAreRefused) {
    expect_refused({});
    expect_refused(std::vector<uint8_t>(1000, 0));
    // how the host's own SCANN begins
    std::vector<uint8_t> stock = {'I', 'x', 'S', 'C', 24, 0, 0, 0};
    stock.resize(4096, 7);
    expect_refused(stock);
    expect_refused(built().saved(), "HNSW");
    // a null pointer
    HostNode node;
    abi::BinarySet set;
    set["SCANN"] = nullptr;
    auto config = node.node().CreateConfig();
    EXPECT_EQ(
            node.node().Deserialize(set, *config),
            abi::Status::invalid_binary_set);
}

TEST(Blobs, DamagedOnesAreRefused) {
    std::vector<uint8_t> good = built({}, 3000).saved();
    for (size_t part = 0; part < 20; part++) {
        std::vector<uint8_t> shorter(
                good.begin(), good.begin() + good.size() * part / 20);
        expect_refused(shorter);
        std::vector<uint8_t> flipped = good;
        flipped[good.size() * part / 20 + part % 8] ^= uint8_t(1u << part % 8);
        HostNode node;
        // bits of padding are not data
        if (node.load(flipped) == abi::Status::success) {
            EXPECT_EQ(
                    node.search(queries(), wide()).ids,
                    built({}, 3000).search(queries(), wide()).ids)
                    << part;
        }
    }
    std::vector<uint8_t> longer = good;
    longer.resize(good.size() + 100);
    HostNode node;
    node.load(longer);
    ASSERT_EQ(node.load(good), abi::Status::success);
    EXPECT_EQ(node.node().Count(), 3000);
    // a failed load leaves the node as it was
    node.load(std::vector<uint8_t>(50, 1));
    EXPECT_TRUE(node.search(queries(), wide()).ok());
}

// ---------------------------------------------------------- many threads

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
            EXPECT_LE(threads_now(), before + 1);
        }).join();
    }
    EXPECT_EQ(threads_now(), before);
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
