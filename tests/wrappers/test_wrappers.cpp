/* The index below Faiss' wrappers, above other quantizers, and under cosine. */

#include <faiss_ext/IndexIVFScaNN.h>

#include <algorithm>
#include <set>

#include <faiss/IndexHNSW.h>
#include <faiss/IndexIDMap.h>
#include <faiss/IndexPreTransform.h>
#include <faiss/IndexShards.h>
#include <faiss/VectorTransform.h>

#include "fixtures/index_fixtures.h"

namespace {

using namespace fixtures;

constexpr size_t kD = 16;
constexpr size_t kN = 2000;
constexpr size_t kLists = 25;
constexpr size_t k = 10;

class WrapperTest : public testing::TestWithParam<faiss::MetricType> {
 protected:
    Kind raw() const {
        return {GetParam(), Tier::Raw};
    }
    Hits exact(const std::vector<int64_t>* ids = nullptr) const {
        return exact_search(GetParam(), kD, rows_, queries_, k, nullptr, ids);
    }
    /// An index that finds everything.
    std::unique_ptr<IndexIVFScaNN> complete() const {
        auto index = trained(raw(), rows_, kD, kLists);
        index->reorder_k = 2 * kN;
        return index;
    }

    const std::vector<float> rows_ = whole_rows(kN, kD, 1);
    const std::vector<float> queries_ = whole_rows(20, kD, 2);
};

TEST_P(WrapperTest, IDMap2GivesTheCallersIds) {
    faiss::IndexIDMap2 map(complete().release());
    map.own_fields = true;
    std::vector<int64_t> ids(kN);
    for (size_t i = 0; i < kN; i++) {
        ids[i] = 1000000007 * int64_t(i + 1);
    }
    map.add_with_ids(kN, rows_.data(), ids.data());
    EXPECT_TRUE(search(map, queries_, k) == exact(&ids));
}

TEST_P(WrapperTest, IDMap2Reconstructs) {
    auto inner = complete();
    inner->make_direct_map();
    faiss::IndexIDMap2 map(inner.release());
    map.own_fields = true;
    std::vector<int64_t> ids(kN);
    for (size_t i = 0; i < kN; i++) {
        ids[i] = 5000 - int64_t(i);
    }
    map.add_with_ids(kN, rows_.data(), ids.data());
    std::vector<float> row(kD);
    map.reconstruct(4998, row.data());
    EXPECT_TRUE(std::equal(row.begin(), row.end(), rows_.begin() + 2 * kD));
}

TEST_P(WrapperTest, OwnIdsNeedNoWrapper) {
    auto index = complete();
    std::vector<int64_t> ids(kN);
    for (size_t i = 0; i < kN; i++) {
        ids[i] = int64_t(1) << 40 | (kN - i);
    }
    index->add_with_ids(kN, rows_.data(), ids.data());
    EXPECT_TRUE(search(*index, queries_, k) == exact(&ids));
}

TEST_P(WrapperTest, ShardsEqualOneIndex) {
    for (bool threaded : {false, true}) {
        faiss::IndexShards shards(int(kD), threaded, true);
        auto a = complete(), b = complete();
        shards.add_shard(a.get());
        shards.add_shard(b.get());
        shards.add(kN, rows_.data());
        EXPECT_EQ(a->ntotal + b->ntotal, int64_t(kN));
        EXPECT_EQ(search(shards, queries_, k).distances, exact().distances);
        EXPECT_GE(recall(search(shards, queries_, k), exact(), k), .999);
    }
}

TEST_P(WrapperTest, TransformsInFrontKeepTheNeighbours) {
    auto opq = new faiss::OPQMatrix(kD, 4);
    opq->niter = opq->niter_pq = opq->niter_pq_0 = 2;
    faiss::LinearTransform* transforms[] = {
            opq, new faiss::PCAMatrix(kD, kD - 2)};
    for (faiss::LinearTransform* transform : transforms) {
        auto inner = std::make_unique<IndexIVFScaNN>(
                size_t(transform->d_out),
                kLists,
                GetParam(),
                tier_options(Tier::Raw));
        inner->nprobe = kLists;
        inner->reorder_k = 2 * kN;
        faiss::IndexPreTransform index(transform, inner.release());
        index.own_fields = true;
        index.train(kN, rows_.data());
        index.add(kN, rows_.data());
        // PCA subtracts the mean: another order of inner products
        bool loses = transform->d_out != int(kD);
        Hits hits = search(index, queries_, k);
        EXPECT_GE(recall(hits, exact(), k), loses ? .4 : .99);
    }
}

TEST_P(WrapperTest, HNSWQuantizerFindsAlmostAll) {
    faiss::IndexHNSWFlat quantizer(kD, 16, GetParam());
    IndexIVFScaNN index(
            &quantizer, kD, kLists, GetParam(), tier_options(Tier::Raw));
    index.train(kN, rows_.data());
    ASSERT_EQ(quantizer.ntotal, int64_t(kLists));
    index.add(kN, rows_.data());
    index.nprobe = kLists;
    index.reorder_k = 2 * kN;
    EXPECT_GE(recall(search(index, queries_, k), exact(), k), .95);
    index.nprobe = 8;
    double some = recall(search(index, queries_, k), exact(), k);
    EXPECT_GE(some, .6);
}

TEST_P(WrapperTest, HNSWQuantizerWithStrictFilterNeverRepeatsAnId) {
    faiss::IndexHNSWFlat quantizer(kD, 4, GetParam());
    IndexIVFScaNN index(
            &quantizer, kD, 200, GetParam(), tier_options(Tier::Raw));
    index.train(kN, rows_.data());
    index.add(kN, rows_.data());
    for (size_t every : {3, 10, 40}) {
        std::vector<int64_t> ids;
        for (size_t i = 0; i < kN; i += every) {
            ids.push_back(i);
        }
        faiss::IDSelectorBatch sel(ids.size(), ids.data());
        SearchParametersScaNN params;
        params.nprobe = 3;
        params.sel = &sel;
        Hits hits = search(index, queries_, 50, &params);
        for (size_t at = 0; at < hits.labels.size(); at += 50) {
            auto begin = hits.labels.begin() + at;
            std::set<int64_t> seen(begin, begin + 50);
            EXPECT_EQ(seen.size(), 50u);
            EXPECT_EQ(seen.count(-1), 0u) << "1 of " << every;
        }
    }
}

/// Finds no list for one row in seven, as a graph may.
struct ForgetfulQuantizer : faiss::IndexHNSWFlat {
    using faiss::IndexHNSWFlat::IndexHNSWFlat;
    void search(
            int64_t n,
            const float* x,
            int64_t count,
            float* distances,
            int64_t* labels,
            const faiss::SearchParameters* params = nullptr) const override {
        IndexHNSWFlat::search(n, x, count, distances, labels, params);
        for (int64_t i = 0; i < n; i += 7) {
            std::fill_n(labels + i * count, count, -1);
        }
    }
};

TEST_P(WrapperTest, TrainingRowsWithoutAListDoNoHarm) {
    ForgetfulQuantizer quantizer(kD, 16, GetParam());
    IndexIVFScaNN index(
            &quantizer, kD, kLists, GetParam(), tier_options(Tier::Raw));
    index.train(kN, rows_.data());
    index.add(kN, rows_.data());
    EXPECT_EQ(index.ntotal, int64_t(kN));
    index.nprobe = kLists;
    index.reorder_k = 2 * kN;
    double found = recall(search(index, queries_, k), exact(), k);
    EXPECT_GE(found, .6); // 6/7 of the rows for 6/7 of the queries
}

TEST_P(WrapperTest, TrainedQuantizerKeepsItsCentroids) {
    faiss::IndexFlat quantizer(kD, GetParam());
    quantizer.add(kLists, rows_.data());
    IndexIVFScaNN index(
            &quantizer, kD, kLists, GetParam(), tier_options(Tier::Raw));
    index.train(kN, rows_.data());
    std::vector<float> centroids(kLists * kD);
    quantizer.reconstruct_n(0, kLists, centroids.data());
    EXPECT_TRUE(std::equal(centroids.begin(), centroids.end(), rows_.begin()));
}

TEST_P(WrapperTest, DistanceComputerGivesRowDistances) {
    auto index = complete();
    index->make_direct_map();
    index->add(kN, rows_.data());
    std::unique_ptr<faiss::DistanceComputer> computer(
            index->get_distance_computer());
    computer->set_query(queries_.data());
    for (size_t i = 0; i < 50; i++) {
        EXPECT_EQ(
                (*computer)(i),
                float(reference::distance(
                        GetParam(), kD, queries_.data(), &rows_[i * kD])));
    }
}

TEST_P(WrapperTest, EstimateOfMemoryMatchesUsage) {
    for (const Kind& kind : all_kinds()) {
        if (kind.metric != GetParam()) {
            continue;
        }
        std::vector<float> x = clustered_rows(3000, 32, 3);
        IndexIVFScaNN index(
                32, 40, kind.metric, tier_options(kind.tier, kind.soar_lambda));
        double estimate = index.estimate_memory(3000);
        index.train(3000, x.data());
        index.add(3000, x.data());
        double ratio = estimate / index.memory_usage();
        EXPECT_GE(ratio, .95) << kind.name();
        if (kind.soar_lambda == 0) { // else a bound: not all rows are spilled
            EXPECT_LE(ratio, 1.05) << kind.name();
        }
    }
}

INSTANTIATE_TEST_SUITE_P(
        Metrics,
        WrapperTest,
        testing::Values(kIP, kL2),
        [](const auto& info) { return info.param == kL2 ? "L2" : "IP"; });

// ---- cosine ----

class CosineTest : public testing::TestWithParam<Tier> {
 protected:
    CosineTest() {
        // lengths from 1/8 to 8
        for (size_t i = 0; i < kN; i++) {
            float length = std::exp2(float(i % 7) - 3);
            for (size_t j = 0; j < kD; j++) {
                rows_[i * kD + j] *= length;
            }
        }
        ScaNNOptions options = tier_options(GetParam());
        options.normalize = true;
        index_ = std::make_unique<IndexIVFScaNN>(kD, kLists, kIP, options);
        index_->train(kN, rows_.data());
        index_->make_direct_map();
        index_->add(kN, rows_.data());
        index_->nprobe = kLists;
        index_->reorder_k = index_->refine_k = 2 * kN;
    }

    static std::vector<float> unit(std::vector<float> x) {
        for (size_t at = 0; at < x.size(); at += kD) {
            double norm = 0;
            for (size_t j = at; j < at + kD; j++) {
                norm += double(x[j]) * x[j];
            }
            for (size_t j = at; j < at + kD; j++) {
                x[j] /= float(std::sqrt(norm));
            }
        }
        return x;
    }

    std::vector<float> rows_ = clustered_rows(kN, kD, 1);
    std::vector<float> queries_ = clustered_rows(20, kD, 2);
    std::unique_ptr<IndexIVFScaNN> index_;
};

TEST_P(CosineTest, FindsTheSmallestAngles) {
    Hits exact = exact_search(kIP, kD, unit(rows_), unit(queries_), k);
    Hits hits = search(*index_, queries_, k);
    bool raw = index_->options.with_raw_data;
    EXPECT_GE(
            recall(hits, exact, k),
            raw                         ? 1
            : GetParam() == Tier::Codes ? .6
                                        : .9);
    for (size_t i = 0; raw && i < hits.distances.size(); i++) {
        EXPECT_NEAR(hits.distances[i], exact.distances[i], 1e-5);
    }
}

TEST_P(CosineTest, LengthOfTheQueryDoesNotMatter) {
    std::vector<float> longer = queries_;
    for (float& value : longer) {
        value *= 64; // a power of two: the same unit query, bit for bit
    }
    EXPECT_TRUE(search(*index_, longer, k) == search(*index_, queries_, k));
}

TEST_P(CosineTest, ReconstructReturnsTheOriginalRows) {
    if (!index_->options.with_raw_data) {
        GTEST_SKIP() << "no raw rows";
    }
    std::vector<float> all(rows_.size());
    index_->reconstruct_n(0, kN, all.data());
    EXPECT_EQ(all, rows_);
}

TEST_P(CosineTest, PreassignedTakesTheCallersDistances) {
    // those of the query as given, not of the unit one
    std::vector<int64_t> lists(20 * 5);
    std::vector<float> distances(20 * 5);
    index_->quantizer->search(
            20, queries_.data(), 5, distances.data(), lists.data());
    index_->nprobe = 5;
    Hits hits{std::vector<float>(20 * k), std::vector<int64_t>(20 * k)};
    index_->search_preassigned(
            20,
            queries_.data(),
            k,
            lists.data(),
            distances.data(),
            hits.distances.data(),
            hits.labels.data(),
            false);
    std::vector<float> unit_queries = unit(queries_);
    index_->quantizer->search(
            20, unit_queries.data(), 5, distances.data(), lists.data());
    Hits of_unit = hits;
    index_->search_preassigned(
            20,
            unit_queries.data(),
            k,
            lists.data(),
            distances.data(),
            of_unit.distances.data(),
            of_unit.labels.data(),
            false);
    for (size_t i = 0; i < hits.labels.size(); i++) {
        EXPECT_NEAR(hits.distances[i], of_unit.distances[i], 1e-5);
    }
    EXPECT_GE(recall(hits, of_unit, k), .98);
}

INSTANTIATE_TEST_SUITE_P(
        Tiers,
        CosineTest,
        testing::Values(Tier::Codes, Tier::Int8, Tier::Raw, Tier::Int8Raw),
        [](const auto& info) { return tier_name(info.param); });

} // namespace
