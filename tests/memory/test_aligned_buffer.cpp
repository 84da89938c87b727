/* A growable, aligned buffer: whose memory it is, and what is in it. */

#include <cstdint>
#include <new>
#include <numeric>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <faiss_ext/memory/aligned_buffer.h>

namespace {

using faiss_ext::AlignedBuffer;
using faiss_ext::kAlignment;

template <class T>
class AlignedBuffers : public testing::Test {};
using Elements = testing::Types<uint8_t, uint16_t, float, int64_t>;
TYPED_TEST_SUITE(AlignedBuffers, Elements);

template <class T>
std::vector<T> contents(const AlignedBuffer<T>& buffer) {
    return {buffer.data(), buffer.data() + buffer.size()};
}

template <class T>
void expect_aligned(const AlignedBuffer<T>& buffer) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % kAlignment, 0u);
}

/// n elements 1, 2, ..
template <class T>
AlignedBuffer<T> counting(size_t n) {
    AlignedBuffer<T> buffer(n);
    std::iota(buffer.mutable_data(), buffer.mutable_data() + n, T(1));
    return buffer;
}

TYPED_TEST(AlignedBuffers, GrowWithZeros) {
    AlignedBuffer<TypeParam> buffer;
    std::vector<TypeParam> expected;
    for (size_t n : {0, 1, 3, 64, 65, 40, 66, 1000, 7}) {
        buffer.resize(n);
        expected.resize(n);
        ASSERT_EQ(contents(buffer), expected) << n;
        if (n > 0) {
            expect_aligned(buffer);
            // not zero when the buffer grows over it again
            buffer.mutable_data()[n - 1] = expected[n - 1] = TypeParam(n % 100);
        }
    }
}

TYPED_TEST(AlignedBuffers, GrowByHalfAtLeast) {
    AlignedBuffer<TypeParam> buffer(100);
    EXPECT_EQ(buffer.capacity(), 100u);
    buffer.resize(101);
    EXPECT_GE(buffer.capacity(), 150u);
    buffer.reserve_exactly(400);
    EXPECT_EQ(buffer.capacity(), 400u);
    EXPECT_EQ(buffer.size(), 101u);
    EXPECT_EQ(buffer.allocated_bytes(), 400 * sizeof(TypeParam));
    buffer.shrink_to_fit();
    EXPECT_EQ(buffer.capacity(), 101u);
}

TYPED_TEST(AlignedBuffers, CopiesAreOfTheirOwnAndMovesAreNot) {
    AlignedBuffer<TypeParam> buffer = counting<TypeParam>(70);
    const std::vector<TypeParam> expected = contents(buffer);
    AlignedBuffer<TypeParam> copy = buffer;
    expect_aligned(copy);
    copy.mutable_data()[0] = 99;
    EXPECT_EQ(contents(buffer), expected);
    const TypeParam* memory = buffer.data();
    AlignedBuffer<TypeParam> moved = std::move(buffer);
    EXPECT_EQ(moved.data(), memory);
    EXPECT_EQ(contents(moved), expected);
    copy = std::move(moved);
    EXPECT_EQ(copy.data(), memory);
    AlignedBuffer<TypeParam>& same = copy;
    copy = same;
    EXPECT_EQ(contents(copy), expected);
    copy.clear();
    EXPECT_TRUE(copy.empty());
    EXPECT_EQ(copy.allocated_bytes(), 0u);
}

TYPED_TEST(AlignedBuffers, BorrowedMemoryIsCopiedBeforeItIsWrittenTo) {
    using Buffer = AlignedBuffer<TypeParam>;
    const std::vector<TypeParam> file = contents(counting<TypeParam>(50));
    const std::vector<TypeParam> before = file;
    const std::vector<void (*)(Buffer&)> changes = {
            [](Buffer& b) { b.mutable_data()[3] = 77; },
            [](Buffer& b) { b.resize(51); },
            [](Buffer& b) { b.resize(20); },
            [](Buffer& b) { b.reserve(50); },
            [](Buffer& b) { b.reserve_exactly(60); }};
    for (size_t i = 0; i < changes.size(); i++) {
        Buffer buffer = Buffer::borrow(file.data(), file.size());
        EXPECT_TRUE(buffer.is_borrowed());
        EXPECT_EQ(buffer.data(), file.data());
        EXPECT_EQ(buffer.allocated_bytes(), 0u);
        changes[i](buffer);
        EXPECT_FALSE(buffer.is_borrowed()) << i;
        EXPECT_NE(buffer.data(), file.data()) << i;
        EXPECT_EQ(buffer[0], file[0]) << i;
        EXPECT_EQ(file, before) << i;
    }
    Buffer buffer = Buffer::borrow(file.data(), file.size());
    buffer.shrink_to_fit();
    buffer.reserve_exactly(50);
    EXPECT_TRUE(buffer.is_borrowed()) << "nothing was written";
    Buffer copy = buffer;
    EXPECT_FALSE(copy.is_borrowed());
    EXPECT_EQ(contents(copy), file);
}

TYPED_TEST(AlignedBuffers, LentMemoryIsFilledAndThenLeft) {
    using Buffer = AlignedBuffer<TypeParam>;
    AlignedBuffer<TypeParam> arena(64);
    Buffer buffer = Buffer::lend(arena.mutable_data(), 64);
    EXPECT_TRUE(buffer.is_lent());
    EXPECT_TRUE(buffer.empty());
    buffer.resize(64);
    buffer.mutable_data()[63] = 5;
    EXPECT_EQ(buffer.data(), arena.data());
    EXPECT_EQ(buffer.allocated_bytes(), 0u);
    EXPECT_EQ(arena[63], TypeParam(5));
    buffer.shrink_to_fit();
    EXPECT_TRUE(buffer.is_lent());
    buffer.resize(65);
    EXPECT_FALSE(buffer.is_lent());
    EXPECT_EQ(buffer[63], TypeParam(5));
    buffer.mutable_data()[63] = 6;
    EXPECT_EQ(arena[63], TypeParam(5));
}

TYPED_TEST(AlignedBuffers, WhatMemoryCannotHoldLeavesThem) {
    AlignedBuffer<TypeParam> buffer = counting<TypeParam>(10);
    const std::vector<TypeParam> before = contents(buffer);
    // also of more bytes than a size_t counts: as few as 8 remain
    const size_t all = SIZE_MAX / sizeof(TypeParam);
    for (size_t n :
         {SIZE_MAX,
          SIZE_MAX - 1,
          SIZE_MAX / 2,
          all,
          all - 1,
          all + (sizeof(TypeParam) > 1),
          all / 2 + 1}) {
        EXPECT_THROW(buffer.resize(n), std::bad_alloc) << n;
        EXPECT_THROW(buffer.reserve(n), std::bad_alloc) << n;
        EXPECT_THROW(buffer.reserve_exactly(n), std::bad_alloc) << n;
        EXPECT_EQ(contents(buffer), before);
        EXPECT_EQ(buffer.capacity(), 10u);
    }
}

} // namespace
