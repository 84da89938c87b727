/* The plan of a search: parameters resolved, and the route of a query. */

#include <faiss_ext/search/search_plan.h>

#include <faiss/invlists/DirectMap.h>

#include <faiss_ext/index/search_defaults.h>

#include "fixtures/index_fixtures.h"

namespace {

using namespace fixtures;
using faiss_ext::ProbedRows;
using faiss_ext::Route;
using faiss_ext::SearchPlan;

constexpr size_t kD = 16;
constexpr size_t kN = 3000;
constexpr size_t kLists = 30;
constexpr size_t k = 10;

const std::vector<float>& rows() {
    static const std::vector<float> x = whole_rows(kN, kD, 1);
    return x;
}

std::unique_ptr<IndexIVFScaNN> index_of(Tier tier, float soar_lambda = 0) {
    auto index = filled({kL2, tier, soar_lambda}, rows(), kD, kLists);
    index->nprobe = 5;
    return index;
}

SearchPlan plan_of(
        const IndexIVFScaNN& index,
        const faiss::SearchParameters* params = nullptr,
        int64_t wanted = k,
        size_t nprobe_given = 0) {
    return faiss_ext::make_search_plan(
            index.state(),
            faiss_ext::search_defaults(index),
            wanted,
            params,
            nprobe_given,
            false);
}

TEST(SearchPlan, ParametersOfTheCallThenOfTheIndexThenDefaults) {
    auto index = index_of(Tier::Int8Raw);
    SearchPlan plan = plan_of(*index);
    EXPECT_EQ(plan.k, k);
    EXPECT_EQ(plan.nprobe, 5u);
    EXPECT_EQ(plan.scan_keep, 10u + 94u);   // k + 30 sqrt(k)
    EXPECT_EQ(plan.refine_keep, 10u + 18u); // k + 6 sqrt(k)
    index->refine_k = 200;
    index->reorder_k = 50;
    index->max_codes = 700;
    plan = plan_of(*index);
    EXPECT_EQ(plan.scan_keep, 200u);
    EXPECT_EQ(plan.refine_keep, 50u);
    EXPECT_EQ(plan.max_codes, 700u);
    SearchParametersScaNN params;
    params.nprobe = 7;
    params.reorder_k = 300;
    plan = plan_of(*index, &params);
    EXPECT_EQ(plan.nprobe, 7u);
    EXPECT_EQ(plan.refine_keep, 300u);
    EXPECT_EQ(plan.scan_keep, 300u) << "refined are at least those reranked";
    EXPECT_EQ(plan.max_codes, 0u);
}

TEST(SearchPlan, CalibratedNumbersGrowWithTheRootOfK) {
    auto index = index_of(Tier::Int8Raw);
    index->calibration = {.9f, 10, 5, 110, 30, .9f};
    SearchPlan plan = plan_of(*index);
    EXPECT_EQ(plan.scan_keep, 110u);
    EXPECT_EQ(plan.refine_keep, 30u);
    plan = plan_of(*index, nullptr, 40);
    EXPECT_EQ(plan.scan_keep, 40u + 2 * 100u);
    EXPECT_EQ(plan.refine_keep, 40u + 2 * 20u);
}

TEST(SearchPlan, TheScanKeepsWhatTheLayoutNeedsAndNoMoreThanThereIs) {
    EXPECT_EQ(plan_of(*index_of(Tier::Codes)).scan_keep, 10u + 5u + 8u);
    EXPECT_EQ(plan_of(*index_of(Tier::Raw)).scan_keep, 104u);
    EXPECT_EQ(plan_of(*index_of(Tier::Raw, 1)).scan_keep, 156u);
    auto raw = index_of(Tier::Raw);
    EXPECT_EQ(plan_of(*raw, nullptr, 2 * kN).scan_keep, kN);
    SearchParametersScaNN huge;
    huge.reorder_k = SIZE_MAX;
    EXPECT_EQ(plan_of(*raw, &huge).scan_keep, kN);
    EXPECT_EQ(plan_of(*index_of(Tier::Raw, 1), &huge).scan_keep, 2 * kN);
}

TEST(SearchPlan, DefaultsOfTheIndexBelowKAreRaisedToK) {
    auto index = index_of(Tier::Int8Raw);
    index->refine_k = 7;
    index->reorder_k = 5;
    SearchPlan plan = plan_of(*index);
    EXPECT_EQ(plan.scan_keep, k);
    EXPECT_EQ(plan.refine_keep, k);
    plan = plan_of(*index, nullptr, 6);
    EXPECT_EQ(plan.scan_keep, 7u);
    EXPECT_EQ(plan.refine_keep, 6u);
    SearchParametersScaNN params;
    params.reorder_k = 5; // what a call says itself is never changed
    EXPECT_NE(
            message_of([&] {
                plan_of(*index, &params);
            }).find("reorder_k = 5 is below k = 10"),
            std::string::npos);
}

TEST(SearchPlan, WrongValuesAreNamedWithWhatIsAllowed) {
    auto index = index_of(Tier::Int8Raw);
    auto expect_message = [&](const char* text, auto&& call) {
        std::string message = message_of(call);
        EXPECT_NE(message.find(text), std::string::npos) << message;
    };
    expect_message(
            "k = 0 (allowed: >= 1)", [&] { plan_of(*index, nullptr, 0); });
    SearchParametersScaNN params;
    params.nprobe = kLists + 1;
    expect_message("nprobe = 31 (allowed: 1..nlist = 30)", [&] {
        plan_of(*index, &params);
    });
    EXPECT_EQ(plan_of(*index, &params, k, 40).nprobe, 40u)
            << "lists that the caller chose may repeat";
    params.nprobe = 0;
    params.refine_k = 9;
    expect_message(
            "refine_k = 9 is below k = 10", [&] { plan_of(*index, &params); });
    params.refine_k = 0;
    params.reorder_k = 9;
    expect_message(
            "reorder_k = 9 is below k = 10", [&] { plan_of(*index, &params); });
    IndexIVFScaNN untrained(kD, kLists, kL2);
    EXPECT_NE(message_of([&] { plan_of(untrained); }), "");
}

TEST(SearchPlan, TheCallDecidesWhetherRowsAreTestedOrCodesRead) {
    faiss::IDSelectorRange half(0, kN / 2);
    SearchParametersScaNN filtered;
    filtered.sel = &half;
    for (Tier tier : {Tier::Codes, Tier::Int8, Tier::Raw}) {
        auto index = index_of(tier);
        EXPECT_EQ(plan_of(*index).route, Route::Scan);
        EXPECT_EQ(plan_of(*index, &filtered).route, Route::FilterThenScan);
        // codes of no use: only what else the lists keep can be read
        index->state().model.edit([](auto& model) { model.scan_rows = true; });
        EXPECT_EQ(
                plan_of(*index).route,
                tier == Tier::Codes ? Route::Scan : Route::RescorePassing);
        EXPECT_EQ(
                plan_of(*index, &filtered).route,
                tier == Tier::Codes ? Route::FilterThenScan
                                    : Route::RescorePassing);
        index->state().model.edit([](auto& model) { model.scan_rows = false; });
        EXPECT_EQ(
                faiss_ext::make_range_plan(
                        index->state(),
                        faiss_ext::search_defaults(*index),
                        &filtered,
                        0,
                        false)
                        .route,
                Route::RescorePassing);
    }
}

TEST(SearchPlan, TheDirectMapIsTakenWhereItKnowsTheFewRowsThatPass) {
    const std::vector<int64_t> ids = {3, 75, 700, int64_t(kN) + 5, -1};
    faiss::IDSelectorBatch few(ids.size(), ids.data());
    faiss::IDSelectorNot most(&few), few_unlisted(&most);
    faiss::IDSelectorRange half(0, kN / 2);
    auto index = index_of(Tier::Int8Raw);
    auto route_with = [&](faiss::IDSelector* sel, auto&&... more) {
        SearchParametersScaNN params;
        params.sel = sel;
        return plan_of(*index, &params, more...).route;
    };
    EXPECT_EQ(route_with(&few), Route::FilterThenScan) << "no map";
    index->set_direct_map_type(faiss::DirectMap::Hashtable);
    EXPECT_EQ(route_with(&few), Route::DirectMap);
    EXPECT_EQ(route_with(&half), Route::FilterThenScan);
    EXPECT_EQ(route_with(&most), Route::FilterThenScan);
    EXPECT_EQ(route_with(&few_unlisted), Route::FilterThenScan);
    EXPECT_EQ(route_with(nullptr), Route::Scan);
    EXPECT_EQ(route_with(&few, k, 5u), Route::FilterThenScan)
            << "the caller chose the lists";
    SearchParametersScaNN params;
    params.sel = &few;
    SearchPlan plan = plan_of(*index, &params);
    EXPECT_EQ(plan.places.size(), 3u) << "ids that exist";
    EXPECT_FALSE(plan.refine) << "raw rows decide";
    params.max_codes = 100;
    EXPECT_EQ(plan_of(*index, &params).route, Route::FilterThenScan);
    params.max_codes = 0;
    for (Tier tier : {Tier::Int8, Tier::Codes}) {
        index = index_of(tier);
        index->set_direct_map_type(faiss::DirectMap::Array);
        plan = plan_of(*index, &params);
        EXPECT_EQ(plan.refine, tier == Tier::Int8);
        EXPECT_EQ(
                plan.route,
                tier == Tier::Int8 ? Route::DirectMap : Route::FilterThenScan);
    }
}

TEST(Route, WithoutAFilterAllRowsAreRescoredIfAllWouldBeKept) {
    auto index = index_of(Tier::Raw);
    SearchPlan plan = plan_of(*index);
    ProbedRows lists;
    lists.all = plan.scan_keep;
    EXPECT_EQ(route_of(plan, lists), Route::RescorePassing);
    lists.all++;
    EXPECT_EQ(route_of(plan, lists), Route::Scan);
    lists.all = 1;
    plan = plan_of(*index_of(Tier::Codes));
    EXPECT_EQ(route_of(plan, lists), Route::Scan) << "nothing rescores them";
}

TEST(Route, WithAFilterTheRowsThatPassDecide) {
    faiss::IDSelectorRange half(0, kN / 2);
    SearchParametersScaNN params;
    params.sel = &half;
    auto index = index_of(Tier::Raw);
    const SearchPlan plan = plan_of(*index, &params);
    const size_t keep = plan.scan_keep;
    // all tested: rescoring 2 rows against scanning 3 blocks
    EXPECT_EQ(route_of(plan, {0, 0, 0, 0}), Route::RescorePassing);
    EXPECT_EQ(route_of(plan, {9000, 9000, keep, 9}), Route::RescorePassing);
    EXPECT_EQ(
            route_of(plan, {9000, 9000, keep + 150, 100}),
            Route::RescorePassing);
    EXPECT_EQ(
            route_of(plan, {9000, 9000, keep + 151, 100}),
            Route::FilterThenScan);
    // most pass: a fourth of the lists has enough
    ProbedRows lists{4000, 1000, 900, 32};
    EXPECT_TRUE(tested_enough(plan, lists));
    EXPECT_EQ(route_of(plan, lists), Route::ScanThenFilter);
    EXPECT_FALSE(tested_enough(plan, {3999, 1000, 900, 32})) << "short scan";
    EXPECT_FALSE(tested_enough(plan, {1000, 1000, 900, 32})) << "all tested";
    EXPECT_FALSE(tested_enough(plan, {4000, 1000, keep, 32})) << "few pass";
    // codes alone are never rescored instead
    const SearchPlan codes = plan_of(*index_of(Tier::Codes), &params);
    EXPECT_EQ(route_of(codes, {9000, 9000, 9, 9}), Route::FilterThenScan);
    EXPECT_TRUE(tested_enough(codes, {4000, 1000, 9, 32}));
}

/// What the call decided is not decided again.
TEST(Route, OtherRoutesStay) {
    auto index = index_of(Tier::Raw);
    SearchPlan plan = plan_of(*index);
    for (Route route : {Route::RescorePassing, Route::DirectMap}) {
        plan.route = route;
        EXPECT_EQ(route_of(plan, {4000, 1000, 900, 32}), route);
        EXPECT_FALSE(tested_enough(plan, {4000, 1000, 900, 32}));
    }
}

/// Rows by any share that passes, with and without a map: what raw rows say.
TEST(Route, EveryRouteGivesTheSameAnswers) {
    const std::vector<float> queries = whole_rows(15, kD, 2);
    auto index = index_of(Tier::Int8Raw);
    auto mapped = index_of(Tier::Int8Raw);
    mapped->set_direct_map_type(faiss::DirectMap::Array);
    for (size_t each : {1, 2, 10, 100, 1000}) {
        std::vector<int64_t> ids;
        for (size_t i = 0; i < kN; i += each) {
            ids.push_back(int64_t(i));
        }
        faiss::IDSelectorBatch sel(ids.size(), ids.data());
        SearchParametersScaNN params = exhaustive(*index);
        params.sel = &sel;
        const Hits expected = exact_search(kL2, kD, rows(), queries, k, &sel);
        EXPECT_TRUE(search(*index, queries, k, &params) == expected) << each;
        EXPECT_TRUE(search(*mapped, queries, k, &params) == expected) << each;
        // few enough that the scan has most lists to go where all rows pass
        params.refine_k = params.reorder_k = 80;
        EXPECT_TRUE(search(*index, queries, k, &params) == expected) << each;
        EXPECT_TRUE(search(*mapped, queries, k, &params) == expected) << each;
    }
}

} // namespace
