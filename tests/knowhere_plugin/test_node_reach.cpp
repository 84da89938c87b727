/* How far searches of SCANN look where nothing says so: range searches as far
 * as there are hits, iterators to the end, searches of small segments nearly
 * everywhere. With nprobe: as far as it says. */

#include <numeric>

#include "fixtures/node_fixtures.h"
#include "fixtures/words.h"

using namespace node_tests;

namespace {

constexpr int64_t kFound = 10;

struct Data {
    std::string name;
    int64_t d;
    std::vector<float> rows, queries;
};

Data split(std::string name, std::vector<float> x, int64_t n, int64_t d) {
    std::vector<float> queries(x.begin() + n * d, x.end());
    x.resize(size_t(n * d));
    return {std::move(name), d, std::move(x), std::move(queries)};
}

Data clustered(int64_t n, int64_t queries) {
    constexpr int64_t d = 64;
    return split(
            "clustered",
            random_rows::clustered(size_t(n + queries), d, {300, 5}, 5),
            n,
            d);
}

Data uniform(int64_t n, int64_t queries) {
    constexpr int64_t d = 48;
    return split(
            "uniform",
            random_rows::uniform(size_t((n + queries) * d), 6),
            n,
            d);
}

/// The most frequent words; queries are words behind them.
Data frequent_words(int64_t n, int64_t queries) {
    return split(
            "words",
            words::where([&](size_t i) { return int64_t(i) < n + queries; }),
            n,
            int64_t(words::kD));
}

faiss::MetricType metric_of(const std::string& metric) {
    return metric == "L2" ? faiss::METRIC_L2 : faiss::METRIC_INNER_PRODUCT;
}

reference::Hits truth(const Data& data, const std::string& metric, size_t k) {
    bool unit = metric == "COSINE";
    auto prepared = [&](const std::vector<float>& x) {
        return unit ? reference::normalized(x, size_t(data.d)) : x;
    };
    return reference::exact_search(
            metric_of(metric),
            size_t(data.d),
            prepared(data.rows),
            prepared(data.queries),
            k);
}

int64_t count_of(const std::vector<float>& x, const Data& data) {
    return int64_t(x.size()) / data.d;
}

NodePtr built(const Data& data, Config config) {
    NodePtr node = create("SCANN");
    Status status = node->Build(
            {count_of(data.rows, data), data.d, data.rows.data()}, config);
    EXPECT_TRUE(status.ok()) << status.message;
    return node;
}

DataSet queries_of(const Data& data, int64_t n = -1) {
    return {n < 0 ? count_of(data.queries, data) : n,
            data.d,
            data.queries.data()};
}

std::string text(double value) {
    char out[40];
    snprintf(out, sizeof(out), "%.9g", value);
    return out;
}

class Reach : public testing::TestWithParam<const char*> {
 protected:
    std::string metric() const {
        return GetParam();
    }
    bool l2() const {
        return metric() == "L2";
    }
};

TEST_P(Reach, RangeSearchesFindAllWithinTheRadius) {
    constexpr int64_t n = 12000, kWide = 3000;
    for (const Data& data : {clustered(n, 5), frequent_words(n, 5)}) {
        auto want = truth(data, metric(), kWide);
        NodePtr node = built(data, {{"metric_type", metric()}});
        for (int64_t hits : {3, 100, 2000}) {
            for (int64_t q = 0; q < 5; q++) {
                // between two distances, so that rounding does not matter
                const float* of_query = &want.distances[q * kWide];
                double radius = (of_query[hits - 1] + of_query[hits]) / 2.0;
                auto found = node->RangeSearch(
                        {1, data.d, &data.queries[q * data.d]},
                        {{"radius", text(radius)}});
                ASSERT_TRUE(found.ok()) << found.status().message;
                std::set<int64_t> got(
                        found.value().ids,
                        found.value().ids + found.value().lims[1]);
                EXPECT_NEAR(double(got.size()), double(hits), 2)
                        << data.name << " " << q;
                int64_t lost = 0;
                for (int64_t i = 0; i < hits; i++) {
                    lost += !got.count(want.labels[q * kWide + i]);
                }
                EXPECT_LE(lost, 1) << data.name << " " << hits;
            }
        }
    }
}

/// From codes alone there are no bounds: all lists.
TEST_P(Reach, RangeSearchesOfCodesVisitAllLists) {
    const Data data = frequent_words(6000, 1);
    Config config = {
            {"metric_type", metric()},
            {"with_raw_data", "false"},
            {"refine_type", "int8"}};
    NodePtr node = built(data, config);
    auto all = node->RangeSearch(
            queries_of(data), {{"radius", l2() ? "1e30" : "-1e30"}});
    ASSERT_TRUE(all.ok()) << all.status().message;
    EXPECT_EQ(all.value().lims[1], 6000u);
}

TEST_P(Reach, RangeSearchesWithNprobeVisitThatMany) {
    const Data data = clustered(6000, 1);
    NodePtr node = built(data, {{"metric_type", metric()}, {"nlist", "100"}});
    size_t before = 0;
    for (const char* nprobe : {"1", "8", "100"}) {
        auto found = node->RangeSearch(
                queries_of(data),
                {{"radius", l2() ? "1e30" : "-1e30"}, {"nprobe", nprobe}});
        ASSERT_TRUE(found.ok()) << found.status().message;
        EXPECT_GT(found.value().lims[1], before);
        before = found.value().lims[1];
    }
    EXPECT_EQ(before, 6000u);
}

/// What is kept for range searches does not outlive a change.
TEST_P(Reach, RangeSearchesFindRowsAddedSince) {
    const Data data = clustered(6000, 1);
    NodePtr node = built(data, {{"metric_type", metric()}});
    Config config = {{"radius", l2() ? "1000" : metric() == "IP" ? "1" : ".1"}};
    auto before = node->RangeSearch(queries_of(data), config);
    ASSERT_TRUE(before.ok());
    std::vector<float> far(data.queries); // in no list's bounds so far
    for (float& value : far) {
        value *= 3;
    }
    ASSERT_TRUE(node->Add({1, data.d, far.data()}, {}).ok());
    auto after = node->RangeSearch({1, data.d, far.data()}, config);
    ASSERT_TRUE(after.ok());
    std::set<int64_t> ids(
            after.value().ids, after.value().ids + after.value().lims[1]);
    EXPECT_EQ(ids.count(6000), 1u);
}

TEST_P(Reach, FilteredRangeSearchesFindWhatPasses) {
    const Data data = clustered(6000, 1);
    NodePtr node = built(data, {{"metric_type", metric()}});
    std::vector<uint8_t> bits(750, 0xF0);
    auto found = node->RangeSearch(
            queries_of(data),
            {{"radius", l2() ? "1e30" : "-1e30"}},
            BitsetView(bits.data(), 6000));
    ASSERT_TRUE(found.ok());
    EXPECT_EQ(found.value().lims[1], 3000u);
}

TEST_P(Reach, SearchesForManyFindAsMany) {
    const Data data = frequent_words(20000, 1);
    NodePtr node = built(data, {{"metric_type", metric()}});
    for (int64_t k : {1000, 5000, 16384}) {
        auto want = truth(data, metric(), size_t(k));
        auto found = node->Search(queries_of(data), {{"k", std::to_string(k)}});
        ASSERT_TRUE(found.ok()) << found.status().message;
        std::set<int64_t> got(found.value().ids, found.value().ids + k);
        ASSERT_EQ(got.count(-1), 0u) << k;
        int64_t hits = 0;
        for (int64_t label : want.labels) {
            hits += int64_t(got.count(label));
        }
        EXPECT_GT(hits, .95 * double(k)) << k;
    }
    // what nprobe says holds
    auto few =
            node->Search(queries_of(data), {{"k", "16384"}, {"nprobe", "8"}});
    ASSERT_TRUE(few.ok());
    EXPECT_EQ(few.value().ids[16383], -1);
}

TEST_P(Reach, IteratorsComeToTheEnd) {
    constexpr int64_t n = 9000;
    const Data data = frequent_words(n, 1);
    NodePtr node = built(data, {{"metric_type", metric()}});
    auto made = node->AnnIterator(queries_of(data), {});
    ASSERT_TRUE(made.ok()) << made.status().message;
    std::set<int64_t> seen;
    while (made.value()[0]->HasNext().value()) {
        seen.insert(made.value()[0]->Next().value().first);
    }
    EXPECT_EQ(seen.size(), size_t(n));
}

/// The first k rows are as good as those of a search for k, and cost as much.
TEST_P(Reach, IteratorsFindWhatSearchesFind) {
    constexpr int64_t n = 20000, kRows = 1000;
    const Data data = frequent_words(n, 5);
    NodePtr node = built(data, {{"metric_type", metric()}});
    auto want = truth(data, metric(), kRows);
    auto found = node->Search(queries_of(data), {{"k", std::to_string(kRows)}});
    auto made = node->AnnIterator(queries_of(data), {});
    ASSERT_TRUE(made.ok()) << made.status().message;
    int64_t searched = 0, iterated = 0;
    for (int64_t q = 0; q < 5; q++) {
        const int64_t* exact = &want.labels[q * kRows];
        const int64_t* of_search = found.value().ids + q * kRows;
        std::set<int64_t> one(of_search, of_search + kRows), other;
        for (int64_t i = 0; i < kRows; i++) {
            other.insert(made.value()[q]->Next().value().first);
        }
        for (int64_t i = 0; i < kRows; i++) {
            searched += int64_t(one.count(exact[i]));
            iterated += int64_t(other.count(exact[i]));
        }
    }
    EXPECT_GE(double(iterated), .98 * double(searched));
}

/// Another index in the same node is not what the iterator has begun with.
TEST_P(Reach, IteratorsEndWhenTheIndexIsReplaced) {
    const Data data = frequent_words(3000, 1);
    NodePtr node = built(data, {{"metric_type", metric()}});
    auto made = node->AnnIterator(queries_of(data), {});
    ASSERT_TRUE(made.value()[0]->Next().ok());
    ASSERT_TRUE(node->Build({3000, data.d, data.rows.data()},
                            {{"metric_type", metric()}})
                        .ok());
    Status status;
    while (status.ok()) {
        status = made.value()[0]->Next().status();
    }
    EXPECT_NE(status.message.find("built or loaded anew"), std::string::npos)
            << status.message;
}

/// Pages as Milvus makes them: a search, then range searches that begin where
/// the page before ended.
TEST_P(Reach, PagesOfRangesComeToTheEnd) {
    constexpr int64_t n = 9000, kPage = 500;
    const Data data = frequent_words(n, 1);
    NodePtr node = built(data, {{"metric_type", metric()}});
    auto page = node->Search(queries_of(data), {{"k", std::to_string(kPage)}});
    ASSERT_TRUE(page.ok());
    std::set<int64_t> seen(page.value().ids, page.value().ids + kPage);
    double last = page.value().distance[kPage - 1];
    double first = page.value().distance[0];
    double width = last - first;
    for (int64_t pages = 0; pages < 200 && seen.size() < size_t(n); pages++) {
        auto next = node->RangeSearch(
                queries_of(data),
                {{"range_filter", text(last)}, {"radius", text(last + width)}});
        ASSERT_TRUE(next.ok()) << next.status().message;
        seen.insert(next.value().ids, next.value().ids + next.value().lims[1]);
        last += width;
    }
    // but for what the first page, a search by codes, may have passed over
    EXPECT_GE(seen.size(), size_t(n - 2));
}

TEST_P(Reach, DefaultsFindNearlyAllInSmallSegments) {
    for (int64_t n : {2049, 5000, 20000}) {
        for (const Data& data :
             {clustered(n, 100), uniform(n, 100), frequent_words(n, 100)}) {
            auto want = truth(data, metric(), kFound);
            NodePtr node = built(data, {{"metric_type", metric()}});
            auto found = node->Search(queries_of(data), {});
            ASSERT_TRUE(found.ok()) << found.status().message;
            int64_t hits = 0;
            for (int64_t q = 0; q < 100; q++) {
                const int64_t* ids = found.value().ids + q * kFound;
                std::set<int64_t> got(ids, ids + kFound);
                for (int64_t i = 0; i < kFound; i++) {
                    hits += int64_t(got.count(want.labels[q * kFound + i]));
                }
            }
            EXPECT_GE(double(hits) / (100 * kFound), .95)
                    << data.name << " " << n;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(
        Metrics,
        Reach,
        testing::Values("L2", "IP", "COSINE"),
        [](const auto& info) { return std::string(info.param); });

} // namespace
