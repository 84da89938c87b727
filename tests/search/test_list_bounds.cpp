/* Lists that a range search may leave out: never one that holds a hit. */

#include <algorithm>
#include <cmath>
#include <vector>

#include <faiss_ext/model/index_state.h>
#include <faiss_ext/search/list_bounds.h>

#include "fixtures/index_fixtures.h"

namespace {

using namespace fixtures;
using faiss_ext::ListBounds;

constexpr size_t kD = 12, kN = 1500, kLists = 40, kQueries = 20;

struct Bounded {
    faiss::MetricType metric;
    bool normalize;
};

class ListBoundsTest : public testing::TestWithParam<Bounded> {
 protected:
    std::unique_ptr<IndexIVFScaNN> made() const {
        ScaNNOptions options = tier_options(Tier::Raw);
        options.normalize = GetParam().normalize;
        auto index = std::make_unique<IndexIVFScaNN>(
                kD, kLists, GetParam().metric, options);
        index->train(kN, rows_.data());
        return index;
    }
    /// A row as the index compares it.
    std::vector<float> kept(const float* x) const {
        std::vector<float> row(x, x + kD);
        return GetParam().normalize ? reference::normalized(row, kD) : row;
    }

    const std::vector<float> rows_ = clustered_rows(kN, kD, 1);
    const std::vector<float> queries_ = clustered_rows(kQueries, kD, 2);
};

TEST_P(ListBoundsTest, NoListWithAHitIsLeftOut) {
    auto index = made();
    index->add(kN, rows_.data());
    ASSERT_TRUE(ListBounds::possible(index->state()));
    const ListBounds bounds(index->state());
    const bool l2 = GetParam().metric == kL2;
    size_t left_out = 0;
    for (size_t q = 0; q < kQueries; q++) {
        const auto query = kept(&queries_[q * kD]);
        // the distance of each row, by list
        std::vector<std::vector<double>> distances(kLists);
        std::vector<double> all;
        for (size_t l = 0; l < kLists; l++) {
            const auto& ids = index->state().lists->list(l).ids;
            for (size_t i = 0; i < ids.size(); i++) {
                const auto row = kept(&rows_[size_t(ids.data()[i]) * kD]);
                distances[l].push_back(reference::distance(
                        GetParam().metric, kD, query.data(), row.data()));
                all.push_back(distances[l].back());
            }
        }
        std::sort(all.begin(), all.end());
        ASSERT_EQ(all.size(), kN);
        for (size_t hits : {1, 10, 300, 1400}) {
            const auto radius = float(l2 ? all[hits] : all[kN - 1 - hits]);
            const auto lists =
                    bounds.within(index->state(), &queries_[q * kD], radius);
            EXPECT_TRUE(std::is_sorted(lists.begin(), lists.end()));
            for (size_t l = 0; l < kLists; l++) {
                const bool holds = std::any_of(
                        distances[l].begin(),
                        distances[l].end(),
                        [&](double distance) {
                            return l2 ? distance < radius : distance > radius;
                        });
                EXPECT_TRUE(
                        !holds ||
                        std::binary_search(
                                lists.begin(), lists.end(), int64_t(l)))
                        << "list " << l << " query " << q << " hits " << hits;
            }
            left_out += hits == 1 ? kLists - lists.size() : 0;
        }
    }
    EXPECT_GT(left_out, kQueries) << "for the nearest row not all are needed";
}

TEST_P(ListBoundsTest, ListsWithoutRowsAreLeftOut) {
    auto index = made();
    const float everything = GetParam().metric == kL2 ? kLargest : -kLargest;
    const ListBounds none(index->state());
    EXPECT_TRUE(
            none.within(index->state(), queries_.data(), everything).empty());
    index->add(1, rows_.data());
    const ListBounds one(index->state());
    EXPECT_EQ(
            one.within(index->state(), queries_.data(), everything).size(), 1);
}

TEST(ListBounds, AreOfRawRowsOnly) {
    for (Tier tier : {Tier::Codes, Tier::Int8, Tier::Raw, Tier::Int8Raw}) {
        auto index = trained({kL2, tier}, clustered_rows(200, kD, 1), kD, 4);
        EXPECT_EQ(
                ListBounds::possible(index->state()),
                tier == Tier::Raw || tier == Tier::Int8Raw);
    }
}

INSTANTIATE_TEST_SUITE_P(
        Metrics,
        ListBoundsTest,
        testing::Values(
                Bounded{kL2, false},
                Bounded{kIP, false},
                Bounded{kIP, true}),
        [](const auto& info) {
            return info.param.metric == kL2 ? "L2"
                   : info.param.normalize   ? "cosine"
                                            : "IP";
        });

} // namespace
