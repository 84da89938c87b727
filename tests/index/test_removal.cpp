/* Removing and replacing rows: what test_maintenance.cpp tests once, here in
 * any order, with ids that are there twice, with calls that fail, and the
 * memory that goes back. */

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/model/index_state.h>

#include <algorithm>
#include <map>
#include <stdexcept>
#include <tuple>
#include <unordered_map>

#include "fixtures/index_fixtures.h"

namespace {

using namespace fixtures;

constexpr size_t kD = 16;
constexpr size_t kN = 900;
constexpr size_t kLists = 12;
constexpr auto kNoMap = faiss::DirectMap::NoMap;
constexpr auto kArray = faiss::DirectMap::Array;
constexpr auto kHashtable = faiss::DirectMap::Hashtable;

using Entry = std::tuple<int64_t, size_t, std::vector<uint8_t>>;

/// All entries sorted by id. Copies must refer to the row of their id.
std::vector<Entry> entries_of(const IndexIVFScaNN& index) {
    std::vector<Entry> entries;
    const faiss_ext::ScaNNLists* primary = index.state().lists.get();
    const faiss_ext::ScaNNLists* spilled = index.state().spilled.get();
    for (const faiss_ext::ScaNNLists* lists : {primary, spilled}) {
        for (size_t l = 0; lists != nullptr && l < lists->nlist; l++) {
            faiss::InvertedLists::ScopedCodes codes(lists, l);
            size_t size = lists == spilled ? lists->layout().primary_offset()
                                           : lists->code_size;
            for (size_t i = 0; i < lists->list_size(l); i++) {
                int64_t id = lists->get_single_id(l, i);
                const uint8_t* bytes = codes.get() + i * lists->code_size;
                entries.push_back({id, l, {bytes, bytes + size}});
                if (lists == spilled) {
                    uint64_t place = lists->list(l).primary[i];
                    EXPECT_EQ(
                            index.state().lists->get_single_id(
                                    faiss::lo_listno(place),
                                    faiss::lo_offset(place)),
                            id);
                }
            }
        }
    }
    std::sort(entries.begin(), entries.end());
    return entries;
}

void expect_map_right(const IndexIVFScaNN& index) {
    for (size_t l = 0; l < index.nlist && !index.direct_map.no(); l++) {
        for (size_t i = 0; i < index.state().lists->list_size(l); i++) {
            int64_t id = index.state().lists->get_single_id(l, i);
            ASSERT_EQ(
                    uint64_t(index.direct_map.get(id)), faiss::lo_build(l, i));
        }
    }
}

class RemovalTest : public testing::TestWithParam<Kind> {
 protected:
    std::unique_ptr<IndexIVFScaNN> empty(
            faiss::DirectMap::Type map = kNoMap) const {
        const IndexIVFScaNN& master = *made_once(GetParam().name(), [&] {
            return trained(GetParam(), rows_, kD, kLists);
        });
        auto index = trained_like(master);
        index->set_direct_map_type(map);
        return index;
    }
    /// Holds row `of[id]` of many_ under each id.
    std::unique_ptr<IndexIVFScaNN> with(
            const std::map<int64_t, size_t>& of) const {
        auto index = empty();
        for (auto [id, row] : of) {
            index->add_with_ids(1, &many_[row * kD], &id);
        }
        return index;
    }

    const std::vector<float> rows_ = whole_rows(kN, kD, 1);
    const std::vector<float> many_ = whole_rows(4000, kD, 3);
};

// ---- in any order ----

TEST_P(RemovalTest, AnyOrderOfChangesEqualsAFreshIndex) {
    for (auto map : {kNoMap, kHashtable}) {
        auto index = empty(map);
        std::mt19937 random(5);
        std::map<int64_t, size_t> model; // id -> row of many_
        int64_t next = 0;
        for (int step = 0; step < 60; step++) {
            size_t n = random() % 40;
            std::vector<int64_t> ids;
            std::vector<float> x;
            auto draw = [&](int64_t id) {
                size_t row = random() % 4000;
                ids.push_back(id);
                x.insert(x.end(), &many_[row * kD], &many_[row * kD] + kD);
                model[id] = row;
            };
            int what = step < 4 ? 0 : int(random() % 4);
            if (what == 0) {
                for (size_t i = 0; i < n; i++) {
                    draw(next++);
                }
                index->add_with_ids(n, x.data(), ids.data());
                continue;
            }
            for (size_t i = 0; i < n; i++) {
                auto at = model.lower_bound(int64_t(random()) % next);
                bool twice = at == model.end() ||
                             std::count(ids.begin(), ids.end(), at->first);
                if (!twice && what == 1) {
                    draw(at->first);
                } else if (!twice) {
                    ids.push_back(at->first);
                }
            }
            if (what == 1) {
                index->update_vectors(int(ids.size()), ids.data(), x.data());
                continue;
            }
            for (int64_t id : ids) {
                model.erase(id);
            }
            size_t removed;
            if (what == 2) {
                faiss::IDSelectorArray sel(ids.size(), ids.data());
                removed = index->remove_ids(sel);
            } else {
                faiss::IDSelectorBatch sel(ids.size(), ids.data());
                removed = index->remove_ids(sel);
            }
            EXPECT_EQ(removed, ids.size());
        }
        EXPECT_EQ(index->ntotal, int64_t(model.size()));
        expect_map_right(*index);
        EXPECT_TRUE(entries_of(*index) == entries_of(*with(model)));
    }
}

TEST_P(RemovalTest, UpdatesOfAnArrayMapKeepItsKind) {
    auto index = empty(kArray);
    index->add(kN, rows_.data());
    std::map<int64_t, size_t> model;
    for (int round = 0; round < 5; round++) {
        std::vector<int64_t> ids;
        for (int64_t id = round; id < int64_t(kN); id += 9) {
            ids.push_back(id);
            model[id] = 100 * round + ids.size() - 1;
        }
        index->update_vectors(
                int(ids.size()), ids.data(), &many_[100 * round * kD]);
        index->add(10, &many_[(3000 + 10 * round) * kD]);
        expect_map_right(*index);
    }
    EXPECT_EQ(index->direct_map.type, kArray);
    auto fresh = empty();
    std::vector<float> x = rows_;
    x.insert(x.end(), &many_[3000 * kD], &many_[3050 * kD]);
    for (auto [id, row] : model) {
        std::copy_n(&many_[row * kD], kD, &x[id * kD]);
    }
    fresh->add(kN + 50, x.data());
    EXPECT_TRUE(entries_of(*index) == entries_of(*fresh));
}

TEST_P(RemovalTest, ChangesAfterAMergeOrACopy) {
    std::vector<int64_t> some = {3, 4, 400, 401, 899};
    faiss::IDSelectorArray sel(some.size(), some.data());
    auto a = empty(), b = empty(), c = empty();
    a->add(400, rows_.data());
    b->add(500, &rows_[400 * kD]);
    for (IndexIVFScaNN* index : {a.get(), b.get()}) {
        int64_t id = 7; // the way to the copies is known from here on
        index->update_vectors(1, &id, many_.data());
        index->update_vectors(1, &id, &rows_[7 * kD]);
    }
    int64_t id = 7;
    b->update_vectors(1, &id, &rows_[407 * kD]);
    a->merge_from(*b, 400);
    a->copy_subset_to(*c, faiss_ext::SubsetType(0), 0, kN);
    for (IndexIVFScaNN* index : {a.get(), c.get()}) {
        EXPECT_EQ(index->remove_ids(sel), some.size());
        std::map<int64_t, size_t> left;
        auto fresh = empty();
        fresh->add(kN, rows_.data());
        fresh->remove_ids(sel);
        EXPECT_TRUE(entries_of(*index) == entries_of(*fresh));
    }
    b->add(10, rows_.data());
    EXPECT_EQ(b->remove_ids(faiss::IDSelectorRange(0, 5)), 5u);
    entries_of(*b);
}

// ---- ids that are there twice ----

TEST_P(RemovalTest, AllRowsOfAnIdAreRemoved) {
    std::vector<int64_t> ids(kN);
    for (size_t i = 0; i < kN; i++) {
        ids[i] = int64_t(i % 700);
    }
    for (auto map : {kNoMap, kHashtable}) {
        auto index = empty(map);
        index->add_with_ids(kN, rows_.data(), ids.data());
        faiss::IDSelectorArray sel(100, &ids[150]); // 50 of them twice
        EXPECT_EQ(index->remove_ids(sel), 150u);
        EXPECT_EQ(index->ntotal, int64_t(kN) - 150);
        for (const Entry& entry : entries_of(*index)) {
            int64_t id = std::get<0>(entry);
            EXPECT_TRUE(id < 150 || id >= 250);
        }
        EXPECT_EQ(index->remove_ids(faiss::IDSelectorRange(0, 250)), 300u);
    }
}

TEST_P(RemovalTest, RowsInNoListDoNotDisturb) {
    auto index = empty(kHashtable);
    std::vector<int64_t> assign(10, -1);
    assign[4] = assign[5] = 2;
    index->add_core(10, rows_.data(), nullptr, assign.data());
    EXPECT_EQ(index->remove_ids(faiss::IDSelectorRange(0, 5)), 1u);
    int64_t id = 5;
    index->update_vectors(1, &id, many_.data());
    EXPECT_EQ(index->ntotal, 9);
    expect_map_right(*index);
    id = 6;
    EXPECT_NE(
            message_of([&] { index->update_vectors(1, &id, many_.data()); }),
            "");
}

// ---- calls that fail ----

TEST_P(RemovalTest, AnUpdateThatFailsInBetweenChangesNothing) {
    std::vector<int64_t> ids = {1, 5, 100, 899};
    for (auto map : {kNoMap, kHashtable, kArray}) {
        auto index = empty(map);
        index->add(kN, rows_.data());
        auto entries = entries_of(*index);
        faiss::DirectMap before = index->direct_map;
        for (int fatal : {0, 1}) {
            int calls = 0;
            index->progress = [&](const char*, size_t, size_t) {
                if (calls++ == fatal) {
                    throw std::runtime_error("enough");
                }
            };
            EXPECT_THROW(
                    index->update_vectors(4, ids.data(), many_.data()),
                    std::runtime_error);
            EXPECT_TRUE(entries_of(*index) == entries);
            EXPECT_EQ(index->ntotal, int64_t(kN));
            EXPECT_EQ(index->direct_map.type, before.type);
            EXPECT_EQ(index->direct_map.array, before.array);
            EXPECT_EQ(index->direct_map.hashtable, before.hashtable);
        }
        index->progress = nullptr;
        index->update_vectors(4, ids.data(), many_.data());
        expect_map_right(*index);
        index->update_vectors(0, nullptr, nullptr);
        EXPECT_NE(
                message_of([&] { index->update_vectors(-1, ids.data(), {}); }),
                "");
    }
}

// ---- memory ----

TEST_P(RemovalTest, ResetGivesTheMemoryBack) {
    for (auto map : {kNoMap, kHashtable, kArray}) {
        auto index = empty(map);
        size_t before = index->memory_usage();
        index->add(4000, many_.data());
        int64_t id = 1; // with copies: the way to them
        index->update_vectors(1, &id, rows_.data());
        index->reset();
        EXPECT_LE(index->memory_usage(), before + 64);
        EXPECT_EQ(index->direct_map.type, map);
    }
}

TEST_P(RemovalTest, MemoryFollowsTheRowsThatAreLeft) {
    for (auto map : {kNoMap, kHashtable}) {
        auto full = empty(map), few = empty(map);
        full->add(4000, many_.data());
        few->add(100, many_.data());
        // at once, and in pieces
        for (int64_t piece : {3900, 50}) {
            auto index = empty(map);
            index->add(4000, many_.data());
            for (int64_t id = 100; id < 4000; id += piece) {
                index->remove_ids(faiss::IDSelectorRange(id, id + piece));
            }
            EXPECT_EQ(index->ntotal, 100);
            // 64 KB are not worth a look
            EXPECT_LT(
                    index->memory_usage(),
                    few->memory_usage() +
                            (full->memory_usage() - few->memory_usage()) / 4 +
                            (1 << 17));
            EXPECT_TRUE(entries_of(*index) == entries_of(*few));
        }
    }
}

INSTANTIATE_TEST_SUITE_P(
        Kinds,
        RemovalTest,
        testing::Values(
                Kind{kIP, Tier::Codes},
                Kind{kL2, Tier::Int8Raw},
                Kind{kIP, Tier::Codes, 1},
                Kind{kL2, Tier::Raw, 1}),
        kind_name);

} // namespace
