/* The factory of nodes, and the schemas: each row is sound, each range is
 * kept. */

#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <knowhere_plugin/index_factory.h>

#include "fixtures/node_fixtures.h"
#include "fixtures/random_rows.h"

using namespace knowhere_plugin;
using node_tests::create;
using node_tests::expect_refused;

namespace {

constexpr int64_t kDim = 24;

/// @param n  at most 40
DataSet rows(int64_t n) {
    static const std::vector<float> made = random_rows::normal(40 * kDim, 3);
    return {n, kDim, made.data()};
}

// --------------------------------------------------------------- factory

TEST(Factory, HoldsTypesWithFeatures) {
    auto types = IndexFactory::Instance().Types();
    for (const char* type : {"SCANN", "FLAT", "IVF_FLAT", "IVF_PQ", "HNSW"}) {
        ASSERT_EQ(types.count(type), 1u) << type;
        EXPECT_TRUE(types[type] & kFloat32);
        for (int32_t version : {kMinVersion, kCurrentVersion, kMaxVersion}) {
            EXPECT_TRUE(IndexFactory::Instance().Create(type, version).ok());
        }
    }
    EXPECT_TRUE(types["SCANN"] & kMmap);
    EXPECT_FALSE(types["SCANN"] & kKnn);
    EXPECT_TRUE(types["FLAT"] & kKnn);
}

TEST(Factory, RefusesUnknownTypesAndVersions) {
    auto& factory = IndexFactory::Instance();
    expect_refused(
            factory.Create("SCAN").status(),
            StatusCode::invalid_index_error,
            {"\"SCAN\"", "SCANN", "HNSW"});
    expect_refused(
            factory.Create("SCANN", 12).status(),
            StatusCode::invalid_index_error,
            {"12", "0..11"});
    EXPECT_FALSE(factory.Create("SCANN", -1).ok());
    EXPECT_FALSE(factory.Register("", nullptr, 0).ok());
}

TEST(Factory, RegistersFromOutside) {
    auto& factory = IndexFactory::Instance();
    Status status = factory.Register(
            "MINE", [](int32_t) { return create("FLAT"); }, kFloat32);
    ASSERT_TRUE(status.ok());
    EXPECT_EQ(factory.Types()["MINE"], kFloat32);
    EXPECT_STREQ(factory.Create("MINE").value()->Type(), "FLAT");
    // the last one wins, features add up, as in Knowhere
    factory.Register(
            "MINE", [](int32_t) { return create("HNSW"); }, kMmap);
    EXPECT_STREQ(factory.Create("MINE").value()->Type(), "HNSW");
    EXPECT_EQ(factory.Types()["MINE"], kFloat32 | kMmap);
    factory.Register(
            "MINE", [](int32_t) { return NodePtr(); }, 0);
    EXPECT_FALSE(factory.Create("MINE").ok());
    factory.Register(
            "MINE", [](int32_t) -> NodePtr { throw std::bad_alloc(); }, 0);
    EXPECT_EQ(factory.Create("MINE").status().code, StatusCode::malloc_error);
}

TEST(Factory, LoadsModules) {
    auto& factory = IndexFactory::Instance();
    EXPECT_EQ(
            factory.Load("/no/such/module.so").code,
            StatusCode::disk_file_error);
#ifdef KNOWHERE_PLUGIN_EXAMPLE
    Status status = factory.Load(KNOWHERE_PLUGIN_EXAMPLE);
    ASSERT_TRUE(status.ok()) << status.message;
    NodePtr node = factory.Create("ORIGIN").value();
    ASSERT_TRUE(node->Build(rows(5), {}).ok());
    EXPECT_EQ(node->Count(), 5);
    EXPECT_EQ(node->Deserialize({}).code, StatusCode::not_implemented);
#else
    GTEST_SKIP() << "built without knowhere_plugin_example";
#endif
}

TEST(Factory, BitsetCounts) {
    std::vector<uint8_t> bits = {0xff, 0x0f, 0xff};
    EXPECT_EQ(BitsetView(bits.data(), 24).count(), 20u);
    EXPECT_EQ(BitsetView(bits.data(), 19).count(), 15u);
    EXPECT_EQ(BitsetView().count(), 0u);
    EXPECT_FALSE(BitsetView().test(7));
    EXPECT_TRUE(BitsetView(bits.data(), 19).test(19));
    EXPECT_FALSE(BitsetView(bits.data(), 19).test(12));
}

// ---------------------------------------------------------------- schema

TEST(Schema, EveryRowIsSound) {
    for (const char* type : {"SCANN", "FLAT", "IVF_FLAT", "IVF_PQ", "HNSW"}) {
        NodePtr node = create(type);
        std::set<std::string> names;
        for (const Parameter& p : node->Schema()) {
            EXPECT_TRUE(names.insert(p.name).second) << p.name;
            EXPECT_NE(p.phases, 0u) << p.name;
            EXPECT_GT(std::string(p.doc).size(), 4u) << p.name;
            if (p.default_value[0] == 0) {
                continue;
            }
            // defaults pass their own check
            Status status = node->Build(
                    rows(40), {{p.name, p.default_value}, {"dim", "24"}});
            if (std::string(p.name) != "m" && std::string(type) != "IVF_PQ") {
                EXPECT_TRUE(status.ok()) << status.message;
            }
        }
        EXPECT_EQ(names.count("metric_type"), 1u);
    }
}

/// Whatever the text is: a short message of printable characters.
TEST(Schema, HostileTextsAreRefusedInWords) {
    const std::vector<std::string> texts = {
            "1e999",
            "-1e999",
            "1e-999x",
            "nan",
            "-nan(0x1)",
            "inf",
            "0x10",
            "1_000",
            "+",
            "--1",
            "1;2",
            "\xff\xfe",
            "\"",
            "\"\"\"",
            std::string("5\0", 2),
            std::string(1 << 20, '9'),
            std::string(1 << 20, '{'),
            "{\"nlist\": {\"a\": [1, 2]}}",
            "[64]",
            "null",
            "\n64\n64",
            "6 4",
            "\xe2\x82\xac"};
    for (const char* type : {"SCANN", "FLAT", "IVF_FLAT", "IVF_PQ", "HNSW"}) {
        NodePtr node = create(type);
        auto expect_words = [&](const Status& status) {
            ASSERT_NE(status.code, StatusCode::success);
            EXPECT_LT(status.message.size(), 2000u);
            for (unsigned char c : status.message) {
                ASSERT_TRUE(c >= 0x20 && c < 0x7f) << int(c);
            }
        };
        for (const std::string& text : texts) {
            SCOPED_TRACE(text.substr(0, 40));
            for (const Parameter& p : node->Schema()) {
                if (p.type != ParameterType::Word || p.words[0] != 0) {
                    expect_words(node->Build(rows(40), {{p.name, text}}));
                }
            }
            expect_words(node->Build(rows(40), {{text, "1"}}));
            expect_words(node->Build(rows(40), {{"nlist" + text, text}}));
        }
    }
}

/// Every numeric row of every schema refuses what is beside its range.
TEST(Schema, RangesAreKept) {
    for (const char* type : {"SCANN", "FLAT", "IVF_FLAT", "IVF_PQ", "HNSW"}) {
        NodePtr node = create(type);
        for (const Parameter& p : node->Schema()) {
            auto check = [&](const std::string& text, StatusCode code) {
                expect_refused(
                        node->Build(rows(40), {{p.name, text}}),
                        code,
                        {p.name, text.c_str(), "allowed: "});
            };
            switch (p.type) {
                case ParameterType::Integer:
                    check(std::to_string(int64_t(p.min) - 1),
                          StatusCode::out_of_range_in_json);
                    check(std::to_string(int64_t(p.max) + 1),
                          StatusCode::out_of_range_in_json);
                    check("99999999999999999999",
                          StatusCode::out_of_range_in_json);
                    check("abc", StatusCode::type_conflict_in_json);
                    check("1.5", StatusCode::type_conflict_in_json);
                    check("", StatusCode::type_conflict_in_json);
                    break;
                case ParameterType::Real:
                    if (p.min > -1e30) {
                        check(std::to_string(p.min - .5),
                              StatusCode::out_of_range_in_json);
                    }
                    check("1e300", StatusCode::out_of_range_in_json);
                    check("nan", StatusCode::type_conflict_in_json);
                    check("much", StatusCode::type_conflict_in_json);
                    break;
                case ParameterType::Bool:
                    check("1", StatusCode::type_conflict_in_json);
                    check("yes", StatusCode::type_conflict_in_json);
                    break;
                case ParameterType::Word:
                    check("XYZ",
                          std::string(p.name) == "metric_type"
                                  ? StatusCode::invalid_metric_type
                                  : StatusCode::invalid_value_in_json);
                    break;
            }
        }
    }
}

} // namespace
