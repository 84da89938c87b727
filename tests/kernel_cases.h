/*
 * The kernels that select and multiply, one test each; test_kernels.cpp
 * includes them.
 */

#pragma once

#include "kernel_fixtures.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <numeric>

namespace {

// -------------------------------------------------------------------- select

TEST(SelectKeys, KeepsTheLargestAtEveryLevel) {
    for (size_t n = 1; n <= 700; n += n < 40 ? 1 : 37) {
        for (size_t keep : {size_t(1), (n + 1) / 2, n - n / 5, n}) {
            // many equal scores: only the positions differ
            size_t scores = 1 + random_below(n);
            Guarded<uint64_t> keys(n);
            uint64_t position = 0;
            keys.fill([&] {
                return uint64_t(random_below(scores)) << 32 | position++;
            });
            if (random_below(4) == 0) {
                std::sort(keys.data(), keys.data() + n);
            }
            std::vector<uint64_t> expected(keys.data(), keys.data() + n);
            std::sort(expected.rbegin(), expected.rend());
            expected.resize(keep);
            for (const Kernels* level : all_levels()) {
                Guarded<uint64_t> work(n);
                std::copy_n(keys.data(), n, work.data());
                Guarded<uint64_t> scratch(n + kSelectSlack);
                uint64_t smallest = level->select_keys(
                        {work.data(), n, keep, scratch.data()});
                ASSERT_EQ(smallest, expected.back()) << level->name;
                std::vector<uint64_t> kept(work.data(), work.data() + keep);
                std::sort(kept.rbegin(), kept.rend());
                ASSERT_EQ(kept, expected)
                        << level->name << " n " << n << " keep " << keep;
            }
        }
    }
}

// -------------------------------------------------------------------- panels

TEST(PanelProducts, SameBitsAtEveryLevel) {
    for (size_t d : dimensions()) {
        for (int repeat = 0; repeat < 6; repeat++) {
            size_t nx = repeat == 0 ? 1 : random_below(20);
            size_t ny = 1 + random_below(repeat < 3 ? 200 : 40);
            size_t ldx = d + random_below(3);
            size_t panels = (ny + 15) / 16;
            size_t ldo = 16 * panels + random_below(3);
            Guarded<float> x(nx == 0 ? 0 : (nx - 1) * ldx + d);
            Guarded<float> y(panels * d * 16, 64);
            x.fill(random_float);
            y.fill(random_float);
            for (size_t j = ny; j < panels * 16; j++) {
                for (size_t k = 0; k < d; k++) {
                    y[(j / 16 * d + k) * 16 + j % 16] = 0;
                }
            }
            Guarded<float> expected(nx * ldo);
            expected.fill([] { return -7; });
            PanelArgs args{
                    x.data(), nx, ldx, d, y.data(), ny, expected.data(), ldo};
            scalar().panel_products(args);
            for (size_t i = 0; i < nx; i += 3) {
                size_t j = random_below(ny);
                double sum = 0;
                for (size_t k = 0; k < d; k++) {
                    sum += double(x[i * ldx + k]) *
                           y[(j / 16 * d + k) * 16 + j % 16];
                }
                ASSERT_NEAR(expected[i * ldo + j], sum, 1e-6 * d);
            }
            for (const Kernels* level : all_levels()) {
                Guarded<float> out(nx * ldo);
                out.fill([] { return -7; });
                args.out = out.data();
                level->panel_products(args);
                ASSERT_TRUE(out.same_bits(expected))
                        << level->name << " nx " << nx << " ny " << ny << " d "
                        << d;
            }
        }
    }
}

TEST(BytePanelProducts, EveryShape) {
    for (size_t d = 4; d <= 1000; d += d < 80 ? 4 : 92) {
        for (int repeat = 0; repeat < 5; repeat++) {
            size_t nq = 1 + random_below(repeat < 3 ? 20 : 5);
            size_t ny = 1 + random_below(repeat < 3 ? 40 : 300);
            size_t panels = (ny + 15) / 16;
            size_t ldo = 16 * panels + random_below(20);
            Guarded<int8_t> queries(nq * d);
            Guarded<uint8_t> rows(panels * d * 16, 64);
            if (repeat == 0) { // the largest sums
                bool negative = random_below(2);
                queries.fill([&] { return negative ? -63 : 63; });
                rows.fill([] { return 255; });
            } else {
                queries.fill([] { return int(random_below(127)) - 63; });
                rows.fill([] { return rng() & 255; });
            }
            Guarded<float> scales(16 * panels);
            Guarded<float> bonuses(16 * panels);
            Guarded<float> terms(16 * panels);
            for (Guarded<float>* values : {&scales, &bonuses, &terms}) {
                values->fill(random_float);
            }
            terms[0] = repeat == 1 ? NAN : repeat == 2 ? -HUGE_VALF : 0;
            terms[1] = HUGE_VALF;
            Guarded<int32_t> excess(nq);
            excess.fill([] { return int32_t(random_below(1 << 20)); });
            Guarded<float> steps(nq);
            steps.fill([] { return 0.01f * float(1 + random_below(9)); });
            Guarded<float> factors(nq);
            factors.fill(random_float);
            std::vector<float> expected(nq * ldo, -7);
            for (size_t at = 0; at < nq * 16 * panels; at++) {
                size_t q = at / (16 * panels);
                size_t j = at % (16 * panels);
                int32_t product = -excess[q];
                for (size_t i = 0; i < d; i++) {
                    product += queries[q * d + i] *
                               rows[((j / 16 * (d / 4) + i / 4) * 16 + j % 16) *
                                            4 +
                                    i % 4];
                }
                float score = std::fma(
                        steps[q] * scales[j],
                        float(product),
                        std::fma(factors[q], bonuses[j], terms[j]));
                expected[q * ldo + j] =
                        std::isnan(score)
                                ? -FLT_MAX
                                : std::clamp(score, -FLT_MAX, FLT_MAX);
            }
            for (const Kernels* level : all_levels()) {
                Guarded<float> out(nq * ldo);
                out.fill([] { return -7; });
                level->byte_panel_scores(
                        {queries.data(),
                         nq,
                         d,
                         rows.data(),
                         ny,
                         excess.data(),
                         steps.data(),
                         factors.data(),
                         scales.data(),
                         bonuses.data(),
                         terms.data(),
                         out.data(),
                         ldo});
                ASSERT_EQ(
                        expected,
                        std::vector<float>(out.data(), out.data() + out.size()))
                        << level->name << " nq " << nq << " ny " << ny << " d "
                        << d;
            }
        }
    }
}

// ----------------------------------------------------------------------- top

TEST(TopScores, SameKeysAtEveryLevelAndTheBestAmongThem) {
    for (size_t n = 1; n <= 1500; n += n < 40 ? 1 : 173) {
        for (size_t wanted : {size_t(1), (n + 9) / 10, (n + 1) / 2, n}) {
            for (size_t distinct : {size_t(1), size_t(5), size_t(1) << 20}) {
                Guarded<float> scores(n);
                scores.fill([&] {
                    return float(random_below(distinct)) - distinct / 3.0f;
                });
                scores[random_below(n)] = -FLT_MAX;
                scores[random_below(n)] = -0.f;
                std::vector<std::vector<uint64_t>> found;
                for (const Kernels* level : all_levels()) {
                    Guarded<uint64_t> keys(n + kScanSlack);
                    size_t count = level->top_scores(
                            {scores.data(), n, wanted, keys.data()});
                    ASSERT_GE(count, wanted) << level->name;
                    ASSERT_LE(count, n) << level->name;
                    found.emplace_back(keys.data(), keys.data() + count);
                    ASSERT_EQ(found.back(), found.front()) << level->name;
                }
                std::vector<size_t> order(n);
                std::iota(order.begin(), order.end(), 0);
                std::stable_sort(
                        order.begin(), order.end(), [&](auto a, auto b) {
                            return scores[a] > scores[b];
                        });
                std::vector<uint64_t>& keys = found.front();
                ASSERT_TRUE(std::is_sorted(
                        keys.begin(), keys.end(), [](uint64_t a, uint64_t b) {
                            return uint32_t(~a) < uint32_t(~b);
                        }));
                std::sort(keys.rbegin(), keys.rend());
                for (size_t i = 0; i < keys.size(); i++) {
                    ASSERT_EQ(uint32_t(~keys[i]), order[i]) << "n " << n;
                }
                if (distinct > n) { // half as many and 16 more, not all
                    EXPECT_LE(keys.size(), wanted + wanted / 2 + 16);
                }
            }
        }
    }
}

TEST(NearLargest, TheScoresWithinTheMarginAtEveryLevel) {
    for (size_t n = 1; n <= 1500; n += n < 40 ? 1 : 173) {
        for (float margin : {0.f, 0.5f, 3.f, FLT_MAX}) {
            Guarded<float> scores(n);
            scores.fill([&] { return float(random_below(9)) - 4.25f; });
            scores[random_below(n)] = -FLT_MAX;
            scores[random_below(n)] = 4.5f;
            float largest = *std::max_element(scores.data(), scores.data() + n);
            std::vector<uint32_t> expected;
            for (size_t i = 0; i < n; i++) {
                if (scores[i] >= largest - margin) {
                    expected.push_back(uint32_t(i));
                }
            }
            for (const Kernels* level : all_levels()) {
                Guarded<uint64_t> keys(n + kScanSlack);
                size_t count = level->near_largest(
                        {scores.data(), n, margin, keys.data()});
                std::vector<uint32_t> found;
                for (size_t i = 0; i < count; i++) {
                    found.push_back(uint32_t(~keys[i]));
                    if (i > 0) {
                        bool above = scores[found[i - 1]] >= scores[found[i]];
                        ASSERT_EQ(keys[i - 1] > keys[i], above);
                    }
                }
                ASSERT_EQ(found, expected) << level->name << " n " << n;

                // the same scores, by their bound
                Guarded<uint64_t> again(n + kScanSlack);
                size_t reached = level->reaching(
                        {scores.data(), n, largest - margin, again.data()});
                ASSERT_EQ(reached, count) << level->name << " n " << n;
                ASSERT_TRUE(std::equal(
                        keys.data(), keys.data() + count, again.data()));
            }
            for (const Kernels* level : all_levels()) {
                Guarded<uint64_t> keys(n + kScanSlack);
                EXPECT_EQ(
                        level->reaching(
                                {scores.data(), n, FLT_MAX, keys.data()}),
                        0);
            }
        }
    }
}

// ---------------------------------------------------------------------- rows

TEST(ByteRows, EveryShape) {
    for (size_t d : dimensions()) {
        for (size_t n : {0, 1, 2, 3, 4, 5, 7, 8, 13, 21}) {
            bool extreme = random_below(4) == 0;
            Guarded<int8_t> high(d);
            Guarded<int8_t> low(d);
            high.fill([&] {
                return extreme ? 127 : int(random_below(255)) - 127;
            });
            low.fill(
                    [&] { return extreme ? 63 : int(random_below(128)) - 64; });
            std::vector<Guarded<int8_t>> rows;
            std::vector<const int8_t*> pointers;
            std::vector<int32_t> expected;
            for (size_t r = 0; r < n; r++) {
                rows.emplace_back(d, 1, random_below(3));
                rows[r].fill([&] { return extreme ? -128 : int(rng() & 255); });
                pointers.push_back(rows[r].data());
                int64_t sum = 0;
                for (size_t i = 0; i < d; i++) {
                    sum += (128 * high[i] + low[i]) * rows[r][i];
                }
                ASSERT_EQ(sum, static_cast<int32_t>(sum));
                expected.push_back(static_cast<int32_t>(sum));
            }
            for (const Kernels* level : all_levels()) {
                Guarded<int32_t> out(n);
                level->byte_rows_dot(
                        {pointers.data(),
                         n,
                         d,
                         high.data(),
                         low.data(),
                         out.data()});
                for (size_t r = 0; r < n; r++) {
                    ASSERT_EQ(out[r], expected[r])
                            << level->name << " d " << d << " row " << r
                            << " of " << n;
                }
            }
        }
    }
}

/// float to half precision, for values that need no rounding: multiples of
/// 1/1024 in (-1, 1), and of 2^-24 (subnormals) when tiny
uint16_t to_fp16(int numerator, bool tiny) {
    uint16_t sign = numerator < 0 ? 0x8000 : 0;
    int mantissa = std::abs(numerator);
    if (tiny || mantissa == 0) {
        return sign | mantissa; // exponent 0: mantissa * 2^-24
    }
    int exponent = 15 + 10 - 10;
    for (; mantissa < 1024; mantissa *= 2) {
        exponent--;
    }
    return sign | exponent << 10 | (mantissa & 1023);
}

enum class RowKind { kFp16, kBf16, kFloat, kL2 };

class FloatRows : public testing::TestWithParam<RowKind> {};

TEST_P(FloatRows, AgreeToRounding) {
    const RowKind kind = GetParam();
    const size_t bytes =
            kind == RowKind::kFp16 || kind == RowKind::kBf16 ? 2 : 4;
    auto kernel = [&](const Kernels& k) {
        return kind == RowKind::kFp16   ? k.fp16_rows_dot
               : kind == RowKind::kBf16 ? k.bf16_rows_dot
               : kind == RowKind::kL2   ? k.float_rows_l2
                                        : k.float_rows_dot;
    };
    for (size_t d : dimensions()) {
        for (size_t n : {0, 1, 2, 3, 4, 5, 7, 8, 13, 21}) {
            Guarded<float> query(d);
            query.fill(random_float);
            std::vector<Guarded<uint8_t>> rows;
            std::vector<const void*> pointers;
            std::vector<double> expected;
            for (size_t r = 0; r < n; r++) {
                rows.emplace_back(d * bytes, 1, random_below(3));
                pointers.push_back(rows[r].data());
                expected.push_back(0);
                bool tiny = random_below(4) == 0;
                for (size_t i = 0; i < d; i++) {
                    int numerator = int(random_below(2047)) - 1023;
                    float value = numerator / 1024.f;
                    uint32_t bits;
                    if (kind == RowKind::kFp16) {
                        value = tiny ? numerator * 0x1p-24f : value;
                        bits = to_fp16(numerator, tiny);
                    } else {
                        memcpy(&bits, &value, 4);
                    }
                    if (kind == RowKind::kBf16) {
                        bits &= 0xffff0000u;
                        memcpy(&value, &bits, 4);
                        bits >>= 16;
                    }
                    memcpy(&rows[r][i * bytes], &bits, bytes);
                    double difference = double(query[i]) - value;
                    expected[r] += kind == RowKind::kL2
                                           ? difference * difference
                                           : double(query[i]) * value;
                }
            }
            for (const Kernels* level : all_levels()) {
                Guarded<float> out(n);
                kernel (*level)(
                        {pointers.data(), n, d, query.data(), out.data()});
                for (size_t r = 0; r < n; r++) {
                    ASSERT_NEAR(out[r], expected[r], 4e-6 * d)
                            << level->name << " d " << d << " row " << r;
                }
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(
        Kinds,
        FloatRows,
        testing::Values(
                RowKind::kFp16,
                RowKind::kBf16,
                RowKind::kFloat,
                RowKind::kL2));

TEST(Fp16Rows, ReadsEveryFiniteValue) {
    for (const Kernels* level : all_levels()) {
        for (uint32_t bits = 0; bits < 0x10000; bits++) {
            int exponent = bits >> 10 & 31;
            if (exponent == 31) {
                continue;
            }
            int mantissa = (bits & 1023) + (exponent == 0 ? 0 : 1024);
            float value =
                    std::ldexp(float(mantissa), std::max(exponent, 1) - 25);
            uint16_t half = static_cast<uint16_t>(bits);
            const void* row = &half;
            float one = 1;
            float out;
            level->fp16_rows_dot({&row, 1, 1, &one, &out});
            ASSERT_EQ(out, bits & 0x8000 ? -value : value) << level->name;
        }
    }
}

} // namespace
