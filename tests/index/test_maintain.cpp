/* Maintenance: rows keep their values and ids, recall comes back after drift, what
 * cannot be done at once is done later, and nothing happens without need. */

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index_factory.h>
#include <faiss_ext/index_io.h>
#include <faiss_ext/lists/copy_places.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <stdexcept>

#include <omp.h>

#include "fixtures/drift.h"
#include "fixtures/index_cases.h"

namespace {

using namespace drift;
using faiss_ext::ScaNNHealth;
using faiss_ext::ScaNNMaintenance;

/// Recall@10 of 200 rows around those of the index, with so many probes.
double recall_at(const IndexIVFScaNN& index, size_t nprobe) {
    constexpr size_t kQueries = 200;
    constexpr size_t k = 10;
    const std::vector<float> noise = clustered_rows(kQueries, kD, 4);
    std::vector<float> x(kQueries * kD);
    for (size_t i = 0; i < x.size(); i++) {
        const size_t row = (i / kD) * (kN / kQueries);
        x[i] = rows()[row * kD + i % kD] + noise[i] / 8;
    }
    SearchParametersScaNN params;
    params.nprobe = nprobe;
    const bool cosine = index.options.normalize;
    const Hits truth = exact_search(
            index.metric_type,
            kD,
            cosine ? reference::normalized(rows(), kD) : rows(),
            x,
            k);
    return recall(search(index, x, k, &params), truth, k);
}

/// Each row once, with its value, its place in the map, and its copy.
/// @param settled  no list waits for its turn: copies are where they belong
void expect_in_order(IndexIVFScaNN& index, float error, bool settled = true) {
    const faiss_ext::IndexState& state = index.state();
    std::vector<float> x(kD);
    size_t count = 0;
    for (size_t l = 0; l < index.nlist; l++) {
        for (size_t i = 0; i < index.invlists->list_size(l); i++, count++) {
            const int64_t id = index.invlists->get_single_id(l, i);
            index.reconstruct_from_offset(l, i, x.data());
            for (size_t j = 0; j < kD; j++) {
                ASSERT_NEAR(x[j], rows()[size_t(id) * kD + j], error)
                        << "row " << id;
            }
            if (!index.direct_map.no()) {
                ASSERT_EQ(
                        uint64_t(index.direct_map.get(id)),
                        faiss::lo_build(l, i));
            }
        }
    }
    ASSERT_EQ(count, kN);
    ASSERT_EQ(size_t(index.ntotal), kN);
    if (state.spilled != nullptr) {
        // throws if a copy has no row, or a row two
        const faiss_ext::CopyPlaces places(*state.lists, *state.spilled);
        size_t copies = 0;
        for (size_t l = 0; l < index.nlist; l++) {
            copies += state.spilled->list_size(l);
        }
        std::vector<int64_t> lists(kN), second(kN);
        state.partition->assign_both(
                kN,
                rows().data(),
                index.options.soar_lambda,
                lists.data(),
                second.data());
        const size_t none =
                size_t(std::count(second.begin(), second.end(), -1));
        EXPECT_NEAR(
                double(copies), double(kN - none), (settled ? .05 : .5) * kN);
    }
}

struct DriftCase {
    const char* description;
    faiss::MetricType metric;
    float error; ///< of reconstruct
};

class MaintainTest : public testing::TestWithParam<DriftCase> {};

TEST_P(MaintainTest, KeepsEachRowAndItsValue) {
    const DriftCase& c = GetParam();
    for (auto map :
         {faiss::DirectMap::NoMap,
          faiss::DirectMap::Array,
          faiss::DirectMap::Hashtable}) {
        auto index = from_factory(kD, c.description, c.metric);
        index->train(kTenth, rows().data());
        index->set_direct_map_type(map);
        index->add(kN, rows().data());
        if (map == faiss::DirectMap::Hashtable) { // copies have a map then
            std::vector<int64_t> ids = {5, 1, 4000};
            std::vector<float> x;
            for (int64_t id : ids) {
                x.insert(x.end(), &rows()[id * kD], &rows()[id * kD] + kD);
            }
            index->update_vectors(3, ids.data(), x.data());
        }
        EXPECT_GT(index->maintain().rows, kN / 2);
        expect_in_order(*index, c.error);
        EXPECT_EQ(index->maintain().rows, 0u) << "done";
    }
}

TEST_P(MaintainTest, BringsRecallBack) {
    const DriftCase& c = GetParam();
    auto index = drifted(c.description, c.metric);
    auto fresh = rebuilt(c.description, c.metric);
    const double before = recall_at(*index, 4);
    const double reference = recall_at(*fresh, 4);
    index->maintain();
    const double after = recall_at(*index, 4);
    // of 200 queries, and lists of random starts
    EXPECT_GE(after, reference - .03) << "before: " << before;
    const double imbalance = index->health().imbalance;
    EXPECT_LE(imbalance, 1.3 * fresh->health().imbalance);
}

TEST_P(MaintainTest, PartsGiveTheSameListsAsOneCall) {
    const DriftCase& c = GetParam();
    auto whole = drifted(c.description, c.metric);
    auto parts = drifted(c.description, c.metric);
    whole->maintain();
    size_t calls = 0;
    for (bool finished = false; !finished; calls++) {
        ASSERT_LT(calls, 100u);
        const ScaNNMaintenance done = parts->maintain(kN / 8);
        EXPECT_LE(done.rows, kN) << "a step at a time";
        finished = done.finished;
        expect_in_order(*parts, c.error, finished);
        EXPECT_EQ(parts->health().pending_lists > 0, !finished);
    }
    EXPECT_GT(calls, 1u);
    if (c.error == 0) { // else rows that moved twice have other values
        EXPECT_EQ(ids_of_lists(*parts), ids_of_lists(*whole));
    }
}

TEST_P(MaintainTest, DoesNotDependOnThreads) {
    const DriftCase& c = GetParam();
    auto index = drifted(c.description, c.metric);
    auto other = drifted(c.description, c.metric);
    const int before = omp_get_max_threads();
    omp_set_num_threads(1);
    index->maintain();
    omp_set_num_threads(3);
    other->maintain();
    omp_set_num_threads(before);
    EXPECT_EQ(ids_of_lists(*index), ids_of_lists(*other));
}

TEST_P(MaintainTest, DoesNothingWithoutDrift) {
    auto index = rebuilt(GetParam().description, GetParam().metric);
    const Lists before = ids_of_lists(*index);
    const ScaNNMaintenance done = index->maintain();
    EXPECT_EQ(done.rows, 0u);
    EXPECT_TRUE(done.finished);
    EXPECT_EQ(ids_of_lists(*index), before);
    EXPECT_TRUE(index->health().advice.empty());
}

TEST_P(MaintainTest, DoesAShareOfWhatIsAdded) {
    const DriftCase& c = GetParam();
    auto plain = drifted(c.description, c.metric);
    std::string description = c.description;
    const size_t open = description.find('(');
    open == std::string::npos
            ? description.insert(
                      description.find("ScaNN") + 5, "(auto_maintain=1)")
            : description.insert(open + 1, "auto_maintain=1,");
    auto kept = drifted(description, c.metric);
    EXPECT_EQ(kept->options.auto_maintain, 1);
    expect_in_order(*kept, c.error);
    const double before = plain->health().imbalance;
    EXPECT_LT(kept->health().imbalance, .8 * before) << before;
    kept->maintain();
    expect_in_order(*kept, c.error);
}

INSTANTIATE_TEST_SUITE_P(
        Kinds,
        MaintainTest,
        testing::Values(
                DriftCase{"IVF48,ScaNN,RFlat", kL2, 0},
                DriftCase{"IVF48,ScaNN,RFlat", kIP, 0},
                DriftCase{"IVF48,ScaNN,SQ8", kL2, 3},
                DriftCase{"IVF48,ScaNN(soar_lambda=1),RFlat", kL2, 0},
                DriftCase{"IVF48,ScaNN(soar_lambda=1),SQ8,RFlat", kIP, 0},
                DriftCase{"IVF48,ScaNN(normalize=1),RFlat", kIP, 0},
                DriftCase{
                        "IVF48,ScaNN(score_aware_centroids=1),RFlat",
                        kIP,
                        0}),
        [](const auto& info) {
            std::string name = info.param.description;
            name += info.param.metric == kIP ? "IP" : "L2";
            std::erase_if(name, [](char c) { return !std::isalnum(c); });
            return name;
        });

// ---- what else a call may meet ----

TEST(MaintainTest, DriftCostsRecallHere) {
    // or BringsRecallBack would show nothing
    auto index = drifted("IVF48,ScaNN,RFlat");
    auto fresh = rebuilt("IVF48,ScaNN,RFlat");
    EXPECT_LT(recall_at(*index, 4), recall_at(*fresh, 4) - .05);
    EXPECT_GT(index->health().imbalance, 2 * fresh->health().imbalance);
}

TEST(MaintainTest, StopsBetweenTwoSteps) {
    auto index = drifted("IVF48,ScaNN,RFlat");
    size_t calls = 0;
    index->progress = [&](const char* stage, size_t, size_t) {
        if (std::string(stage) == "maintain" && calls++ == 1) {
            throw std::runtime_error("stop");
        }
    };
    EXPECT_THROW(index->maintain(), std::runtime_error);
    index->progress = nullptr;
    expect_in_order(*index, 0);
    EXPECT_GT(index->health().pending_lists, 0u);
    index->maintain();
    EXPECT_EQ(index->health().pending_lists, 0u);
    expect_in_order(*index, 0);
}

TEST(MaintainTest, GoesOnAmongOtherChanges) {
    auto index = from_factory(kD, "IVF48,ScaNN(soar_lambda=1),RFlat", kL2);
    index->train(kTenth, rows().data());
    index->add(kN - kTenth, rows().data());
    index->maintain(100);
    ASSERT_GT(index->health().pending_lists, 0u);
    index->add(kTenth, &rows()[(kN - kTenth) * kD]);
    std::vector<int64_t> ids(500);
    std::iota(ids.begin(), ids.end(), 100);
    index->update_vectors(500, ids.data(), &rows()[100 * kD]);
    index->maintain(100);
    expect_in_order(*index, 0);
    index->maintain();
    expect_in_order(*index, 0);
    index->reset();
    EXPECT_EQ(index->maintain().rows, 0u);
    index->add(kN, rows().data());
    expect_in_order(*index, 0);
}

TEST(MaintainTest, GivesMemoryBack) {
    auto index = drifted("IVF48,ScaNN,SQ8,RFlat");
    index->maintain();
    auto fresh = rebuilt("IVF48,ScaNN,SQ8,RFlat");
    EXPECT_LE(
            double(index->memory_usage()), 1.3 * double(fresh->memory_usage()));
}

TEST(MaintainTest, FilesAndClonesKnowOfTheFit) {
    cases::Directory directory;
    auto index = drifted("IVF48,ScaNN(auto_maintain=.5),RFlat");
    const ScaNNHealth before = index->health();
    EXPECT_EQ(before.changed_rows, kN);
    faiss_ext::write_index(index.get(), directory.file("index"));
    std::unique_ptr<faiss::Index> read(
            faiss_ext::read_index(directory.file("index")));
    std::unique_ptr<faiss::Index> clone(faiss_ext::clone_index(index.get()));
    for (const faiss::Index* other : {read.get(), clone.get()}) {
        const IndexIVFScaNN& scann = *faiss_ext::find_scann(other);
        const ScaNNHealth same = scann.health();
        EXPECT_EQ(same.list_error_at_fit, before.list_error_at_fit);
        EXPECT_EQ(same.code_error_at_training, before.code_error_at_training);
        EXPECT_EQ(same.imbalance_at_fit, before.imbalance_at_fit);
        EXPECT_EQ(same.changed_rows, before.changed_rows);
        EXPECT_EQ(same.list_error, before.list_error);
        EXPECT_EQ(same.code_error, before.code_error);
        EXPECT_EQ(scann.options.auto_maintain, .5f);
    }
    EXPECT_GT(faiss_ext::find_scann(read.get())->maintain().rows, 0u);
}

TEST(MaintainTest, RowsBeyondTheSquareRootOfFloatsCanBeWritten) {
    for (float scale : {1e-30f, 1e30f}) {
        std::vector<float> x = rows();
        for (float& value : x) {
            value *= scale;
        }
        auto index = from_factory(kD, "IVF48,ScaNN,RFlat", kL2);
        index->train(kTenth, x.data());
        index->add(kN, x.data());
        index->maintain();
        (void)index->health();
        cases::Directory directory;
        faiss_ext::write_index(index.get(), directory.file("index"));
        std::unique_ptr<faiss::Index> read(
                faiss_ext::read_index(directory.file("index")));
        EXPECT_EQ(read->ntotal, int64_t(kN));
    }
}

TEST(MaintainTest, FewRowsInManyListsAreLeftAlone) {
    auto index = from_factory(kD, "IVF48,ScaNN(auto_maintain=1),RFlat", kL2);
    index->train(kTenth, rows().data());
    for (size_t i = 0; i < 60; i++) {
        index->add(1, &rows()[(i < 30 ? 0 : i) * kD]);
        index->maintain();
    }
    EXPECT_EQ(index->ntotal, 60);
    EXPECT_EQ(index->health().pending_lists, 0u);
}

TEST(MaintainTest, ListsOfOneRepeatedRowStayWhole) {
    auto index = from_factory(kD, "IVF8,ScaNN(auto_maintain=1),RFlat", kL2);
    index->train(kTenth, rows().data());
    index->add(kTenth, rows().data());
    std::vector<float> same;
    for (size_t i = 0; i < 2000; i++) {
        same.insert(same.end(), rows().begin(), rows().begin() + kD);
    }
    index->add(2000, same.data());
    index->maintain();
    EXPECT_EQ(size_t(index->ntotal), kTenth + 2000);
    const std::vector<size_t> sizes = [&] {
        std::vector<size_t> all;
        for (const auto& ids : ids_of_lists(*index)) {
            all.push_back(ids.size());
        }
        return all;
    }();
    EXPECT_GE(*std::max_element(sizes.begin(), sizes.end()), 2000u);
}

TEST(MaintainTest, RefusesWhatItCannotChange) {
    cases::Directory directory;
    const auto expect_refused = [](faiss::Index& index, const char* words) {
        EXPECT_NE(
                cases::message_of([&] {
                    faiss_ext::find_scann(&index)->maintain();
                }).find(words),
                std::string::npos)
                << words;
    };
    auto codes = drifted("IVF48,ScaNN");
    expect_refused(*codes, "raw rows or refine codes");
    EXPECT_TRUE(std::isnan(codes->health().code_error));
    auto index = drifted("IVF48,ScaNN,RFlat");
    faiss_ext::write_index(index.get(), directory.file("index"));
    std::unique_ptr<faiss::Index> mapped(faiss_ext::read_index(
            directory.file("index"), faiss_ext::ReadMode::Mmap));
    expect_refused(*mapped, "mapped from a file");
    index->own_fields = false;
    expect_refused(*index, "own_fields");
    index->own_fields = true;
    auto graph = from_factory(kD, "IVF48_HNSW8,ScaNN,RFlat", kL2);
    graph->train(kN, rows().data());
    graph->add(kN, rows().data());
    expect_refused(*graph, "IndexFlat");
    EXPECT_GT(graph->health().list_error, 0);
    auto untrained = from_factory(kD, "IVF48,ScaNN,RFlat", kL2);
    expect_refused(*untrained, "not trained");
    EXPECT_THROW(untrained->health(), faiss::FaissException);
    for (double seconds : {-1., std::nan("")}) {
        EXPECT_THROW(index->maintain(0, seconds), faiss::FaissException);
    }
    EXPECT_THROW(
            from_factory(kD, "IVF8,ScaNN(auto_maintain=1)", kL2),
            std::exception);
    EXPECT_THROW(
            from_factory(kD, "IVF8,ScaNN(auto_maintain=-1),RFlat", kL2),
            std::exception);
}

} // namespace
