/*
 * Changing an index. Each row of a table of what IndexIVFPQFastScan gets
 * wrong (remove then add, update, add_core, add_sa_codes, copies, merges) is
 * a test here, for every storage tier, with spilled copies too.
 */

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/model/index_state.h>

#include <algorithm>
#include <map>
#include <set>

#include "fixtures/index_fixtures.h"

namespace {

using namespace fixtures;

constexpr size_t kD = 16;
constexpr size_t kN = 900;
constexpr size_t kLists = 12;
constexpr size_t k = 20;
constexpr auto kNoMap = faiss::DirectMap::NoMap;
constexpr auto kArray = faiss::DirectMap::Array;
constexpr auto kHashtable = faiss::DirectMap::Hashtable;

std::vector<float> part(const std::vector<float>& x, size_t from, size_t to) {
    return {x.begin() + from * kD, x.begin() + to * kD};
}

/// An entry as the lists hold it, of either kind of list.
struct Entry {
    int64_t id;
    size_t list;
    std::vector<uint8_t> bytes;
    auto operator<=>(const Entry&) const = default;
};

/// All entries sorted by id; `primary` of copies is replaced by the id that
/// stands at that place, which must be the copy's own.
std::vector<Entry> entries_of(const IndexIVFScaNN& index) {
    std::vector<Entry> entries;
    const faiss_ext::ScaNNLists* primary = index.state().lists.get();
    const faiss_ext::ScaNNLists* spilled = index.state().spilled.get();
    for (const faiss_ext::ScaNNLists* lists : {primary, spilled}) {
        for (size_t l = 0; lists != nullptr && l < lists->nlist; l++) {
            faiss::InvertedLists::ScopedCodes codes(lists, l);
            for (size_t i = 0; i < lists->list_size(l); i++) {
                int64_t id = lists->get_single_id(l, i);
                const uint8_t* bytes = codes.get() + i * lists->code_size;
                size_t size = lists->code_size;
                if (lists == spilled) {
                    size = lists->layout().primary_offset();
                    uint64_t place = lists->list(l).primary[i];
                    EXPECT_EQ(
                            index.state().lists->get_single_id(
                                    faiss::lo_listno(place),
                                    faiss::lo_offset(place)),
                            id);
                }
                entries.push_back({id, l, {bytes, bytes + size}});
            }
        }
    }
    std::sort(entries.begin(), entries.end());
    return entries;
}

/// Two indexes with the same training hold the same and find the same.
void expect_same(const IndexIVFScaNN& a, const IndexIVFScaNN& b) {
    EXPECT_EQ(a.ntotal, b.ntotal);
    EXPECT_TRUE(entries_of(a) == entries_of(b));
    SearchParametersScaNN params = exhaustive(a);
    std::vector<float> queries = whole_rows(20, kD, 2);
    Hits found = search(a, queries, k, &params);
    EXPECT_TRUE(found == search(b, queries, k, &params));
}

/// Every id of the map is where the map says, and reconstructs.
void expect_map_right(const IndexIVFScaNN& index) {
    if (index.direct_map.no()) {
        return;
    }
    for (size_t l = 0; l < index.nlist; l++) {
        for (size_t i = 0; i < index.state().lists->list_size(l); i++) {
            int64_t id = index.state().lists->get_single_id(l, i);
            ASSERT_EQ(
                    uint64_t(index.direct_map.get(id)), faiss::lo_build(l, i));
        }
    }
}

class MaintenanceTest : public testing::TestWithParam<Kind> {
 protected:
    MaintenanceTest() {
        for (size_t i = 0; i < kN; i++) {
            ids_[i] = 7 * int64_t(i) + 3;
        }
    }
    /// All from the same training, so that they can be compared and merged.
    std::unique_ptr<IndexIVFScaNN> empty(
            faiss::DirectMap::Type map = kNoMap) const {
        const IndexIVFScaNN& master = *made_once(GetParam().name(), [&] {
            return trained(GetParam(), rows_, kD, kLists);
        });
        auto index = trained_like(master);
        index->set_direct_map_type(map);
        return index;
    }
    std::unique_ptr<IndexIVFScaNN> full(
            faiss::DirectMap::Type map = kNoMap) const {
        auto index = empty(map);
        index->add(kN, rows_.data());
        return index;
    }
    bool has_raw() const {
        return tier_options(GetParam().tier).with_raw_data;
    }
    bool spills() const {
        return GetParam().soar_lambda > 0;
    }

    const std::vector<float> rows_ = whole_rows(kN, kD, 1);
    const std::vector<float> queries_ = whole_rows(20, kD, 2);
    std::vector<int64_t> ids_ = std::vector<int64_t>(kN);
};

// ---- add ----

TEST_P(MaintenanceTest, AddInPiecesEqualsAddAtOnce) {
    auto pieces = empty();
    for (size_t from = 0, n = 1; from < kN; from += n, n = 3 * n + 1) {
        size_t count = std::min(n, kN - from);
        pieces->add(count, rows_.data() + from * kD);
    }
    expect_same(*pieces, *full());
}

TEST_P(MaintenanceTest, AddCoreTakesTheCallersLists) {
    auto index = empty(kHashtable);
    std::vector<int64_t> assign(kN);
    for (size_t i = 0; i < kN; i++) {
        assign[i] = i % kLists;
    }
    index->add_core(kN, rows_.data(), ids_.data(), assign.data());
    expect_map_right(*index);
    for (size_t l = 0; l < kLists; l++) {
        ASSERT_EQ(index->state().lists->list_size(l), kN / kLists);
    }
    if (has_raw()) {
        SearchParametersScaNN params = exhaustive(*index);
        Hits exact = exact_search(
                GetParam().metric, kD, rows_, queries_, k, nullptr, &ids_);
        EXPECT_TRUE(search(*index, queries_, k, &params) == exact);
    }
}

TEST_P(MaintenanceTest, AddCoreWithTheIndexOwnListsEqualsAdd) {
    auto index = empty();
    std::vector<int64_t> assign(kN);
    faiss_ext::assign_lists(index->state(), kN, rows_.data(), assign.data());
    index->add_core(kN, rows_.data(), nullptr, assign.data());
    expect_same(*index, *full());
}

TEST_P(MaintenanceTest, AddSaCodesOfSaEncodeEqualsAdd) {
    auto index = empty();
    std::vector<uint8_t> codes(kN * index->sa_code_size());
    index->sa_encode(kN, rows_.data(), codes.data());
    index->add_sa_codes(kN, codes.data(), nullptr);
    if (!spills()) {
        expect_same(*index, *full());
        return;
    }
    // Copies are made of the decoded rows, but the rows are as given.
    auto expected = full();
    ASSERT_EQ(index->ntotal, expected->ntotal);
    for (size_t l = 0; l < kLists; l++) {
        size_t n = index->state().lists->list_size(l);
        ASSERT_EQ(n, expected->state().lists->list_size(l));
        faiss::InvertedLists::ScopedCodes got(index->invlists, l);
        faiss::InvertedLists::ScopedCodes wanted(expected->invlists, l);
        EXPECT_TRUE(std::equal(
                got.get(), got.get() + n * index->code_size, wanted.get()));
    }
    entries_of(*index); // places of copies
}

TEST_P(MaintenanceTest, RowsOfListMinusOneAreCountedOnly) {
    auto index = empty();
    std::vector<int64_t> assign(10, -1);
    assign[4] = 2;
    index->add_core(10, rows_.data(), nullptr, assign.data());
    EXPECT_EQ(index->ntotal, 10);
    EXPECT_EQ(index->state().lists->list_size(2), 1u);
    SearchParametersScaNN params = exhaustive(*index);
    EXPECT_EQ(search(*index, queries_, 2, &params).labels[0], 4);
    EXPECT_EQ(search(*index, queries_, 2, &params).labels[1], -1);
}

// ---- remove ----

TEST_P(MaintenanceTest, RemoveThenAddEqualsAFreshIndex) {
    for (auto map : {kNoMap, kHashtable}) {
        auto index = empty(map);
        index->add_with_ids(kN, rows_.data(), ids_.data());
        faiss::IDSelectorRange sel(ids_[200], ids_[700]);
        EXPECT_EQ(index->remove_ids(sel), 500u);
        EXPECT_EQ(index->ntotal, int64_t(kN - 500));
        expect_map_right(*index);
        auto fewer = empty();
        fewer->add_with_ids(200, rows_.data(), ids_.data());
        fewer->add_with_ids(200, &rows_[700 * kD], &ids_[700]);
        expect_same(*index, *fewer);
        index->add_with_ids(500, &rows_[200 * kD], &ids_[200]);
        expect_map_right(*index);
        auto fresh = empty();
        fresh->add_with_ids(kN, rows_.data(), ids_.data());
        expect_same(*index, *fresh);
    }
}

TEST_P(MaintenanceTest, RemoveAcceptsEverySelector) {
    std::vector<int64_t> listed;
    std::vector<uint8_t> bits(kN / 8 + 1);
    for (size_t i = 0; i < kN; i += 3) {
        listed.push_back(i);
        bits[i / 8] |= 1 << (i % 8);
    }
    listed.push_back(listed[0]); // twice
    listed.push_back(123456789); // unknown
    faiss::IDSelectorArray array(listed.size(), listed.data());
    faiss::IDSelectorBatch batch(listed.size(), listed.data());
    faiss::IDSelectorBitmap bitmap(bits.size(), bits.data());
    auto fresh = empty();
    for (size_t i = 0; i < kN; i++) {
        int64_t id = i;
        if (i % 3 != 0) {
            fresh->add_with_ids(1, &rows_[i * kD], &id);
        }
    }
    for (auto map : {kNoMap, kHashtable, kArray}) {
        for (const faiss::IDSelector* sel :
             std::vector<const faiss::IDSelector*>{&array, &batch, &bitmap}) {
            auto index = full(map);
            EXPECT_EQ(index->remove_ids(*sel), kN / 3);
            expect_map_right(*index);
            expect_same(*index, *fresh);
        }
    }
}

TEST_P(MaintenanceTest, ArrayMapBecomesHashtableWhenRowsGo) {
    auto index = full(kArray);
    faiss::IDSelectorRange none(kN, kN + 5), some(10, 20);
    EXPECT_EQ(index->remove_ids(none), 0u);
    EXPECT_EQ(index->direct_map.type, kArray);
    EXPECT_EQ(index->remove_ids(some), 10u);
    EXPECT_EQ(index->direct_map.type, kHashtable);
    std::vector<float> row(kD);
    index->reconstruct(9, row.data());
    EXPECT_ANY_THROW(index->reconstruct(10, row.data()));
}

TEST_P(MaintenanceTest, RemoveAllLeavesAnEmptyIndex) {
    for (auto map : {kNoMap, kHashtable, kArray}) {
        auto index = full(map);
        EXPECT_EQ(index->remove_ids(faiss::IDSelectorAll()), kN);
        EXPECT_EQ(index->ntotal, 0);
        EXPECT_EQ(search(*index, queries_, 1).labels[0], -1);
        EXPECT_TRUE(entries_of(*index).empty());
        index->add_with_ids(kN, rows_.data(), ids_.data());
        auto fresh = empty();
        fresh->add_with_ids(kN, rows_.data(), ids_.data());
        expect_same(*index, *fresh);
    }
}

TEST_P(MaintenanceTest, RemovedIdsAreNeverFound) {
    auto index = full();
    std::mt19937 random(3);
    std::set<int64_t> left;
    for (size_t i = 0; i < kN; i++) {
        left.insert(i);
    }
    for (int round = 0; round < 5; round++) {
        std::vector<int64_t> gone;
        for (int64_t id : left) {
            if (random() % 3 == 0) {
                gone.push_back(id);
            }
        }
        faiss::IDSelectorBatch sel(gone.size(), gone.data());
        EXPECT_EQ(index->remove_ids(sel), gone.size());
        for (int64_t id : gone) {
            left.erase(id);
        }
        SearchParametersScaNN params = exhaustive(*index);
        Hits hits = search(*index, part(queries_, 0, 1), kN, &params);
        std::set<int64_t> found(hits.labels.begin(), hits.labels.end());
        found.erase(-1);
        EXPECT_EQ(found, left);
        entries_of(*index);
    }
}

// ---- update ----

TEST_P(MaintenanceTest, UpdateEqualsAnIndexOfTheNewRows) {
    std::vector<float> changed = rows_;
    std::vector<float> other = whole_rows(300, kD, 9);
    std::vector<int64_t> updated;
    for (size_t i = 0; i < 300; i++) {
        updated.push_back((i * 7) % kN);
        std::copy_n(&other[i * kD], kD, &changed[updated[i] * kD]);
    }
    for (auto map : {kNoMap, kHashtable, kArray}) {
        auto index = full(map);
        index->update_vectors(300, updated.data(), other.data());
        EXPECT_EQ(index->direct_map.type, map);
        expect_map_right(*index);
        auto fresh = empty();
        fresh->add(kN, changed.data());
        expect_same(*index, *fresh);
    }
}

TEST_P(MaintenanceTest, UpdateOfAnUnknownIdChangesNothing) {
    for (auto map : {kNoMap, kHashtable, kArray}) {
        auto index = full(map);
        auto before = entries_of(*index);
        int64_t ids[] = {5, 6, int64_t(kN) + 4};
        std::string message = message_of(
                [&] { index->update_vectors(3, ids, queries_.data()); });
        EXPECT_NE(message.find("904"), std::string::npos) << message;
        ids[2] = 5;
        message = message_of(
                [&] { index->update_vectors(3, ids, queries_.data()); });
        EXPECT_NE(message.find("5"), std::string::npos) << message;
        std::vector<float> bad = part(queries_, 0, 2);
        bad[kD + 3] = NAN;
        EXPECT_NE(
                message_of([&] { index->update_vectors(2, ids, bad.data()); }),
                "");
        EXPECT_EQ(index->direct_map.type, map);
        expect_map_right(*index);
        EXPECT_TRUE(entries_of(*index) == before);
        EXPECT_EQ(index->ntotal, int64_t(kN));
    }
}

// ---- reconstruct, encode, decode ----

TEST_P(MaintenanceTest, ReconstructGivesRawRowsOrNearOnes) {
    std::vector<float> all(kN * kD), row(kD);
    for (auto map : {kHashtable, kArray}) {
        auto index = full(map);
        index->reconstruct_n(0, kN, all.data());
        double error = 0, size = 0;
        for (size_t i = 0; i < kN * kD; i++) {
            error += std::pow(all[i] - rows_[i], 2);
            size += std::pow(rows_[i], 2);
        }
        if (has_raw()) {
            EXPECT_EQ(all, rows_);
        } else {
            bool codes = GetParam().tier == Tier::Codes;
            EXPECT_LT(error / size, codes ? .2 : 1e-3);
        }
        index->reconstruct(17, row.data());
        EXPECT_EQ(row, part(all, 17, 18));
        std::vector<float> few(5 * kD);
        index->reconstruct_n(100, 5, few.data());
        EXPECT_EQ(few, part(all, 100, 105));
    }
}

TEST_P(MaintenanceTest, DecodeVectorsAgreesWithReconstruct) {
    auto index = full(kArray);
    std::vector<int64_t> lists(kN);
    faiss_ext::assign_lists(index->state(), kN, rows_.data(), lists.data());
    std::vector<uint8_t> codes(kN * index->code_size);
    index->encode_vectors(kN, rows_.data(), lists.data(), codes.data());
    std::vector<float> decoded(kN * kD), stored(kN * kD);
    index->decode_vectors(kN, codes.data(), lists.data(), decoded.data());
    index->reconstruct_n(0, kN, stored.data());
    EXPECT_EQ(decoded, stored);
    std::vector<uint8_t> sa_codes(kN * index->sa_code_size());
    index->encode_vectors(
            kN, rows_.data(), lists.data(), sa_codes.data(), true);
    index->sa_decode(kN, sa_codes.data(), decoded.data());
    EXPECT_EQ(decoded, stored);
}

TEST_P(MaintenanceTest, EncodeVectorsToleratesListMinusOne) {
    auto index = empty();
    int64_t lists[] = {1, -1, 2};
    std::vector<uint8_t> codes(3 * index->code_size, 99);
    index->encode_vectors(3, rows_.data(), lists, codes.data());
    for (size_t i = 0; i < index->code_size; i++) {
        EXPECT_EQ(codes[index->code_size + i], 0);
    }
}

TEST_P(MaintenanceTest, ResetThenAddEqualsAFreshIndex) {
    for (auto map : {kNoMap, kHashtable, kArray}) {
        auto index = full(map);
        index->reset();
        EXPECT_EQ(index->ntotal, 0);
        EXPECT_TRUE(entries_of(*index).empty());
        EXPECT_EQ(search(*index, queries_, 3).labels[0], -1);
        index->add(kN, rows_.data());
        expect_map_right(*index);
        expect_same(*index, *full());
    }
}

INSTANTIATE_TEST_SUITE_P(
        Kinds,
        MaintenanceTest,
        testing::ValuesIn(all_kinds()),
        kind_name);

} // namespace
