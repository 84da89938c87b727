/* Values at the ends of what a float holds: cosines of 1, rows of denormals, of
 * zeros, of 3e38. Every finite row can be built from, added and found. */

#include <algorithm>
#include <cmath>
#include <limits>

#include "fixtures/node_fixtures.h"

using namespace node_tests;

namespace {

constexpr int64_t kD = 30;
constexpr int64_t kN = 3000;

const std::vector<float>& ordinary() {
    static const std::vector<float> rows = random_rows::normal(kN * kD, 11);
    return rows;
}

// --------------------------------------------------------------- cosines

/// Row i is `length` times one of some directions: many cosines of exactly 1.
std::vector<float> like_directions(int64_t n) {
    std::vector<float> x(ordinary().begin(), ordinary().begin() + n * kD);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < kD; j++) {
            x[i * kD + j] = ordinary()[(i % 500) * kD + j] * float(1 + i % 7);
        }
    }
    return x;
}

class Cosine : public testing::TestWithParam<std::pair<const char*, int64_t>> {
 protected:
    void SetUp() override {
        std::tie(type, n) = GetParam();
        x = like_directions(n);
        node = create(type);
        Status status =
                node->Build({n, kD, x.data()}, {{"metric_type", "COSINE"}});
        ASSERT_TRUE(status.ok()) << status.message;
        search = type == "SCANN" || type == "IVF_FLAT"
                         ? Config{{"nprobe", "128"}}
                         : Config{};
    }
    DataSet queries(int64_t count = 300) const {
        return {count, kD, x.data()};
    }

    std::string type;
    int64_t n;
    std::vector<float> x;
    NodePtr node;
    Config search;
};

void expect_cosines(const float* values, size_t count) {
    for (size_t i = 0; i < count; i++) {
        ASSERT_GE(values[i], -1);
        ASSERT_LE(values[i], 1);
    }
}

TEST_P(Cosine, OfSearchesLieWithinTheirRange) {
    auto found = node->Search(queries(), search);
    ASSERT_TRUE(found.ok()) << found.status().message;
    expect_cosines(found.value().distance, 300 * 10);
    EXPECT_NEAR(found.value().distance[0], 1, 1e-5);
}

TEST_P(Cosine, OfOneAreWithinARangeThatIncludesIt) {
    Config config = search;
    config["radius"] = ".6";
    config["range_filter"] = "1";
    auto found = node->RangeSearch(queries(), config);
    ASSERT_TRUE(found.ok()) << found.status().message;
    const DataSet& set = found.value();
    expect_cosines(set.distance, set.lims[300]);
    int64_t lost = 0;
    for (int64_t q = 0; q < 300; q++) {
        std::set<int64_t> got(set.ids + set.lims[q], set.ids + set.lims[q + 1]);
        lost += !got.count(q);
    }
    EXPECT_LE(lost, type == "HNSW" ? 3 : 0);
}

/// A radius below -1 leaves out no row, not even one just below -1.
TEST_P(Cosine, OfOppositeRowsAreWithinAllRanges) {
    std::vector<float> opposite(x.begin(), x.begin() + 300 * kD);
    for (float& value : opposite) {
        value = -value;
    }
    Config config = search;
    config["radius"] = "-1.0001";
    auto found = node->RangeSearch({300, kD, opposite.data()}, config);
    ASSERT_TRUE(found.ok()) << found.status().message;
    expect_cosines(found.value().distance, found.value().lims[300]);
    EXPECT_GE(
            double(found.value().lims[300]),
            (type == "HNSW" ? .95 : 1) * 300 * double(n));
}

TEST_P(Cosine, OfIteratorsLieWithinTheirRange) {
    auto made = node->AnnIterator(queries(20), search);
    ASSERT_TRUE(made.ok()) << made.status().message;
    for (auto& iterator : made.value()) {
        for (int i = 0; i < 200; i++) {
            ASSERT_TRUE(iterator->HasNext().value());
            float cosine = iterator->Next().value().second;
            expect_cosines(&cosine, 1);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(
        Types,
        Cosine,
        testing::Values(
                std::pair("SCANN", int64_t(3000)),
                std::pair("SCANN", int64_t(1000)), // rescored exactly
                std::pair("FLAT", int64_t(1000)),
                std::pair("IVF_FLAT", int64_t(1000)),
                std::pair("HNSW", int64_t(1000))),
        [](const auto& info) {
            return info.param.first + std::to_string(info.param.second);
        });

TEST(Cosine, FromCodesAloneLieWithinTheirRange) {
    std::vector<float> x = like_directions(3000);
    for (const char* refine : {"none", "int8"}) {
        NodePtr node = create("SCANN");
        Config config = {
                {"metric_type", "COSINE"},
                {"with_raw_data", "false"},
                {"refine_type", refine}};
        ASSERT_TRUE(node->Build({3000, kD, x.data()}, config).ok());
        auto found = node->Search({300, kD, x.data()}, {{"nprobe", "76"}});
        ASSERT_TRUE(found.ok());
        expect_cosines(found.value().distance, 3000);
    }
}

// --------------------------------------------------------------- extremes

struct Kind {
    const char* name;
    void (*change)(std::vector<float>&);
    /// distances of rows are floats, so that neighbours have an order
    bool ordered;
};

void scale(std::vector<float>& x, double factor) {
    for (float& value : x) {
        value = float(value * factor);
    }
}

void set_row(std::vector<float>& x, int64_t row, float value) {
    std::fill_n(&x[row * kD], kD, value);
}

const Kind kKinds[] = {
        {"OneDenormalRow", [](auto& x) { set_row(x, kN - 1, 1e-42f); }, true},
        {"OneZeroRow", [](auto& x) { set_row(x, 3, 0); }, true},
        {"OneLargestRow", [](auto& x) { set_row(x, 3, 3e38f); }, true},
        {"Mixed",
         [](auto& x) {
             set_row(x, 0, 0);
             set_row(x, 1, 1e-42f);
             set_row(x, 2, 3e38f);
             set_row(x, 3, -3e38f);
             set_row(x, 4, 1e-45f);
             set_row(x, 5, 1e20f);
             set_row(x, 6, 1e-20f);
         },
         true},
        {"AllTimes1e30", [](auto& x) { scale(x, 1e30); }, false},
        {"AllTimes1e17", [](auto& x) { scale(x, 1e17); }, true},
        {"AllTimes1em16", [](auto& x) { scale(x, 1e-16); }, true},
        {"AllTimes1em40", [](auto& x) { scale(x, 1e-40); }, false},
        {"AllLargest",
         [](auto& x) {
             for (float& value : x) {
                 value = value > 0 ? 3e38f : -3e38f;
             }
         },
         false},
        {"AllZero", [](auto& x) { std::fill(x.begin(), x.end(), 0.f); }, false},
};

struct ValueCase {
    Kind kind;
    const char* metric;
    const char* with_raw_data;
};

/// more than there are rows of one direction
constexpr int64_t kFound = 12;

class Values : public testing::TestWithParam<ValueCase> {};

TEST_P(Values, AreBuiltFromAddedAndFound) {
    const auto& [kind, metric, raw] = GetParam();
    std::vector<float> x = ordinary();
    kind.change(x);
    NodePtr node = create("SCANN");
    Config config = {{"metric_type", metric}, {"with_raw_data", raw}};
    Status status = node->Build({kN, kD, x.data()}, config);
    ASSERT_TRUE(status.ok()) << status.message;
    ASSERT_EQ(node->Count(), kN);
    status = node->Add({10, kD, x.data()}, {});
    ASSERT_TRUE(status.ok()) << status.message;
    NodePtr loaded = create("SCANN");
    status = loaded->Deserialize(node->Serialize().value(), {});
    ASSERT_TRUE(status.ok()) << status.message;

    const bool kept = raw == std::string("true");
    const bool cosine = metric == std::string("COSINE");
    std::vector<int64_t> asked = {0, 1, 2, 3, 4, 5, 6, 100, kN - 1};
    for (int64_t id : asked) {
        const float* row = &x[id * kD];
        auto found =
                loaded->Search({1, kD, row}, {{"nprobe", "128"}, {"k", "12"}});
        ASSERT_TRUE(found.ok()) << found.status().message;
        const float* distances = found.value().distance;
        const int64_t* ids = found.value().ids;
        for (int64_t i = 0; i < kFound; i++) {
            ASSERT_TRUE(std::isfinite(distances[i])) << id;
            ASSERT_GE(ids[i], 0) << id;
            ASSERT_TRUE(
                    i == 0 || (metric == std::string("L2")
                                       ? distances[i] >= distances[i - 1]
                                       : distances[i] <= distances[i - 1]));
        }
        bool zero = std::all_of(
                row, row + kD, [](float value) { return value == 0; });
        if (!kept || metric == std::string("IP")) {
            continue;
        }
        if (metric == std::string("L2")) {
            EXPECT_EQ(distances[0], 0) << id;
        } else if (!zero) {
            EXPECT_NEAR(distances[0], 1, 1e-5) << id;
        }
        std::set<int64_t> got(ids, ids + kFound);
        bool itself = got.count(id) + got.count(kN + id) > 0;
        // others are as near where distances are no floats
        EXPECT_TRUE(itself || !(kind.ordered || cosine) || zero) << id;
    }
    if (kept) {
        DataSet wanted;
        wanted.rows = 1;
        for (int64_t id : asked) {
            wanted.ids = &id;
            auto got = loaded->GetVectorByIds(wanted);
            ASSERT_TRUE(got.ok());
            for (int64_t j = 0; j < kD; j++) {
                ASSERT_EQ(got.value().tensor[j], x[id * kD + j]);
            }
        }
    }
}

/// The others are found as if the extreme ones were not there.
TEST_P(Values, LeaveTheOthersFound) {
    const auto& [kind, metric, raw] = GetParam();
    if (!kind.ordered || raw == std::string("false") ||
        metric == std::string("IP")) {
        GTEST_SKIP() << "no order of neighbours to expect";
    }
    std::vector<float> x = ordinary();
    kind.change(x);
    NodePtr node = create("SCANN");
    ASSERT_TRUE(
            node->Build({kN, kD, x.data()}, {{"metric_type", metric}}).ok());
    std::vector<float> queries(x.begin() + 200 * kD, x.begin() + 230 * kD);
    bool cosine = metric == std::string("COSINE");
    auto want = reference::exact_search(
            cosine ? faiss::METRIC_INNER_PRODUCT : faiss::METRIC_L2,
            kD,
            cosine ? reference::normalized(x, kD) : x,
            cosine ? reference::normalized(queries, kD) : queries,
            10);
    auto found = node->Search({30, kD, queries.data()}, {{"nprobe", "128"}});
    ASSERT_TRUE(found.ok());
    int64_t hits = 0;
    for (int64_t q = 0; q < 30; q++) {
        std::set<int64_t> got(
                found.value().ids + q * 10, found.value().ids + q * 10 + 10);
        for (int64_t i = 0; i < 10; i++) {
            hits += int64_t(got.count(want.labels[q * 10 + i]));
        }
    }
    EXPECT_GT(hits, 300 * .95);
}

std::vector<ValueCase> value_cases() {
    std::vector<ValueCase> cases;
    for (const Kind& kind : kKinds) {
        for (const char* metric : {"L2", "IP", "COSINE"}) {
            for (const char* raw : {"true", "false"}) {
                cases.push_back({kind, metric, raw});
            }
        }
    }
    return cases;
}

INSTANTIATE_TEST_SUITE_P(
        Kinds,
        Values,
        testing::ValuesIn(value_cases()),
        [](const auto& info) {
            return std::string(info.param.kind.name) + "_" + info.param.metric +
                   (info.param.with_raw_data[0] == 't' ? "_Raw" : "_Codes");
        });

/// Distances of Faiss' own types would be infinite, and its k-means reads
/// memory that is not its own then. Cosines are those of unit rows.
TEST(LongRows, AreRefusedByFaissTypes) {
    const std::vector<float> good(
            ordinary().begin(), ordinary().begin() + 200 * kD);
    std::vector<float> x = good;
    set_row(x, 7, 3e38f);
    for (const char* type : {"FLAT", "IVF_FLAT", "IVF_PQ", "HNSW"}) {
        Config config = {{"nlist", "4"}, {"m", "10"}, {"nbits", "4"}};
        if (type != std::string("IVF_PQ")) {
            config.erase("m");
            config.erase("nbits");
        }
        if (type == std::string("FLAT") || type == std::string("HNSW")) {
            config.erase("nlist");
        }
        for (const char* metric : {"L2", "IP", "COSINE"}) {
            SCOPED_TRACE(std::string(type) + " " + metric);
            config["metric_type"] = metric;
            NodePtr node = create(type);
            if (metric == std::string("COSINE")) {
                ASSERT_TRUE(node->Build({200, kD, x.data()}, config).ok());
                auto found = node->Search({1, kD, &x[7 * kD]}, {});
                ASSERT_TRUE(found.ok());
                const double error = type == std::string("IVF_PQ") ? .6 : 1e-5;
                EXPECT_NEAR(found.value().distance[0], 1, error);
                continue;
            }
            std::string wanted = "[7]: sum of squares = 2.7";
            ASSERT_TRUE(node->Build({200, kD, good.data()}, config).ok());
            const DataSet rows{200, kD, x.data()};
            const std::string queries[] = {
                    node->Search(rows, {}).status().message,
                    node->RangeSearch(rows, {{"radius", "1"}}).status().message,
                    node->AnnIterator(rows, {}).status().message};
            for (const std::string& message : queries) {
                EXPECT_TRUE(message.starts_with("queries" + wanted)) << message;
            }
            const std::string changes[] = {
                    node->Add(rows, {}).message,
                    node->Train(rows, config).message,
                    node->Build(rows, config).message};
            for (const std::string& message : changes) {
                EXPECT_TRUE(message.starts_with("rows" + wanted)) << message;
                EXPECT_NE(message.find(type), std::string::npos) << message;
            }
            EXPECT_EQ(node->Count(), 200);
        }
    }
}

/// As the others of few rows: exact, and no rotation, which would be larger
/// than all rows.
class WideRows : public testing::TestWithParam<const char*> {};

TEST_P(WideRows, TakeLittleMoreThanTheirBytes) {
    constexpr int64_t n = 3000, d = 1100;
    std::vector<float> x = random_rows::normal(n * d, 12);
    NodePtr node = create("SCANN");
    ASSERT_TRUE(
            node->Build({n, d, x.data()}, {{"metric_type", GetParam()}}).ok());
    double rows = double(n) * d * sizeof(float);
    // 128 lists of 4 bytes a value, two 4-bit codes of 4 dimensions
    EXPECT_LT(double(node->Serialize().value().size()), 1.12 * rows);
    EXPECT_LT(double(node->Size()), 1.15 * rows);
}

INSTANTIATE_TEST_SUITE_P(
        Metrics,
        WideRows,
        testing::Values("L2", "IP", "COSINE"));

} // namespace
