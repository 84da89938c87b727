/* Parameters and blobs as clients and hosts give them, good and bad: what users
 * see of errors. */

#include <limits>

#include "node_fixtures.h"

using namespace fake_host;

namespace {

// nearer than the alias of <cxxabi.h>
namespace abi = knowhere_plugin::milvus23::abi;

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
                {"queries[0, 5] = ", "(allowed: finite numbers)"});
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
          Case{"sub_dim", "", "using the default"},
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
    expect_in(log, {"eta = 2",
                "anisotropic_threshold = 0.2",
                "ignoring anisotropic_threshold"});
    EXPECT_EQ(node.node().Count(), 500);
    // nothing to say of good values
    EXPECT_EQ(log_of([&] { built({{"eta", "2"}, {"sub_dim", "4"}}); }), "");
}

/// Milvus 2.3.2 and 2.3.3 read k of the config themselves after a search.
TEST(Parameters, StandInTheMembersOfTheConfig) {
    HostNode node = built();
    Answer got = node.search(queries(1), {{"k", 7}, {"metric_type", "L2"}});
    ASSERT_TRUE(got.ok()) << got.message;
    EXPECT_EQ(got.k_read, 7);
    got = node.search(queries(1), {});
    ASSERT_TRUE(got.ok()) << got.message;
    EXPECT_EQ(got.k_read, got.k);
    got = node.range(queries(1), {{"radius", 3.5}});
    ASSERT_TRUE(got.ok()) << got.message;
    EXPECT_EQ(got.radius_read, 3.5f);
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
    expect_in(log, {"build failed: rows[7, 3] = nan (allowed: finite numbers)"});
    EXPECT_EQ(counter("build_failures"), failures + 1);
}

// ----------------------------------------------------------------- blobs

std::string expect_refused(
        std::vector<uint8_t> bytes,
        const char* name = "SCANN") {
    HostNode node;
    uint64_t failures = counter("load_failures");
    std::string log = log_of([&] {
        EXPECT_EQ(
                node.load(std::move(bytes), name),
                abi::Status::invalid_binary_set);
    });
    expect_in(log, {"load failed: ", "not a blob of SCANN: "});
    EXPECT_EQ(log.find("Error in"), std::string::npos) << log;
    EXPECT_EQ(counter("load_failures"), failures + 1);
    EXPECT_EQ(node.node().Count(), 0);
    return log;
}

TEST(Blobs, ForeignOnesAreRefused) {
    expect_refused({});
    expect_refused(std::vector<uint8_t>(1000, 0));
    // how the host's own SCANN begins
    std::vector<uint8_t> stock = {'I', 'x', 'S', 'C', 24, 0, 0, 0};
    stock.resize(4096, 7);
    expect_in(expect_refused(stock), {"4096 bytes", "IxSC", "the host's own"});
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
        std::string log = expect_refused(shorter);
        EXPECT_EQ(log.find("the host's own"), std::string::npos) << log;
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

} // namespace
