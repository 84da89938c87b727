/* Results of at most so many rows of a tag, against brute force; tags through all
 * that happens to rows. */

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index_factory.h>
#include <faiss_ext/index_io.h>
#include <faiss_ext/scann_iterator.h>

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <unordered_map>

#include <omp.h>

#include "fixtures/index_cases.h"
#include "fixtures/index_fixtures.h"

namespace {

using namespace fixtures;
using faiss_ext::ScaNNSearchStats;

constexpr size_t kD = 16;
constexpr size_t kN = 2000;
constexpr size_t kLists = 20;
constexpr size_t kQueries = 15;

const std::vector<float>& rows() {
    static const std::vector<float> x = whole_rows(kN, kD, 5);
    return x;
}

std::vector<float> queries() {
    return whole_rows(kQueries, kD, 6);
}

/// Tags in runs of `run` rows, not in order, and negative ones among them.
std::vector<int64_t> tags_of(size_t run, size_t n = kN) {
    std::vector<int64_t> tags(n);
    for (size_t i = 0; i < n; i++) {
        const auto group = int64_t(i / run);
        tags[i] = group % 3 == 0 ? -group : group * 1000003;
    }
    return tags;
}

std::unique_ptr<IndexIVFScaNN> filled(
        const std::string& description,
        faiss::MetricType metric,
        const std::vector<int64_t>& tags) {
    auto index = from_factory(kD, description, metric);
    index->train(kN, rows().data());
    index->add_rows(
            kN,
            rows().data(),
            faiss_ext::RowType::Float32,
            nullptr,
            tags.data());
    return index;
}

Hits search(
        const IndexIVFScaNN& index,
        size_t k,
        const SearchParametersScaNN& params) {
    return fixtures::search(index, queries(), k, &params);
}

/// All rows as candidates, in all lists.
SearchParametersScaNN all_of(const IndexIVFScaNN& index) {
    SearchParametersScaNN params;
    params.nprobe = index.nlist;
    params.refine_k = params.reorder_k = kN;
    return params;
}

/// Labels of the best rows of a query by brute force, -1 beyond.
std::vector<int64_t> best_groups(
        const std::vector<int64_t>& ranked,
        const std::vector<int64_t>& tags,
        size_t k,
        size_t max_per_group,
        size_t groups) {
    std::map<int64_t, size_t> counts;
    std::vector<int64_t> best;
    for (int64_t row : ranked) {
        if (row < 0 || best.size() == k) {
            break;
        }
        const int64_t tag = tags[size_t(row)];
        if (groups > 0 && counts.size() == groups && counts.count(tag) == 0) {
            continue;
        }
        if (counts[tag] < max_per_group) {
            counts[tag]++;
            best.push_back(row);
        }
    }
    best.resize(k, -1);
    return best;
}

struct GroupCase {
    const char* description;
    faiss::MetricType metric;
};

class GroupsTest : public testing::TestWithParam<GroupCase> {};

TEST_P(GroupsTest, AreThoseOfBruteForce) {
    const bool cosine = std::string(GetParam().description).find("normalize") !=
                        std::string::npos;
    const std::vector<float> base =
            cosine ? reference::normalized(rows(), kD) : rows();
    std::vector<int64_t> few;
    for (size_t i = 0; i < kN; i += 7) {
        few.push_back(int64_t(i));
    }
    const faiss::IDSelectorBatch seventh(few.size(), few.data());
    for (size_t run : {1ul, 4ul, 400ul, kN}) {
        const std::vector<int64_t> tags = tags_of(run);
        auto index = filled(GetParam().description, GetParam().metric, tags);
        for (const faiss::IDSelector* sel :
             std::initializer_list<const faiss::IDSelector*>{
                     nullptr, &seventh}) {
            const Hits ranked = exact_search(
                    GetParam().metric, kD, base, queries(), kN, sel);
            for (size_t k : {1ul, 10ul, 60ul}) {
                for (size_t most : {1ul, 3ul}) {
                    for (size_t groups : {0ul, 4ul}) {
                        SearchParametersScaNN params = all_of(*index);
                        params.max_per_group = most;
                        params.groups = groups;
                        params.sel = const_cast<faiss::IDSelector*>(sel);
                        const Hits found = search(*index, k, params);
                        for (size_t q = 0; q < kQueries; q++) {
                            const auto of = ranked.labels.begin() + q * kN;
                            const auto mine = found.labels.begin() + q * k;
                            EXPECT_EQ(
                                    std::vector<int64_t>(mine, mine + k),
                                    best_groups(
                                            {of, of + kN},
                                            tags,
                                            k,
                                            most,
                                            groups))
                                    << "run " << run << " k " << k << " most "
                                    << most << " groups " << groups;
                        }
                    }
                }
            }
        }
    }
}

TEST_P(GroupsTest, OfTheDefaultsAreNearThose) {
    const std::vector<int64_t> tags = tags_of(4);
    auto index = filled(GetParam().description, GetParam().metric, tags);
    index->nprobe = kLists;
    SearchParametersScaNN params;
    params.max_per_group = 1;
    SearchParametersScaNN all = all_of(*index);
    all.max_per_group = 1;
    EXPECT_GE(
            recall(search(*index, 10, params), search(*index, 10, all), 10),
            .98);
}

INSTANTIATE_TEST_SUITE_P(
        Kinds,
        GroupsTest,
        testing::Values(
                GroupCase{"IVF20,ScaNN(tags=1),RFlat", kL2},
                GroupCase{"IVF20,ScaNN(tags=1),RFlat", kIP},
                GroupCase{"IVF20,ScaNN(tags=1),SQ8,RFlat", kL2},
                GroupCase{"IVF20,ScaNN(tags=1,soar_lambda=1),RFlat", kL2},
                GroupCase{"IVF20,ScaNN(tags=1,normalize=1),RFlat", kIP}),
        [](const auto& info) {
            std::string name = info.param.description;
            name += info.param.metric == kIP ? "IP" : "L2";
            std::erase_if(name, [](char c) { return !std::isalnum(c); });
            return name;
        });

// ---- one query and many, threads, statistics ----

TEST(GroupsTest, DoNotDependOnThreadsOrBatches) {
    auto index = filled("IVF20,ScaNN(tags=1),RFlat", kL2, tags_of(4));
    SearchParametersScaNN params;
    params.nprobe = 5;
    params.max_per_group = 2;
    ScaNNSearchStats stats;
    params.stats = &stats;
    const int before = omp_get_max_threads();
    omp_set_num_threads(1);
    const Hits one = search(*index, 10, params);
    EXPECT_EQ(stats.nq, kQueries);
    EXPECT_EQ(stats.lists, 5 * kQueries);
    EXPECT_GT(stats.reranked, 10 * kQueries);
    omp_set_num_threads(3);
    EXPECT_TRUE(search(*index, 10, params) == one);
    omp_set_num_threads(before);
    const std::vector<float> x = queries();
    for (size_t q = 0; q < kQueries; q++) {
        std::vector<float> distances(10);
        std::vector<int64_t> labels(10);
        index->search(
                1, &x[q * kD], 10, distances.data(), labels.data(), &params);
        const auto mine = one.labels.begin() + q * 10;
        EXPECT_EQ(labels, std::vector<int64_t>(mine, mine + 10));
    }
}

TEST(GroupsTest, ComeFromTheListsThatASearchVisits) {
    // one tag: a single row, and no reason to look further
    auto index = filled("IVF20,ScaNN(tags=1),RFlat", kL2, tags_of(kN));
    SearchParametersScaNN params;
    params.nprobe = 2;
    params.max_per_group = 1;
    ScaNNSearchStats stats;
    params.stats = &stats;
    const Hits found = search(*index, 5, params);
    EXPECT_EQ(stats.lists, 2 * 2 * kQueries) << "of a search, and once more";
    params.max_per_group = 0;
    const Hits plain = search(*index, 5, params);
    for (size_t q = 0; q < kQueries; q++) {
        EXPECT_EQ(found.labels[q * 5], plain.labels[q * 5]);
        EXPECT_EQ(found.distances[q * 5], plain.distances[q * 5]);
        EXPECT_EQ(found.labels[q * 5 + 1], -1);
    }
}

// ---- tags ----

std::vector<int64_t> all_tags(const IndexIVFScaNN& index) {
    std::vector<int64_t> ids(size_t(index.ntotal)), tags(ids.size());
    std::iota(ids.begin(), ids.end(), 0);
    index.get_tags(index.ntotal, ids.data(), tags.data());
    return tags;
}

TEST(TagsTest, StayWithTheirRows) {
    std::vector<int64_t> tags = tags_of(4);
    for (auto map :
         {faiss::DirectMap::NoMap,
          faiss::DirectMap::Array,
          faiss::DirectMap::Hashtable}) {
        auto index = filled(
                "IVF20,ScaNN(tags=1,soar_lambda=1),SQ8,RFlat", kL2, tags);
        index->set_direct_map_type(map);
        EXPECT_EQ(all_tags(*index), tags);
        std::vector<int64_t> ids = {7, 3, 1999};
        index->update_vectors(3, ids.data(), rows().data());
        EXPECT_EQ(all_tags(*index), tags) << "updated";
        const std::vector<int64_t> others = {-1, INT64_MIN, INT64_MAX};
        index->set_tags(3, ids.data(), others.data());
        std::vector<int64_t> wanted = tags;
        for (size_t i = 0; i < 3; i++) {
            wanted[size_t(ids[i])] = others[i];
        }
        EXPECT_EQ(all_tags(*index), wanted) << "set";
        index->state().fit.list_error = 0; // as if rows had drifted
        index->state().fit.changed = kN;
        index->maintain();
        EXPECT_EQ(all_tags(*index), wanted) << "maintained";
        const faiss::IDSelectorRange last(kN - 500, kN);
        index->remove_ids(last);
        wanted.resize(kN - 500);
        EXPECT_EQ(all_tags(*index), wanted) << "after removals";
        // rows without tags
        std::vector<int64_t> more(500);
        std::iota(more.begin(), more.end(), int64_t(kN) - 500);
        index->add_with_ids(500, rows().data(), more.data());
        wanted.resize(kN, 0);
        EXPECT_EQ(all_tags(*index), wanted) << "added without tags";
    }
}

TEST(TagsTest, GoIntoFilesClonesAndOtherIndexes) {
    cases::Directory directory;
    const std::vector<int64_t> tags = tags_of(4);
    auto index = filled("IVF20,ScaNN(tags=1),SQ8,RFlat", kL2, tags);
    const std::string file = directory.file("index");
    faiss_ext::write_index(index.get(), file);
    faiss_ext::ReadBounds bounds;
    bounds.memory = 1 << 20;
    std::vector<std::unique_ptr<faiss::Index>> others;
    others.emplace_back(faiss_ext::clone_index(index.get()));
    others.emplace_back(faiss_ext::read_index(file));
    others.emplace_back(faiss_ext::read_index(file, faiss_ext::ReadMode::Mmap));
    others.emplace_back(faiss_ext::read_index(file, bounds));
    SearchParametersScaNN params = all_of(*index);
    params.max_per_group = 1;
    const Hits found = search(*index, 10, params);
    for (const auto& other : others) {
        IndexIVFScaNN& scann = *faiss_ext::find_scann(other.get());
        EXPECT_TRUE(scann.options.with_tags);
        EXPECT_EQ(all_tags(scann), tags);
        EXPECT_TRUE(search(scann, 10, params) == found);
    }
    IndexIVFScaNN& mapped = *faiss_ext::find_scann(others[2].get());
    const int64_t id = 5, tag = 77;
    mapped.set_tags(1, &id, &tag);
    EXPECT_EQ(all_tags(mapped)[5], 77);
    EXPECT_EQ(all_tags(*index)[5], tags[5]);

    IndexIVFScaNN& into = *faiss_ext::find_scann(others[0].get());
    into.merge_from(*index, kN);
    std::vector<int64_t> twice = tags;
    twice.insert(twice.end(), tags.begin(), tags.end());
    EXPECT_EQ(all_tags(into), twice);
    auto empty = std::unique_ptr<faiss::Index>(faiss_ext::clone_index(&into));
    empty->reset();
    IndexIVFScaNN& subset = *faiss_ext::find_scann(empty.get());
    into.copy_subset_to(subset, faiss_ext::SubsetType(0), 0, kN);
    EXPECT_EQ(all_tags(subset), tags);
}

TEST(TagsTest, WrongOnesChangeNothing) {
    const std::vector<int64_t> tags = tags_of(4);
    auto index = filled("IVF20,ScaNN(tags=1),RFlat", kL2, tags);
    const std::vector<int64_t> values = {1, 2};
    for (const std::vector<int64_t>& ids :
         {std::vector<int64_t>{3, 3}, std::vector<int64_t>{3, 5000}}) {
        EXPECT_THROW(
                index->set_tags(2, ids.data(), values.data()),
                faiss::FaissException);
    }
    EXPECT_EQ(all_tags(*index), tags);
    auto plain = from_factory(kD, "IVF20,ScaNN,RFlat", kL2);
    plain->train(kN, rows().data());
    EXPECT_THROW(
            plain->add_rows(
                    kN,
                    rows().data(),
                    faiss_ext::RowType::Float32,
                    nullptr,
                    tags.data()),
            faiss::FaissException);
    EXPECT_EQ(plain->ntotal, 0);
    plain->add(kN, rows().data());
    const int64_t id = 1;
    EXPECT_THROW(plain->set_tags(1, &id, values.data()), faiss::FaissException);
    SearchParametersScaNN params;
    params.max_per_group = 1;
    EXPECT_THROW(search(*plain, 3, params), faiss::FaissException);
    params.target_recall = .9f;
    EXPECT_THROW(search(*index, 3, params), faiss::FaissException);
    params.target_recall = 0;
    params.max_codes = 100;
    EXPECT_THROW(search(*index, 3, params), faiss::FaissException);
    params.max_codes = 0;
    const std::vector<float> x = queries();
    EXPECT_THROW(index->iterate(x.data(), 5, &params), faiss::FaissException);
    faiss::RangeSearchResult result(1);
    EXPECT_THROW(
            index->range_search(1, x.data(), 1, &result, &params),
            faiss::FaissException);
    params.max_per_group = 0;
    params.groups = 2;
    EXPECT_THROW(search(*index, 3, params), faiss::FaissException);
}

} // namespace
