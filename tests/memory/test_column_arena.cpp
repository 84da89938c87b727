/* The piece of memory of many lists. */

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <new>

#include <gtest/gtest.h>

#include <faiss_ext/memory/column_arena.h>

namespace {

using faiss_ext::ColumnArena;

constexpr size_t kHugePage = size_t(2) << 20;

bool all_are(const uint8_t* p, size_t n, uint8_t value) {
    return std::all_of(p, p + n, [=](uint8_t byte) { return byte == value; });
}

size_t page() {
    return size_t(sysconf(_SC_PAGESIZE));
}

TEST(ColumnArena, IsZeroAlignedAndWritableToItsEnd) {
    for (size_t bytes :
         {size_t(1),
          size_t(4096),
          kHugePage - 1,
          kHugePage,
          2 * kHugePage + 9}) {
        ColumnArena arena(bytes);
        auto at = reinterpret_cast<uintptr_t>(arena.data());
        EXPECT_EQ(at % 64, 0u) << bytes;
        EXPECT_TRUE(bytes < kHugePage || at % kHugePage == 0) << bytes;
        EXPECT_EQ(arena.memory_usage(), bytes);
        EXPECT_TRUE(all_are(arena.data(), bytes, 0)) << bytes;
        std::fill_n(arena.data(), bytes, uint8_t(1));
        EXPECT_TRUE(all_are(arena.data(), bytes, 1)) << bytes;
    }
}

TEST(ColumnArena, OfNothingHoldsNothing) {
    EXPECT_EQ(ColumnArena(0).memory_usage(), 0u);
}

TEST(ColumnArena, SaysWhatTheSystemHasNot) {
    for (size_t bytes : {SIZE_MAX, SIZE_MAX - kHugePage, SIZE_MAX / 2}) {
        EXPECT_THROW(ColumnArena{bytes}, std::bad_alloc) << bytes;
    }
}

TEST(ColumnArena, GivesBackWholePagesOfAPiece) {
    const size_t bytes = 8 * page();
    ColumnArena arena(bytes);
    std::fill_n(arena.data(), bytes, uint8_t(1));
    // less than a page, and the parts of two
    arena.give_back(arena.data() + 10, page() - 10);
    arena.give_back(arena.data() + page() + 1, page());
    EXPECT_EQ(arena.memory_usage(), bytes);
    EXPECT_TRUE(all_are(arena.data(), bytes, 1));
    // of this only the pages 4 and 5
    arena.give_back(arena.data() + 4 * page() - 100, 2 * page() + 200);
    EXPECT_EQ(arena.memory_usage(), bytes - 2 * page());
    EXPECT_TRUE(all_are(arena.data(), 4 * page(), 1));
    EXPECT_TRUE(all_are(arena.data() + 4 * page(), 2 * page(), 0));
    EXPECT_TRUE(all_are(arena.data() + 6 * page(), 2 * page(), 1));
}

} // namespace
