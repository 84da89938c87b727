/* The rules of SCANN, without an index: what parameters mean to the engine for
 * so many rows, and what is refused before there are any. */

#include <algorithm>

#include <knowhere_plugin/guard.h>
#include <knowhere_plugin/nodes.h>
#include <knowhere_plugin/scann_parameters.h>

#include "fixtures/node_fixtures.h"

using namespace node_tests;

namespace {

constexpr int64_t kMany = 10 * kExactRows;

Parameters parsed(const Config& config) {
    return Parameters(scann_schema(), config);
}

faiss_ext::ScaNNOptions options_for(
        int64_t n,
        int64_t d,
        const Config& config,
        Metric metric = Metric::L2) {
    return scann_options(n, d, metric, parsed(config));
}

ScaNNFacts facts(int64_t rows, size_t nlist, bool with_raw_data = true) {
    return {.rows = rows,
            .nlist = nlist,
            .nprobe = 0,
            .calibrated = false,
            .profiled = false,
            .with_raw_data = with_raw_data};
}

struct Reached {
    size_t nprobe, reorder_k, refine_k;
    bool operator==(const Reached&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Reached& r) {
    return out << r.nprobe << ", " << r.reorder_k << ", " << r.refine_k;
}

Reached reached(
        const ScaNNFacts& facts,
        const Config& config,
        int64_t k = 10,
        SearchScope scope = kAsAsked) {
    auto made = scann_search_parameters(facts, parsed(config), scope, k);
    return {made.nprobe, made.reorder_k, made.refine_k};
}

TEST(SearchPolicy, GivesTheEngineWhatWasAsked) {
    const ScaNNFacts raw = facts(100000, 64), codes = facts(100000, 64, false);
    EXPECT_EQ(reached(raw, {}), (Reached{8, 0, 0}));
    EXPECT_EQ(reached(raw, {{"nprobe", "100"}}), (Reached{64, 0, 0}));
    EXPECT_EQ(reached(raw, {{"nprobe", "3"}}), (Reached{3, 0, 0}));
    // the last step that rescores is the one that is meant
    EXPECT_EQ(reached(raw, {{"reorder_k", "50"}}), (Reached{8, 50, 0}));
    EXPECT_EQ(reached(codes, {{"reorder_k", "50"}}), (Reached{8, 0, 50}));
    EXPECT_EQ(reached(raw, {{"reorder_k", "20"}}, 50), (Reached{8, 50, 0}));
    // further, for iterators
    EXPECT_EQ(
            reached(raw, {{"nprobe", "3"}}, 10, {4, false}),
            (Reached{12, 0, 0}));
    EXPECT_EQ(
            reached(raw, {{"nprobe", "3"}}, 10, kWholeIndex),
            (Reached{64, 100000, 100000}));
}

TEST(SearchPolicy, TakesWhatCalibrationChose) {
    ScaNNFacts calibrated = facts(100000, 64);
    calibrated.calibrated = true;
    calibrated.nprobe = 20;
    EXPECT_EQ(reached(calibrated, {}), (Reached{20, 0, 0}));
    EXPECT_EQ(reached(calibrated, {{"nprobe", "5"}}), (Reached{5, 0, 0}));
    calibrated.rows = 5000;
    calibrated.nprobe = 3;
    EXPECT_EQ(reached(calibrated, {}), (Reached{3, 0, 0}));
}

TEST(SearchPolicy, ScansAllOfFewRows) {
    for (const char* nprobe : {"1", "64"}) {
        EXPECT_EQ(
                reached(facts(300, 7), {{"nprobe", nprobe}}),
                (Reached{7, 300, 300}));
        EXPECT_EQ(
                reached(facts(kExactRows, 52), {{"nprobe", nprobe}}),
                (Reached{52, size_t(kExactRows), size_t(kExactRows)}));
    }
    EXPECT_EQ(reached(facts(3, 1), {}, 10), (Reached{1, 10, 10}));
}

/// Recall with these: test_node_reach.cpp
TEST(SearchPolicy, SmallSegmentsAreSearchedFurther) {
    size_t before = 129;
    for (int64_t rows : {2049, 5000, 10000, 20000, 40000, 80000, 1000000}) {
        const size_t nprobe = reached(facts(rows, 128), {}).nprobe;
        EXPECT_LE(nprobe, before) << rows;
        before = nprobe;
    }
    EXPECT_EQ(reached(facts(2049, 128), {}).nprobe, 128u);
    EXPECT_GE(reached(facts(20000, 128), {}).nprobe, 64u);
    EXPECT_EQ(before, 8u);
    // as many rows as are wanted, and more
    EXPECT_EQ(reached(facts(30000, 128), {}, 16384).nprobe, 128u);
    // more candidates, where raw rows rescore them and nothing was said
    EXPECT_GT(reached(facts(5000, 128), {}).reorder_k, 10u);
    EXPECT_EQ(reached(facts(5000, 128, false), {}).reorder_k, 0u);
    EXPECT_EQ(reached(facts(5000, 128), {{"nprobe", "2"}}), (Reached{2, 0, 0}));
}

/// Rows of very different lengths: training found that the lists that come
/// first are four times smaller than usual.
TEST(SearchPolicy, VisitsMoreSmallLists) {
    ScaNNFacts uneven = facts(1000000, 128);
    uneven.nprobe = 4; // 1/32 of 128
    EXPECT_EQ(reached(uneven, {}).nprobe, 8u);
    uneven.nprobe = 16;
    EXPECT_EQ(reached(uneven, {}).nprobe, 32u);
    uneven.nprobe = size_t(-1); // a file may hold any number
    EXPECT_EQ(reached(uneven, {}).nprobe, 128u);
}

TEST(BuildPolicy, DefaultsAreThoseOfKnowhere) {
    auto made = options_for(kMany, 48, {});
    EXPECT_EQ(made.sub_dim, 2u);
    EXPECT_EQ(made.M, 0u);
    EXPECT_EQ(made.soar_lambda, 0);
    EXPECT_TRUE(made.with_raw_data);
    EXPECT_FALSE(made.normalize);
    EXPECT_TRUE(options_for(kMany, 48, {}, Metric::COSINE).normalize);
    EXPECT_EQ(made.refine_type, faiss_ext::RefineType::None);
    EXPECT_EQ(parsed({}).integer("nlist"), 128);
}

TEST(BuildPolicy, ManyDimensionsGetCopiesAndCoarserCodes) {
    auto made = options_for(kMany, 128, {});
    EXPECT_EQ(made.sub_dim, 4u);
    EXPECT_EQ(made.soar_lambda, 1);
    made = options_for(kMany, 127, {});
    EXPECT_EQ(made.sub_dim, 2u);
    EXPECT_EQ(made.soar_lambda, 0);
    made = options_for(kMany, 128, {{"sub_dim", "8"}});
    EXPECT_EQ(made.sub_dim, 8u);
    EXPECT_EQ(made.soar_lambda, 1);
    made = options_for(kMany, 128, {{"soar_lambda", "0"}});
    EXPECT_EQ(made.sub_dim, 2u);
    EXPECT_EQ(made.soar_lambda, 0);
    for (const Config& config :
         {Config{}, Config{{"with_raw_data", "false"}}}) {
        made = options_for(kExactRows, 128, config);
        EXPECT_EQ(made.sub_dim, 2u);
        EXPECT_EQ(made.M, 0u);
        EXPECT_EQ(made.soar_lambda, 0);
        EXPECT_TRUE(made.with_raw_data);
    }
}

TEST(BuildPolicy, WithoutRawRowsCodesFillWholeGroups) {
    const std::map<int64_t, size_t> fours = {
            {31, 0}, {32, 16}, {35, 16}, {40, 20}, {50, 24}, {128, 64}};
    for (auto [d, codes] : fours) {
        Config config = {{"with_raw_data", "false"}};
        auto made = options_for(kExactRows + 1, d, config);
        EXPECT_FALSE(made.with_raw_data);
        EXPECT_EQ(made.M, codes) << d;
        EXPECT_EQ(made.soar_lambda, 0);
        config["refine_type"] = "int8";
        config["eta"] = "3";
        EXPECT_EQ(options_for(kMany, d, config).M, codes) << d;
        config["sub_dim"] = "2";
        EXPECT_EQ(options_for(kMany, d, config).M, 0u) << d;
    }
}

/// What the codes take, of every dimension.
TEST(BuildPolicy, CodesOfEveryDimension) {
    for (int64_t d = 1; d <= 1536; d += d < 200 ? 1 : 67) {
        const size_t pairs = size_t(d) / 2;
        const size_t fours = pairs < 16 ? 0 : pairs / 4 * 4;
        for (Metric metric : {Metric::L2, Metric::IP, Metric::COSINE}) {
            for (const char* raw : {"true", "false"}) {
                const bool kept = raw == std::string("true");
                auto made = options_for(
                        kMany,
                        d,
                        {{"with_raw_data", raw}, {"soar_lambda", "0"}},
                        metric);
                EXPECT_EQ(made.sub_dim, 2u);
                EXPECT_EQ(made.M, kept ? 0 : fours) << d;
                faiss_ext::IndexIVFScaNN index(
                        size_t(d), 256, faiss_metric(metric), made);
                const size_t codes =
                        kept || fours == 0 ? size_t(d + 1) / 2 : fours;
                const size_t term = 2, list_number = 1;
                EXPECT_EQ(
                        index.sa_code_size(),
                        (codes + 1) / 2 + term + list_number +
                                (kept ? size_t(4 * d) : 0) +
                                (kept && metric == Metric::COSINE ? 4 : 0))
                        << d;
            }
        }
    }
}

TEST(BuildPolicy, ValuesArrive) {
    auto made = options_for(
            kMany,
            48,
            {{"eta", "3.5"},
             {"soar_lambda", "1.5"},
             {"sub_dim", "3"},
             {"refine_type", "bf16"}});
    EXPECT_EQ(made.eta, 3.5f);
    EXPECT_EQ(made.soar_lambda, 1.5f);
    EXPECT_EQ(made.sub_dim, 3u);
    EXPECT_EQ(made.refine_type, faiss_ext::RefineType::BF16);
    made = options_for(kMany, 48, {{"anisotropic_threshold", "0.2"}});
    EXPECT_EQ(made.threshold, .2f);
}

// ------------------------------------------------------------ CheckConfig

void expect_refused(
        const Status& status,
        StatusCode code,
        const std::string& message) {
    EXPECT_EQ(int(status.code), int(code)) << status.message;
    EXPECT_EQ(status.message, message);
}

TEST(CheckConfig, RefusesValuesThatExcludeEachOther) {
    NodePtr node = create("SCANN");
    expect_refused(
            node->CheckConfig(
                    {{"eta", "2"}, {"anisotropic_threshold", "0.2"}}, kBuild),
            StatusCode::invalid_args,
            "eta = 2 and anisotropic_threshold = 0.2 (allowed: one of them)");
    expect_refused(
            node->CheckConfig(
                    {{"target_recall", "0.9"}, {"with_raw_data", "false"}},
                    kBuild),
            StatusCode::invalid_args,
            "target_recall = 0.9 with with_raw_data = false (allowed: true; "
            "recall is measured against raw rows)");
    expect_refused(
            node->CheckConfig(
                    {{"target_recall", "0.9"}, {"nprobe", "8"}}, kSearch),
            StatusCode::invalid_args,
            "target_recall = 0.9 and nprobe = 8 (allowed: one of them)");
    expect_refused(
            node->CheckConfig({{"reorder_k", "5"}}, kSearch),
            StatusCode::out_of_range_in_json,
            "reorder_k = 5 is below k = 10 (allowed: >= k)");
    expect_refused(
            node->CheckConfig(
                    {{"radius", "1"}, {"range_filter", "2.5"}}, kRange),
            StatusCode::out_of_range_in_json,
            "range_filter = 2.5 with radius = 1 (allowed for L2: range_filter "
            "< radius)");
    Config ip = {
            {"radius", "1"}, {"range_filter", "2.5"}, {"metric_type", "IP"}};
    EXPECT_TRUE(node->CheckConfig(ip, kRange).ok());
}

TEST(CheckConfig, KnowsTheKeysOfItsPhases) {
    NodePtr node = create("SCANN");
    const Config nprobe = {{"nprobe", "8"}};
    EXPECT_TRUE(node->CheckConfig(nprobe, kSearch).ok());
    EXPECT_TRUE(node->CheckConfig(nprobe, kBuild | kSearch).ok());
    Status status = node->CheckConfig(nprobe, kBuild);
    EXPECT_EQ(status.code, StatusCode::invalid_param_in_json);
    EXPECT_TRUE(status.message.starts_with(
            "unknown build parameter nprobe = \"8\" (known: metric_type, "))
            << status.message;
    EXPECT_EQ(status.message.find("reorder_k"), std::string::npos);
    EXPECT_EQ(
            node->CheckConfig({{"nlist", "8"}}, kSearch | kRange).code,
            StatusCode::invalid_param_in_json);
}

/// A call refuses what CheckConfig refuses, and takes the other values.
TEST(CheckConfig, TakesTheBoundsOfEverySchema) {
    for (const char* type : {"SCANN", "FLAT", "IVF_FLAT", "IVF_PQ", "HNSW"}) {
        NodePtr node = create(type);
        for (const Parameter& p : node->Schema()) {
            SCOPED_TRACE(std::string(type) + " " + p.name);
            EXPECT_NE(p.phases, 0u);
            EXPECT_GT(std::string(p.doc).size(), 4u);
            std::vector<std::string> good, bad;
            if (p.type == ParameterType::Integer) {
                good = {shown(p.min), shown(p.max)};
                bad = {shown(p.min - 1), shown(p.max + 1)};
            } else if (p.type == ParameterType::Real) {
                good = {std::to_string(p.min), std::to_string(p.max)};
                bad = {std::to_string(p.min - std::max(1., std::abs(p.min))),
                       std::to_string(p.max + std::max(1., std::abs(p.max)))};
            } else if (p.type == ParameterType::Bool) {
                good = {"true", "false", " True ", "\"FALSE\""};
                bad = {"1", "yes", ""};
            } else {
                std::istringstream words(p.words);
                for (std::string word; std::getline(words, word, '|');) {
                    good.push_back(word);
                }
                bad = {"", "L2|IP", "other"};
            }
            if (p.default_value[0] != 0) {
                good.push_back(p.default_value);
            }
            for (const std::string& text : good) {
                // as large as the largest reorder_k
                Config config = {{p.name, text}};
                if (std::string(p.name) != "reorder_k" &&
                    std::string(p.name) != "ef") {
                    Status status = node->CheckConfig(config, p.phases);
                    EXPECT_TRUE(status.ok()) << status.message;
                } else {
                    config["k"] = "1";
                    Status status = node->CheckConfig(config, kSearch);
                    EXPECT_TRUE(status.ok()) << status.message;
                }
            }
            for (const std::string& text : bad) {
                Status status = node->CheckConfig({{p.name, text}}, p.phases);
                EXPECT_FALSE(status.ok()) << text;
                EXPECT_NE(status.message.find(p.name), std::string::npos);
                EXPECT_NE(status.message.find("allowed: "), std::string::npos);
                EXPECT_EQ(
                        node->Build({0, 4, nullptr}, {{p.name, text}}).message,
                        status.message);
            }
        }
    }
}

TEST(CheckConfig, KnowsTheMetricOfWhatWasBuilt) {
    NodePtr node = create("SCANN");
    EXPECT_EQ(node->MetricType(), nullptr);
    std::vector<float> x(40 * 4, 1.f);
    ASSERT_TRUE(node->Build({40, 4, x.data()}, {{"metric_type", "IP"}}).ok());
    EXPECT_STREQ(node->MetricType(), "IP");
    expect_refused(
            node->CheckConfig({{"metric_type", "L2"}}, kSearch),
            StatusCode::invalid_metric_type,
            "metric_type = \"L2\" (allowed: IP, which the index was built "
            "with)");
    EXPECT_TRUE(node->CheckConfig({{"metric_type", "L2"}}, kBuild).ok());
    EXPECT_FALSE(
            node->CheckConfig({{"radius", "1"}, {"range_filter", "0"}}, kRange)
                    .ok());
}

} // namespace
