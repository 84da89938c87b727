/* Rows that the codes say nothing of: some far out, added after training, or
 * all, where the codes rank badly. And lists that hold nothing. */

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include <faiss_ext/wrappers/clone.h>
#include <faiss_ext/index_io.h>
#include <faiss_ext/model/index_state.h>

#include "fixtures/index_cases.h"
#include "fixtures/index_fixtures.h"
#include "fixtures/lists_model.h"

namespace {

using namespace fixtures;
using faiss_ext::ReadMode;

constexpr size_t kD = 16, kN = 1500, kFar = 8, kLists = 16, k = 10;

/// Far from all rows, and from one another, in whole numbers.
std::vector<float> far_rows() {
    std::mt19937 random(5);
    std::vector<float> x(kFar * kD);
    for (float& value : x) {
        value = random() % 2 ? 3000 : -3000;
    }
    return x;
}

std::vector<int64_t> far_ids() {
    std::vector<int64_t> ids(kFar);
    std::iota(ids.begin(), ids.end(), int64_t(kN));
    return ids;
}

/// `apart` of the lists is what the terms say. @return entries apart
size_t count_apart(const IndexIVFScaNN& index) {
    size_t count = 0;
    for (auto* lists :
         {index.state().lists.get(), index.state().spilled.get()}) {
        for (size_t l = 0; lists != nullptr && l < lists->nlist; l++) {
            const auto apart = lists_model::apart_of(*lists, l);
            EXPECT_EQ(
                    apart,
                    lists_model::apart_by_terms(*lists, lists->layout(), l));
            count += lists == index.state().lists.get() ? apart.size() : 0;
        }
    }
    return count;
}

SearchParametersScaNN with(size_t nprobe, faiss::IDSelector* sel = nullptr) {
    SearchParametersScaNN params;
    params.nprobe = nprobe;
    params.sel = sel;
    return params;
}

class Outliers : public testing::TestWithParam<Kind> {
 protected:
    bool l2() const {
        return GetParam().metric == kL2;
    }
    /// Trained on ordinary rows, with none.
    std::unique_ptr<IndexIVFScaNN> empty() const {
        const IndexIVFScaNN& master = *made_once(GetParam().name(), [&] {
            return trained(GetParam(), rows_, kD, kLists);
        });
        auto index = trained_like(master);
        index->set_direct_map_type(faiss::DirectMap::Hashtable);
        return index;
    }
    std::unique_ptr<IndexIVFScaNN> ordinary() const {
        auto index = empty();
        index->add(kN, rows_.data());
        return index;
    }
    std::unique_ptr<IndexIVFScaNN> with_far() const {
        auto index = ordinary();
        index->add_with_ids(kFar, far_.data(), far_ids().data());
        return index;
    }
    /// Queries at far rows find these under the ids, and first.
    void expect_found(
            const faiss::Index& index,
            const std::vector<int64_t>& ids,
            const faiss::SearchParameters* params = nullptr) const {
        Hits hits = search(index, far_, 1, params);
        EXPECT_EQ(hits.labels, ids);
        for (size_t i = 0; i < kFar; i++) {
            float largest = 9e6f * kD;
            EXPECT_NEAR(hits.distances[i] / largest, l2() ? 0 : 1, 0.002);
        }
    }

    const std::vector<float> rows_ = whole_rows(kN, kD, 1);
    const std::vector<float> queries_ = whole_rows(40, kD, 2);
    const std::vector<float> far_ = far_rows();
};

TEST_P(Outliers, AreFoundByQueriesAtThemselves) {
    auto index = with_far();
    EXPECT_EQ(count_apart(*index), kFar);
    EXPECT_TRUE(index->notes().empty());
    expect_found(*index, far_ids());
    if (l2()) { // inner product: other lists may come first
        SearchParametersScaNN params = with(1);
        expect_found(*index, far_ids(), &params);
    }
    for (size_t i = 0; i < kFar; i++) { // one by one, too
        std::vector<float> query(&far_[i * kD], &far_[i * kD] + kD);
        EXPECT_EQ(search(*index, query, 1).labels[0], far_ids()[i]);
        std::vector<float> row(kD);
        index->reconstruct(far_ids()[i], row.data());
        for (size_t j = 0; j < kD; j++) {
            EXPECT_NEAR(row[j], query[j], 20);
        }
    }
}

TEST_P(Outliers, DoNotDisturbOthers) {
    auto before = ordinary(), after = with_far();
    EXPECT_EQ(count_apart(*before), 0);
    for (size_t nprobe : {size_t(2), kLists}) {
        SearchParametersScaNN params = with(nprobe);
        Hits expected = search(*before, queries_, k, &params);
        if (l2()) {
            EXPECT_EQ(search(*after, queries_, k, &params), expected);
        }
        faiss::IDSelectorRange ordinary_ids(0, kN);
        params.sel = &ordinary_ids;
        EXPECT_EQ(search(*after, queries_, k, &params), expected);
    }
    // all rows: far ones where they belong
    auto all = rows_;
    all.insert(all.end(), far_.begin(), far_.end());
    Hits exact = exact_search(GetParam().metric, kD, all, queries_, k);
    SearchParametersScaNN params = exhaustive(*after);
    Hits hits = search(*after, queries_, k, &params);
    if (after->options.with_raw_data) {
        EXPECT_EQ(hits, exact);
    } else {
        EXPECT_GE(recall(hits, exact, k), 0.95);
    }
    params = with(kLists);
    EXPECT_GE(recall(search(*after, queries_, k, &params), exact, k), 0.95);
}

TEST_P(Outliers, ObeyFilters) {
    auto index = with_far();
    auto ids = far_ids();
    for (auto map : {faiss::DirectMap::Hashtable, faiss::DirectMap::NoMap}) {
        index->set_direct_map_type(map);
        faiss::IDSelectorRange only_far(kN, kN + kFar), others(0, kN);
        SearchParametersScaNN params = with(kLists, &only_far);
        expect_found(*index, ids, &params);
        Hits hits = search(*index, queries_, kFar + 2, &params);
        for (size_t q = 0; q < queries_.size() / kD; q++) {
            auto begin = hits.labels.begin() + q * (kFar + 2);
            EXPECT_EQ(
                    std::set<int64_t>(begin, begin + kFar),
                    std::set<int64_t>(ids.begin(), ids.end()));
            EXPECT_EQ(begin[kFar], -1);
        }
        params = with(kLists, &others);
        for (int64_t label : search(*index, far_, k, &params).labels) {
            EXPECT_TRUE(label >= 0 && label < int64_t(kN));
        }
        // some of them, among many others
        faiss::IDSelectorRange some(100, kN + 3);
        params = with(kLists, &some);
        hits = search(*index, far_, 1, &params);
        for (size_t i = 0; i < kFar; i++) {
            EXPECT_EQ(hits.labels[i] == ids[i], i < 3);
            EXPECT_LT(hits.labels[i], int64_t(kN) + 3);
        }
    }
}

TEST_P(Outliers, AreRemoved) {
    auto index = with_far();
    auto before = ordinary();
    std::vector<int64_t> removed = {kN + 1, kN + 4, kN + 7};
    index->remove_ids(faiss::IDSelectorBatch(3, removed.data()));
    EXPECT_EQ(count_apart(*index), kFar - 3);
    Hits hits = search(*index, far_, 1);
    for (size_t i = 0; i < kFar; i++) {
        EXPECT_EQ(hits.labels[i] == int64_t(kN + i), i % 3 != 1);
    }
    index->remove_ids(faiss::IDSelectorRange(kN, kN + kFar));
    EXPECT_EQ(count_apart(*index), 0);
    EXPECT_EQ(search(*index, queries_, k), search(*before, queries_, k));
    // rows before them: they move
    index = with_far();
    index->remove_ids(faiss::IDSelectorRange(0, kN - 100));
    EXPECT_EQ(count_apart(*index), kFar);
    expect_found(*index, far_ids());
}

TEST_P(Outliers, AreUpdated) {
    auto index = with_far(), before = ordinary();
    // far rows and ordinary ones change places
    std::vector<int64_t> ids = far_ids(), others(kFar);
    for (size_t i = 0; i < kFar; i++) {
        others[i] = 10 * i;
    }
    std::vector<float> moved(kFar * kD);
    for (size_t i = 0; i < kFar; i++) {
        std::copy_n(&rows_[others[i] * kD], kD, &moved[i * kD]);
    }
    index->update_vectors(kFar, ids.data(), moved.data());
    EXPECT_EQ(count_apart(*index), 0);
    index->update_vectors(kFar, others.data(), far_.data());
    EXPECT_EQ(count_apart(*index), kFar);
    expect_found(*index, others);
    index->update_vectors(kFar, ids.data(), far_.data());
    index->update_vectors(kFar, others.data(), moved.data());
    EXPECT_EQ(count_apart(*index), kFar);
    expect_found(*index, ids);
}

TEST_P(Outliers, AreMergedAndCopied) {
    auto expected = with_far();
    auto a = ordinary();
    a->set_direct_map_type(faiss::DirectMap::NoMap);
    auto b = trained_like(*a);
    b->add_with_ids(kFar, far_.data(), far_ids().data());
    EXPECT_EQ(count_apart(*b), kFar);
    a->merge_from(*b, 0);
    EXPECT_EQ(count_apart(*a), kFar);
    EXPECT_EQ(count_apart(*b), 0);
    expect_found(*a, far_ids());
    EXPECT_EQ(search(*a, queries_, k), search(*expected, queries_, k));

    a->copy_subset_to(*b, faiss_ext::SubsetType(0), 1000, kN + kFar);
    EXPECT_EQ(count_apart(*b), kFar);
    expect_found(*b, far_ids());
    auto none = trained_like(*a);
    a->copy_subset_to(*none, faiss_ext::SubsetType(0), 0, kN);
    EXPECT_EQ(count_apart(*none), 0);

    auto clone = faiss_ext::clone_scann(*a);
    EXPECT_EQ(count_apart(*clone), kFar);
    a->reset();
    expect_found(*clone, far_ids());
    EXPECT_EQ(search(*clone, queries_, k), search(*expected, queries_, k));
}

TEST_P(Outliers, AreWrittenAndRead) {
    cases::Directory directory;
    std::string path = directory.file("far.scann");
    auto index = with_far();
    faiss_ext::write_index(index.get(), path);
    for (ReadMode mode : {ReadMode::Copy, ReadMode::Mmap}) {
        cases::IndexPtr read(faiss_ext::read_index(path, mode));
        auto scann = faiss_ext::find_scann(read.get());
        EXPECT_EQ(count_apart(*scann), kFar);
        expect_found(*read, far_ids());
        EXPECT_EQ(search(*read, queries_, k), search(*index, queries_, k));
        // and can be changed
        scann->remove_ids(faiss::IDSelectorRange(kN, kN + 2));
        EXPECT_EQ(count_apart(*scann), kFar - 2);
        std::vector<int64_t> ids = {kN, kN + 1};
        scann->add_with_ids(2, far_.data(), ids.data());
        EXPECT_EQ(count_apart(*scann), kFar);
        expect_found(*read, far_ids());
    }
}

TEST_P(Outliers, ManyOfThemAreNoted) {
    auto index = ordinary();
    std::vector<float> many;
    for (size_t i = 0; i < 20; i++) {
        many.insert(many.end(), far_.begin(), far_.end());
    }
    index->add_with_ids(
            20 * kFar,
            many.data(),
            std::vector<int64_t>(20 * kFar, 5000).data());
    ASSERT_EQ(index->notes().size(), 1);
    EXPECT_NE(index->notes()[0].find("160 of 1660"), std::string::npos)
            << index->notes()[0];
}

INSTANTIATE_TEST_SUITE_P(
        Kinds,
        Outliers,
        testing::ValuesIn([] {
            std::vector<Kind> kinds;
            for (auto metric : {kIP, kL2}) {
                for (Tier tier : {Tier::Raw, Tier::Int8, Tier::Int8Raw}) {
                    kinds.push_back({metric, tier, 0});
                    kinds.push_back({metric, tier, 1});
                }
            }
            return kinds;
        }()),
        kind_name);

// ---- codes that rank badly ----

/// Clusters of deviation .01 and 50 in turn.
std::vector<float> two_scales(size_t n, int seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> centres = clustered_rows(20, kD, 3), x(n * kD);
    for (size_t i = 0; i < n; i++) {
        size_t centre = random() % 20;
        for (size_t j = 0; j < kD; j++) {
            float deviation = centre % 2 ? 50 : .01f;
            x[i * kD + j] =
                    100 * centres[centre * kD + j] + deviation * normal(random);
        }
    }
    return x;
}

/// Distances of both, and labels where these are clear.
void expect_same_hits(const Hits& hits, const Hits& exact) {
    size_t same = 0;
    for (size_t i = 0; i < exact.labels.size(); i++) {
        EXPECT_NEAR(
                hits.distances[i],
                exact.distances[i],
                1e-4 * std::abs(exact.distances[i]));
        same += hits.labels[i] == exact.labels[i];
    }
    EXPECT_GE(double(same), 0.99 * exact.labels.size());
}

TEST(BadCodes, AllRowsAreRescored) {
    constexpr size_t n = 6000, nlist = 20;
    auto x = two_scales(n, 1), queries = two_scales(300, 2);
    for (float lambda : {0.f, 1.f}) {
        auto index = filled({kL2, Tier::Raw, lambda}, x, kD, nlist);
        ASSERT_TRUE(index->state().model->scan_rows)
                << index->state().model->trial_recall;
        ASSERT_GE(index->notes().size(), 1);
        EXPECT_NE(index->notes()[0].find("rescored"), std::string::npos);
        faiss_ext::ScaNNSearchStats stats;
        SearchParametersScaNN params = with(nlist);
        params.stats = &stats;
        Hits hits = search(*index, queries, k, &params);
        EXPECT_EQ(stats.reranked, 300 * n);
        expect_same_hits(hits, exact_search(kL2, kD, x, queries, k));
        for (size_t q = 0; q < 20; q++) { // batches do not matter
            std::vector<float> query(&queries[q * kD], &queries[q * kD] + kD);
            Hits alone = search(*index, query, k, &params);
            EXPECT_TRUE(std::equal(
                    alone.labels.begin(),
                    alone.labels.end(),
                    hits.labels.begin() + q * k));
        }
        for (size_t end : {n / 2, size_t(700), size_t(40), size_t(5)}) {
            faiss::IDSelectorRange some(0, end);
            params.sel = &some;
            expect_same_hits(
                    search(*index, queries, k, &params),
                    exact_search(kL2, kD, x, queries, k, &some));
        }
        cases::Directory directory;
        faiss_ext::write_index(index.get(), directory.file("a.scann"));
        cases::IndexPtr read(faiss_ext::read_index(directory.file("a.scann")));
        params.sel = nullptr;
        EXPECT_EQ(search(*read, queries, k, &params), hits);
        EXPECT_EQ(faiss_ext::find_scann(read.get())->notes(), index->notes());
        auto clone = faiss_ext::clone_scann(*index);
        EXPECT_TRUE(clone->state().model->scan_rows);
        EXPECT_EQ(clone->notes(), index->notes());
    }
    // without rows nothing can be rescored
    auto codes = filled({kL2, Tier::Codes}, x, kD, nlist);
    EXPECT_FALSE(codes->state().model->scan_rows);
    EXPECT_TRUE(codes->notes().empty());
}

TEST(BadCodes, OrdinaryRowsHaveNoNotes) {
    for (const Kind& kind : all_kinds()) {
        auto x = clustered_rows(2000, kD, 4);
        IndexIVFScaNN untrained(
                kD, 20, kind.metric, tier_options(kind.tier, kind.soar_lambda));
        EXPECT_TRUE(untrained.notes().empty());
        auto index = filled(kind, x, kD, 20);
        EXPECT_TRUE(index->notes().empty())
                << kind.name() << ": " << index->notes()[0];
    }
}

// ---- empty lists ----

TEST(EmptyLists, AreNoProbes) {
    constexpr size_t kMany = 100, kFew = 5;
    auto x = whole_rows(kN, kD, 1), queries = whole_rows(150, kD, 2);
    for (const Kind& kind : all_kinds()) {
        SCOPED_TRACE(kind.name());
        auto index = trained(kind, x, kD, kMany);
        SearchParametersScaNN params = with(3);
        for (int64_t label : search(*index, queries, 2, &params).labels) {
            EXPECT_EQ(label, -1);
        }
        index->add(kFew, x.data());
        std::set<int64_t> all;
        for (size_t i = 0; i < kFew; i++) {
            all.insert(int64_t(i));
        }
        params = with(1);
        for (int64_t label : search(*index, queries, 1, &params).labels) {
            EXPECT_GE(label, 0);
        }
        const bool spilled = index->state().spilled != nullptr;
        const size_t enough = spilled ? 2 * kFew : kFew;
        params = with(enough);
        Hits hits = search(*index, queries, kFew, &params);
        for (size_t q = 0; q < queries.size() / kD; q++) {
            auto begin = hits.labels.begin() + q * kFew;
            EXPECT_EQ(std::set<int64_t>(begin, begin + kFew), all);
        }
        faiss::RangeSearchResult result(queries.size() / kD);
        index->range_search(
                queries.size() / kD,
                queries.data(),
                kind.metric == kL2 ? kLargest : -kLargest,
                &result,
                &params);
        for (size_t q = 0; q < queries.size() / kD; q++) {
            auto begin = result.labels + result.lims[q];
            EXPECT_EQ(
                    std::set<int64_t>(
                            begin, result.labels + result.lims[q + 1]),
                    all);
        }
        // more than there are
        params = with(kMany);
        EXPECT_EQ(search(*index, queries, kFew, &params).labels, hits.labels);
    }
}

} // namespace
