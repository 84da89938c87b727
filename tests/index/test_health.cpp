/* What an index says of itself: drift, errors, recall, advice. */

#include <faiss_ext/IndexIVFScaNN.h>

#include <algorithm>
#include <cmath>

#include "fixtures/drift.h"

namespace {

using namespace drift;
using faiss_ext::ScaNNHealth;

TEST(HealthTest, OfAnEmptyIndexIsGood) {
    auto index = from_factory(kD, "IVF48,ScaNN,RFlat", kL2);
    index->train(kN, rows().data());
    const ScaNNHealth health = index->health();
    EXPECT_EQ(health.rows, 0u);
    EXPECT_EQ(health.empty_lists, 48u);
    EXPECT_TRUE(health.advice.empty());
    EXPECT_EQ(index->maintain().rows, 0u);
}

TEST(HealthTest, SaysWhatIsThere) {
    auto index = drifted("IVF48,ScaNN,RFlat");
    const ScaNNHealth h = index->health(100);
    const Lists lists = ids_of_lists(*index);
    size_t largest = 0, empty = 0;
    double squares = 0;
    for (const auto& ids : lists) {
        largest = std::max(largest, ids.size());
        empty += ids.empty();
        squares += double(ids.size() * ids.size());
    }
    EXPECT_EQ(h.rows, kN);
    EXPECT_EQ(h.lists, kLists);
    EXPECT_EQ(h.largest_list, largest);
    EXPECT_EQ(h.empty_lists, empty);
    EXPECT_NEAR(h.imbalance, kLists * squares / (double(kN) * kN), 1e-4);
    double error = 0;
    std::vector<float> centroid(kD);
    for (size_t l = 0; l < kLists; l++) {
        index->quantizer->reconstruct(l, centroid.data());
        for (int64_t id : lists[l]) {
            for (size_t j = 0; j < kD; j++) {
                const double e = rows()[size_t(id) * kD + j] - centroid[j];
                error += e * e;
            }
        }
    }
    EXPECT_NEAR(h.list_error, error / kN, .05 * error / kN); // of a sample
    EXPECT_GT(h.list_error, h.list_error_at_fit);
    EXPECT_GT(h.code_error, 0);
    EXPECT_LT(h.code_error, 1);
    ASSERT_FALSE(h.advice.empty());
    EXPECT_NE(h.advice[0].find("maintain()"), std::string::npos);
}

TEST(HealthTest, MeasuresRecallOfTheDefaults) {
    auto index = rebuilt("IVF48,ScaNN,RFlat");
    index->nprobe = index->nlist;
    EXPECT_GT(index->health(100).recall, .99);
    index->nprobe = 1;
    const double few = index->health(100).recall;
    EXPECT_LT(few, .95);
    EXPECT_NEAR(index->health(50, rows().data(), 1).recall, 1, .05)
            << "rows find themselves";
    EXPECT_TRUE(std::isnan(index->health().recall));
    EXPECT_THROW(index->health(10, nullptr, 0), faiss::FaissException);
    EXPECT_THROW(index->health(10, nullptr, kN), faiss::FaissException);
    EXPECT_THROW(index->health(-1), faiss::FaissException);
    auto refined = rebuilt("IVF48,ScaNN,SQ8");
    EXPECT_THROW(refined->health(10), faiss::FaissException);
    EXPECT_GT(refined->health(50, rows().data()).recall, .5);
}

} // namespace
