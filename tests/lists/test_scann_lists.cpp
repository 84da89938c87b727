/* The lists against a std::vector of entries per list. */

#include <algorithm>

#include <faiss_ext/memory/column_arena.h>

#include "fixtures/lists_model.h"

namespace {

using namespace lists_model;

TEST(ScaNNLists, EntriesRoundTripInEveryLayout) {
    for (const EntryLayout& layout : all_layouts()) {
        Model model(2, layout, 1);
        model.add(0, 33);
        model.add(1, 7);
        model.check();
    }
}

TEST(ScaNNLists, SingleEntriesAreThoseOfTheList) {
    Model model(1, full_layout(), 2);
    model.add(0, 40);
    for (size_t i = 0; i < 40; i++) {
        faiss::InvertedLists::ScopedCodes code(&model.lists, 0, i);
        const Entry& entry = model.entries[0][i];
        EXPECT_TRUE(
                std::equal(entry.bytes.begin(), entry.bytes.end(), code.get()));
        EXPECT_EQ(model.lists.get_single_id(0, i), entry.id);
    }
}

TEST(ScaNNLists, AnyOrderOfChangesEqualsTheModel) {
    for (const EntryLayout& layout : all_layouts()) {
        if (layout.M != 7 && layout.M != 8) {
            continue;
        }
        Model model(3, layout, 3);
        for (int step = 0; step < 60; step++) {
            size_t l = model.random() % 3;
            size_t n = model.entries[l].size();
            switch (model.random() % 5) {
                case 0:
                case 1:
                    model.add(l, model.random() % 40);
                    break;
                case 2:
                    if (n > 0) {
                        size_t offset = model.random() % n;
                        model.update(
                                l, offset, model.random() % (n - offset + 1));
                    }
                    break;
                case 3:
                    model.resize(l, model.random() % (n + 5));
                    break;
                case 4: {
                    std::vector<size_t> offsets;
                    for (size_t i = 0; i < n; i++) {
                        if (model.random() % 4 == 0) {
                            offsets.push_back(i);
                        }
                    }
                    model.remove(l, offsets);
                    break;
                }
            }
            model.check();
        }
    }
}

TEST(ScaNNLists, RemoveTakesExactlyTheGivenEntries) {
    for (size_t n : {1, 2, 31, 32, 33, 64, 70}) {
        for (size_t every : {1, 2, 3, 7}) {
            Model model(1, full_layout(), n);
            model.add(0, n);
            std::vector<int64_t> expected;
            std::vector<size_t> offsets;
            for (size_t i = 0; i < n; i++) {
                if (i % every == 0) {
                    offsets.push_back(i);
                } else {
                    expected.push_back(model.entries[0][i].id);
                }
            }
            model.remove(0, offsets);
            model.check();
            std::vector<int64_t> left;
            for (const Entry& entry : model.entries[0]) {
                left.push_back(entry.id);
            }
            std::sort(left.begin(), left.end());
            std::sort(expected.begin(), expected.end());
            EXPECT_EQ(left, expected);
        }
    }
}

TEST(ScaNNLists, WorkOfFaissOnListsEqualsTheModel) {
    Model a(2, full_layout(), 5), b(2, full_layout(), 6);
    a.add(0, 32);
    a.add(1, 5);
    b.add(0, 64);
    b.add(1, 3);
    a.lists.merge_from(&b.lists, 1000);
    for (size_t l = 0; l < 2; l++) {
        for (Entry entry : b.entries[l]) {
            entry.id += 1000;
            a.entries[l].push_back(entry);
        }
        b.entries[l].clear();
    }
    a.check();
    b.check();
}

TEST(ScaNNLists, OffsetsBeyondTheListThrow) {
    Model model(2, full_layout(), 7);
    model.add(0, 10);
    std::vector<uint8_t> entry(model.lists.code_size);
    int64_t id = 0;
    EXPECT_ANY_THROW(model.lists.get_single_id(0, 10));
    EXPECT_ANY_THROW(model.lists.get_single_code(0, 10));
    EXPECT_ANY_THROW(model.lists.list_size(2));
    EXPECT_ANY_THROW(model.lists.read_entries(0, 5, 6, entry.data()));
    EXPECT_ANY_THROW(model.lists.update_entries(0, 10, 1, &id, entry.data()));
    model.check();
}

/// 64 bytes an entry, 2^58 entries: sizes of a file can say so.
/// Of each list, all but every tenth entry.
TEST(ScaNNLists, CopyIsIndependent) {
    Model model(3, full_layout(), 14);
    model.add(0, 50);
    model.add(2, 3);
    auto copy = model.lists.copy();
    model.add(0, 10);
    model.remove(2, {0, 1});
    EXPECT_EQ(copy->list_size(0), 50u);
    EXPECT_EQ(copy->list_size(2), 3u);
    std::vector<uint8_t> entries(50 * copy->code_size);
    copy->read_entries(0, 0, 50, entries.data());
    for (size_t i = 0; i < 50; i++) {
        Entry entry{copy->get_single_id(0, i), {}};
        const uint8_t* bytes = entries.data() + i * copy->code_size;
        entry.bytes.assign(bytes, bytes + copy->code_size);
        EXPECT_EQ(entry, model.entries[0][i]);
    }
}

/// check() compares `apart` with the terms after each step
void expect_count_apart(const Model& model, size_t l, size_t expected) {
    model.check();
    EXPECT_EQ(model.lists.list(l).apart.size(), expected);
}

/// Entries of which those at the given offsets are apart.
void add_some_apart(
        Model& model,
        size_t l,
        size_t n,
        const std::vector<size_t>& apart) {
    for (size_t i = 0; i < n; i++) {
        Entry entry = model.random_entry();
        bool is_one = std::count(apart.begin(), apart.end(), i) > 0;
        uint16_t term = is_one ? ScoreTerm::kApart : ScoreTerm::kLargest;
        std::memcpy(&entry.bytes[model.lists.layout().term_offset()], &term, 2);
        model.lists.add_entries(l, 1, &entry.id, entry.bytes.data());
        model.entries[l].push_back(entry);
    }
}

TEST(ScaNNLists, RowsApartStayApartThroughChanges) {
    Model model(2, full_layout(), 15);
    add_some_apart(model, 0, 70, {0, 31, 32, 33, 64, 68, 69});
    expect_count_apart(model, 0, 7);
    add_some_apart(model, 0, 2, {1}); // 71
    expect_count_apart(model, 0, 8);
    expect_count_apart(model, 1, 0);
    // 71, apart, moves to 31, which goes; 70, not apart, to 5
    model.remove(0, {5, 31});
    expect_count_apart(model, 0, 7);
    auto apart = model.lists.list(0).apart;
    EXPECT_TRUE(std::count(apart.begin(), apart.end(), 31u));
    // 68 and 69 move to ordinary places, and into one of each other
    model.remove(0, {1, 2});
    expect_count_apart(model, 0, 7);
    model.remove(0, {0, 67});
    expect_count_apart(model, 0, 6);
    model.resize(0, 33);
    expect_count_apart(model, 0, model.lists.list(0).apart.size());
    EXPECT_LT(apart_of(model.lists, 0).back(), 33u);
    model.resize(0, 80); // entries of zeros
    model.check();
    model.update(0, 20, 30);
    model.check();
    model.remove(0, {0, 1, 2, 3, 4, 5, 6, 7});
    model.check();
    model.resize(0, 0);
    expect_count_apart(model, 0, 0);
}

TEST(ScaNNLists, RowsApartAreCopiedMergedAndReset) {
    Model a(2, full_layout(), 16), b(2, full_layout(), 17);
    add_some_apart(a, 0, 40, {3, 39});
    add_some_apart(a, 1, 5, {});
    add_some_apart(b, 0, 33, {0, 32});
    add_some_apart(b, 1, 4, {2});
    auto copy = a.lists.copy();
    a.lists.merge_from(&b.lists, 0);
    for (size_t l = 0; l < 2; l++) {
        a.entries[l].insert(
                a.entries[l].end(), b.entries[l].begin(), b.entries[l].end());
        b.entries[l].clear();
    }
    expect_count_apart(b, 0, 0);
    expect_count_apart(b, 1, 0);
    a.check();
    EXPECT_EQ(apart_of(a.lists, 0), (std::vector<uint32_t>{3, 39, 40, 72}));
    EXPECT_EQ(apart_of(a.lists, 1), (std::vector<uint32_t>{7}));
    EXPECT_EQ(apart_of(*copy, 0), (std::vector<uint32_t>{3, 39}));
    EXPECT_TRUE(copy->list(1).apart.empty());
    a.remove(0, {3});
    EXPECT_EQ(apart_of(*copy, 0), (std::vector<uint32_t>{3, 39}));
    // memory that is given back takes none of them along
    a.resize(0, 1);
    add_some_apart(a, 0, 3, {1});
    a.lists.release_unused();
    expect_count_apart(a, 0, a.lists.list(0).apart.size());
    a.lists.reset();
    EXPECT_TRUE(a.lists.list(0).apart.empty());
    // Faiss' lists have no such column: it comes with the entries
    faiss::ArrayInvertedLists plain(2, copy->code_size);
    Model from(2, full_layout(), 18);
    add_some_apart(from, 0, 50, {1, 2, 49});
    faiss::InvertedLists::ScopedIds ids(&from.lists, 0);
    faiss::InvertedLists::ScopedCodes codes(&from.lists, 0);
    plain.add_entries(0, 50, ids.get(), codes.get());
    copy->merge_from(&plain, 0);
    EXPECT_EQ(apart_of(*copy, 0), apart_by_terms(*copy, copy->layout(), 0));
    EXPECT_EQ(copy->list(0).apart.size(), 5);
}

TEST(ScaNNLists, WritesDoNotReachBorrowedMemory) {
    EntryLayout layout;
    layout.d = 4;
    layout.M = 4;
    layout.has_term = false;
    Model model(1, layout, 11);
    model.add(0, 40);
    const ScaNNList& list = model.lists.list(0);
    std::vector<uint8_t> file(
            list.packed.data(), list.packed.data() + list.packed.size());
    std::vector<int64_t> ids(list.ids.data(), list.ids.data() + 40);
    std::vector<uint8_t> file_before = file;
    ScaNNList& borrowed = model.lists.mutable_list(0);
    borrowed.packed = AlignedBuffer<uint8_t>::borrow(file.data(), file.size());
    borrowed.ids = AlignedBuffer<int64_t>::borrow(ids.data(), ids.size());
    model.check();
    model.remove(0, {0, 7, 39});
    model.add(0, 1);
    model.update(0, 3, 2);
    model.check();
    EXPECT_EQ(file, file_before);
}

} // namespace
