/* An index that is written to while it is searched: what threads see of it. Who may
 * do what, and for how long: test_version_lifetime; what one thread sees of its
 * versions: test_histories. */

#include <faiss_ext/versioned_scann.h>

#include <atomic>
#include <functional>
#include <map>
#include <random>

#include <faiss/impl/IDSelector.h>

#include <faiss_ext/index_factory.h>
#include <faiss_ext/index_io.h>
#include <faiss_ext/scann_iterator.h>

#include "fixtures/drift.h"
#include "fixtures/reference.h"
#include "fixtures/sanitizers.h"
#include "fixtures/versions.h"

namespace {

using namespace versions;

// ---- each answer is that of one moment ----

/// The rows that an index ought to have, and what searches for them find.
class Model {
 public:
    Model() : queries(new_rows(5, 99)) {
        const std::vector<float> x = new_rows(kN, 1);
        for (size_t i = 0; i < kN; i++) {
            rows_[int64_t(i)].assign(&x[i * kD], &x[i * kD] + kD);
        }
    }
    /// A change, chosen at random: made here and returned for an index.
    std::function<void(IndexIVFScaNN&)> draw(uint64_t seed) {
        std::mt19937_64 random(seed);
        const size_t what = random() % 4;
        if (rows_.size() < kN / 2 || what == 0) {
            const size_t n = 1 + random() % 20;
            const std::vector<int64_t> ids = numbers(n, int64_t(1000 * seed));
            const std::vector<float> x = put(ids, seed);
            return [=](IndexIVFScaNN& index) {
                index.add_with_ids(int64_t(n), x.data(), ids.data());
            };
        }
        std::vector<int64_t> some;
        const size_t share = 2 + random() % 100;
        for (const auto& [id, row] : rows_) {
            if (random() % share == 0) {
                some.push_back(id);
            }
        }
        if (what == 1) {
            for (int64_t id : some) {
                rows_.erase(id);
            }
            return [some](IndexIVFScaNN& index) {
                const faiss::IDSelectorBatch sel(some.size(), some.data());
                EXPECT_EQ(index.remove_ids(sel), some.size());
            };
        }
        const std::vector<float> x = put(some, seed);
        return [=](IndexIVFScaNN& index) {
            index.update_vectors(int(some.size()), some.data(), x.data());
        };
    }
    std::vector<int64_t> answer() const {
        std::vector<int64_t> ids;
        std::vector<float> base;
        for (const auto& [id, row] : rows_) {
            ids.push_back(id);
            base.insert(base.end(), row.begin(), row.end());
        }
        return reference::exact_search(
                       kL2, kD, base, queries, kK, nullptr, &ids)
                .labels;
    }

    const std::vector<float> queries;

 private:
    std::vector<float> put(const std::vector<int64_t>& ids, uint64_t seed) {
        const std::vector<float> x = new_rows(ids.size(), seed);
        for (size_t i = 0; i < ids.size(); i++) {
            rows_[ids[i]].assign(&x[i * kD], &x[i * kD] + kD);
        }
        return x;
    }

    std::map<int64_t, std::vector<float>> rows_;
};

class VersionsTest : public testing::TestWithParam<const char*> {};

/// Each answer is that of brute force at some moment between call and return.
TEST_P(VersionsTest, SearchesAreOfOneMoment) {
    constexpr size_t kChanges = FAISS_EXT_THREAD_SANITIZER ? 60 : 400;
    VersionedScaNN index(filled(GetParam()));
    index.change([](IndexIVFScaNN& i) {
        i.set_direct_map_type(faiss::DirectMap::Hashtable);
    });
    Model model;
    std::vector<std::vector<int64_t>> answers(kChanges + 1);
    answers[0] = model.answer();
    std::atomic<size_t> begun = 0, ended = 0, wrong = 0;
    {
        const SearchParametersScaNN params = of_all();
        Threads readers(kReaders, [&](size_t) {
            const size_t first = ended;
            const std::vector<int64_t> found =
                    search(*index.version(), model.queries, kK, &params).labels;
            const size_t last = begun;
            const auto from = answers.begin() + first;
            wrong += std::find(from, answers.begin() + last + 1, found) ==
                     answers.begin() + last + 1;
        });
        for (size_t i = 1; i <= kChanges; i++) {
            const auto change = model.draw(i);
            answers[i] = model.answer();
            begun = i;
            index.change(change);
            ended = i;
        }
        readers.let_run();
    }
    EXPECT_EQ(wrong, 0u);
    EXPECT_EQ(
            search(*index.version(), model.queries, kK).labels.size(),
            answers.back().size());
}

// ---- all that can be called beside all changes ----

using Change = std::function<void(IndexIVFScaNN&, uint64_t)>;

std::vector<std::pair<const char*, Change>> all_changes() {
    return {{"add",
             [](IndexIVFScaNN& index, uint64_t seed) {
                 const size_t n = seed % 3 == 0 ? 700 : 3;
                 const std::vector<float> x = new_rows(n, seed);
                 const auto ids = numbers(n, int64_t(10000 * seed));
                 index.add_rows(
                         int64_t(n),
                         x.data(),
                         faiss_ext::RowType::Float32,
                         ids.data(),
                         ids.data());
             }},
            {"remove",
             [](IndexIVFScaNN& index, uint64_t seed) {
                 const auto from = int64_t(10000 * (seed / 2));
                 const faiss::IDSelectorRange sel(from, from + 10000);
                 index.remove_ids(sel);
             }},
            {"update",
             [](IndexIVFScaNN& index, uint64_t seed) {
                 const auto ids = numbers(20);
                 index.update_vectors(
                         20, ids.data(), new_rows(20, seed).data());
             }},
            {"set_tags",
             [](IndexIVFScaNN& index, uint64_t seed) {
                 const auto ids = numbers(20);
                 index.set_tags(
                         20, ids.data(), numbers(20, int64_t(seed)).data());
             }},
            {"calibrate",
             [](IndexIVFScaNN& index, uint64_t seed) {
                 index.calibrate(8, new_rows(8, seed).data(), .9f, 5);
             }},
            {"set_direct_map",
             [](IndexIVFScaNN& index, uint64_t seed) {
                 index.set_direct_map_type(
                         seed % 2 == 0 ? faiss::DirectMap::Hashtable
                                       : faiss::DirectMap::NoMap);
             }},
            {"settings",
             [](IndexIVFScaNN& index, uint64_t seed) {
                 index.nprobe = 1 + seed % kLists;
                 index.options.auto_maintain = float(seed % 2);
             }},
            {"merge",
             [](IndexIVFScaNN& index, uint64_t seed) {
                 index.set_direct_map_type(faiss::DirectMap::NoMap);
                 index.options.auto_maintain = 0;
                 std::unique_ptr<faiss::Index> other(
                         faiss_ext::clone_index(&index));
                 other->reset();
                 const size_t n = 50;
                 const auto ids = numbers(n, int64_t(10000 * seed + 5000));
                 other->add_with_ids(
                         int64_t(n), new_rows(n, seed).data(), ids.data());
                 index.merge_from(*other, 0);
             }},
            {"fail", [](IndexIVFScaNN& index, uint64_t seed) {
                 index.progress = [](const char*, size_t, size_t) {
                     throw std::runtime_error("stop");
                 };
                 EXPECT_THROW(
                         index.add(900, new_rows(900, seed).data()),
                         std::runtime_error);
                 index.progress = nullptr;
             }}};
}

/// Finds what it must, in a version that nobody else holds for long.
void use_version(const IndexIVFScaNN& index, size_t which) {
    const std::vector<float> q = new_rows(40, 7);
    SearchParametersScaNN params;
    params.nprobe = 5;
    faiss::IDSelectorRange range(0, 300);
    switch (which % 8) {
        case 0:
            (void)search(index, q, kK);
            break;
        case 1:
            params.sel = &range;
            (void)search(index, q, kK, &params);
            break;
        case 2:
            params.max_per_group = 1;
            (void)search(index, q, kK, &params);
            break;
        case 3: {
            faiss::RangeSearchResult found(4);
            index.range_search(4, q.data(), 2, &found);
            break;
        }
        case 4: {
            auto rows = index.iterate(q.data(), 30);
            std::vector<float> distances(30);
            std::vector<int64_t> labels(30);
            size_t count = 0;
            while (size_t n = rows->next(distances.data(), labels.data())) {
                count += n;
            }
            EXPECT_EQ(count, size_t(index.ntotal));
            break;
        }
        case 5: {
            std::vector<float> distances(kK), found(kK * kD);
            std::vector<int64_t> labels(kK);
            index.search_and_reconstruct(
                    1,
                    q.data(),
                    kK,
                    distances.data(),
                    labels.data(),
                    found.data());
            break;
        }
        case 6: {
            faiss::VectorIOWriter writer;
            faiss_ext::write_index(&index, &writer);
            faiss::VectorIOReader reader;
            reader.data = std::move(writer.data);
            std::unique_ptr<faiss::Index> copy(faiss_ext::read_index(&reader));
            EXPECT_EQ(search(*copy, q, kK).labels, search(index, q, kK).labels);
            break;
        }
        case 7:
            (void)index.health();
            (void)index.notes();
            EXPECT_GT(index.memory_usage(), 0u);
            break;
    }
}

TEST_P(VersionsTest, AllChangesMayBeMadeBesideAllReads) {
    constexpr size_t kRounds = FAISS_EXT_THREAD_SANITIZER ? 2 : 6;
    VersionedScaNN index(filled(GetParam()));
    std::atomic<size_t> next = 0;
    {
        Threads readers(kReaders, [&](size_t) {
            use_version(*index.version(), next++);
        });
        uint64_t seed = 2;
        for (size_t round = 0; round < kRounds; round++) {
            for (const auto& [name, change] : all_changes()) {
                SCOPED_TRACE(name);
                const bool has_tags = index.version()->options.with_tags;
                if (std::string(name) == "set_tags" && !has_tags) {
                    continue;
                }
                index.change([&, &make = change](IndexIVFScaNN& i) {
                    make(i, ++seed);
                });
            }
            readers.let_run();
        }
        index.change([](IndexIVFScaNN& i) { i.reset(); });
        readers.let_run();
        EXPECT_EQ(index.version()->ntotal, 0);
    }
}

INSTANTIATE_TEST_SUITE_P(
        Kinds,
        VersionsTest,
        testing::Values("(tags=1),RFlat", "(tags=1,soar_lambda=1),SQ8,RFlat"),
        [](const auto& info) {
            return std::string(info.index == 0 ? "Raw" : "CopiesInt8Raw");
        });

TEST(Versions, MaintenanceGoesOnBesideSearches) {
    auto plain = drift::drifted("IVF48,ScaNN,RFlat");
    VersionedScaNN index(drift::drifted("IVF48,ScaNN,RFlat"));
    const auto all = plain->maintain();
    ASSERT_TRUE(all.finished);
    std::atomic<size_t> wrong = 0;
    {
        Threads readers(kReaders, [&](size_t t) {
            // each row is its own nearest one, in whatever list it is
            SearchParametersScaNN params;
            params.nprobe = drift::kLists;
            params.reorder_k = 1000;
            const size_t row = 17 * (t + 1) % drift::kN;
            const auto version = index.version();
            const Hits found =
                    search(*version,
                           {&drift::rows()[row * drift::kD],
                            &drift::rows()[row * drift::kD] + drift::kD},
                           1,
                           &params);
            wrong += found.distances[0] != 0 ||
                     version->ntotal != int64_t(drift::kN);
        });
        const auto some = index.maintain(100);
        EXPECT_FALSE(some.finished);
        const auto rest = index.maintain();
        EXPECT_TRUE(rest.finished);
        EXPECT_EQ(some.rows + rest.rows, all.rows);
        EXPECT_EQ(some.lists + rest.lists, all.lists);
        readers.let_run();
    }
    EXPECT_EQ(wrong, 0u);
    const std::vector<float> q = whole_rows(50, drift::kD, 3);
    EXPECT_EQ(search(*index.version(), q, kK), search(*plain, q, kK));
    EXPECT_EQ(index.maintain().rows, 0u);
}

} // namespace
