/* The direct map: changes that are undone, and maps that were left half
 * filled. */

#include <algorithm>

#include <faiss_ext/lists/direct_map.h>

#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/io.h>

#include <faiss_ext/wrappers/clone.h>
#include <faiss_ext/index_io.h>
#include <faiss_ext/model/index_state.h>

#include "fixtures/index_fixtures.h"

namespace {

using namespace fixtures;
using faiss::DirectMap;
using faiss_ext::kNowhere;
using faiss_ext::MapAddition;

constexpr size_t kD = 8;
constexpr size_t kN = 500;
constexpr size_t kLists = 10;

bool same(const DirectMap& a, const DirectMap& b) {
    return a.type == b.type && a.array == b.array && a.hashtable == b.hashtable;
}

TEST(MapAddition, UndoneLeavesTheMap) {
    for (auto type :
         {DirectMap::NoMap, DirectMap::Array, DirectMap::Hashtable}) {
        DirectMap map;
        map.type = type;
        std::vector<int64_t> ids = {0, 1, 2, 3};
        std::vector<uint64_t> places = {40, 30, kNowhere, 10};
        MapAddition(map).add(4, ids.data(), places.data());
        EXPECT_EQ(map.array.size(), type == DirectMap::Array ? 4u : 0u);
        EXPECT_EQ(map.hashtable.size(), type == DirectMap::Hashtable ? 3u : 0u);
        DirectMap before = map;
        // known ones, new ones, twice the same
        ids = {4, 1, 2, 5, 4, 1};
        places = {1, 2, 3, kNowhere, 5, 6};
        MapAddition addition(map);
        addition.add(6, ids.data(), places.data());
        EXPECT_EQ(same(map, before), type == DirectMap::NoMap);
        addition.undo();
        EXPECT_TRUE(same(map, before));
    }
}

TEST(DirectMap, PlacesMoveOnlyFromWhereTheyAre) {
    for (auto type : {DirectMap::Array, DirectMap::Hashtable}) {
        DirectMap map;
        map.type = type;
        std::vector<int64_t> ids = {0, 1};
        std::vector<uint64_t> places = {40, 30};
        MapAddition(map).add(2, ids.data(), places.data());
        faiss_ext::change_place(map, 0, 41, 7);
        EXPECT_EQ(faiss_ext::place_in(map, 0), 40u);
        faiss_ext::change_place(map, 0, 40, 7);
        EXPECT_EQ(faiss_ext::place_in(map, 0), 7u);
        faiss_ext::change_place(map, 1, 30, kNowhere);
        EXPECT_EQ(faiss_ext::place_in(map, 1), kNowhere);
        for (int64_t unknown : {int64_t(-1), int64_t(2), int64_t(1) << 40}) {
            faiss_ext::change_place(map, unknown, kNowhere, 3);
            EXPECT_EQ(faiss_ext::place_in(map, unknown), kNowhere);
        }
    }
}

/// Rows with numbers 0 .. kN - 1, but one that no Array can hold.
std::unique_ptr<IndexIVFScaNN> with_odd_id(int64_t odd) {
    std::vector<float> x = whole_rows(kN, kD, 1);
    auto index = trained({kL2, Tier::Raw}, x, kD, kLists);
    std::vector<int64_t> ids(kN);
    for (size_t i = 0; i < kN; i++) {
        ids[i] = int64_t(i);
    }
    ids[300] = odd;
    index->add_with_ids(kN, x.data(), ids.data());
    return index;
}

TEST(DirectMap, TheOldOneStaysIfAnArrayCannotHoldTheIds) {
    for (int64_t odd : {int64_t(-1), int64_t(kN), int64_t(1) << 40}) {
        for (auto type : {DirectMap::NoMap, DirectMap::Hashtable}) {
            auto index = with_odd_id(odd);
            index->set_direct_map_type(type);
            DirectMap before = index->direct_map;
            std::string message = message_of([&] { index->make_direct_map(); });
            EXPECT_NE(message.find(std::to_string(odd)), std::string::npos);
            EXPECT_NE(message.find("0..499"), std::string::npos) << message;
            EXPECT_TRUE(same(index->direct_map, before));
            EXPECT_TRUE(direct_map_fits(index->state()));
        }
    }
}

/// Faiss' own set_direct_map_type() is not virtual.
void break_map(IndexIVFScaNN& index) {
    faiss::IndexIVF& ivf = index;
    EXPECT_NE(message_of([&] { ivf.make_direct_map(); }), "");
    EXPECT_EQ(index.direct_map.type, DirectMap::Array);
    EXPECT_FALSE(direct_map_fits(index.state()));
}

TEST(DirectMap, NoChangeTrustsAHalfFilledOne) {
    std::vector<float> x = whole_rows(kN, kD, 2);
    for (int64_t odd : {int64_t(-1), int64_t(kN), int64_t(1) << 40}) {
        auto index = with_odd_id(odd);
        break_map(*index);
        for (int64_t id = 0; id < int64_t(kN); id += 7) {
            if (id != 300) {
                index->update_vectors(1, &id, &x[id * kD]);
            }
        }
        EXPECT_TRUE(index->direct_map.no());
        index = with_odd_id(odd);
        break_map(*index);
        faiss::IDSelectorRange sel(0, 300);
        EXPECT_EQ(index->remove_ids(sel), 300u);
        index = with_odd_id(odd);
        break_map(*index);
        int64_t id = 12345;
        index->add_with_ids(1, x.data(), &id);
        index->set_direct_map_type(DirectMap::Hashtable);
        EXPECT_EQ(index->direct_map.hashtable.size(), kN + 1);
        index = with_odd_id(odd);
        break_map(*index);
        EXPECT_NE(message_of([&] { index->make_direct_map(); }), "");
        index->set_direct_map_type(DirectMap::NoMap);
        EXPECT_TRUE(index->direct_map.no());
        index->set_direct_map_type(DirectMap::Hashtable);
        EXPECT_TRUE(direct_map_fits(index->state()));
    }
}

/// Every operation answers as without the map, or throws.
TEST(DirectMap, NoAnswerTrustsAHalfFilledOne) {
    std::vector<float> x = whole_rows(kN, kD, 1);
    for (int64_t odd : {int64_t(-1), int64_t(kN), int64_t(1) << 40}) {
        auto index = with_odd_id(odd);
        break_map(*index);
        SearchParametersScaNN params = exhaustive(*index);
        auto expect_found = [&](const faiss::Index& searched) {
            for (int64_t id = 0; id < int64_t(kN); id++) {
                if (id == 300) {
                    continue;
                }
                faiss::IDSelectorArray own(1, &id);
                params.sel = &own;
                std::vector<float> query(&x[id * kD], &x[id * kD] + kD);
                EXPECT_EQ(search(searched, query, 1, &params).labels[0], id);
                faiss::RangeSearchResult found(1);
                searched.range_search(1, query.data(), 1, &found, &params);
                ASSERT_EQ(found.lims[1], 1u);
                EXPECT_EQ(found.labels[0], id);
            }
        };
        expect_found(*index);
        std::unique_ptr<faiss::DistanceComputer> distances(
                index->get_distance_computer());
        for (int64_t id = 0; id < int64_t(kN); id++) {
            if (id == 300) {
                continue;
            }
            std::vector<float> row(kD, -1);
            try {
                index->reconstruct(id, row.data());
                EXPECT_TRUE(std::equal(row.begin(), row.end(), &x[id * kD]));
                distances->set_query(row.data());
                EXPECT_EQ((*distances)(id), 0);
            } catch (const faiss::FaissException&) {
                // not in the map
            }
        }
        std::unique_ptr<faiss::Index> copy(faiss_ext::clone_index(index.get()));
        EXPECT_TRUE(
                direct_map_fits(dynamic_cast<IndexIVFScaNN&>(*copy).state()));
        expect_found(*copy);
        faiss::VectorIOWriter writer;
        faiss_ext::write_index(index.get(), &writer);
        faiss::VectorIOReader reader;
        reader.data = writer.data;
        std::unique_ptr<faiss::Index> read(faiss_ext::read_index(&reader));
        EXPECT_TRUE(
                direct_map_fits(dynamic_cast<IndexIVFScaNN&>(*read).state()));
        expect_found(*read);
        expect_found(*index);
        auto empty = trained_like(*index);
        // Faiss merges without maps only
        EXPECT_NE(message_of([&] { empty->merge_from(*index, 0); }), "");
        EXPECT_EQ(empty->ntotal, 0);
        EXPECT_EQ(index->ntotal, int64_t(kN));
        index->set_direct_map_type(DirectMap::NoMap);
        empty->merge_from(*index, 0);
        EXPECT_EQ(empty->ntotal, int64_t(kN));
        EXPECT_EQ(index->ntotal, 0);
        EXPECT_TRUE(direct_map_fits(index->state()));
        expect_found(*empty);
    }
}

/// With ids of an Array, too: what was made for fewer rows does not fit.
TEST(DirectMap, OneOfAnotherNumberOfRowsDoesNotFit) {
    std::vector<float> x = whole_rows(kN, kD, 1);
    auto index = trained({kL2, Tier::Raw}, x, kD, kLists);
    index->add(kN, x.data());
    index->make_direct_map();
    EXPECT_TRUE(direct_map_fits(index->state()));
    index->direct_map.array.pop_back();
    EXPECT_FALSE(direct_map_fits(index->state()));
    index->direct_map.array.resize(kN + 3, -1);
    EXPECT_FALSE(direct_map_fits(index->state()));
    EXPECT_EQ(index->remove_ids(faiss::IDSelectorRange(0, 10)), 10u);
    EXPECT_TRUE(direct_map_fits(index->state()));
    index->add(kN, x.data());
    EXPECT_TRUE(direct_map_fits(index->state()));
}

TEST(DirectMap, MovedIdsStayIds) {
    std::vector<float> x = whole_rows(kN, kD, 1);
    auto index = trained({kL2, Tier::Raw}, x, kD, kLists);
    index->add(kN, x.data());
    auto other = trained_like(*index);
    other->add(kN, x.data());
    for (int64_t add_id :
         {INT64_MAX, INT64_MAX - int64_t(kN) + 2, int64_t(-1), int64_t(-kN)}) {
        std::string message =
                message_of([&] { index->merge_from(*other, add_id); });
        EXPECT_NE(message.find(std::to_string(add_id)), std::string::npos);
        EXPECT_EQ(index->ntotal, int64_t(kN));
        EXPECT_EQ(other->ntotal, int64_t(kN));
    }
    index->merge_from(*other, INT64_MAX - int64_t(kN) + 1);
    EXPECT_EQ(index->ntotal, 2 * int64_t(kN));
}

TEST(DirectMap, EveryWholeOneFits) {
    std::vector<float> x = whole_rows(kN, kD, 1);
    for (auto type :
         {DirectMap::NoMap, DirectMap::Array, DirectMap::Hashtable}) {
        auto index = trained({kL2, Tier::Raw}, x, kD, kLists);
        index->set_direct_map_type(type);
        EXPECT_TRUE(direct_map_fits(index->state()));
        for (int round = 0; round < 3; round++) {
            index->add(kN, x.data());
            EXPECT_TRUE(direct_map_fits(index->state()));
            int64_t id = 17 + round;
            index->update_vectors(1, &id, x.data());
            EXPECT_TRUE(direct_map_fits(index->state()));
        }
        index->remove_ids(faiss::IDSelectorRange(0, 100));
        EXPECT_TRUE(direct_map_fits(index->state()));
        index->reset();
        EXPECT_TRUE(direct_map_fits(index->state()));
        index->add(kN, x.data());
        EXPECT_TRUE(direct_map_fits(index->state()));
    }
}

} // namespace
