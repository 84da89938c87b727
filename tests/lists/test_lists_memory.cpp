/* The memory of the lists: room in advance, arenas, what is given back. */

#include <algorithm>
#include <new>

#include <faiss_ext/memory/column_arena.h>

#include "fixtures/lists_model.h"
#include "fixtures/sanitizers.h"

#if FAISS_EXT_ADDRESS_SANITIZER
/// Allocations that are too large return nullptr here too.
extern "C" const char* __asan_default_options() {
    return "allocator_may_return_null=1";
}
#endif

namespace {

using namespace lists_model;

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
    const uint8_t* raw = model.lists.list(0).raw.data();
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
    const uint8_t* raw = nullptr;
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
    const uint8_t* raw = nullptr;
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
        model.apart_every = 1000; // as a rule few: not estimated
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

} // namespace
