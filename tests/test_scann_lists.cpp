/* The lists against a std::vector of entries per list. */

#include <faiss_ext/scann_lists.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <new>
#include <random>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
/// Allocations that are too large return nullptr here too.
extern "C" const char* __asan_default_options() {
    return "allocator_may_return_null=1";
}
#endif

namespace {

using namespace faiss_ext;

std::vector<EntryLayout> all_layouts() {
    std::vector<EntryLayout> layouts;
    for (size_t M : {1, 2, 7, 8}) {
        for (RefineType refine :
             {RefineType::None,
              RefineType::Int8,
              RefineType::FP16,
              RefineType::BF16}) {
            for (int bits = 0; bits < 12; bits++) {
                EntryLayout layout;
                layout.d = 7;
                layout.M = M;
                layout.refine_type = refine;
                layout.has_term = bits & 1;
                layout.has_primary = bits & 2;
                layout.with_raw_data = bits / 4 >= 1;
                layout.raw_norm = bits / 4 == 2;
                layouts.push_back(layout);
            }
        }
    }
    return layouts;
}

/// The layout with everything in it.
EntryLayout full_layout() {
    EntryLayout layout;
    layout.d = 9;
    layout.M = 5;
    layout.has_term = true;
    layout.refine_type = RefineType::Int8;
    layout.with_raw_data = layout.raw_norm = true;
    layout.has_primary = true;
    return layout;
}

struct Entry {
    int64_t id;
    std::vector<uint8_t> bytes;
    bool operator==(const Entry&) const = default;
};

/// Lists both ways.
class Model {
 public:
    Model(size_t nlist, const EntryLayout& layout, int seed)
            : lists(nlist, layout), entries(nlist), random(seed) {}

    Entry random_entry() {
        Entry entry{int64_t(random()), {}};
        const EntryLayout& layout = lists.layout();
        entry.bytes.resize(layout.size());
        for (uint8_t& byte : entry.bytes) {
            byte = random();
        }
        if (layout.M % 2 == 1) {
            entry.bytes[layout.code_bytes() - 1] &= 0x0F;
        }
        return entry;
    }

    void add(size_t l, size_t n) {
        Batch batch(*this, n);
        size_t at =
                lists.add_entries(l, n, batch.ids.data(), batch.bytes.data());
        ASSERT_EQ(at, entries[l].size());
        entries[l].insert(
                entries[l].end(), batch.entries.begin(), batch.entries.end());
    }

    void update(size_t l, size_t offset, size_t n) {
        Batch batch(*this, n);
        lists.update_entries(
                l, offset, n, batch.ids.data(), batch.bytes.data());
        std::copy(
                batch.entries.begin(),
                batch.entries.end(),
                entries[l].begin() + offset);
    }

    void resize(size_t l, size_t n) {
        lists.resize(l, n);
        std::vector<uint8_t> zeros(lists.code_size);
        entries[l].resize(n, {0, zeros});
    }

    void remove(size_t l, const std::vector<size_t>& offsets) {
        std::vector<Entry>& model = entries[l];
        std::vector<std::pair<size_t, size_t>> moves;
        lists.remove(l, offsets, [&](size_t from, size_t to) {
            moves.push_back({from, to});
        });
        for (auto [from, to] : moves) {
            model[to] = model[from];
        }
        model.resize(model.size() - offsets.size());
    }

    void check() const {
        for (size_t l = 0; l < entries.size(); l++) {
            size_t n = entries[l].size();
            ASSERT_EQ(lists.list_size(l), n);
            faiss::InvertedLists::ScopedIds ids(&lists, l);
            faiss::InvertedLists::ScopedCodes codes(&lists, l);
            for (size_t i = 0; i < n; i++) {
                const uint8_t* bytes = codes.get() + i * lists.code_size;
                Entry entry{ids[i], {bytes, bytes + lists.code_size}};
                ASSERT_EQ(entry, entries[l][i]) << l << ", " << i;
            }
        }
    }

    ScaNNLists lists;
    std::vector<std::vector<Entry>> entries;
    std::mt19937 random;

 private:
    struct Batch {
        Batch(Model& model, size_t n) {
            for (size_t i = 0; i < n; i++) {
                entries.push_back(model.random_entry());
                const Entry& last = entries.back();
                ids.push_back(last.id);
                bytes.insert(bytes.end(), last.bytes.begin(), last.bytes.end());
            }
        }
        std::vector<Entry> entries;
        std::vector<int64_t> ids;
        std::vector<uint8_t> bytes;
    };
};

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

TEST(ScaNNLists, FailedReserveLeavesTheState) {
    EntryLayout small;
    small.d = 4;
    small.M = 2;
    for (const EntryLayout& layout : {full_layout(), small}) {
        Model model(3, layout, 8);
        for (size_t l = 0; l < 3; l++) {
            model.add(l, 20 + l);
        }
        EXPECT_THROW(
                model.lists.reserve({5, size_t(1) << 50, 5}), std::bad_alloc);
        model.check();
        model.add(1, 30);
        model.check();
    }
}

/// 64 bytes an entry, 2^58 entries: sizes of a file can say so.
TEST(ScaNNLists, ReserveOfMoreThanAllMemoryThrows) {
    EntryLayout layout;
    layout.d = 12;
    layout.M = 16;
    layout.has_term = false;
    layout.with_raw_data = true;
    Model model(64, layout, 15);
    EXPECT_THROW(
            model.lists.reserve(std::vector<size_t>(64, size_t(1) << 52)),
            std::bad_alloc);
    model.add(63, 5);
    model.check();
}

TEST(ScaNNLists, AddingAfterReserveAllocatesNothing) {
    Model model(1, full_layout(), 9);
    model.lists.reserve({100});
    const uint8_t* packed = model.lists.list(0).packed.data();
    const float* raw = model.lists.list(0).raw.data();
    size_t before = model.lists.list(0).ids.allocated_bytes();
    for (int i = 0; i < 10; i++) {
        model.add(0, 10);
    }
    EXPECT_EQ(model.lists.list(0).packed.data(), packed);
    EXPECT_EQ(model.lists.list(0).raw.data(), raw);
    EXPECT_EQ(model.lists.list(0).ids.allocated_bytes(), before);
    model.check();
}

TEST(ScaNNLists, FewEntriesOftenAreCopiedSeldom) {
    Model model(2, full_layout(), 12);
    model.lists.reserve({1000, 1000});
    model.add(0, 1000);
    model.add(1, 1000);
    const float* raw = nullptr;
    size_t moves = 0;
    for (size_t i = 0; i < 2000; i++) {
        model.lists.reserve({1, 0});
        model.add(0, 1);
        moves += model.lists.list(0).raw.data() != raw;
        raw = model.lists.list(0).raw.data();
    }
    EXPECT_LE(moves, 8u);
    EXPECT_TRUE(model.lists.list(1).raw.is_lent()) << "was not touched";
    model.check();
}

TEST(ScaNNLists, ListsThatLeaveTheArenaGiveItsPagesBack) {
    EntryLayout layout;
    layout.d = 512;
    layout.M = 128;
    layout.with_raw_data = true;
    Model model(3, layout, 13);
    model.lists.reserve({100, 100, 100});
    for (size_t l = 0; l < 3; l++) {
        model.add(l, 100);
    }
    size_t before = model.lists.memory_usage();
    model.lists.reserve({1, 0, 0});
    model.add(0, 1);
    // 1.5 x of a list is new, all but its edge pages is given back
    EXPECT_LT(model.lists.memory_usage(), before + before / 3 * 6 / 10 + 30000);
    model.check();
    // most entries new: all in an arena again, without slack
    model.lists.reserve({400, 400, 400});
    for (size_t l = 0; l < 3; l++) {
        model.add(l, 400);
    }
    double estimate = ScaNNLists::estimate_memory(layout, 3, 1501);
    EXPECT_NEAR(estimate / model.lists.memory_usage(), 1, 0.05);
    model.check();
}

TEST(ScaNNLists, ResetGivesAllMemoryBack) {
    for (bool in_arena : {true, false}) {
        Model model(3, full_layout(), 16);
        size_t before = model.lists.memory_usage();
        if (in_arena) {
            model.lists.reserve({1000, 1000, 1000});
        }
        for (size_t l = 0; l < 3; l++) {
            model.add(l, 1000);
        }
        model.lists.reset();
        model.entries.assign(3, {});
        EXPECT_EQ(model.lists.memory_usage(), before);
        model.add(1, 7);
        model.check();
    }
}

/// Of each list, all but every tenth entry.
std::vector<size_t> most_of(size_t n) {
    std::vector<size_t> offsets;
    for (size_t i = 0; i < n; i++) {
        if (i % 10 != 0) {
            offsets.push_back(i);
        }
    }
    return offsets;
}

TEST(ScaNNLists, MemoryOfRemovedEntriesIsReleased) {
    EntryLayout layout = full_layout();
    layout.d = 100;
    for (bool in_arena : {true, false}) {
        Model model(30, layout, 17);
        if (in_arena) {
            model.lists.reserve(std::vector<size_t>(30, 200));
        }
        for (size_t l = 0; l < 30; l++) {
            model.add(l, 200);
        }
        size_t before = model.lists.memory_usage();
        for (size_t l = 0; l < 30; l++) {
            model.remove(l, most_of(200));
        }
        EXPECT_TRUE(model.lists.release_unused());
        EXPECT_LT(model.lists.memory_usage(), before / 8);
        EXPECT_FALSE(model.lists.release_unused());
        model.check();
        model.add(3, 40);
        model.check();
    }
}

TEST(ScaNNLists, FewChangesReleaseNothing) {
    EntryLayout layout = full_layout();
    layout.d = 100;
    Model model(30, layout, 18);
    model.lists.reserve(std::vector<size_t>(30, 200));
    for (size_t l = 0; l < 30; l++) {
        model.add(l, 200);
    }
    size_t released = 0, moved = 0;
    const float* raw = nullptr;
    for (size_t i = 0; i < 3000; i++) {
        model.lists.reserve_each({{i % 30, 5}});
        model.add(i % 30, 5);
        model.remove(i % 30, {1, 2, 10, 20, 100});
        released += model.lists.release_unused();
        moved += model.lists.list(7).raw.data() != raw;
        raw = model.lists.list(7).raw.data();
    }
    EXPECT_LE(released, 2u);
    EXPECT_LE(moved, 6u);
    model.check();
}

TEST(ScaNNLists, WhatIsMappedStaysMapped) {
    Model model(2, full_layout(), 19);
    model.add(0, 500);
    model.add(1, 500);
    std::vector<int64_t> ids(
            model.lists.list(0).ids.data(),
            model.lists.list(0).ids.data() + 500);
    model.lists.mutable_list(0).ids =
            AlignedBuffer<int64_t>::borrow(ids.data(), 500);
    size_t before = model.lists.memory_usage();
    model.remove(1, most_of(500));
    EXPECT_TRUE(model.lists.release_unused());
    EXPECT_TRUE(model.lists.list(0).ids.is_borrowed());
    EXPECT_LT(model.lists.memory_usage(), before * 6 / 10);
    model.check();
    model.lists.make_writable(0);
    EXPECT_FALSE(model.lists.list(0).ids.is_borrowed());
    model.check();
}

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

TEST(ColumnArena, IsZeroedAlignedAndCounted) {
    for (size_t bytes :
         {size_t(0), size_t(1), size_t(100000), size_t(5) << 20}) {
        ColumnArena arena(bytes);
        EXPECT_EQ(arena.memory_usage(), bytes);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(arena.data()) % kAlignment, 0u);
        for (size_t i = 0; i < bytes; i += 1000) {
            ASSERT_EQ(arena.data()[i], 0);
        }
        std::fill_n(arena.data(), bytes, uint8_t(7));
        if (bytes < 100000) {
            arena.give_back(arena.data(), bytes);
            EXPECT_EQ(arena.memory_usage(), bytes) << "no whole page";
            continue;
        }
        arena.give_back(arena.data() + 100, 50000);
        EXPECT_LT(arena.memory_usage(), bytes - 30000);
        EXPECT_EQ(arena.data()[99], 7);
        EXPECT_EQ(arena.data()[50100], 7);
    }
    EXPECT_THROW(ColumnArena(size_t(1) << 62), std::bad_alloc);
    EXPECT_THROW(ColumnArena(SIZE_MAX), std::bad_alloc);
}

TEST(ScaNNLists, EstimateMatchesUsage) {
    for (const EntryLayout& layout : all_layouts()) {
        constexpr size_t kLists = 20, kEntries = 2000;
        Model model(kLists, layout, 10);
        std::vector<size_t> sizes(kLists);
        for (size_t i = 0; i < kEntries; i++) {
            sizes[model.random() % kLists]++;
        }
        model.lists.reserve(sizes);
        for (size_t l = 0; l < kLists; l++) {
            model.add(l, sizes[l]);
        }
        double estimate = ScaNNLists::estimate_memory(layout, kLists, kEntries);
        double usage = model.lists.memory_usage();
        EXPECT_NEAR(estimate / usage, 1, 0.05)
                << "M " << layout.M << " entry " << layout.size();
    }
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
