/* Calls of nodes that run out of memory: an error as Status, the old index as
 * before, and the call made again succeeds. */

#include <cstdlib>

#include "fixtures/failing_memory.h"
#include "fixtures/node_fixtures.h"

namespace {

using namespace node_tests;
using failing_memory::Fails;

constexpr int64_t kFew = 60;
constexpr int64_t kMany = 2100; ///< SCANN calibrates above 2048 rows

/// What a node answers, and its bytes.
struct Answers {
    int64_t count = 0;
    std::vector<int64_t> ids;
    std::vector<float> distances;
    Blob blob;
    bool operator==(const Answers&) const = default;
};

class FailedNodeCalls : public IndexNodeTest {
 protected:
    Answers answers(const NodePtr& node) const {
        Answers found;
        found.count = node->Count();
        auto result = node->Search(query_set(), wide(), {});
        if (!result.ok()) {
            return found; // neither built nor loaded
        }
        const DataSet& hits = result.value();
        found.ids.assign(hits.ids, hits.ids + hits.rows * hits.dim);
        found.distances.assign(
                hits.distance, hits.distance + hits.rows * hits.dim);
        found.blob = node->Serialize().value();
        return found;
    }
    NodePtr holding(int64_t n) const {
        NodePtr node = create(GetParam().type);
        EXPECT_TRUE(node->Build(rows(n), build_config()).ok());
        return node;
    }
    /// @param call  the same each time
    template <class Make, class Call>
    void sweep(Make&& make, Call&& call) {
        const Answers before = answers(make());
        NodePtr done = make();
        ASSERT_TRUE(call(*done).ok());
        const Answers after = answers(done);
        size_t failed = 0;
        for (Fails fails : {Fails::One, Fails::AllFrom}) {
            for (size_t n = 0; !HasFailure(); n += 1 + n / 3) {
                NodePtr node = make();
                Status status;
                {
                    failing_memory::Scope scope(n, fails);
                    status = call(*node);
                }
                const bool reached = failing_memory::failures > 0;
                if (!status.ok()) {
                    failed++;
                    EXPECT_EQ(status.code, StatusCode::malloc_error)
                            << status.message;
                    EXPECT_TRUE(answers(node) == before) << "allocation " << n;
                    EXPECT_TRUE(call(*node).ok());
                }
                EXPECT_TRUE(answers(node) == after) << "allocation " << n;
                if (!reached) {
                    break;
                }
            }
        }
        EXPECT_GT(failed, 0u);
    }
};

TEST_P(FailedNodeCalls, BuildKeepsWhatWasThere) {
    const Config config = build_config();
    const DataSet set = rows(kFew + 40);
    sweep([&] { return holding(kFew); },
          [&](IndexNode& node) { return node.Build(set, config); });
}

TEST_P(FailedNodeCalls, TrainAndAdd) {
    const Config config = build_config();
    const DataSet set = rows(kFew), more = rows(30);
    sweep([&] { return holding(kFew); },
          [&](IndexNode& node) { return node.Train(set, config); });
    sweep([&] { return holding(kFew); },
          [&](IndexNode& node) { return node.Add(more, config); });
}

/// Faiss' training of these is not ours to save.
using FailedAdds = FailedNodeCalls;

TEST_P(FailedAdds, KeepWhatWasThere) {
    const Config config = build_config();
    const DataSet more = rows(30);
    const Blob blob = holding(kFew)->Serialize().value();
    auto make = [&] { // training takes longer
        NodePtr node = create(GetParam().type);
        EXPECT_TRUE(node->Deserialize(blob, {}).ok());
        return node;
    };
    sweep(make, [&](IndexNode& node) { return node.Add(more, config); });
}

TEST_P(FailedNodeCalls, AddThatCalibrates) {
    if (std::string(GetParam().type) != "SCANN") {
        GTEST_SKIP() << "nothing to calibrate";
    }
    Config config = build_config();
    config["nlist"] = "8";
    const DataSet more = rows(30);
    const NodePtr built = [&] {
        NodePtr node = create(GetParam().type);
        EXPECT_TRUE(node->Build(rows(kMany), config).ok());
        return node;
    }();
    const Blob blob = built->Serialize().value();
    config["target_recall"] = "0.9";
    auto make = [&] {
        NodePtr node = create(GetParam().type);
        EXPECT_TRUE(node->Deserialize(blob, {}).ok());
        return node;
    };
    const Answers before = answers(make());
    for (size_t n = 0;; n += 1 + n / 2) {
        NodePtr node = make();
        Status status;
        {
            failing_memory::Scope scope(n, Fails::AllFrom);
            status = node->Add(more, config);
        }
        if (status.ok()) {
            EXPECT_EQ(node->Count(), kMany + 30);
            break;
        }
        ASSERT_TRUE(answers(node) == before) << "allocation " << n;
    }
}

TEST_P(FailedNodeCalls, Deserialize) {
    const Config config = build_config();
    NodePtr other = create(GetParam().type);
    ASSERT_TRUE(other->Build(rows(kFew + 40), config).ok());
    const Blob blob = other->Serialize().value();
    sweep([&] { return holding(kFew); },
          [&](IndexNode& node) { return node.Deserialize(blob, {}); });
}

/// Of Faiss' own types only FLAT: the training of the others, and HNSW's add,
/// allocate in OpenMP regions of Faiss, which end the process where that fails.
INSTANTIATE_TEST_SUITE_P(
        Types,
        FailedNodeCalls,
        testing::Values(
                Case{"SCANN", "L2", 1},
                Case{"SCANN", "COSINE", 1},
                Case{"FLAT", "L2", 1},
                Case{"FLAT", "COSINE", 1}),
        case_name);

INSTANTIATE_TEST_SUITE_P(
        Types,
        FailedAdds,
        testing::Values(
                Case{"IVF_FLAT", "L2", 1},
                Case{"IVF_FLAT", "COSINE", 1},
                Case{"IVF_PQ", "L2", 1},
                Case{"IVF_PQ", "IP", 1}),
        case_name);

} // namespace
