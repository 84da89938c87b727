/* Calibration: the recall that was asked for, on queries it has not seen. */

#include <faiss_ext/IndexIVFScaNN.h>

#include <map>

#include <faiss_ext/index_io.h>

#include "fixtures/index_fixtures.h"
#include "fixtures/threads.h"
#include "fixtures/words.h"

namespace {

using namespace fixtures;

constexpr size_t kD = words::kD;
constexpr size_t k = 10;

/// Frequent words at unit length: every 50th a query, the others rows.
struct Data {
    std::vector<float> rows = reference::normalized(
            words::where([](size_t i) { return i % 50 != 0; }),
            kD);
    std::vector<float> queries = reference::normalized(
            words::where([](size_t i) { return i % 50 == 0; }),
            kD);
};

const Data& data() {
    static const Data made;
    return made;
}

/// Share of the true neighbours that a search without parameters finds.
double recall(const IndexIVFScaNN& index, size_t wanted) {
    static std::map<size_t, Hits> truths;
    Hits& truth = truths[wanted];
    if (truth.labels.empty()) {
        truth = exact_search(
                index.metric_type, kD, data().rows, data().queries, wanted);
    }
    return fixtures::recall(
            search(index, data().queries, wanted), truth, wanted);
}

class CalibrateTest : public testing::TestWithParam<RefineType> {
 protected:
    CalibrateTest() {
        static std::map<RefineType, std::unique_ptr<IndexIVFScaNN>> trained;
        auto& index = trained[GetParam()];
        if (index == nullptr) {
            ScaNNOptions options;
            options.refine_type = GetParam();
            options.with_raw_data = true;
            index = std::make_unique<IndexIVFScaNN>(kD, 200, kIP, options);
            const std::vector<float>& rows = data().rows;
            index->train(rows.size() / kD, rows.data());
            index->add(rows.size() / kD, rows.data());
        }
        index_ = index.get();
        index_->calibration = {};
        index_->nprobe = 1;
    }
    IndexIVFScaNN* index_;
};

TEST_P(CalibrateTest, KeepsItsPromise) {
    double last = 0;
    for (float target : {0.80f, 0.90f, 0.95f, 0.98f, 0.99f}) {
        auto chosen = index_->calibrate(0, nullptr, target, k);
        EXPECT_EQ(chosen.k, k);
        EXPECT_EQ(chosen.refine_k > 0, GetParam() != RefineType::None);
        EXPECT_GE(chosen.reorder_k, k);
        EXPECT_EQ(index_->nprobe, chosen.nprobe);
        double reached = recall(*index_, k);
        EXPECT_GE(reached, target - 0.01) << "nprobe " << chosen.nprobe;
        // and does not buy it with everything
        EXPECT_LE(reached, target + 0.03) << "nprobe " << chosen.nprobe;
        EXPECT_GE(reached, last);
        last = reached;
    }
}

TEST_P(CalibrateTest, QueriesOfTheCaller) {
    const std::vector<float>& queries = data().queries;
    auto chosen =
            index_->calibrate(queries.size() / kD, queries.data(), 0.95f, k);
    EXPECT_GE(chosen.recall, 0.95);
    EXPECT_GE(recall(*index_, k), 0.945);
}

TEST_P(CalibrateTest, SameForAnyThreadsAndSavedInTheFile) {
    auto chosen = index_->calibrate(0, nullptr, 0.9f, k);
    auto again = same_for_any_threads([&] {
        auto c = index_->calibrate(0, nullptr, 0.9f, k);
        return std::vector<size_t>{c.nprobe, c.refine_k, c.reorder_k};
    });
    EXPECT_EQ(
            again,
            (std::vector<size_t>{
                    chosen.nprobe, chosen.refine_k, chosen.reorder_k}));
    faiss::VectorIOWriter writer;
    faiss_ext::write_index(index_, &writer);
    faiss::VectorIOReader reader;
    reader.data = writer.data;
    std::unique_ptr<faiss::Index> loaded(faiss_ext::read_index(&reader));
    auto& read = dynamic_cast<IndexIVFScaNN&>(*loaded);
    EXPECT_EQ(read.calibration.reorder_k, chosen.reorder_k);
    EXPECT_EQ(read.calibration.target_recall, 0.9f);
    EXPECT_EQ(recall(read, k), recall(*index_, k));
}

TEST_P(CalibrateTest, OtherKGetsMoreCandidates) {
    index_->calibrate(0, nullptr, 0.95f, k);
    EXPECT_GE(recall(*index_, 100), 0.85);
    EXPECT_GE(recall(*index_, 1), 0.95);
}

INSTANTIATE_TEST_SUITE_P(
        Tiers,
        CalibrateTest,
        testing::Values(RefineType::None, RefineType::Int8),
        [](const auto& info) {
            return info.param == RefineType::None ? "raw" : "int8_raw";
        });

TEST(Calibrate, BadInput) {
    size_t n = 500;
    std::vector<float> rows = clustered_rows(n, 8, 1);
    ScaNNOptions options;
    IndexIVFScaNN index(8, 10, kL2, options);
    auto expect_error = [&](const char* word, auto&& call) {
        std::string message = message_of(call);
        EXPECT_NE(message.find(word), std::string::npos)
                << word << " is not in: " << message;
    };
    expect_error("trained", [&] { index.calibrate(0, nullptr); });
    index.train(n, rows.data());
    expect_error("0 rows", [&] { index.calibrate(0, nullptr, 0.9f, 5); });
    index.add(n, rows.data());
    for (float target : {0.f, 1.f, -1.f, 2.f, NAN}) {
        expect_error("target_recall", [&] {
            index.calibrate(n, rows.data(), target, 5);
        });
    }
    for (int64_t wrong : {int64_t(0), int64_t(-1), int64_t(n)}) {
        expect_error(std::to_string(wrong).c_str(), [&] {
            index.calibrate(n, rows.data(), 0.9f, wrong);
        });
    }
    expect_error("queries", [&] { index.calibrate(0, nullptr, 0.9f, 5); });
    expect_error("queries", [&] { index.calibrate(0, rows.data(), 0.9f, 5); });
    rows[3] = NAN;
    expect_error("NaN", [&] { index.calibrate(10, rows.data(), 0.9f, 5); });
    EXPECT_EQ(index.calibration.k, 0u);
    EXPECT_EQ(index.nprobe, 1u);
}

} // namespace
