/* The quantised table of a query: its error bound, proven on random data. */

#include <faiss_ext/search/lookup_table.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include <faiss_ext/kernels/dispatch.h>

namespace {

using namespace faiss_ext;
using kernels::kCodewords;

struct Case {
    size_t d;
    size_t sub_dim;
    float query_scale;
    float codebook_scale;
};

class LookupTableTest : public testing::Test {
 protected:
    std::vector<float> normal(size_t n, float scale) {
        std::normal_distribution<float> distribution(0, scale);
        std::vector<float> values(n);
        for (float& value : values) {
            value = distribution(random_);
        }
        return values;
    }

    ScoreAwarePQ random_pq(const Case& c) {
        ScoreAwarePQ pq(uniform_block_offsets(c.d, c.sub_dim));
        pq.set_codebook(normal(c.d * 16, c.codebook_scale).data(), 1);
        return pq;
    }

    std::vector<uint8_t> random_codes(size_t M) {
        std::vector<uint8_t> codes(M);
        for (uint8_t& code : codes) {
            code = random_() % 16;
        }
        return codes;
    }

    static double exact_score(
            const ScoreAwarePQ& pq,
            const std::vector<float>& query,
            const std::vector<uint8_t>& codes) {
        std::vector<float> decoded(pq.d());
        pq.decode(1, codes.data(), decoded.data());
        double sum = 0;
        for (size_t i = 0; i < pq.d(); i++) {
            sum += double(query[i]) * decoded[i];
        }
        return sum;
    }

    static double quantised_score(
            const LookupTable& table,
            const std::vector<uint8_t>& codes) {
        int sum = 0;
        for (size_t m = 0; m < codes.size(); m++) {
            sum += table.bytes[m * kCodewords + codes[m]];
        }
        return table.offset + double(table.step) * sum;
    }

    std::mt19937 random_{42};
    LookupTable table_;
};

const Case kCases[] = {
        {1, 1, 1, 1},
        {16, 2, 1, 1},
        {17, 2, 1, 1},
        {50, 3, 10, 0.1f},
        {64, 8, 1e-4f, 1e3f},
        {63, 4, 1e3f, 1e-3f},
        {256, 1, 1, 1},
};

TEST_F(LookupTableTest, ErrorIsAtMostHalfAStepPerCode) {
    for (const Case& c : kCases) {
        ScoreAwarePQ pq = random_pq(c);
        for (int round = 0; round < 20; round++) {
            std::vector<float> query = normal(c.d, c.query_scale);
            table_.build(active_kernels(), pq, query.data(), 0);
            double rounding = 1e-6 * c.d * c.query_scale * c.codebook_scale;
            double bound = pq.M() * table_.step / 2 + 10 * rounding;
            for (int i = 0; i < 50; i++) {
                auto codes = random_codes(pq.M());
                ASSERT_NEAR(
                        quantised_score(table_, codes),
                        exact_score(pq, query, codes),
                        bound)
                        << "d " << c.d << " sub_dim " << c.sub_dim;
            }
        }
    }
}

TEST_F(LookupTableTest, FloatScoreIsThatOfTheDecodedVector) {
    for (const Case& c : kCases) {
        ScoreAwarePQ pq = random_pq(c);
        std::vector<float> query = normal(c.d, c.query_scale);
        table_.build(active_kernels(), pq, query.data(), 0);
        double rounding = 1e-5 * c.d * c.query_scale * c.codebook_scale;
        for (int i = 0; i < 50; i++) {
            auto codes = random_codes(pq.M());
            ASSERT_NEAR(
                    table_.score(codes.data(), pq.M()),
                    exact_score(pq, query, codes),
                    rounding);
        }
    }
}

TEST_F(LookupTableTest, WidestBlockUsesAllOfAByte) {
    ScoreAwarePQ pq = random_pq({32, 2, 1, 1});
    std::vector<float> query = normal(32, 1);
    table_.build(active_kernels(), pq, query.data(), 0);
    int highest = 0;
    for (size_t m = 0; m < pq.M(); m++) {
        int lowest = 255;
        for (size_t j = 0; j < kCodewords; j++) {
            int byte = table_.bytes[m * kCodewords + j];
            lowest = std::min(lowest, byte);
            highest = std::max(highest, byte);
        }
        EXPECT_EQ(lowest, 0);
    }
    EXPECT_EQ(highest, 255);
}

TEST_F(LookupTableTest, BlocksBeyondTheLastAreZeros) {
    ScoreAwarePQ pq = random_pq({10, 2, 1, 1});
    std::vector<float> query = normal(10, 1);
    table_.build(active_kernels(), pq, query.data(), 0);
    ASSERT_EQ(table_.bytes.size(), 8 * kCodewords);
    for (size_t i = 5 * kCodewords; i < 8 * kCodewords; i++) {
        EXPECT_EQ(table_.bytes[i], 0);
    }
}

TEST_F(LookupTableTest, ConstantTablesAreAllOffset) {
    ScoreAwarePQ pq(uniform_block_offsets(12, 2));
    std::vector<float> codebook(12 * 16);
    for (size_t i = 0; i < codebook.size(); i++) {
        codebook[i] = float(1 + i / 16); // all codewords of a block alike
    }
    pq.set_codebook(codebook.data(), 1);
    std::vector<float> query(12, 2);
    table_.build(active_kernels(), pq, query.data(), 0);
    EXPECT_GT(table_.step, 0);
    auto codes = random_codes(6);
    EXPECT_FLOAT_EQ(table_.offset, 2 * 78);
    EXPECT_EQ(quantised_score(table_, codes), table_.offset);
    EXPECT_FLOAT_EQ(table_.score(codes.data(), 6), 2 * 78);
}

TEST_F(LookupTableTest, ZeroQueryScoresZero) {
    ScoreAwarePQ pq = random_pq({20, 3, 1, 1});
    std::vector<float> query(20);
    table_.build(active_kernels(), pq, query.data(), 0);
    EXPECT_GT(table_.step, 0);
    auto codes = random_codes(pq.M());
    EXPECT_EQ(quantised_score(table_, codes), 0);
    EXPECT_EQ(table_.score(codes.data(), pq.M()), 0);
}

TEST_F(LookupTableTest, StepIsAtLeastTheCallers) {
    ScoreAwarePQ pq = random_pq({20, 2, 1, 1});
    std::vector<float> query = normal(20, 1);
    table_.build(active_kernels(), pq, query.data(), 0);
    float own = table_.step;
    table_.build(active_kernels(), pq, query.data(), 3 * own);
    EXPECT_EQ(table_.step, 3 * own);
    for (int i = 0; i < 50; i++) {
        auto codes = random_codes(pq.M());
        EXPECT_NEAR(
                quantised_score(table_, codes),
                exact_score(pq, query, codes),
                pq.M() * table_.step / 2 * 1.0001);
    }
    table_.build(active_kernels(), pq, query.data(), own / 3);
    EXPECT_EQ(table_.step, own);
}

TEST_F(LookupTableTest, RebuildingForASmallerPQLeavesNothingBehind) {
    ScoreAwarePQ large = random_pq({64, 1, 1, 1});
    ScoreAwarePQ small = random_pq({5, 1, 1, 1});
    std::vector<float> query = normal(64, 1);
    table_.build(active_kernels(), large, query.data(), 0);
    table_.build(active_kernels(), small, query.data(), 0);
    LookupTable fresh;
    fresh.build(active_kernels(), small, query.data(), 0);
    ASSERT_EQ(table_.bytes.size(), fresh.bytes.size());
    for (size_t i = 0; i < fresh.bytes.size(); i++) {
        EXPECT_EQ(table_.bytes[i], fresh.bytes[i]);
    }
}

} // namespace
