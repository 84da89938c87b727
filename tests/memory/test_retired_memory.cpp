/* When memory that was replaced is freed. */

#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include <faiss_ext/memory/retired_memory.h>

namespace {

using faiss_ext::RetiredMemory;

/// Counts those that live.
struct Counted : RetiredMemory::Item {
    std::atomic<int>& count;
    explicit Counted(std::atomic<int>& count) : count(count) {
        count++;
    }
    ~Counted() override {
        count--;
    }
};

/// A chain of so many, each of which keeps one item.
std::vector<std::shared_ptr<RetiredMemory>> chain(
        size_t n,
        std::atomic<int>& count) {
    std::vector<std::shared_ptr<RetiredMemory>> all;
    for (size_t i = 0; i < n; i++) {
        all.push_back(std::make_shared<RetiredMemory>());
        all[i]->keep(std::make_unique<Counted>(count));
        if (i > 0) {
            all[i - 1]->set_next(all[i]);
        }
    }
    return all;
}

TEST(RetiredMemory, IsFreedOnceNoOlderVersionIsLeft) {
    std::atomic<int> count = 0;
    auto all = chain(5, count);
    EXPECT_EQ(count, 5);
    all[0].reset();
    EXPECT_EQ(count, 4);
    all[2].reset(); // its memory is shown by version 1, too
    all[3].reset();
    EXPECT_EQ(count, 4);
    all[1].reset();
    EXPECT_EQ(count, 1);
    all[4].reset();
    EXPECT_EQ(count, 0);
}

TEST(RetiredMemory, LongChainsAreFreedWithoutRecursion) {
    std::atomic<int> count = 0;
    auto all = chain(1000000, count);
    auto first = all.front();
    all.clear();
    EXPECT_EQ(count, 1000000);
    first.reset();
    EXPECT_EQ(count, 0);
}

TEST(RetiredMemory, ThreadsGiveVersionsBackInAnyOrder) {
    for (int round = 0; round < 20; round++) {
        std::atomic<int> count = 0;
        auto all = chain(400, count);
        std::vector<std::thread> threads;
        for (size_t t = 0; t < 4; t++) {
            threads.emplace_back([&all, t] {
                for (size_t i = 0; i < 100; i++) {
                    all[(i * 37 % 100) * 4 + t].reset();
                }
            });
        }
        for (std::thread& thread : threads) {
            thread.join();
        }
        EXPECT_EQ(count, 0);
    }
}

} // namespace
