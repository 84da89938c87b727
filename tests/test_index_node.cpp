/* The nodes behind the factory: every call, for every type and metric. */

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include <knowhere_plugin/index_factory.h>

#include "reference.h"

using namespace knowhere_plugin;

namespace {

constexpr int64_t kDim = 16;
constexpr int64_t kRows = 3000;
constexpr int64_t kQueries = 20;
constexpr int64_t kK = 10;

struct Case {
    const char* type;
    const char* metric;
    double recall; ///< floor of recall@10
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
    return out << c.type << " " << c.metric;
}

NodePtr create(const std::string& type) {
    auto made = IndexFactory::Instance().Create(type);
    EXPECT_TRUE(made.ok()) << made.status().message;
    return made.value();
}

void normalize(std::vector<float>& rows) {
    for (size_t i = 0; i < rows.size(); i += kDim) {
        double norm = std::sqrt(reference::dot(kDim, &rows[i], &rows[i]));
        for (int64_t j = 0; j < kDim; j++) {
            rows[i + j] = float(rows[i + j] / norm);
        }
    }
}

class IndexNodeTest : public testing::TestWithParam<Case> {
 protected:
    void SetUp() override {
        base = reference::random_clustered(kRows + kQueries, kDim, 30, 7);
        queries.assign(base.begin() + kRows * kDim, base.end());
        base.resize(kRows * kDim);
        std::vector<float> b = base, q = queries;
        if (metric() == "COSINE") {
            normalize(b);
            normalize(q);
        }
        all = reference::knn(
                l2() ? faiss::METRIC_L2 : faiss::METRIC_INNER_PRODUCT,
                kDim,
                b,
                q,
                kRows);
    }

    std::string metric() const {
        return GetParam().metric;
    }
    bool l2() const {
        return metric() == "L2";
    }
    DataSet rows(int64_t n = kRows) const {
        return {n, kDim, base.data()};
    }
    DataSet query_set(int64_t n = kQueries) const {
        return {n, kDim, queries.data()};
    }
    Config build_config() const {
        Config config = {{"metric_type", metric()}, {"dim", "16"}};
        std::string type = GetParam().type;
        if (type == "SCANN" || type == "IVF_FLAT" || type == "IVF_PQ") {
            config["nlist"] = "16";
        }
        if (type == "IVF_PQ") {
            config["m"] = "16";
            config["nbits"] = "6";
        }
        if (type == "HNSW") {
            config["efConstruction"] = "100";
        }
        return config;
    }
    Config wide(Config config = {}) const {
        std::string type = GetParam().type;
        if (type == "SCANN" || type == "IVF_FLAT" || type == "IVF_PQ") {
            config["nprobe"] = "16";
        }
        return config;
    }
    /// Shared by the tests, which do not change it: a graph takes a second.
    NodePtr built() const {
        static std::map<std::string, NodePtr> nodes;
        NodePtr& node = nodes[GetParam().type + metric()];
        if (node == nullptr) {
            node = create(GetParam().type);
            Status status = node->Build(rows(), build_config());
            EXPECT_TRUE(status.ok()) << status.message;
        }
        return node;
    }
    bool exact() const {
        return GetParam().recall == 1;
    }
    /// Share of the k nearest, among rows that pass, that were found.
    double recall(const DataSet& found, const BitsetView& filtered = {}) const {
        size_t hits = 0, wanted = 0;
        for (int64_t q = 0; q < found.rows; q++) {
            std::set<int64_t> got(
                    found.ids + q * found.dim, found.ids + (q + 1) * found.dim);
            int64_t left = found.dim;
            for (int64_t r = 0; r < kRows && left > 0; r++) {
                int64_t id = all.labels[q * kRows + r];
                if (!filtered.test(id)) {
                    hits += got.count(id);
                    wanted++;
                    left--;
                }
            }
        }
        return double(hits) / double(wanted);
    }

    std::vector<float> base, queries;
    reference::Neighbors all;
};

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
                EXPECT_TRUE(i == 128 || i == 512) << i;
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

TEST_P(IndexNodeTest, GetVectorByIds) {
    NodePtr node = built();
    int64_t ids[] = {0, 2999, 17, 17};
    DataSet asked;
    asked.rows = 4;
    asked.ids = ids;
    auto got = node->GetVectorByIds(asked);
    std::string type = GetParam().type;
    bool raw = type == "SCANN" || (type != "IVF_PQ" && metric() != "COSINE");
    ASSERT_EQ(node->HasRawData(metric()), raw);
    if (!raw) {
        EXPECT_EQ(got.status().code, StatusCode::not_implemented);
        return;
    }
    ASSERT_TRUE(got.ok()) << got.status().message;
    for (int64_t i = 0; i < 4; i++) {
        EXPECT_TRUE(std::equal(
                &base[ids[i] * kDim],
                &base[ids[i] * kDim] + kDim,
                got.value().tensor + i * kDim));
    }
    // nothing of it goes into blobs
    auto blob = node->Serialize();
    NodePtr copy = create(type);
    ASSERT_TRUE(copy->Deserialize(blob.value()).ok());
    EXPECT_EQ(copy->Serialize().value(), blob.value());
    ASSERT_TRUE(copy->GetVectorByIds(asked).ok());
    EXPECT_EQ(copy->Serialize().value().size(), blob.value().size());
    // rows that came later
    ASSERT_TRUE(copy->Add(rows(1), {}).ok());
    ids[1] = 3000;
    got = copy->GetVectorByIds(asked);
    ASSERT_TRUE(got.ok()) << got.status().message;
    EXPECT_TRUE(std::equal(
            base.begin(), base.begin() + kDim, got.value().tensor + kDim));
    got = node->GetVectorByIds(asked);
    EXPECT_EQ(got.status().code, StatusCode::invalid_args);
    EXPECT_NE(got.status().message.find("3000"), std::string::npos);
    asked.ids = nullptr;
    EXPECT_FALSE(node->GetVectorByIds(asked).ok());
}

TEST_P(IndexNodeTest, Blobs) {
    NodePtr node = built();
    auto blob = node->Serialize();
    ASSERT_TRUE(blob.ok());
    auto want = node->Search(query_set(), wide());
    NodePtr copy = create(GetParam().type);
    auto same = [&] {
        auto got = copy->Search(query_set(), wide());
        ASSERT_TRUE(got.ok()) << got.status().message;
        EXPECT_TRUE(std::equal(
                got.value().ids,
                got.value().ids + kQueries * kK,
                want.value().ids));
        EXPECT_EQ(copy->Count(), kRows);
        EXPECT_EQ(copy->HasRawData(""), node->HasRawData(""));
    };
    ASSERT_TRUE(copy->Deserialize(blob.value()).ok());
    same();
    std::string path = testing::TempDir() + "/node_" + GetParam().type +
                       GetParam().metric + std::to_string(getpid());
    std::ofstream(path, std::ios::binary)
            .write(reinterpret_cast<char*>(blob.value().data()),
                   std::streamsize(blob.value().size()));
    for (const char* mmap : {"false", "True"}) {
        copy = create(GetParam().type);
        Status status =
                copy->DeserializeFromFile(path, {{"enable_mmap", mmap}});
        ASSERT_TRUE(status.ok()) << status.message;
        same();
    }
    std::remove(path.c_str());
    EXPECT_FALSE(copy->DeserializeFromFile(path).ok());
    EXPECT_FALSE(copy->DeserializeFromFile("/tmp").ok());
    // damaged, cut, foreign: refused, and the old contents stay
    for (size_t at = 0; at < blob.value().size();
         at += blob.value().size() / 97 + 1) {
        Blob damaged = blob.value();
        damaged[at] ^= 0x41;
        Status status = copy->Deserialize(damaged);
        // padding between sections may change without harm
        EXPECT_TRUE(
                status.ok() || status.code == StatusCode::invalid_binary_set)
                << at << status.message;
        damaged.resize(at);
        status = copy->Deserialize(damaged);
        EXPECT_EQ(status.code, StatusCode::invalid_binary_set) << at;
    }
    NodePtr other =
            create(std::string(GetParam().type) == "FLAT" ? "HNSW" : "FLAT");
    EXPECT_EQ(
            other->Deserialize(blob.value()).code,
            StatusCode::invalid_binary_set);
    EXPECT_EQ(copy->Deserialize({}).code, StatusCode::invalid_binary_set);
    same();
}

TEST_P(IndexNodeTest, TrainThenAdd) {
    NodePtr node = create(GetParam().type);
    EXPECT_EQ(node->Add(rows(), {}).code, StatusCode::index_not_trained);
    EXPECT_EQ(
            node->Search(query_set(), {}).status().code,
            StatusCode::empty_index);
    EXPECT_EQ(node->Serialize().status().code, StatusCode::empty_index);
    EXPECT_EQ(node->Count() + node->Dim() + node->Size(), 0);
    ASSERT_TRUE(node->Train(rows(), build_config()).ok());
    EXPECT_EQ(node->Count(), 0);
    ASSERT_TRUE(node->Add(rows(1000), {}).ok());
    ASSERT_TRUE(node->Add({2000, kDim, &base[1000 * kDim]}, {}).ok());
    EXPECT_EQ(node->Count(), kRows);
    auto found = node->Search(query_set(), wide());
    ASSERT_TRUE(found.ok());
    EXPECT_GE(recall(found.value()), GetParam().recall);
}

TEST_P(IndexNodeTest, BadInput) {
    NodePtr node = built();
    Config config = build_config();
    auto code = [](const Status& status) {
        EXPECT_FALSE(status.message.empty());
        return status.code;
    };
    float bad[kDim] = {};
    bad[5] = std::nanf("");
    auto search = [&](DataSet set, Config with) {
        return code(node->Search(set, with).status());
    };
    EXPECT_EQ(search({1, kDim, bad}, {}), StatusCode::invalid_args);
    EXPECT_EQ(search({1, kDim + 1, bad}, {}), StatusCode::invalid_args);
    EXPECT_EQ(search({-1, kDim, bad}, {}), StatusCode::invalid_args);
    EXPECT_EQ(search({1, kDim, nullptr}, {}), StatusCode::invalid_args);
    EXPECT_EQ(
            search(query_set(), {{"k", "0"}}),
            StatusCode::out_of_range_in_json);
    EXPECT_EQ(
            search(query_set(), {{"k", "2147483647"}}),
            StatusCode::out_of_range_in_json);
    EXPECT_EQ(
            search(query_set(), {{"k", "ten"}}),
            StatusCode::type_conflict_in_json);
    EXPECT_EQ(
            search(query_set(), {{"metric_type", l2() ? "IP" : "L2"}}),
            StatusCode::invalid_metric_type);
    EXPECT_EQ(
            search(query_set(), {{"metric_type", "JACCARD"}}),
            StatusCode::invalid_metric_type);
    EXPECT_EQ(
            search(query_set(), {{"n_probe", "1"}}),
            StatusCode::invalid_param_in_json);
    EXPECT_EQ(
            code(node->Build({1, kDim, bad}, config)),
            StatusCode::invalid_args);
    EXPECT_EQ(code(node->Add({1, kDim, bad}, {})), StatusCode::invalid_args);
    config["dim"] = "17";
    EXPECT_EQ(code(node->Build(rows(), config)), StatusCode::invalid_args);
    EXPECT_EQ(node->Count(), kRows); // nothing was lost
}

/// What Faiss would print about few training rows.
TEST_P(IndexNodeTest, PrintsNothing) {
    testing::internal::CaptureStderr();
    testing::internal::CaptureStdout();
    for (int64_t n : {1, 50, 700}) {
        NodePtr node = create(GetParam().type);
        EXPECT_TRUE(node->Build(rows(n), build_config()).ok());
        EXPECT_TRUE(node->Search(query_set(), {}).ok());
    }
    EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

INSTANTIATE_TEST_SUITE_P(
        All,
        IndexNodeTest,
        testing::Values(
                Case{"SCANN", "L2", .99},
                Case{"SCANN", "IP", .99},
                Case{"SCANN", "COSINE", .99},
                Case{"FLAT", "L2", 1},
                Case{"FLAT", "IP", 1},
                Case{"FLAT", "COSINE", 1},
                Case{"IVF_FLAT", "L2", 1},
                Case{"IVF_FLAT", "IP", 1},
                Case{"IVF_FLAT", "COSINE", 1},
                Case{"IVF_PQ", "L2", .8},
                Case{"IVF_PQ", "IP", .8},
                Case{"IVF_PQ", "COSINE", .8},
                Case{"HNSW", "L2", .95},
                Case{"HNSW", "IP", .85},
                Case{"HNSW", "COSINE", .95}),
        [](const auto& info) {
            return std::string(info.param.type) + "_" + info.param.metric;
        });

} // namespace
