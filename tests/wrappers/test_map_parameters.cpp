/* Parameters of a search go through the maps of the factory, in Faiss' own
 * calls. */

#include <faiss_ext/index_factory.h>

#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include <faiss/IndexIDMap.h>
#include <faiss/IndexIVF.h>
#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/FaissException.h>
#include <faiss/impl/IDSelector.h>
#include <gtest/gtest.h>

#include <faiss_ext/IndexIVFScaNN.h>

#include "fixtures/random_rows.h"

namespace {

using namespace faiss_ext;

constexpr size_t kD = 8, kN = 1500, kQueries = 20, kK = 10;
constexpr int64_t kFirst = 10000;

/// Row i has id kFirst + 3 * i, through the map.
class MapParameters : public testing::TestWithParam<std::string> {
 protected:
    void SetUp() override {
        index_.reset(index_factory(
                int(kD), GetParam() + "IVF16,ScaNN,RFlat", faiss::METRIC_L2));
        index_->train(kN, rows_.data());
        std::vector<int64_t> ids(kN);
        for (size_t i = 0; i < kN; i++) {
            ids[i] = kFirst + 3 * int64_t(i);
        }
        index_->add_with_ids(kN, rows_.data(), ids.data());
        inner_ = find_scann(index_.get());
    }

    std::vector<int64_t> labels_of(
            const faiss::Index& index,
            const faiss::SearchParameters* params) const {
        std::vector<float> distances(kQueries * kK);
        std::vector<int64_t> labels(kQueries * kK);
        index.search(
                kQueries,
                queries_.data(),
                kK,
                distances.data(),
                labels.data(),
                params);
        return labels;
    }
    std::vector<int64_t> found(const faiss::SearchParameters* params) const {
        return labels_of(*index_, params);
    }
    /// What the ScaNN index itself finds, by the ids of the map.
    std::vector<int64_t> expected(const SearchParametersScaNN* params) const {
        std::vector<int64_t> labels = labels_of(*inner_, params);
        for (int64_t& label : labels) {
            label = label < 0 ? -1 : kFirst + 3 * label;
        }
        return labels;
    }

    const std::vector<float> rows_ = random_rows::normal(kN * kD, 1);
    const std::vector<float> queries_ = random_rows::normal(kQueries * kD, 2);
    std::unique_ptr<faiss::Index> index_;
    const IndexIVFScaNN* inner_ = nullptr;
};

TEST_P(MapParameters, WithoutSelectorReachTheIndex) {
    SearchParametersScaNN params;
    for (size_t nprobe : {1, 4, 16}) {
        params.nprobe = nprobe;
        params.reorder_k = 50;
        EXPECT_EQ(found(&params), expected(&params)) << "nprobe " << nprobe;
    }
    EXPECT_EQ(found(nullptr), expected(nullptr));
}

TEST_P(MapParameters, SelectorsAskAboutTheIdsOfTheMap) {
    // rows 100 .. 199
    faiss::IDSelectorRange outer(kFirst + 300, kFirst + 600), inner(100, 200);
    SearchParametersScaNN params, below;
    params.nprobe = below.nprobe = 16;
    params.sel = &outer;
    below.sel = &inner;
    const std::vector<int64_t> wanted = expected(&below);
    EXPECT_EQ(found(&params), wanted);
    faiss::SearchParametersIVF plain;
    plain.nprobe = 16;
    plain.sel = &outer;
    EXPECT_EQ(found(&plain), wanted);
    faiss::SearchParameters plainest;
    plainest.sel = &outer;
    for (int64_t label : found(&plainest)) {
        EXPECT_TRUE(label == -1 || outer.is_member(label)) << label;
    }
    EXPECT_EQ(params.sel, &outer) << "the caller's parameters changed";
}

TEST_P(MapParameters, RangeSearchesTakeThem) {
    faiss::IDSelectorRange outer(kFirst + 300, kFirst + 600), inner(100, 200);
    for (bool selects : {false, true}) {
        SearchParametersScaNN params, below;
        params.nprobe = below.nprobe = 16;
        params.sel = selects ? &outer : nullptr;
        below.sel = selects ? &inner : nullptr;
        faiss::RangeSearchResult mapped(kQueries), direct(kQueries);
        index_->range_search(kQueries, queries_.data(), 6, &mapped, &params);
        inner_->range_search(kQueries, queries_.data(), 6, &direct, &below);
        const size_t hits = direct.lims[kQueries];
        ASSERT_GT(hits, 0u);
        ASSERT_EQ(mapped.lims[kQueries], hits);
        for (size_t i = 0; i < hits; i++) {
            EXPECT_EQ(mapped.labels[i], kFirst + 3 * direct.labels[i]);
            EXPECT_EQ(mapped.distances[i], direct.distances[i]);
        }
    }
}

TEST_P(MapParameters, OfAnUnknownClassCannotHaveASelector) {
    struct Other : faiss::SearchParameters {
    } other;
    faiss::IDSelectorRange some(kFirst, kFirst + 30);
    other.sel = &some;
    EXPECT_THROW(found(&other), faiss::FaissException);
}

INSTANTIATE_TEST_SUITE_P(
        Maps,
        MapParameters,
        testing::Values("IDMap,", "IDMap2,"));

} // namespace
