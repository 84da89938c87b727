/* What Faiss trains around our index, and its own indexes from our factory:
 * nothing is printed, and rows that Faiss cannot learn from are refused. */

#include <cmath>
#include <numeric>

#include <faiss/IndexIDMap.h>
#include <faiss/VectorTransform.h>

#include <faiss_ext/wrappers/faiss_training.h>

#include "fixtures/index_cases.h"

using namespace cases;

namespace {

constexpr size_t kDim = 16;

/// OPQ with fewer rounds: its small k-means take long on a busy machine.
IndexPtr make(const std::string& description) {
    IndexPtr index(faiss_ext::index_factory(kDim, description));
    faiss::Index* inner = index.get();
    if (auto map = dynamic_cast<faiss::IndexIDMap*>(inner)) {
        inner = map->index;
    }
    if (auto chain = dynamic_cast<faiss::IndexPreTransform*>(inner)) {
        for (faiss::VectorTransform* transform : chain->chain) {
            if (auto opq = dynamic_cast<faiss::OPQMatrix*>(transform)) {
                opq->niter = 2;
                opq->niter_pq_0 = 4;
            }
        }
    }
    return index;
}

/// All that the process writes to stdout and stderr meanwhile.
template <class Work>
std::string printed_by(Work&& work) {
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    std::string thrown = message_of(work);
    std::string text = testing::internal::GetCapturedStdout();
    text += testing::internal::GetCapturedStderr();
    EXPECT_EQ(thrown, "");
    return text;
}

void expect_silent(const std::string& description, size_t n) {
    SCOPED_TRACE(description + " with " + std::to_string(n) + " rows");
    IndexPtr index = make(description);
    std::vector<float> x = rows(n, kDim, 5);
    std::string printed = printed_by([&] {
        index->train(int64_t(n), x.data());
        std::vector<int64_t> ids(n);
        std::iota(ids.begin(), ids.end(), 0);
        index->add_with_ids(int64_t(n), x.data(), ids.data());
        std::vector<float> distances(10);
        std::vector<int64_t> labels(10);
        index->search(1, x.data(), 10, distances.data(), labels.data());
    });
    EXPECT_EQ(printed, "");
    EXPECT_EQ(index->ntotal, int64_t(n));
}

std::string training_error(faiss::Index& index, const std::vector<float>& x) {
    testing::internal::CaptureStderr();
    std::string message = message_of(
            [&] { index.train(int64_t(x.size() / index.d), x.data()); });
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
    return message;
}

} // namespace

TEST(FaissTraining, PrintsNothingAroundScann) {
    for (const char* description :
         {"OPQ4,IVF16,ScaNN",
          "OPQ4_8,IVF16,ScaNN,RFlat",
          "L2norm,OPQ4,IVF16,ScaNN",
          "IDMap2,OPQ8,IVF16,ScaNN",
          "PCA8,IVF16,ScaNN",
          "PCAR8,IVF16,ScaNN",
          "PCAW8,IVF16,ScaNN",
          "ITQ8,IVF16,ScaNN",
          "RR8,IVF16,ScaNN",
          "ScaNN",
          "IVF16_HNSW8,ScaNN",
          "IVF16(PQ4x4),ScaNN"}) {
        expect_silent(description, 300);
    }
}

TEST(FaissTraining, PrintsNothingInFaissOwnIndexes) {
    for (const char* description :
         {"IVF16,Flat",
          "IVF16,SQ8",
          "IVF16,PQ4x4",
          "IVF16,PQ4x4fs",
          "IVF16_HNSW8,Flat",
          "OPQ4,IVF16,PQ4x4fs",
          "IDMap,OPQ4,PQ4x4",
          "IDMap,HNSW8",
          "IDMap,PQ4x4fs",
          "IMI2x3,Flat"}) {
        expect_silent(description, 300);
    }
}

TEST(FaissTraining, CopiesPrintNothing) {
    IndexPtr index = make("OPQ4,IVF16,ScaNN");
    IndexPtr copy(faiss_ext::clone_index(index.get()));
    std::vector<float> x = rows(300, kDim, 5);
    EXPECT_EQ(printed_by([&] { copy->train(300, x.data()); }), "");
    auto chain = dynamic_cast<faiss::IndexPreTransform*>(copy.get());
    ASSERT_NE(chain, nullptr);
    auto opq = dynamic_cast<faiss::OPQMatrix*>(chain->chain[0]);
    ASSERT_NE(opq, nullptr);
    EXPECT_EQ(opq->pq, nullptr);
}

TEST(FaissTraining, OpqLearnsAsByItself) {
    std::vector<float> x = rows(1000, kDim, 5);
    faiss::OPQMatrix alone(kDim, 4);
    alone.niter = 2;
    alone.niter_pq_0 = 4;
    testing::internal::CaptureStderr();
    alone.train(1000, x.data());
    testing::internal::GetCapturedStderr();
    IndexPtr index = make("OPQ4,IVF16,ScaNN");
    index->train(1000, x.data());
    auto chain = dynamic_cast<faiss::IndexPreTransform*>(index.get());
    auto opq = dynamic_cast<faiss::OPQMatrix*>(chain->chain[0]);
    ASSERT_EQ(opq->A.size(), alone.A.size());
    for (size_t i = 0; i < alone.A.size(); i++) {
        EXPECT_NEAR(opq->A[i], alone.A[i], 1e-3) << i;
    }
}

TEST(FaissTraining, BadRowsAreRefusedAndLeaveNothingTrained) {
    for (const char* description :
         {"PCA8,IVF16,ScaNN", "OPQ4,IVF16,ScaNN", "ITQ8,IVF16,ScaNN"}) {
        SCOPED_TRACE(description);
        IndexPtr index = make(description);
        const std::vector<float> good = rows(300, kDim, 5);
        for (auto [value, expected] :
             {std::pair(NAN, "training row 7"),
              std::pair(INFINITY, "training row 7"),
              std::pair(3e38f, "9e+76 (allowed")}) {
            std::vector<float> x = good;
            x[7 * kDim + 3] = value;
            std::string message = training_error(*index, x);
            EXPECT_NE(message.find(expected), std::string::npos) << message;
        }
        EXPECT_NE(training_error(*index, {}), "");
        // fails in the leaf, after the transforms were trained
        const std::vector<float> few(good.begin(), good.begin() + 10 * kDim);
        EXPECT_NE(training_error(*index, few), "");
        auto chain = dynamic_cast<faiss::IndexPreTransform*>(index.get());
        EXPECT_FALSE(index->is_trained);
        EXPECT_FALSE(chain->chain[0]->is_trained);
        EXPECT_EQ(training_error(*index, good), "");
        EXPECT_TRUE(index->is_trained);
    }
}
