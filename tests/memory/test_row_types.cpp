/* The oracle is arithmetic of its own: halves from their definition, and the
 * nearest of all values of a type by trying them all. */

#include <faiss_ext/memory/row_types.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include <faiss/impl/FaissException.h>
#include <gtest/gtest.h>

#include "fixtures/random_rows.h"

using namespace faiss_ext;

namespace {

/// Value of a half from its definition, NaN and infinities apart.
double half_value(uint16_t bits, int mantissa_bits, int bias) {
    const int mantissa = bits & ((1 << mantissa_bits) - 1);
    const int exponent = (bits & 0x7FFF) >> mantissa_bits;
    const double magnitude =
            exponent == 0
                    ? std::ldexp(double(mantissa), 1 - bias - mantissa_bits)
                    : std::ldexp(
                              double(mantissa + (1 << mantissa_bits)),
                              exponent - bias - mantissa_bits);
    return bits & 0x8000 ? -magnitude : magnitude;
}

/// All finite values of a 16-bit type, with their bits, ascending.
std::vector<std::pair<double, uint16_t>> all_halves(RowType type) {
    const int mantissa = type == RowType::FP16 ? 10 : 7;
    const int bias = type == RowType::FP16 ? 15 : 127;
    std::vector<std::pair<double, uint16_t>> halves;
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        const uint32_t specials = type == RowType::FP16 ? 0x7C00 : 0x7F80;
        if ((bits & specials) != specials && bits != 0x8000) {
            halves.emplace_back(
                    half_value(uint16_t(bits), mantissa, bias), bits);
        }
    }
    std::sort(halves.begin(), halves.end());
    return halves;
}

TEST(RowTypes, AreFoundByTheirNames) {
    for (RowType type : kRowTypes) {
        EXPECT_EQ(row_type_named(name_of(type)), type);
    }
    for (const char* name : {"", "float", "float64", "uint16", "Float32"}) {
        EXPECT_EQ(row_type_named(name), std::nullopt) << name;
    }
}

TEST(RowTypes, EveryValueIsReadAndWritten) {
    for (RowType type : {RowType::FP16, RowType::BF16}) {
        for (const auto& [value, bits] : all_halves(type)) {
            float read = 7;
            to_floats(type, 1, &bits, &read);
            ASSERT_EQ(double(read), value) << name_of(type) << " " << bits;
            uint16_t written = 7;
            from_floats(type, 1, &read, &written);
            ASSERT_EQ(written, bits) << name_of(type);
        }
    }
    for (int i = 0; i < 256; i++) {
        const auto byte = uint8_t(i);
        float as_int8, as_uint8;
        to_floats(RowType::Int8, 1, &byte, &as_int8);
        to_floats(RowType::UInt8, 1, &byte, &as_uint8);
        EXPECT_EQ(as_int8, i < 128 ? i : i - 256);
        EXPECT_EQ(as_uint8, i);
        uint8_t written;
        from_floats(RowType::Int8, 1, &as_int8, &written);
        EXPECT_EQ(written, byte);
        from_floats(RowType::UInt8, 1, &as_uint8, &written);
        EXPECT_EQ(written, byte);
    }
}

TEST(RowTypes, SpecialHalvesStaySo) {
    for (RowType type : {RowType::FP16, RowType::BF16}) {
        const uint16_t infinity = type == RowType::FP16 ? 0x7C00 : 0x7F80;
        const uint16_t bits[] = {
                infinity, uint16_t(infinity | 0x8000), uint16_t(infinity + 1)};
        float values[3];
        to_floats(type, 3, bits, values);
        EXPECT_EQ(values[0], HUGE_VALF);
        EXPECT_EQ(values[1], -HUGE_VALF);
        EXPECT_TRUE(std::isnan(values[2]));
    }
}

TEST(RowTypes, OneValueThatIsNotFiniteIsFoundAnywhere) {
    for (RowType type : kRowTypes) {
        const bool is_half = type == RowType::FP16 || type == RowType::BF16;
        const bool is_float = is_half || type == RowType::Float32;
        EXPECT_TRUE(all_finite(type, 0, nullptr));
        for (size_t n : {1, 7, 40}) {
            std::vector<float> most(n, is_half ? 65504.f : 127.f);
            // an odd address
            std::vector<char> bytes(1 + n * value_bytes(type));
            char* values = bytes.data() + 1;
            from_floats(type, n, most.data(), values);
            EXPECT_TRUE(all_finite(type, n, values));
            for (size_t at = 0; is_float && at < n; at++) {
                for (float bad : {HUGE_VALF, -HUGE_VALF, NAN, -NAN}) {
                    char* value = values + at * value_bytes(type);
                    from_floats(type, 1, &bad, value);
                    EXPECT_FALSE(all_finite(type, n, values)) << name_of(type);
                    from_floats(type, 1, most.data(), value);
                }
            }
        }
    }
}

TEST(RowTypes, EveryHalfIsFiniteOrNot) {
    for (RowType type : {RowType::FP16, RowType::BF16}) {
        for (uint32_t bits = 0; bits < 0x10000; bits++) {
            const auto half = uint16_t(bits);
            float value;
            to_floats(type, 1, &half, &value);
            ASSERT_EQ(all_finite(type, 1, &half), std::isfinite(value)) << bits;
        }
    }
}

TEST(RowTypes, HalvesAreTheNearestToEvenBetweenTwo) {
    auto values = random_rows::normal(3000, 1);
    for (size_t i = 0; i < 1000; i++) {
        values[i] *= std::ldexp(1.f, int(i % 30) - 22);
        values[1000 + i] = 1 + float(i) / 4096; // many ties
    }
    for (RowType type : {RowType::FP16, RowType::BF16}) {
        const auto halves = all_halves(type);
        for (float x : values) {
            const auto above = std::lower_bound(
                    halves.begin(),
                    halves.end(),
                    std::pair<double, uint16_t>(x, 0));
            const auto below = above - 1;
            const double up = above->first - x, down = x - below->first;
            const bool take_above =
                    up < down || (up == down && above->second % 2 == 0);
            uint16_t written;
            from_floats(type, 1, &x, &written);
            float read;
            to_floats(type, 1, &written, &read);
            ASSERT_EQ(double(read), (take_above ? above : below)->first)
                    << name_of(type) << " of " << x;
        }
    }
}

TEST(RowTypes, WhatDoesNotFitIsNamed) {
    struct Case {
        RowType type;
        float value;
        bool fits;
    };
    const Case cases[] = {
            {RowType::Float32, 3e38f, true},
            {RowType::FP16, 65504, true},
            {RowType::FP16, 65519.9961f, true},
            {RowType::FP16, 65520, false},
            {RowType::FP16, -65520, false},
            {RowType::FP16, 1e-30f, true},
            {RowType::BF16, 3.389e38f, true},
            {RowType::BF16, 3.4e38f, false},
            {RowType::Int8, -128, true},
            {RowType::Int8, 127, true},
            {RowType::Int8, 128, false},
            {RowType::Int8, -129, false},
            {RowType::Int8, .5f, false},
            {RowType::UInt8, 255, true},
            {RowType::UInt8, 0, true},
            {RowType::UInt8, -1, false},
            {RowType::UInt8, 256, false},
            {RowType::UInt8, 1e-3f, false}};
    for (const Case& c : cases) {
        std::vector<float> rows(5 * 3, 1);
        rows[3 * 3 + 2] = c.value;
        std::string message;
        try {
            check_held(c.type, 5, 3, rows.data(), "row", 100);
        } catch (const faiss::FaissException& error) {
            message = error.what();
        }
        EXPECT_EQ(message.empty(), c.fits) << name_of(c.type) << " " << c.value;
        if (!c.fits) {
            EXPECT_NE(message.find("row 103, dimension 2"), message.npos);
            EXPECT_NE(message.find(name_of(c.type)), message.npos) << message;
        } else if (c.type != RowType::Float32) {
            uint8_t bytes[4];
            float read;
            from_floats(c.type, 1, &c.value, bytes);
            to_floats(c.type, 1, bytes, &read);
            EXPECT_TRUE(std::isfinite(read)) << name_of(c.type);
        }
    }
}

TEST(RowTypes, NoValuesNeedNoMemory) {
    for (RowType type : kRowTypes) {
        to_floats(type, 0, nullptr, nullptr);
        from_floats(type, 0, nullptr, nullptr);
        EXPECT_TRUE(all_finite(type, 0, nullptr));
    }
}

TEST(RowTypes, RowsAreReadAtAnyAddress) {
    constexpr size_t kN = 9, kD = 5;
    for (RowType type : kRowTypes) {
        std::vector<float> values(kN * kD);
        std::iota(values.begin(), values.end(), 1.f);
        const size_t size = values.size() * value_bytes(type);
        // floats are borrowed where they are: those must be aligned
        const size_t shift = type == RowType::Float32 ? 4 : 1;
        std::vector<uint8_t> memory(size + shift);
        from_floats(type, values.size(), values.data(), memory.data() + shift);
        const TypedRows rows(memory.data() + shift, type, kD);
        std::vector<float> storage;
        const float* some = rows.floats(2, 6, storage);
        EXPECT_TRUE(std::equal(some, some + 6 * kD, &values[2 * kD]));
        EXPECT_EQ(storage.empty(), type == RowType::Float32);
        const size_t which[] = {8, 0, 3, 3};
        std::vector<float> gathered(4 * kD);
        rows.gather(4, which, gathered.data());
        for (size_t i = 0; i < 4; i++) {
            EXPECT_TRUE(std::equal(
                    &gathered[i * kD],
                    &gathered[i * kD] + kD,
                    &values[which[i] * kD]));
        }
    }
}

} // namespace
