/* What the tests of all nodes share: rows, exact answers, a node of each type
 * and metric. */

#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <knowhere_plugin/index_factory.h>

#include "reference.h"

namespace node_tests {

using namespace knowhere_plugin;

constexpr int64_t kDim = 16;
constexpr int64_t kRows = 3000;
constexpr int64_t kQueries = 20;
constexpr int64_t kK = 10;

struct Case {
    const char* type;
    const char* metric;
    double recall; ///< floor of recall@10
};

inline std::ostream& operator<<(std::ostream& out, const Case& c) {
    return out << c.type << " " << c.metric;
}

inline NodePtr create(const std::string& type) {
    auto made = IndexFactory::Instance().Create(type);
    EXPECT_TRUE(made.ok()) << made.status().message;
    return made.value();
}

class IndexNodeTest : public testing::TestWithParam<Case> {
 protected:
    void SetUp() override {
        base = reference::random_clustered(kRows + kQueries, kDim, 30, 7);
        queries.assign(base.begin() + kRows * kDim, base.end());
        base.resize(kRows * kDim);
        std::vector<float> b = base, q = queries;
        if (metric() == "COSINE") {
            b = reference::normalized(b, kDim);
            q = reference::normalized(q, kDim);
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

/// The floors leave room for what training and graphs vary.
inline auto all_cases() {
    return testing::Values(
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
            Case{"HNSW", "COSINE", .95});
}

inline std::string case_name(const testing::TestParamInfo<Case>& info) {
    return std::string(info.param.type) + "_" + info.param.metric;
}

} // namespace node_tests
