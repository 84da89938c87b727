/* The cache of rows: gives back what was put, keeps what is asked for, within its
 * bytes, from many threads. */

#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include <faiss_ext/lists/row_cache.h>

namespace {

using faiss_ext::RowCache;

/// The row at a place: bytes that only it has.
std::vector<uint8_t> row_of(uint64_t place, size_t row_bytes) {
    std::mt19937_64 random(place);
    std::vector<uint8_t> row(row_bytes);
    for (uint8_t& byte : row) {
        byte = uint8_t(random());
    }
    return row;
}

class RowCaches : public testing::TestWithParam<size_t> {
 protected:
    static constexpr uint64_t kFit = 1000; ///< rows
    const size_t row_bytes = GetParam();
    const uint64_t bytes = kFit * (row_bytes + 10);

    void put(RowCache& cache, uint64_t row) {
        const uint64_t place = 4096 + row * row_bytes;
        cache.put(place, row_of(place, row_bytes).data());
    }
    /// Whether it is there; what is there must be right.
    bool has(RowCache& cache, uint64_t row) {
        const uint64_t place = 4096 + row * row_bytes;
        // of its exact size, for the sanitizers
        std::vector<uint8_t> found(row_bytes, 1);
        const std::vector<uint8_t> before = found;
        const bool is_there = cache.get(place, found.data());
        EXPECT_EQ(found, is_there ? row_of(place, row_bytes) : before);
        return is_there;
    }
};

INSTANTIATE_TEST_SUITE_P(
        Sizes,
        RowCaches,
        testing::Values(1, 3, 128, 516, 3072),
        testing::PrintToStringParamName());

TEST_P(RowCaches, GiveBackWhatWasPut) {
    RowCache cache(1 << 20, row_bytes);
    EXPECT_LE(cache.bytes(), 1u << 20);
    EXPECT_FALSE(has(cache, 0));
    for (uint64_t row : {0, 1, 2, 0, 50}) {
        put(cache, row);
        EXPECT_TRUE(has(cache, row));
    }
    EXPECT_TRUE(has(cache, 1));
    EXPECT_FALSE(has(cache, 3));
}

/// Four fifths of what fits at least: sets are filled unevenly.
TEST_P(RowCaches, KeepAsManyRowsAsFit) {
    RowCache cache(bytes, row_bytes);
    for (uint64_t row = 0; row < kFit; row++) {
        put(cache, row);
    }
    uint64_t kept = 0;
    for (uint64_t row = 0; row < kFit; row++) {
        kept += has(cache, row);
    }
    EXPECT_GE(kept, kFit * 4 / 5);
}

/// One row in ten is asked for again and again, the others come once.
TEST_P(RowCaches, KeepWhatIsAskedFor) {
    RowCache cache(bytes, row_bytes);
    constexpr uint64_t hot = kFit / 10;
    uint64_t misses = 0;
    for (uint64_t round = 0; round < 20; round++) {
        for (uint64_t row = 0; row < hot; row++) {
            if (!has(cache, row)) {
                misses += round > 0;
                put(cache, row);
            }
        }
        for (uint64_t row = 0; row < 5 * hot; row++) {
            put(cache, 1'000'000 + round * 5 * hot + row);
        }
    }
    EXPECT_LE(misses, hot * 19 / 20);
}

TEST_P(RowCaches, WithoutRoomKeepNothing) {
    for (uint64_t few : {0, 1, 8}) {
        RowCache cache(few, row_bytes);
        put(cache, 1);
        EXPECT_FALSE(has(cache, 1));
        EXPECT_EQ(cache.bytes(), 0u);
    }
}

TEST_P(RowCaches, FromManyThreadsAreRight) {
    RowCache cache(bytes / 20, row_bytes);
    std::atomic<size_t> found{0};
    auto work = [&](unsigned seed) {
        std::mt19937 random(seed);
        for (int i = 0; i < 3000; i++) {
            const uint64_t row = random() % 64;
            if (has(cache, row)) {
                found++;
            } else {
                put(cache, row);
            }
        }
    };
    std::vector<std::thread> threads;
    for (unsigned seed = 0; seed < 4; seed++) {
        threads.emplace_back(work, seed);
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_GT(found, 0u);
}

} // namespace
