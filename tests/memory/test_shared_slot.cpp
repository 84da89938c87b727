/* A pointer that is replaced while it is read. */

#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include <faiss_ext/memory/shared_slot.h>

namespace {

using faiss_ext::SharedSlot;

TEST(SharedSlot, HoldsTheLastValueAlone) {
    SharedSlot<int> slot;
    EXPECT_EQ(slot.load(), nullptr);
    auto first = std::make_shared<int>(1);
    slot.store(first);
    EXPECT_EQ(slot.load(), first);
    slot.store(std::make_shared<int>(2));
    EXPECT_EQ(*slot.load(), 2);
    EXPECT_EQ(first.use_count(), 1);
    slot.store(nullptr);
    EXPECT_EQ(slot.load(), nullptr);
}

/// Readers see whole values, never older than one that they have seen.
TEST(SharedSlot, IsReadWhileItIsReplaced) {
    struct Value {
        size_t a, b;
    };
    constexpr size_t kValues = 20000;
    SharedSlot<const Value> slot;
    slot.store(std::make_shared<const Value>(Value{0, 0}));
    std::atomic<bool> stop = false;
    std::atomic<size_t> wrong = 0;
    std::vector<std::thread> readers;
    for (size_t t = 0; t < 3; t++) {
        readers.emplace_back([&] {
            for (size_t last = 0; !stop;) {
                const auto value = slot.load();
                wrong += value->a != value->b || value->a < last;
                last = value->a;
            }
        });
    }
    for (size_t i = 1; i <= kValues; i++) {
        slot.store(std::make_shared<const Value>(Value{i, i}));
    }
    stop = true;
    for (std::thread& reader : readers) {
        reader.join();
    }
    EXPECT_EQ(wrong, 0u);
    EXPECT_EQ(slot.load()->a, kValues);
}

} // namespace
