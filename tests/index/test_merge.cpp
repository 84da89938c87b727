/* Moving rows between indexes, and adds that fail half way. */

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/model/index_state.h>

#include <map>
#include <stdexcept>
#include <unordered_map>

#include "fixtures/index_fixtures.h"

namespace {

using namespace fixtures;
using faiss_ext::SubsetType;

constexpr size_t kD = 16;
constexpr size_t kN = 900;
constexpr size_t kLists = 12;
constexpr size_t k = 20;

/// Ids and lists of all rows, and what searches of everything find.
struct State {
    int64_t ntotal;
    std::vector<std::vector<int64_t>> ids;
    std::vector<std::vector<int64_t>> copies;
    std::vector<int64_t> array;
    std::unordered_map<int64_t, int64_t> hashtable;
    Hits hits;
    bool operator==(const State&) const = default;
};

std::vector<std::vector<int64_t>> ids_of(const faiss_ext::ScaNNLists* lists) {
    std::vector<std::vector<int64_t>> ids;
    for (size_t l = 0; lists != nullptr && l < lists->nlist; l++) {
        const int64_t* begin = lists->get_ids(l);
        ids.emplace_back(begin, begin + lists->list_size(l));
    }
    return ids;
}

State state_of(const IndexIVFScaNN& index) {
    SearchParametersScaNN params = exhaustive(index);
    return {index.ntotal,
            ids_of(index.state().lists.get()),
            ids_of(index.state().spilled.get()),
            index.direct_map.array,
            index.direct_map.hashtable,
            search(index, whole_rows(10, kD, 2), k, &params)};
}

class MergeTest : public testing::TestWithParam<Kind> {
 protected:
    std::unique_ptr<IndexIVFScaNN> empty() const {
        const IndexIVFScaNN& master = *made_once(GetParam().name(), [&] {
            return trained(GetParam(), rows_, kD, kLists);
        });
        return trained_like(master);
    }
    /// Rows [from, to) under the numbers from + shift ...
    std::unique_ptr<IndexIVFScaNN>
    with(size_t from, size_t to, int64_t shift = 0) const {
        auto index = empty();
        add(*index, from, to, shift);
        return index;
    }
    void add(IndexIVFScaNN& index, size_t from, size_t to, int64_t shift = 0)
            const {
        std::vector<int64_t> ids;
        for (size_t i = from; i < to; i++) {
            ids.push_back(int64_t(i) + shift);
        }
        index.add_with_ids(to - from, &rows_[from * kD], ids.data());
    }
    /// Finds, with all candidates rescored, what `expected` finds.
    void expect_finds_same(
            const IndexIVFScaNN& index,
            const IndexIVFScaNN& expected) const {
        EXPECT_EQ(index.ntotal, expected.ntotal);
        SearchParametersScaNN params = exhaustive(expected);
        for (size_t nprobe : {3, int(kLists)}) {
            params.nprobe = nprobe;
            EXPECT_TRUE(
                    search(index, queries_, k, &params) ==
                    search(expected, queries_, k, &params))
                    << "nprobe " << nprobe;
        }
        expect_copies_right(index);
    }
    /// Spilled copies refer to the row of their own id.
    void expect_copies_right(const IndexIVFScaNN& index) const {
        const faiss_ext::ScaNNLists* spilled = index.state().spilled.get();
        for (size_t l = 0; spilled != nullptr && l < kLists; l++) {
            const faiss_ext::ScaNNList& copies = spilled->list(l);
            for (size_t i = 0; i < copies.size(); i++) {
                uint64_t place = copies.primary[i];
                ASSERT_EQ(
                        index.state().lists->get_single_id(
                                faiss::lo_listno(place),
                                faiss::lo_offset(place)),
                        copies.ids[i]);
            }
        }
    }

    const std::vector<float> rows_ = whole_rows(kN, kD, 1);
    const std::vector<float> queries_ = whole_rows(20, kD, 2);
};

// ---- merge_from ----

TEST_P(MergeTest, MergedEqualsOneIndex) {
    auto a = with(0, 400), b = with(400, kN);
    a->merge_from(*b, 0);
    EXPECT_EQ(b->ntotal, 0);
    EXPECT_TRUE(
            ids_of(b->state().lists.get()) ==
            ids_of(empty()->state().lists.get()));
    EXPECT_TRUE(
            ids_of(b->state().spilled.get()) ==
            ids_of(empty()->state().spilled.get()));
    expect_finds_same(*a, *with(0, kN));
}

TEST_P(MergeTest, AddIdIsAddedToTheIdsOfTheOther) {
    auto a = with(0, 400), b = empty();
    b->add(kN - 400, &rows_[400 * kD]); // numbers from 0
    a->merge_from(*b, 400);
    expect_finds_same(*a, *with(0, kN));
}

TEST_P(MergeTest, ListsOfWholeBlocksMerge) {
    for (size_t size : {32, 64, 512}) {
        auto a = empty(), b = empty(), both = empty();
        std::vector<int64_t> assign(size, 3);
        std::vector<float> x = whole_rows(2 * size, kD, 5);
        a->add_core(size, x.data(), nullptr, assign.data());
        b->add_core(size, &x[size * kD], nullptr, assign.data());
        a->merge_from(*b, size);
        assign.resize(2 * size, 3);
        both->add_core(2 * size, x.data(), nullptr, assign.data());
        expect_finds_same(*a, *both);
    }
}

TEST_P(MergeTest, TheOtherCanBeFilledAgain) {
    auto a = with(0, 400), b = with(400, 700);
    a->merge_from(*b, 0);
    add(*b, 700, kN);
    a->merge_from(*b, 0);
    expect_finds_same(*a, *with(0, kN));
    auto c = empty();
    a->merge_from(*c, 0);
    c->merge_from(*a, 0);
    expect_finds_same(*c, *with(0, kN));
}

TEST_P(MergeTest, MergedCanBeChanged) {
    auto a = with(0, 400), b = with(400, kN);
    a->merge_from(*b, 0);
    faiss::IDSelectorRange sel(300, 600);
    EXPECT_EQ(a->remove_ids(sel), 300u);
    add(*a, 300, 600);
    expect_finds_same(*a, *with(0, kN));
}

TEST_P(MergeTest, DirectMapsForbidMergingAsInFaiss) {
    for (bool on_this : {false, true}) {
        auto a = with(0, 400), b = with(400, kN);
        (on_this ? a : b)->set_direct_map_type(faiss::DirectMap::Hashtable);
        State before_a = state_of(*a), before_b = state_of(*b);
        EXPECT_NE(message_of([&] { a->merge_from(*b, 0); }), "");
        EXPECT_TRUE(state_of(*a) == before_a);
        EXPECT_TRUE(state_of(*b) == before_b);
    }
}

TEST_P(MergeTest, DifferentTrainingForbidsMerging) {
    auto a = with(0, 400);
    auto b = trained(GetParam(), whole_rows(kN, kD, 8), kD, kLists);
    b->add(100, rows_.data());
    State before_a = state_of(*a), before_b = state_of(*b);
    EXPECT_NE(message_of([&] { a->merge_from(*b, 0); }), "");
    EXPECT_NE(
            message_of([&] { a->copy_subset_to(*b, SubsetType(0), 0, kN); }),
            "");
    EXPECT_TRUE(state_of(*a) == before_a);
    EXPECT_TRUE(state_of(*b) == before_b);
}

TEST_P(MergeTest, OtherTiersForbidMerging) {
    auto a = with(0, 400);
    Kind other = GetParam();
    other.tier = other.tier == Tier::Int8 ? Tier::FP16 : Tier::Int8;
    auto b = filled(other, rows_, kD, kLists);
    EXPECT_NE(message_of([&] { a->merge_from(*b, 0); }), "");
    EXPECT_NE(message_of([&] { a->merge_from(*a, 0); }), "");
    EXPECT_EQ(a->ntotal, 400);
    EXPECT_EQ(b->ntotal, int64_t(kN));
}

// ---- copy_subset_to ----

TEST_P(MergeTest, CopyByIdRange) {
    auto a = with(0, kN), b = empty();
    a->copy_subset_to(*b, SubsetType(0), 200, 500);
    expect_finds_same(*b, *with(200, 500));
    expect_finds_same(*a, *with(0, kN));
}

TEST_P(MergeTest, CopyByIdRemainder) {
    auto a = with(0, kN), b = empty(), expected = empty();
    a->copy_subset_to(*b, SubsetType(1), 5, 2);
    for (size_t i = 2; i < kN; i += 5) {
        add(*expected, i, i + 1);
    }
    expect_finds_same(*b, *expected);
}

TEST_P(MergeTest, CopyByShareOfElements) {
    auto a = with(0, kN), first = empty(), second = empty();
    a->copy_subset_to(*first, SubsetType(2), 0, 333);
    a->copy_subset_to(*second, SubsetType(2), 333, kN);
    EXPECT_EQ(first->ntotal, 333);
    EXPECT_EQ(second->ntotal, int64_t(kN) - 333);
    expect_copies_right(*first);
    expect_copies_right(*second);
    first->merge_from(*second, 0);
    expect_finds_same(*first, *a);
}

TEST_P(MergeTest, CopyIntoAnIndexThatHoldsRows) {
    auto a = with(0, 500), b = with(500, kN);
    a->copy_subset_to(*b, SubsetType(0), 0, 500);
    expect_finds_same(*b, *with(0, kN));
}

TEST_P(MergeTest, CopyOfEqualIdsKeepsCopiesWithTheirRows) {
    auto a = empty(), b = empty();
    add(*a, 0, 100);
    add(*a, 100, 200, -100); // the same ids again
    a->copy_subset_to(*b, SubsetType(0), 20, 50);
    EXPECT_EQ(b->ntotal, 60);
    expect_copies_right(*b);
}

// ---- adds that fail ----

TEST_P(MergeTest, NaNInTheLastRowLeavesTheIndex) {
    for (auto map :
         {faiss::DirectMap::NoMap,
          faiss::DirectMap::Array,
          faiss::DirectMap::Hashtable}) {
        auto index = empty();
        index->set_direct_map_type(map);
        index->add(500, rows_.data());
        State before = state_of(*index);
        for (float bad : {NAN, INFINITY, -INFINITY}) {
            std::vector<float> x = rows_;
            x.back() = bad;
            std::string message = message_of([&] { index->add(kN, x.data()); });
            EXPECT_NE(message.find("899"), std::string::npos) << message;
            EXPECT_TRUE(state_of(*index) == before);
        }
        index->add(kN - 500, &rows_[500 * kD]);
        expect_finds_same(*index, *with(0, kN));
    }
}

TEST_P(MergeTest, ProgressThatThrowsLeavesTheIndex) {
    std::vector<float> many = whole_rows(9000, kD, 4); // two chunks
    for (auto map :
         {faiss::DirectMap::NoMap,
          faiss::DirectMap::Array,
          faiss::DirectMap::Hashtable}) {
        auto index = empty();
        index->set_direct_map_type(map);
        index->add(kN, rows_.data());
        State before = state_of(*index);
        for (int fatal : {0, 1, 2}) {
            int calls = 0;
            index->progress = [&](const char*, size_t, size_t) {
                if (calls++ == fatal) {
                    throw std::runtime_error("enough");
                }
            };
            EXPECT_THROW(index->add(9000, many.data()), std::runtime_error);
            EXPECT_TRUE(state_of(*index) == before) << fatal;
        }
        index->progress = nullptr;
        index->add(100, many.data());
        EXPECT_EQ(index->ntotal, int64_t(kN) + 100);
        expect_copies_right(*index);
    }
}

TEST_P(MergeTest, ListsOutOfRangeLeaveTheIndex) {
    auto index = with(0, 100);
    State before = state_of(*index);
    for (int64_t list : {int64_t(-2), int64_t(kLists), int64_t(1) << 40}) {
        std::vector<int64_t> assign = {0, 1, list};
        std::string message = message_of([&] {
            index->add_core(3, rows_.data(), nullptr, assign.data());
        });
        EXPECT_NE(message.find(std::to_string(list)), std::string::npos);
        EXPECT_NE(message.find("11"), std::string::npos) << message;
        EXPECT_TRUE(state_of(*index) == before);
    }
    std::vector<uint8_t> codes(3 * index->sa_code_size(), 0xFF);
    EXPECT_NE(
            message_of([&] { index->add_sa_codes(3, codes.data(), nullptr); }),
            "");
    EXPECT_TRUE(state_of(*index) == before);
}

TEST_P(MergeTest, OwnIdsWithAnArrayMapThrow) {
    auto index = empty();
    index->make_direct_map();
    index->add(100, rows_.data());
    State before = state_of(*index);
    std::vector<int64_t> ids = {7, 8};
    EXPECT_NE(
            message_of(
                    [&] { index->add_with_ids(2, rows_.data(), ids.data()); }),
            "");
    EXPECT_TRUE(state_of(*index) == before);
}

INSTANTIATE_TEST_SUITE_P(
        Kinds,
        MergeTest,
        testing::Values(
                Kind{kIP, Tier::Codes},
                Kind{kL2, Tier::Codes},
                Kind{kIP, Tier::Int8},
                Kind{kL2, Tier::Int8Raw},
                Kind{kIP, Tier::Raw},
                Kind{kIP, Tier::Codes, 1},
                Kind{kL2, Tier::Int8, 1},
                Kind{kL2, Tier::Raw, 1}),
        kind_name);

} // namespace
