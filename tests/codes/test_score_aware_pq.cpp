/* The score-aware product quantizer against exhaustive search. */

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <vector>

#include <faiss/impl/FaissException.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <faiss_ext/codes/score_aware_pq.h>

#include "fixtures/random_rows.h"
#include "fixtures/reference.h"

using namespace faiss_ext;

namespace {

struct Data {
    size_t n, d;
    std::vector<float> residuals;
    std::vector<float> directions; ///< of residual + something
};

Data make_data(size_t n, size_t d, uint64_t seed) {
    Data data{n, d, random_rows::normal(n * d, seed), {}};
    auto x = random_rows::clustered(n, d, {10, seed + 1}, seed + 1);
    for (size_t i = 0; i < n * d; i++) {
        data.residuals[i] *= 1 / std::sqrt(1.f + i % d); // uneven dimensions
        x[i] += data.residuals[i];
    }
    data.directions = reference::normalized(x, d);
    return data;
}

/// Losses ||e||^2 + (eta - 1) <e, u>^2 of rows coded as `codes`.
std::vector<double> losses(
        const ScoreAwarePQ& pq,
        const Data& data,
        const std::vector<uint8_t>& codes,
        double eta) {
    std::vector<float> decoded(data.n * data.d);
    pq.decode(data.n, codes.data(), decoded.data());
    std::vector<double> result(data.n);
    for (size_t i = 0; i < data.n; i++) {
        double error2 = 0, parallel = 0;
        for (size_t j = i * data.d; j < (i + 1) * data.d; j++) {
            double e = double(data.residuals[j]) - decoded[j];
            error2 += e * e;
            parallel += e * data.directions[j];
        }
        result[i] = error2 + (eta - 1) * parallel * parallel;
    }
    return result;
}

std::vector<uint8_t> encode(const ScoreAwarePQ& pq, const Data& data) {
    std::vector<uint8_t> codes(data.n * pq.M());
    pq.encode(
            data.n,
            data.residuals.data(),
            data.directions.data(),
            codes.data());
    return codes;
}

double mean(const std::vector<double>& values) {
    double sum = 0;
    for (double value : values) {
        sum += value;
    }
    return sum / double(values.size());
}

ScoreAwarePQ trained(
        const Data& data,
        size_t sub_dim,
        const ScoreAwarePQTraining& training) {
    ScoreAwarePQ pq(uniform_block_offsets(data.d, sub_dim));
    pq.train(data.n, data.residuals.data(), data.directions.data(), training);
    return pq;
}

/// The same codewords for another eta.
ScoreAwarePQ with_eta(const ScoreAwarePQ& pq, float eta) {
    ScoreAwarePQ other(pq.offsets());
    other.set_codebook(pq.codebook().data(), eta);
    return other;
}

std::vector<float> codebook_of(const ScoreAwarePQ& pq) {
    const float* data = pq.codebook().data();
    return std::vector<float>(data, data + pq.codebook().size());
}

} // namespace

TEST(ScoreAwarePQ, Offsets) {
    EXPECT_EQ(uniform_block_offsets(6, 2), (std::vector<uint32_t>{0, 2, 4, 6}));
    EXPECT_EQ(uniform_block_offsets(7, 4), (std::vector<uint32_t>{0, 4, 7}));
    EXPECT_EQ(uniform_block_offsets(3, 8), (std::vector<uint32_t>{0, 3}));
    EXPECT_THROW(uniform_block_offsets(8, 0), faiss::FaissException);
    EXPECT_THROW(uniform_block_offsets(8, 9), faiss::FaissException);
    EXPECT_THROW(uniform_block_offsets(0, 2), faiss::FaissException);
    using Offsets = std::vector<uint32_t>;
    EXPECT_THROW(ScoreAwarePQ(Offsets{}), faiss::FaissException);
    EXPECT_THROW(ScoreAwarePQ(Offsets{1, 2}), faiss::FaissException);
    EXPECT_THROW(ScoreAwarePQ(Offsets{0, 2, 2}), faiss::FaissException);
    EXPECT_THROW(ScoreAwarePQ(Offsets{0, 9}), faiss::FaissException);
    EXPECT_EQ(ScoreAwarePQ().M(), 0u);
    EXPECT_EQ(ScoreAwarePQ(Offsets{0, 8, 9}).d(), 9u);
}

TEST(ScoreAwarePQ, EtaOneIsThePlainQuantizer) {
    Data data = make_data(2000, 11, 1);
    ScoreAwarePQTraining training;
    ScoreAwarePQ pq(uniform_block_offsets(data.d, 2));
    pq.train(data.n, data.residuals.data(), nullptr, training);
    EXPECT_EQ(pq.eta(), 1);
    std::vector<uint8_t> codes(data.n * pq.M());
    pq.encode(data.n, data.residuals.data(), nullptr, codes.data());
    auto distance = [&](size_t i, size_t m, size_t j) {
        double sum = 0;
        for (size_t a = pq.offsets()[m]; a < pq.offsets()[m + 1]; a++) {
            double e = double(data.residuals[i * data.d + a]) -
                       pq.codebook()[a * 16 + j];
            sum += e * e;
        }
        return sum;
    };
    for (size_t i = 0; i < data.n; i++) {
        for (size_t m = 0; m < pq.M(); m++) {
            double chosen = distance(i, m, codes[i * pq.M() + m]);
            for (size_t j = 0; j < 16; j++) {
                EXPECT_LE(chosen, distance(i, m, j) + 1e-5);
            }
        }
    }
    // 16 codewords for 2 normal dimensions leave a ninth of the variance, or
    // less; random ones would leave twice that
    double variance = reference::dot(
                              data.n * data.d,
                              data.residuals.data(),
                              data.residuals.data()) /
                      data.n;
    EXPECT_LT(mean(losses(pq, data, codes, 1)), 0.13 * variance);
}

TEST(ScoreAwarePQ, CodesAreNeverWorseThanNearestCodewords) {
    for (size_t sub_dim : {1, 2, 3, 8}) {
        Data data = make_data(500, 24, 2);
        ScoreAwarePQTraining training;
        auto plain = trained(data, sub_dim, training);
        auto nearest = encode(plain, data);
        for (float eta : {1.5f, 4.f, 30.f}) {
            auto aware = encode(with_eta(plain, eta), data);
            auto before = losses(plain, data, nearest, eta);
            auto after = losses(plain, data, aware, eta);
            for (size_t i = 0; i < data.n; i++) {
                EXPECT_LE(after[i], before[i] * (1 + 1e-4) + 1e-6);
            }
            EXPECT_LT(mean(after), mean(before));
        }
    }
}

TEST(ScoreAwarePQ, DescentAgainstAllCodes) {
    Data data = make_data(1000, 4, 3);
    for (float eta : {2.f, 4.f, 8.f}) {
        ScoreAwarePQTraining training;
        training.eta = eta;
        auto pq = trained(data, 2, training); // M = 2: 256 combinations
        auto codes = encode(pq, data);
        auto found = losses(pq, data, codes, eta);
        std::vector<double> best(data.n, HUGE_VAL);
        for (size_t both = 0; both < 256; both++) {
            std::vector<uint8_t> all;
            for (size_t i = 0; i < data.n; i++) {
                all.push_back(both & 15);
                all.push_back(both >> 4);
            }
            auto loss = losses(pq, data, all, eta);
            for (size_t i = 0; i < data.n; i++) {
                best[i] = std::min(best[i], loss[i]);
            }
        }
        size_t equal = 0;
        for (size_t i = 0; i < data.n; i++) {
            EXPECT_GE(found[i], best[i] - 1e-6);
            equal += found[i] <= best[i] + 1e-5 ? 1 : 0;
        }
        std::printf("eta %g: %zu of %zu are the best\n", eta, equal, data.n);
        EXPECT_GE(equal, data.n * (eta > 4 ? 90 : 95) / 100);
        EXPECT_LE(mean(found), (eta > 4 ? 1.08 : 1.05) * mean(best));
    }
}

TEST(ScoreAwarePQ, TrainingLowersTheLossInEachRound) {
    Data data = make_data(3000, 30, 4);
    for (size_t sub_dim : {2, 4, 7}) {
        std::vector<double> rounds;
        ScoreAwarePQTraining training;
        training.eta = 5;
        training.aware_rounds = 8;
        training.losses = &rounds;
        auto aware = trained(data, sub_dim, training);
        EXPECT_EQ(aware.eta(), 5);
        ASSERT_EQ(rounds.size(), 9u);
        for (size_t r = 1; r < rounds.size(); r++) {
            EXPECT_LE(rounds[r], rounds[r - 1] * (1 + 1e-6)) << "round " << r;
        }
        EXPECT_LT(rounds.back(), rounds.front());

        training.aware_rounds = 0;
        training.losses = nullptr;
        auto plain = trained(data, sub_dim, training);
        double before = mean(losses(plain, data, encode(plain, data), 5));
        double after = mean(losses(aware, data, encode(aware, data), 5));
        std::printf("sub_dim %zu: %g -> %g\n", sub_dim, before, after);
        EXPECT_LT(after, before);
        EXPECT_NEAR(rounds.front(), before, 1e-4 * before);
        EXPECT_LE(after, rounds.back() * 1.01);
    }
}

TEST(ScoreAwarePQ, SameForAnyThreadsAndSeed) {
    Data data = make_data(9000, 12, 5);
    ScoreAwarePQTraining training;
    training.eta = 4;
    training.max_points = 7000;
    int before = omp_get_max_threads();
    omp_set_num_threads(1);
    auto one = trained(data, 2, training);
    auto one_codes = encode(one, data);
    omp_set_num_threads(2);
    auto two = trained(data, 2, training);
    EXPECT_EQ(codebook_of(one), codebook_of(two));
    EXPECT_EQ(one_codes, encode(two, data));
    omp_set_num_threads(before);
    training.seed++;
    EXPECT_NE(codebook_of(one), codebook_of(trained(data, 2, training)));
}

TEST(ScoreAwarePQ, DegenerateRows) {
    ScoreAwarePQTraining training;
    training.eta = 4;
    // fewer rows than codewords, equal rows, zero rows, one row
    for (size_t n : {1, 5, 40}) {
        Data data = make_data(n, 6, 6);
        for (size_t i = 0; i < data.n * data.d; i++) {
            size_t column = i % data.d;
            if (column < 3) {
                data.residuals[i] = column == 2 ? 0.25f : 0;
            }
        }
        auto pq = trained(data, 2, training);
        for (float value : codebook_of(pq)) {
            EXPECT_TRUE(std::isfinite(value));
        }
        double loss = mean(losses(pq, data, encode(pq, data), 4));
        EXPECT_LT(loss, n <= 5 ? 1e-6 : 0.5);
    }
}

TEST(ScoreAwarePQ, BadArgumentsAndInterruptsThrow) {
    Data data = make_data(100, 6, 7);
    ScoreAwarePQTraining training;
    training.eta = 0.5;
    EXPECT_THROW(trained(data, 2, training), faiss::FaissException);
    training.eta = 4;
    ScoreAwarePQ pq(uniform_block_offsets(6, 2));
    EXPECT_THROW(
            pq.train(100, data.residuals.data(), nullptr, training),
            faiss::FaissException);
    EXPECT_THROW(
            pq.train(0, nullptr, nullptr, training), faiss::FaissException);
    EXPECT_THROW(
            pq.set_codebook(data.residuals.data(), 0), faiss::FaissException);
    training.on_round = [](size_t done, size_t) {
        if (done == 14) {
            throw std::runtime_error("stop");
        }
    };
    EXPECT_THROW(trained(data, 2, training), std::runtime_error);
    training.on_round = nullptr;
    data.directions[3] = NAN;
    EXPECT_THROW(trained(data, 2, training), faiss::FaissException);
}
