/* target_recall: one calibrate(), then any recall for any k, with filters. */

#include <faiss_ext/IndexIVFScaNN.h>

#include <cmath>
#include <map>
#include <random>

#include <faiss/impl/IDSelector.h>

#include <faiss_ext/index_factory.h>
#include <faiss_ext/index_io.h>

#include "fixtures/index_fixtures.h"
#include "fixtures/threads.h"
#include "fixtures/words.h"

namespace {

using namespace fixtures;
using faiss_ext::ScaNNProfile;
using faiss_ext::ScaNNSearchStats;
using faiss_ext::SearchParametersScaNN;

constexpr size_t kD = words::kD;

/// Frequent words at unit length: every 100th a query, the others rows.
const std::vector<float>& rows() {
    static const std::vector<float> made = reference::normalized(
            words::where([](size_t i) { return i % 100 != 0; }), kD);
    return made;
}
const std::vector<float>& queries() {
    static const std::vector<float> made = reference::normalized(
            words::where([](size_t i) { return i % 100 == 0; }), kD);
    return made;
}

SearchParametersScaNN with_target(float target) {
    SearchParametersScaNN params;
    params.target_recall = target;
    return params;
}

/// Measured and expected recall of the queries.
struct Reached {
    double recall;
    double expected;
};
Reached reached(
        const IndexIVFScaNN& index,
        float target,
        size_t k,
        const Hits& truth,
        faiss::IDSelector* sel = nullptr) {
    ScaNNSearchStats stats;
    SearchParametersScaNN params = with_target(target);
    params.sel = sel;
    params.stats = &stats;
    return {recall(search(index, queries(), k, &params), truth, k),
            stats.expected_recall()};
}

/// The best k without a filter.
Hits best(size_t k) {
    constexpr size_t kMost = 60;
    static const Hits all = exact_search(kIP, kD, rows(), queries(), kMost);
    Hits some;
    for (size_t q = 0; q < queries().size() / kD; q++) {
        const auto row = all.labels.begin() + q * kMost;
        some.labels.insert(some.labels.end(), row, row + k);
    }
    return some;
}

class TargetRecall : public testing::TestWithParam<const char*> {
 protected:
    TargetRecall() {
        static std::map<std::string, std::unique_ptr<IndexIVFScaNN>> made;
        auto& index = made[GetParam()];
        if (index == nullptr) {
            index.reset(dynamic_cast<IndexIVFScaNN*>(faiss_ext::index_factory(
                    kD, GetParam(), faiss::METRIC_INNER_PRODUCT)));
            index->train(int64_t(rows().size() / kD), rows().data());
            index->add(int64_t(rows().size() / kD), rows().data());
            index->calibrate(0, nullptr);
        }
        index_ = index.get();
    }
    const IndexIVFScaNN* index_;
};

TEST_P(TargetRecall, HoldsForAnyTargetAndK) {
    for (size_t k : {1, 4, 10, 60}) {
        const Hits truth = best(k);
        for (float target : {0.5f, 0.8f, 0.93f, 0.99f}) {
            const Reached r = reached(*index_, target, k, truth);
            // some hundred queries: of k = 1 each is right or wrong
            const double noise = k == 1 ? 0.03 : 0.01;
            EXPECT_GE(r.recall, target - 0.01 - noise)
                    << "k " << k << ", target " << target;
            EXPECT_NEAR(r.expected, r.recall, target < 0.8f ? 0.1 : 0.06)
                    << "k " << k << ", target " << target;
            // and does not buy it with everything
            EXPECT_LE(r.recall, target < 0.8f ? 0.75 : target + 0.12)
                    << "k " << k << ", target " << target;
        }
    }
}

TEST_P(TargetRecall, HoldsUnderFilters) {
    const size_t n = rows().size() / kD;
    std::mt19937 random(3);
    for (double share : {0.5, 0.1, 0.01}) {
        std::vector<uint8_t> bits((n + 7) / 8);
        for (size_t i = 0; i < n; i++) {
            const bool passes =
                    std::uniform_real_distribution<>()(random) < share;
            bits[i / 8] |= uint8_t(passes << (i % 8));
        }
        faiss::IDSelectorBitmap sel(bits.size(), bits.data());
        const Hits truth = exact_search(kIP, kD, rows(), queries(), 10, &sel);
        for (float target : {0.8f, 0.95f, 0.99f}) {
            const Reached r = reached(*index_, target, 10, truth, &sel);
            EXPECT_GE(r.recall, target - 0.015)
                    << "share " << share << ", target " << target;
            EXPECT_TRUE(std::isnan(r.expected))
                    << "nothing shows whether a filter depends on the query";
        }
    }
}

TEST_P(TargetRecall, SettingsRiseWithTargetAndK) {
    const ScaNNProfile& profile = *index_->profile;
    const size_t targets = profile.targets.size();
    auto at_most = [](const auto& a, const auto& b) {
        return a.nprobe <= b.nprobe && a.refine_k <= b.refine_k &&
               a.reorder_k <= b.reorder_k;
    };
    for (size_t i = 0; i < profile.settings.size(); i++) {
        const auto& here = profile.settings[i];
        EXPECT_TRUE(i % targets == 0 || at_most(profile.settings[i - 1], here));
        EXPECT_TRUE(
                i < targets || at_most(profile.settings[i - targets], here));
    }
}

TEST_P(TargetRecall, StaysInFilesAndClones) {
    faiss::VectorIOWriter writer;
    faiss_ext::write_index(index_, &writer);
    faiss::VectorIOReader reader;
    reader.data = writer.data;
    std::unique_ptr<faiss::Index> read(faiss_ext::read_index(&reader));
    std::unique_ptr<faiss::Index> clone(faiss_ext::clone_index(index_));
    const SearchParametersScaNN params = with_target(0.9f);
    const Hits own = search(*index_, queries(), 20, &params);
    EXPECT_EQ(search(*read, queries(), 20, &params).labels, own.labels);
    EXPECT_EQ(search(*clone, queries(), 20, &params).labels, own.labels);
}

INSTANTIATE_TEST_SUITE_P(
        Tiers,
        TargetRecall,
        testing::Values(
                "IVF200,ScaNN,RFlat",
                "IVF200,ScaNN,SQ8,RFlat",
                "IVF200,ScaNN(soar_lambda=1),RFlat"),
        [](const auto& info) {
            return std::string(
                    info.index == 0   ? "raw"
                    : info.index == 1 ? "int8_raw"
                                      : "copies");
        });

/// A small one, for all else.
std::unique_ptr<IndexIVFScaNN> small_index(size_t n = 3000) {
    ScaNNOptions options;
    options.with_raw_data = true;
    auto index = std::make_unique<IndexIVFScaNN>(8, 30, kL2, options);
    const std::vector<float> x = clustered_rows(n, 8, 1);
    index->train(int64_t(n), x.data());
    index->add(int64_t(n), x.data());
    return index;
}

TEST(TargetRecallCalls, RefusesWhatCannotBe) {
    auto index = small_index();
    const std::vector<float> q = clustered_rows(5, 8, 2);
    auto message = [&](const SearchParametersScaNN& params, size_t k = 10) {
        return message_of([&] { search(*index, q, k, &params); });
    };
    EXPECT_NE(
            message(with_target(0.9f)).find("calibrate()"), std::string::npos);
    index->calibrate(0, nullptr);
    EXPECT_EQ(message(with_target(0.9f)), "");
    for (float wrong : {0.49f, 1.f, 0.9995f, -1.f, NAN}) {
        EXPECT_NE(
                message(with_target(wrong)).find("allowed: 0.5..0.999"),
                std::string::npos)
                << wrong;
    }
    EXPECT_NE(
            message(with_target(0.9f), 1001).find("allowed: 1..1000"),
            std::string::npos);
    SearchParametersScaNN both = with_target(0.9f);
    both.nprobe = 3;
    EXPECT_NE(
            message(both).find("target_recall = 0.9 with"), std::string::npos);
    both.nprobe = 0;
    both.reorder_k = 100;
    EXPECT_NE(
            message(both).find("target_recall = 0.9 with"), std::string::npos);
}

TEST(TargetRecallCalls, ExpectsNothingOfUnknownQueries) {
    auto index = small_index();
    std::vector<float> q = clustered_rows(100, 8, 2);
    auto expected = [&] {
        ScaNNSearchStats stats;
        SearchParametersScaNN params;
        params.nprobe = 5;
        params.stats = &stats;
        search(*index, q, 10, &params);
        return stats.expected_recall();
    };
    EXPECT_TRUE(std::isnan(expected())); // never calibrated
    index->calibrate(0, nullptr);
    q = clustered_rows(100, 8, 1); // rows
    EXPECT_GT(expected(), 0.3);
    for (float& value : q) {
        value += 100;
    }
    EXPECT_TRUE(std::isnan(expected()));
}

TEST(TargetRecallCalls, SameForAnyThreads) {
    auto index = small_index();
    same_for_any_threads([&] {
        index->calibrate(0, nullptr);
        const ScaNNProfile& p = *index->profile;
        std::vector<float> all = p.probe_recall;
        all.insert(all.end(), p.scan_recall.begin(), p.scan_recall.end());
        for (const auto& s : p.settings) {
            all.push_back(float(s.nprobe));
            all.push_back(float(s.reorder_k));
        }
        return all;
    });
}

/// Rows that are there no more are like rows that a filter holds back.
TEST(TargetRecallCalls, HoldsAfterRemovals) {
    constexpr size_t n = 6000;
    auto index = small_index(n);
    index->calibrate(0, nullptr);
    std::vector<float> x = clustered_rows(n, 8, 1);
    faiss::IDSelectorRange most(0, 4000);
    index->remove_ids(most);
    const std::vector<float> left(x.begin() + 4000 * 8, x.end());
    const std::vector<float> q(x.begin(), x.begin() + 300 * 8);
    Hits truth = exact_search(kL2, 8, left, q, 10);
    for (int64_t& label : truth.labels) {
        label += 4000;
    }
    for (float target : {0.8f, 0.95f}) {
        const SearchParametersScaNN params = with_target(target);
        EXPECT_GE(
                recall(search(*index, q, 10, &params), truth, 10),
                target - 0.02);
    }
}

} // namespace
