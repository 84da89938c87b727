/* Searches in pieces: each row once, in the end all that pass, and after k rows
 * those of one search for k. */

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index_io.h>
#include <faiss_ext/scann_iterator.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "fixtures/index_cases.h"
#include "fixtures/index_fixtures.h"

namespace {

using namespace fixtures;
using faiss_ext::ScaNNIterator;
using faiss_ext::ScaNNSearchStats;

constexpr size_t kD = 16;
constexpr size_t kN = 3000;
constexpr size_t kLists = 30;
constexpr size_t kQueries = 8;
constexpr size_t kProbes = 6;

/// Rows of an iterator, at most `most`; checks each batch.
Hits taken(
        ScaNNIterator& rows,
        faiss::MetricType metric,
        size_t most = SIZE_MAX) {
    Hits all;
    const size_t batch = rows.batch();
    std::vector<float> distances(batch);
    std::vector<int64_t> labels(batch);
    while (all.labels.size() < most) {
        const size_t n = rows.next(distances.data(), labels.data());
        EXPECT_LE(n, batch);
        for (size_t i = 0; i < batch; i++) {
            EXPECT_EQ(labels[i] == -1, i >= n);
        }
        for (size_t i = 1; i < n; i++) {
            EXPECT_TRUE(
                    metric == kL2 ? distances[i - 1] <= distances[i]
                                  : distances[i - 1] >= distances[i]);
        }
        all.labels.insert(all.labels.end(), labels.begin(), labels.begin() + n);
        all.distances.insert(
                all.distances.end(), distances.begin(), distances.begin() + n);
        if (n < batch) {
            EXPECT_EQ(rows.next(distances.data(), labels.data()), 0u);
            break;
        }
    }
    return all;
}

std::vector<int64_t> sorted(std::vector<int64_t> labels) {
    std::sort(labels.begin(), labels.end());
    return labels;
}

std::vector<int64_t> every(size_t step) {
    std::vector<int64_t> ids;
    for (size_t i = 0; i < kN; i += step) {
        ids.push_back(int64_t(i));
    }
    return ids;
}

/// One index of each kind, of whole rows; built once.
class IterateTest : public testing::TestWithParam<Kind> {
 protected:
    IterateTest()
            : index_(*made_once(GetParam().name(), [] {
                  auto index = filled(GetParam(), rows(), kD, kLists);
                  index->nprobe = kProbes;
                  return index;
              })) {}

    static const std::vector<float>& rows() {
        static const std::vector<float> x = whole_rows(kN, kD, 1);
        return x;
    }
    static const std::vector<float>& queries() {
        static const std::vector<float> q = whole_rows(kQueries, kD, 2);
        return q;
    }
    static const float* query(size_t q) {
        return queries().data() + q * kD;
    }
    Hits taken_of(
            size_t q,
            int64_t batch,
            const faiss::SearchParameters* params = nullptr,
            size_t most = SIZE_MAX) const {
        return taken(
                *index_.iterate(query(q), batch, params),
                index_.metric_type,
                most);
    }

    IndexIVFScaNN& index_;
};

TEST_P(IterateTest, EveryRowComesOnce) {
    const std::vector<int64_t> all = every(1);
    for (int64_t batch : {1, 7, 100, 1000, int(kN), 2 * int(kN)}) {
        for (size_t nprobe : {size_t(1), kProbes, kLists}) {
            SearchParametersScaNN params;
            params.nprobe = nprobe;
            Hits hits = taken_of(batch % kQueries, batch, &params);
            ASSERT_EQ(sorted(hits.labels), all) << batch << " " << nprobe;
        }
    }
}

TEST_P(IterateTest, EveryRowThatPassesComesOnce) {
    for (size_t step : {1, 2, 10, 97, 1500, int(kN)}) {
        const std::vector<int64_t> ids = every(step);
        const std::vector<uint8_t> bits = bitmap_of(kN, ids);
        faiss::IDSelectorBitmap bitmap(bits.size(), bits.data());
        faiss::IDSelectorBatch set(ids.size(), ids.data());
        for (faiss::IDSelector* sel :
             {static_cast<faiss::IDSelector*>(&bitmap),
              static_cast<faiss::IDSelector*>(&set)}) {
            SearchParametersScaNN params;
            params.sel = sel;
            for (int64_t batch : {9, 250}) {
                Hits hits = taken_of(step % kQueries, batch, &params);
                ASSERT_EQ(sorted(hits.labels), ids) << step << " " << batch;
            }
        }
    }
    faiss::IDSelectorRange none(5, 5);
    SearchParametersScaNN params;
    params.sel = &none;
    EXPECT_TRUE(taken_of(0, 10, &params).labels.empty());
}

/// Few rows pass, and the direct map has their places.
TEST_P(IterateTest, RowsOfTheDirectMapComeOnce) {
    index_.set_direct_map_type(faiss::DirectMap::Hashtable);
    const std::vector<int64_t> ids = every(500);
    faiss::IDSelectorBatch set(ids.size(), ids.data());
    SearchParametersScaNN params;
    params.sel = &set;
    Hits hits = taken_of(1, 4, &params);
    EXPECT_EQ(sorted(hits.labels), ids);
    index_.set_direct_map_type(faiss::DirectMap::NoMap);
}

/// The first k rows in pieces are as good as those of one search for k.
TEST_P(IterateTest, PiecesHaveTheRecallOfOneSearch) {
    for (size_t k : {50, 200, 500}) {
        Hits exact = exact_search(index_.metric_type, kD, rows(), queries(), k);
        Hits whole = search(index_, queries(), k);
        Hits pieces;
        for (size_t q = 0; q < kQueries; q++) {
            Hits some = taken_of(q, k / 10, nullptr, k);
            pieces.labels.insert(
                    pieces.labels.end(),
                    some.labels.begin(),
                    some.labels.end());
        }
        ASSERT_EQ(pieces.labels.size(), k * kQueries);
        EXPECT_GE(recall(pieces, exact, k), recall(whole, exact, k) - .01) << k;
    }
}

/// The first batch is that of a search for as many.
TEST_P(IterateTest, TheFirstBatchIsASearch) {
    SearchParametersScaNN params;
    params.nprobe = kLists;
    for (size_t k : {10, 300}) {
        Hits whole = search(index_, queries(), k, &params);
        for (size_t q = 0; q < kQueries; q++) {
            Hits first = taken_of(q, int64_t(k), &params, k);
            EXPECT_TRUE(std::equal(
                    first.labels.begin(),
                    first.labels.end(),
                    whole.labels.begin() + q * k))
                    << q;
            EXPECT_TRUE(std::equal(
                    first.distances.begin(),
                    first.distances.end(),
                    whole.distances.begin() + q * k))
                    << q;
        }
    }
}

TEST_P(IterateTest, AllListsAndAllCandidatesComeInOrder) {
    if (!index_.options.with_raw_data) {
        GTEST_SKIP() << "approximate scores";
    }
    SearchParametersScaNN params = exhaustive(index_);
    Hits exact = exact_search(
            index_.metric_type, kD, rows(), {query(0), query(1)}, kN);
    Hits hits = taken_of(0, 111, &params);
    EXPECT_EQ(hits.distances, exact.distances);
    EXPECT_EQ(sorted(hits.labels), every(1));
}

TEST_P(IterateTest, ChangesAreErrorsAndLoseNothing) {
    auto index = filled(GetParam(), rows(), kD, kLists);
    std::vector<float> distances(50);
    std::vector<int64_t> labels(50), ids = {3};
    faiss::IDSelectorRange some(10, 12);
    auto change = [&](auto&& work) {
        auto rows_left = index->iterate(query(0), 50);
        EXPECT_EQ(rows_left->next(distances.data(), labels.data()), 50u);
        EXPECT_FALSE(rows_left->stale());
        work();
        EXPECT_TRUE(rows_left->stale());
        const std::vector<int64_t> before = labels;
        EXPECT_NE(
                message_of([&] {
                    rows_left->next(distances.data(), labels.data());
                }).find("make another"),
                std::string::npos);
        EXPECT_EQ(labels, before);
    };
    change([&] { index->remove_ids(some); });
    change([&] { index->update_vectors(1, ids.data(), query(1)); });
    change([&] { index->add(1, query(2)); });
    EXPECT_EQ(
            taken(*index->iterate(query(0), 50), index->metric_type)
                    .labels.size(),
            kN - 1);
    auto other = trained_like(*index);
    other->add(1, query(3));
    change([&] { index->merge_from(*other, 0); });
    change([&] { index->reset(); });
}

TEST_P(IterateTest, TheEndOfTheIndexIsAnError) {
    auto index = filled(GetParam(), rows(), kD, kLists);
    auto left = index->iterate(query(0), 5);
    float distances[5];
    int64_t labels[5];
    left->next(distances, labels);
    index.reset();
    EXPECT_TRUE(left->stale());
    EXPECT_NE(
            message_of([&] { left->next(distances, labels); }).find("is gone"),
            std::string::npos);
}

/// What leaves the rows as they are leaves iterators as they are.
TEST_P(IterateTest, OtherCallsAreNoChange) {
    Hits want = taken_of(0, 40);
    auto left = index_.iterate(query(0), 40);
    std::vector<float> distances(40);
    std::vector<int64_t> labels(40);
    left->next(distances.data(), labels.data());
    search(index_, queries(), 10);
    index_.add(0, nullptr);
    index_.set_direct_map_type(faiss::DirectMap::Hashtable);
    index_.set_direct_map_type(faiss::DirectMap::NoMap);
    index_.nprobe = 1;
    Hits rest = taken(*left, index_.metric_type);
    index_.nprobe = kProbes;
    EXPECT_TRUE(std::equal(
            rest.labels.begin(), rest.labels.end(), want.labels.begin() + 40));
}

TEST_P(IterateTest, CountsWhatItDoes) {
    ScaNNSearchStats stats;
    SearchParametersScaNN params;
    params.stats = &stats;
    taken_of(0, 100, &params);
    EXPECT_EQ(stats.nq, 1u);
    EXPECT_EQ(stats.lists, kLists);
    EXPECT_GE(stats.codes, kN);
    if (index_.options.with_raw_data) {
        EXPECT_EQ(stats.reranked, kN);
    }
}

INSTANTIATE_TEST_SUITE_P(
        Kinds,
        IterateTest,
        testing::ValuesIn(all_kinds()),
        kind_name);

TEST(Iterate, RefusesWhatItCannotDo) {
    auto index = filled({kL2, Tier::Raw}, whole_rows(500, kD, 1), kD, 5);
    const std::vector<float> x(kD);
    auto message = [&](int64_t batch, const SearchParametersScaNN& params) {
        return message_of([&] { index->iterate(x.data(), batch, &params); });
    };
    SearchParametersScaNN params;
    for (int64_t batch : {INT64_MIN, int64_t(-1), int64_t(0)}) {
        EXPECT_NE(
                message(batch, params).find("(allowed: >= 1)"),
                std::string::npos);
    }
    params.max_codes = 100;
    EXPECT_NE(message(10, params).find("max_codes = 100"), std::string::npos);
    params = {};
    params.nprobe = 6;
    EXPECT_NE(message(10, params).find("nprobe = 6"), std::string::npos);
    params = {};
    params.reorder_k = 9;
    EXPECT_NE(message(10, params).find("reorder_k = 9"), std::string::npos);
    std::vector<float> infinite(kD, INFINITY);
    EXPECT_NE(message_of([&] { index->iterate(infinite.data()); }), "");
    IndexIVFScaNN untrained(kD, 5);
    EXPECT_NE(message_of([&] { untrained.iterate(x.data()); }), "");
}

TEST(Iterate, HugeBatchesAndCandidatesAreFine) {
    auto index = filled({kL2, Tier::Int8Raw}, whole_rows(500, kD, 1), kD, 5);
    const std::vector<float> x(kD);
    SearchParametersScaNN params;
    params.reorder_k = params.refine_k = SIZE_MAX;
    EXPECT_EQ(
            taken(*index->iterate(x.data(), 10, &params), kL2).labels.size(),
            500u);
}

TEST(Iterate, OfAnEmptyIndexIsAtItsEnd) {
    auto index = trained({kIP, Tier::Int8}, whole_rows(500, kD, 1), kD, 5);
    const std::vector<float> x(kD, 1);
    EXPECT_TRUE(taken(*index->iterate(x.data()), kIP).labels.empty());
}

/// Files: mapped, and with rows on demand; other quantizers; rows apart; codes
/// that rank nothing.
TEST(Iterate, EveryKindOfIndex) {
    const cases::Directory directory;
    for (const cases::Case& c : cases::all()) {
        cases::IndexPtr made = cases::build(c);
        auto scann = faiss_ext::find_scann(made.get());
        if (!c.train || !c.add) {
            continue;
        }
        const std::string path = directory.file("index");
        faiss_ext::write_index(made.get(), path);
        const std::vector<float> x = cases::rows(1, size_t(scann->d), 3);
        const Hits want =
                taken(*scann->iterate(x.data(), 33), scann->metric_type);
        EXPECT_EQ(want.labels.size(), cases::kRows) << c.description;
        EXPECT_EQ(
                std::set(want.labels.begin(), want.labels.end()).size(),
                cases::kRows)
                << c.description;
        for (const auto& bounds :
             {faiss_ext::ReadBounds{}, faiss_ext::ReadBounds{1 << 20}}) {
            cases::IndexPtr opened(
                    bounds.memory == 0
                            ? faiss_ext::read_index(
                                      path, faiss_ext::ReadMode::Mmap)
                            : faiss_ext::read_index(path, bounds));
            auto other = faiss_ext::find_scann(opened.get());
            EXPECT_TRUE(
                    taken(*other->iterate(x.data(), 33), scann->metric_type) ==
                    want)
                    << c.description << " " << bounds.memory;
        }
    }
}

/// Rows unlike those of the training have no useful codes.
TEST(Iterate, RowsKeptApartComeOnce) {
    const std::vector<float> x = clustered_rows(2000, kD, 1);
    std::vector<float> wild = clustered_rows(300, kD, 2);
    for (float& value : wild) {
        value *= 100;
    }
    for (float lambda : {0.f, 1.f}) {
        for (Tier tier : {Tier::Int8, Tier::Int8Raw}) {
            auto index = trained({kL2, tier, lambda}, x, kD, 20);
            index->add(2000, x.data());
            index->add(300, wild.data());
            index->nprobe = 2;
            Hits hits = taken(*index->iterate(wild.data(), 50), kL2);
            EXPECT_EQ(hits.labels.size(), 2300u);
            EXPECT_EQ(
                    std::set(hits.labels.begin(), hits.labels.end()).size(),
                    2300u);
        }
    }
}

/// The codes of uniform rows rank nothing: all rows of the lists are rescored.
TEST(Iterate, RowsThatAreRescoredComeOnce) {
    const std::vector<float> x = clustered_rows(1500, kD, 1);
    auto index = filled({kL2, Tier::Int8Raw}, x, kD, 15);
    index->state().model.edit([](auto& model) { model.scan_rows = true; });
    index->nprobe = 2;
    EXPECT_EQ(
            std::set<int64_t>([&] {
                Hits hits = taken(*index->iterate(x.data(), 64), kL2);
                EXPECT_EQ(hits.labels.size(), 1500u);
                return std::set(hits.labels.begin(), hits.labels.end());
            }())
                    .size(),
            1500u);
}

} // namespace
