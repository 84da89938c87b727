/*
 * The kernels that make tables and codes, one test each; test_kernels.cpp
 * includes them.
 */

#pragma once

#include "kernel_fixtures.h"

#include <algorithm>
#include <cmath>

namespace {

// -------------------------------------------------------------------- tables

std::vector<uint32_t> random_offsets(size_t M) {
    std::vector<uint32_t> offsets(1, 0);
    for (size_t m = 0; m < M; m++) {
        offsets.push_back(offsets.back() + 1 + random_below(8));
    }
    return offsets;
}

TEST(Tables, SameBitsAtEveryLevel) {
    for (size_t M = 0; M <= 300; M += M < 40 ? 1 : 65) {
        std::vector<uint32_t> offsets = random_offsets(M);
        size_t D = offsets.back();
        Guarded<float> query(D);
        Guarded<float> codebook(D * 16, 64);
        query.fill(random_float);
        codebook.fill(random_float);
        Guarded<float> expected(M * 16, 64);
        TableArgs args{
                query.data(),
                offsets.data(),
                M,
                codebook.data(),
                expected.data(),
                0,
                0};
        scalar().float_table(args);
        for (size_t m = 0; m < M; m++) {
            double sum = 0;
            for (size_t i = offsets[m]; i < offsets[m + 1]; i++) {
                sum += double(query[i]) * codebook[i * 16 + 5];
            }
            ASSERT_NEAR(expected[m * 16 + 5], sum, 1e-5);
        }
        float scales[] = {255 / (args.max_span + 1e-9f), 1000, 0, 3.5e9f};
        for (const Kernels* level : all_levels()) {
            Guarded<float> table(M * 16, 64);
            TableArgs other = args;
            other.table = table.data();
            other.max_span = other.sum_min = -1;
            level->float_table(other);
            ASSERT_TRUE(table.same_bits(expected)) << level->name;
            ASSERT_EQ(args.max_span, other.max_span) << level->name;
            ASSERT_EQ(args.sum_min, other.sum_min) << level->name;
            for (float scale : scales) {
                Guarded<uint8_t> bytes(16 * 4 * ((M + 3) / 4), 64);
                Guarded<uint8_t> expected_bytes(16 * 4 * ((M + 3) / 4), 64);
                bytes.fill([] { return 77; });
                scalar().quantize_table(
                        {expected.data(), M, scale, expected_bytes.data()});
                level->quantize_table(
                        {expected.data(), M, scale, bytes.data()});
                ASSERT_TRUE(bytes.same_bits(expected_bytes))
                        << level->name << " scale " << scale << " M " << M;
            }
        }
    }
}

TEST(Tables, RoundsHalvesToEven) {
    Guarded<float> table(16, 64);
    for (size_t j = 0; j < 16; j++) {
        table[j] = j + 0.5f - 1; // the smallest, -0.5, becomes 0
    }
    table[0] = -1;
    for (const Kernels* level : all_levels()) {
        Guarded<uint8_t> bytes(64, 64);
        level->quantize_table({table.data(), 1, 1.f, bytes.data()});
        for (size_t j = 1; j < 16; j++) {
            EXPECT_EQ(bytes[j], (j + 1) / 2 * 2) << level->name << " " << j;
        }
        EXPECT_EQ(bytes[16], 0);
        EXPECT_EQ(bytes[63], 0);
    }
}

// -------------------------------------------------------------------- encode

TEST(Encode, SameCodesAtEveryLevel) {
    for (size_t M : {1, 2, 3, 7, 25, 64}) {
        for (float eta : {1.f, 1.001f, 4.f, 300.f}) {
            for (size_t rounds : {0, 1, 2, 10}) {
                std::vector<uint32_t> offsets = random_offsets(M);
                size_t D = offsets.back();
                size_t n = 20;
                Guarded<float> residuals(n * D);
                Guarded<float> directions(n * D);
                Guarded<float> codebook(D * 16, 64);
                residuals.fill(random_float);
                directions.fill([&] { return random_float() / std::sqrt(D); });
                // few distinct values: ties must go to the smallest code
                bool coarse = random_below(2);
                codebook.fill([&] {
                    float value = random_float();
                    return coarse ? std::round(2 * value) / 2 : value;
                });
                auto run = [&](const Kernels& kernels) {
                    Guarded<uint8_t> codes(n * M);
                    Guarded<float> scratch(M * 32, 64);
                    kernels.encode(
                            {residuals.data(),
                             eta == 1 ? nullptr : directions.data(),
                             n,
                             offsets.data(),
                             M,
                             codebook.data(),
                             eta,
                             rounds,
                             scratch.data(),
                             codes.data()});
                    return codes;
                };
                auto loss = [&](const uint8_t* codes) {
                    double total = 0;
                    for (size_t i = 0; i < n; i++) {
                        double parallel = 0;
                        for (size_t m = 0; m < M; m++) {
                            for (size_t k = offsets[m]; k < offsets[m + 1];
                                 k++) {
                                double e = residuals[i * D + k] -
                                           codebook[k * 16 + codes[i * M + m]];
                                total += e * e;
                                parallel += e * directions[i * D + k];
                            }
                        }
                        total += (eta - 1) * parallel * parallel;
                    }
                    return total;
                };
                Guarded<uint8_t> expected = run(scalar());
                for (size_t i = 0; i < n * M; i++) {
                    ASSERT_LT(expected[i], 16);
                }
                // no single code of vector 0 could be better
                double best = loss(expected.data());
                for (size_t m = 0; m < M && rounds == 10 && M < 20; m++) {
                    uint8_t kept = expected[m];
                    for (uint8_t j = 0; j < 16; j++) {
                        expected[m] = j;
                        ASSERT_GE(loss(expected.data()), best * (1 - 1e-5));
                    }
                    expected[m] = kept;
                }
                for (const Kernels* level : all_levels()) {
                    Guarded<uint8_t> codes = run(*level);
                    ASSERT_TRUE(codes.same_bits(expected))
                            << level->name << " M " << M << " eta " << eta
                            << " rounds " << rounds;
                }
            }
        }
    }
}

} // namespace
