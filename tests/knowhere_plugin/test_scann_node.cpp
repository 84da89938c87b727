/* The node SCANN: its parameters in every spelling, cross checks, storage. */

#include <map>
#include <set>

#include <gtest/gtest.h>

#include <faiss/impl/io.h>
#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/model/defaults.h>
#include <faiss_ext/index_factory.h>
#include <faiss_ext/index_io.h>
#include <faiss_ext/model/index_state.h>
#include <knowhere_plugin/index_factory.h>

#include "fixtures/node_fixtures.h"
#include "fixtures/random_rows.h"

using namespace knowhere_plugin;
using node_tests::create;
using node_tests::expect_refused;

namespace {

constexpr int64_t kDim = 24;
constexpr int64_t kRows = 6000;

const std::vector<float>& data() {
    static const std::vector<float> rows =
            random_rows::clustered(kRows, kDim, {100, 3}, 3);
    return rows;
}

DataSet rows(int64_t n = kRows) {
    return {n, kDim, data().data()};
}

NodePtr built(const Config& config) {
    NodePtr node = create("SCANN");
    Status status = node->Build(rows(), config);
    EXPECT_TRUE(status.ok()) << status.message;
    return node;
}

/// Codes a row has in the node; @param n  above what is always kept raw
size_t codes_of(int64_t n, int64_t d, const Config& config) {
    std::vector<float> x = random_rows::clustered(n, d, {10, 4}, 4);
    NodePtr node = create("SCANN");
    Status status = node->Build({n, d, x.data()}, config);
    EXPECT_TRUE(status.ok()) << status.message;
    Blob blob = node->Serialize().value();
    faiss::VectorIOReader reader;
    reader.data = std::move(blob);
    std::unique_ptr<faiss::Index> index(faiss_ext::read_index(&reader));
    return faiss_ext::find_scann(index.get())->state().model->pq.M();
}

/// Share of the 10 nearest of the first 50 rows, with themselves.
double recall(IndexNode& node, Config config) {
    static const reference::Hits want = reference::exact_search(
            faiss::METRIC_L2,
            kDim,
            data(),
            std::vector<float>(data().begin(), data().begin() + 50 * kDim),
            10);
    auto found = node.Search(rows(50), config);
    EXPECT_TRUE(found.ok()) << found.status().message;
    size_t hits = 0;
    for (int64_t q = 0; found.ok() && q < 50; q++) {
        std::set<int64_t> got(
                found.value().ids + q * 10, found.value().ids + q * 10 + 10);
        for (int64_t r = 0; r < 10; r++) {
            hits += got.count(want.labels[q * 10 + r]);
        }
    }
    return double(hits) / 500;
}

TEST(ScaNNNode, Spellings) {
    for (const char* yes : {"True", "true", "TRUE", " true ", "\"True\""}) {
        NodePtr node = built({{"with_raw_data", yes}, {"nlist", "\"16\""}});
        EXPECT_TRUE(node->HasRawData("L2")) << yes;
        EXPECT_TRUE(
                node->Search(rows(1), {{"k", " 5 "}, {"ensure_topk_full", yes}})
                        .ok());
    }
    NodePtr node =
            built({{"with_raw_data", "False"}, {"metric_type", "cosine"}});
    EXPECT_FALSE(node->HasRawData("L2"));
    EXPECT_TRUE(node->Search(rows(1), {{"metric_type", "Cosine"}}).ok());
}

TEST(ScaNNNode, BadBuildParameters) {
    auto build = [](Config config) {
        return create("SCANN")->Build(rows(), config);
    };
    auto range = StatusCode::out_of_range_in_json;
    expect_refused(
            build({{"nlist", "0"}}), range, {"nlist", "\"0\"", "1..65536"});
    expect_refused(build({{"nlist", "65537"}}), range, {"65537", "1..65536"});
    expect_refused(
            build({{"nlist", "abc"}}),
            StatusCode::type_conflict_in_json,
            {"nlist", "abc"});
    expect_refused(build({{"sub_dim", "9"}}), range, {"sub_dim", "1..8"});
    expect_refused(build({{"eta", "0.5"}}), range, {"eta", "0.5", "1..inf"});
    expect_refused(
            build({{"eta", "2"}, {"anisotropic_threshold", "0.2"}}),
            StatusCode::invalid_args,
            {"eta = 2", "0.2"});
    expect_refused(
            build({{"n_list", "16"}}),
            StatusCode::invalid_param_in_json,
            {"n_list", "16", "nlist"});
    expect_refused(
            build({{"refine_type", "int4"}}),
            StatusCode::invalid_value_in_json,
            {"int4", "none|int8|fp16|bf16"});
}

TEST(ScaNNNode, SearchParameters) {
    NodePtr node = built({{"nlist", "64"}});
    double one = recall(*node, {{"nprobe", "1"}});
    double all = recall(*node, {{"nprobe", "65536"}, {"reorder_k", "500"}});
    EXPECT_GT(all, .99);
    EXPECT_LT(one, all);
    EXPECT_GT(recall(*node, {}), .7);
    double few = recall(*node, {{"nprobe", "64"}, {"reorder_k", "10"}});
    EXPECT_LT(few, all);
    expect_refused(
            node->Search(rows(1), {{"k", "20"}, {"reorder_k", "19"}}).status(),
            StatusCode::out_of_range_in_json,
            {"reorder_k = 19", "k = 20"});
    auto many = node->Search(rows(1), {{"k", "16384"}, {"nprobe", "64"}});
    ASSERT_TRUE(many.ok()) << many.status().message;
    EXPECT_EQ(many.value().ids[kRows], -1);
    // keys of another phase are checked only
    EXPECT_TRUE(node->Search(rows(1), {{"nlist", "3"}}).ok());
    EXPECT_FALSE(node->Search(rows(1), {{"nlist", "0"}}).ok());
}

TEST(ScaNNNode, TargetRecall) {
    Config build = {{"nlist", "64"}, {"target_recall", "0.98"}};
    NodePtr node = built(build);
    double reached = recall(*node, {});
    EXPECT_GE(reached, .97);
    EXPECT_LT(recall(*node, {{"nprobe", "1"}}), reached);
    // also behind a blob
    auto blob = node->Serialize();
    ASSERT_TRUE(blob.ok());
    NodePtr loaded = create("SCANN");
    ASSERT_TRUE(loaded->Deserialize(blob.value(), {}).ok());
    EXPECT_EQ(recall(*loaded, {}), reached);
    // another one for a search
    EXPECT_GE(recall(*loaded, {{"target_recall", "0.999"}}), .98);
    EXPECT_LT(recall(*loaded, {{"target_recall", "0.5"}}), reached);
    expect_refused(
            built({{"nlist", "64"}})
                    ->Search(rows(1), {{"target_recall", "0.9"}})
                    .status(),
            StatusCode::invalid_args,
            {"target_recall = 0.9", "built with target_recall"});
    build["with_raw_data"] = "false";
    expect_refused(
            create("SCANN")->Build(rows(), build),
            StatusCode::invalid_args,
            {"target_recall = 0.98", "with_raw_data"});
    for (const char* value : {"0", "1", "nan", "high"}) {
        EXPECT_FALSE(
                create("SCANN")->Build(rows(), {{"target_recall", value}}).ok())
                << value;
    }
}

TEST(ScaNNNode, EnsureTopkFull) {
    NodePtr node = built({{"nlist", "128"}});
    Config config = {{"nprobe", "1"}, {"k", "1000"}};
    auto found = node->Search(rows(1), config);
    ASSERT_TRUE(found.ok());
    EXPECT_EQ(found.value().ids[999], -1);
    config["ensure_topk_full"] = "True";
    found = node->Search(rows(1), config);
    ASSERT_TRUE(found.ok()) << found.status().message;
    EXPECT_NE(found.value().ids[999], -1);
}

TEST(ScaNNNode, CopiesOfWideRows) {
    constexpr int64_t n = 5000, d = 128;
    std::vector<float> x = random_rows::normal(n * d, 5);
    auto node_of = [&](const Config& config) {
        NodePtr node = create("SCANN");
        Status status = node->Build({n, d, x.data()}, config);
        EXPECT_TRUE(status.ok()) << status.message;
        return node;
    };
    NodePtr chosen = node_of({});
    NodePtr plain = node_of({{"soar_lambda", "0"}});
    // twice the codes, each of half the bytes
    EXPECT_LT(chosen->Size(), plain->Size() * 1.08);
    EXPECT_NE(chosen->Size(), plain->Size());
    NodePtr codes = node_of({{"with_raw_data", "false"}});
    NodePtr same = node_of(
            {{"with_raw_data", "false"},
             {"soar_lambda", "0"},
             {"sub_dim", "2"}});
    EXPECT_EQ(codes->Size(), same->Size());
}

/// Milvus' own SCANN has 4-bit codes of 2 dimensions, 13 bytes for 50.
TEST(ScaNNNode, CodesAloneTakeLittleMoreThanPlainOnes) {
    constexpr int64_t n = 5000, d = 50, nlist = 16;
    std::vector<float> x = random_rows::normal(n * d, 5);
    auto bytes_of = [&](const Config& config) {
        NodePtr node = create("SCANN");
        Status status = node->Build({n, d, x.data()}, config);
        EXPECT_TRUE(status.ok()) << status.message;
        return double(node->Serialize().value().size());
    };
    Config codes = {{"with_raw_data", "false"}, {"nlist", "16"}};
    Config given = codes;
    given["sub_dim"] = "2";
    double fixed = d * d * 4 + nlist * d * 4 + d * 16 * 4 + 12000;
    EXPECT_LT(bytes_of(codes) - fixed, 1.08 * n * (13 + 8));
    EXPECT_GT(bytes_of(given), bytes_of(codes) + 1.9 * n); // 28 codes stored
}

TEST(ScaNNNode, StorageOptions) {
    NodePtr raw = built({});
    NodePtr codes = built({{"with_raw_data", "false"}});
    EXPECT_LT(codes->Size(), raw->Size() / 2);
    Config wide = {{"nprobe", "128"}};
    EXPECT_GT(recall(*codes, wide), .4);
    EXPECT_LT(recall(*codes, wide), recall(*raw, wide));
    for (const char* type : {"int8", "fp16", "bf16"}) {
        NodePtr node =
                built({{"with_raw_data", "false"}, {"refine_type", type}});
        EXPECT_FALSE(node->HasRawData("L2"));
        EXPECT_GT(recall(*node, wide), .9) << type;
        EXPECT_GT(node->Size(), codes->Size());
        wide["reorder_k"] = "100";
        EXPECT_GT(recall(*node, wide), .9) << type;
        wide.erase("reorder_k");
    }
    NodePtr soar = built({{"soar_lambda", "1"}});
    EXPECT_GT(recall(*soar, wide), .98);
    EXPECT_GT(soar->Size(), raw->Size());
    NodePtr coarse = built({{"sub_dim", "8"}, {"with_raw_data", "false"}});
    EXPECT_LT(coarse->Size(), codes->Size());
    for (Config config :
         {Config{{"eta", "3"}}, Config{{"anisotropic_threshold", "0.2"}}}) {
        config["metric_type"] = "IP";
        EXPECT_TRUE(built(config)->Search(rows(1), {}).ok());
    }
}

/// Up to 2048 rows every search is exact, whatever it says.
TEST(ScaNNNode, FewRowsAreExact) {
    for (int64_t n : {1, 16, 39, 100, 500, 2048}) {
        NodePtr node = create("SCANN");
        Config config = {{"nlist", "4096"}, {"with_raw_data", "false"}};
        ASSERT_TRUE(node->Build(rows(n), config).ok());
        NodePtr flat = create("FLAT");
        ASSERT_TRUE(flat->Build(rows(n), {}).ok());
        Config search = {{"nprobe", "1"}, {"reorder_k", "10"}};
        auto got = node->Search(rows(20), search);
        auto want = flat->Search(rows(20), {});
        ASSERT_TRUE(got.ok()) << got.status().message;
        for (int64_t i = 0; i < 200; i++) {
            ASSERT_EQ(got.value().ids[i], want.value().ids[i]) << n << " " << i;
        }
    }
}

TEST(ScaNNNode, BuildThreadsGiveTheSame) {
    Blob one = built({{"num_build_thread", "1"}})->Serialize().value();
    Blob two = built({{"num_build_thread", "2"}})->Serialize().value();
    EXPECT_EQ(one, two);
}

TEST(ScaNNNode, WithoutRawRowsCodesFillWholeGroups) {
    constexpr int64_t kMany = 2049; // of fewer, raw rows are kept
    const std::map<int64_t, size_t> fours = {
            {31, 0}, {32, 16}, {35, 16}, {40, 20}, {50, 24}, {128, 64}};
    for (auto [d, codes] : fours) {
        EXPECT_EQ(faiss_ext::whole_groups(size_t(d), 2), codes);
        size_t as_sub_dim_says = size_t(d + 1) / 2;
        for (const char* metric : {"L2", "IP", "COSINE"}) {
            Config config = {
                    {"metric_type", metric},
                    {"nlist", "1"},
                    {"with_raw_data", "false"}};
            EXPECT_EQ(
                    codes_of(kMany, d, config), codes ? codes : as_sub_dim_says)
                    << d << metric;
        }
        Config config = {{"nlist", "1"}, {"soar_lambda", "0"}};
        EXPECT_EQ(codes_of(kMany, d, config), as_sub_dim_says) << d;
        config = {{"nlist", "1"}, {"sub_dim", "2"}, {"with_raw_data", "false"}};
        EXPECT_EQ(codes_of(kMany, d, config), as_sub_dim_says) << d;
        config.erase("sub_dim");
        EXPECT_EQ(codes_of(kMany - 1, d, config), as_sub_dim_says) << d;
    }
}

} // namespace
