/* How much of the truth a search finds: floors in one table, and what spilled
 * copies add. */

#include <faiss_ext/IndexIVFScaNN.h>

#include <algorithm>
#include <map>
#include <set>

#include "fixtures/index_fixtures.h"
#include "fixtures/words.h"

namespace {

using namespace fixtures;

constexpr size_t k = 10;

struct Data {
    size_t d;
    std::vector<float> base;
    std::vector<float> queries;
};

template <class Wanted>
std::vector<float> unit_words(Wanted&& wanted) {
    return reference::normalized(words::where(wanted), words::kD);
}

const Data& synthetic() {
    static const Data data{
            32, clustered_rows(5000, 32, 1), clustered_rows(100, 32, 2)};
    return data;
}

/// Every tenth of the frequent words, at unit length; one of 500 of those
/// after them is a query.
const Data& glove() {
    static const Data data{
            words::kD,
            unit_words([](size_t i) { return i % 10 == 0; }),
            unit_words([](size_t i) { return i % 500 == 1; })};
    return data;
}

struct Floor {
    const Data& (*data)();
    Kind kind;
    size_t nprobe;
    size_t reorder_k;
    double floor;
};

// 70 lists; what was measured less .01 to .05
const Floor kFloors[] = {
        // clang-format off
        {synthetic, {kIP, Tier::Codes},       8,   0, .80},
        {synthetic, {kIP, Tier::Codes},      70,   0, .80},
        {synthetic, {kIP, Tier::Int8},       70,   0, .97},
        {synthetic, {kIP, Tier::FP16},       70,   0, .98},
        {synthetic, {kIP, Tier::Raw},         8,  50, .96},
        {synthetic, {kIP, Tier::Raw},        70,  20, .96},
        {synthetic, {kIP, Tier::Raw},        70, 100, .99},
        {synthetic, {kIP, Tier::Int8Raw},    70,  20, .99},
        {synthetic, {kIP, Tier::Raw, 1},      4,  50, .96},
        {synthetic, {kL2, Tier::Codes},       4,   0, .72},
        {synthetic, {kL2, Tier::Codes},      70,   0, .72},
        {synthetic, {kL2, Tier::Int8},       70,   0, .96},
        {synthetic, {kL2, Tier::BF16},       70,   0, .97},
        {synthetic, {kL2, Tier::Raw},         4,  50, .97},
        {synthetic, {kL2, Tier::Raw},        70,  20, .92},
        {synthetic, {kL2, Tier::Raw},        70, 100, .99},
        {synthetic, {kL2, Tier::Int8Raw},    70,  20, .99},
        {synthetic, {kL2, Tier::Raw, 1},      2,  50, .95},
        {glove,     {kIP, Tier::Codes},      70,   0, .74},
        {glove,     {kIP, Tier::Int8},       70,   0, .96},
        {glove,     {kIP, Tier::Raw},         8,  50, .86},
        {glove,     {kIP, Tier::Raw},        16,  50, .94},
        {glove,     {kIP, Tier::Raw},        70, 100, .99},
        {glove,     {kIP, Tier::Int8Raw},    70,  20, .98},
        {glove,     {kL2, Tier::Codes},      70,   0, .74},
        {glove,     {kL2, Tier::Raw},        16,  50, .93},
        // clang-format on
};

IndexIVFScaNN& index_of(const Floor& row) {
    const Data& data = row.data();
    return *made_once(row.kind.name() + std::to_string(data.d), [&] {
        return filled(row.kind, data.base, data.d, 70);
    });
}

const Hits& exact_of(const Floor& row) {
    static std::map<size_t, Hits> made;
    const Data& data = row.data();
    Hits& hits = made[2 * data.d + (row.kind.metric == kL2)];
    if (hits.labels.empty()) {
        hits = exact_search(
                row.kind.metric, data.d, data.base, data.queries, k);
    }
    return hits;
}

TEST(Recall, IsAtLeastItsFloor) {
    for (const Floor& row : kFloors) {
        const Data& data = row.data();
        SearchParametersScaNN params;
        params.nprobe = row.nprobe;
        params.reorder_k = row.reorder_k;
        Hits hits = search(index_of(row), data.queries, k, &params);
        double reached = recall(hits, exact_of(row), k);
        EXPECT_GE(reached, row.floor)
                << row.kind.name() << " d " << data.d << " nprobe "
                << row.nprobe << " reorder_k " << row.reorder_k;
    }
}

TEST(Recall, GrowsWithNprobeAndReorderK) {
    const Floor row = {synthetic, {kIP, Tier::Raw}, 0, 0, 0};
    double before = 0;
    for (size_t nprobe : {1, 2, 4, 8, 16, 32, 70}) {
        SearchParametersScaNN params;
        params.nprobe = nprobe;
        params.reorder_k = 400;
        double reached =
                recall(search(index_of(row), synthetic().queries, k, &params),
                       exact_of(row),
                       k);
        EXPECT_GE(reached, before - .005) << "nprobe " << nprobe;
        before = reached;
    }
    EXPECT_GE(before, .99);
    before = 0;
    for (size_t reorder_k : {10, 20, 50, 200, 1000, 5000}) {
        SearchParametersScaNN params;
        params.nprobe = 70;
        params.reorder_k = reorder_k;
        double reached =
                recall(search(index_of(row), synthetic().queries, k, &params),
                       exact_of(row),
                       k);
        EXPECT_GE(reached, before - .005) << "reorder_k " << reorder_k;
        before = reached;
    }
    EXPECT_EQ(before, 1);
}

TEST(Recall, SpilledCopiesFindAtLeastAsMuchAtTheSameNprobe) {
    for (auto metric : {kIP, kL2}) {
        const Floor plain = {synthetic, {metric, Tier::Raw}, 0, 0, 0};
        const Floor spilled = {synthetic, {metric, Tier::Raw, 1}, 0, 0, 0};
        for (size_t nprobe : {1, 2, 4, 8, 16}) {
            SearchParametersScaNN params;
            params.nprobe = nprobe;
            params.reorder_k = 300;
            const std::vector<float>& queries = synthetic().queries;
            Hits without = search(index_of(plain), queries, k, &params);
            Hits with = search(index_of(spilled), queries, k, &params);
            EXPECT_GE(
                    recall(with, exact_of(spilled), k) + .002,
                    recall(without, exact_of(plain), k))
                    << spilled.kind.name() << " nprobe " << nprobe;
        }
    }
}

TEST(Recall, SpilledCopiesNeverGiveAnIdTwice) {
    for (Tier tier : {Tier::Codes, Tier::Raw}) {
        for (auto metric : {kIP, kL2}) {
            const Floor row = {synthetic, {metric, tier, 1}, 0, 0, 0};
            for (size_t nprobe : {1, 5, 70}) {
                SearchParametersScaNN params;
                params.nprobe = nprobe;
                Hits hits = search(
                        index_of(row), synthetic().queries, 100, &params);
                for (size_t at = 0; at < hits.labels.size(); at += 100) {
                    auto begin = hits.labels.begin() + at;
                    std::set<int64_t> seen(begin, begin + 100);
                    size_t padded = std::count(begin, begin + 100, -1);
                    EXPECT_EQ(seen.size(), 100 - padded + (padded > 0));
                }
            }
        }
    }
}

TEST(Recall, EveryEtaAndBlockWidthSearchesWell) {
    const Data& data = synthetic();
    Hits exact = exact_search(kIP, data.d, data.base, data.queries, k);
    for (size_t sub_dim : {1, 3, 5, 8}) {
        for (float eta : {1.0f, 4.0f}) {
            ScaNNOptions options = tier_options(Tier::Raw);
            options.sub_dim = sub_dim;
            options.eta = eta;
            IndexIVFScaNN index(data.d, 70, kIP, options);
            index.train(data.base.size() / data.d, data.base.data());
            index.add(data.base.size() / data.d, data.base.data());
            SearchParametersScaNN params;
            params.nprobe = 70;
            params.reorder_k = sub_dim <= 3 ? 100 : 500;
            Hits hits = search(index, data.queries, k, &params);
            EXPECT_GE(recall(hits, exact, k), .9)
                    << "sub_dim " << sub_dim << " eta " << eta;
        }
    }
}

} // namespace
