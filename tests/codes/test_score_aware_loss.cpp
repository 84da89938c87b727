/* The score-aware loss against direct numerical integration. */

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <faiss/impl/FaissException.h>
#include <gtest/gtest.h>

#include <faiss_ext/codes/score_aware_loss.h>

using namespace faiss_ext;

namespace {

const double kPi = std::acos(-1.0);

/// Simpson's rule for f over [low, high].
template <class F>
double simpson(double low, double high, F f) {
    const int steps = 200000;
    double h = (high - low) / steps;
    double sum = f(low) + f(high);
    for (int i = 1; i < steps; i++) {
        sum += f(low + i * h) * (i % 2 == 1 ? 4 : 2);
    }
    return sum * h / 3;
}

/// h_parallel / h_orthogonal of Theorem 3.2 for w(t) = [t >= T], ||x|| = 1.
double integrated_eta(double threshold, double d) {
    double alpha = std::acos(threshold);
    // both integrands are divided by the largest sine power: no underflow
    double top = std::log(std::sin(alpha));
    double parallel = simpson(0, alpha, [&](double angle) {
        double sine = std::sin(angle);
        double power =
                sine > 0 ? std::exp((d - 2) * (std::log(sine) - top)) : d == 2;
        return power * (1 - sine * sine);
    });
    double orthogonal = simpson(0, alpha, [&](double angle) {
        double sine = std::sin(angle);
        return sine > 0 ? std::exp((d - 2) * (std::log(sine) - top)) * sine *
                                  sine
                        : 0.0;
    });
    return (d - 1) * parallel / orthogonal;
}

TEST(MeanLostShare, IsThatOfTheResiduals) {
    const std::vector<float> residuals = {3, 4, 0, 0, 1, 0};
    const std::vector<float> decoded = {3, 3, 7, 7, 9, 9};
    // 1 / 25; a residual of 0 has no share; one that is off by more than it is: 1
    EXPECT_FLOAT_EQ(
            faiss_ext::mean_lost_share(3, 2, residuals.data(), decoded.data()),
            (.04 + 1) / 2);
    const std::vector<float> largest = {3e38f, -3e38f};
    const std::vector<float> others = {-3e38f, 3e38f};
    EXPECT_EQ(
            faiss_ext::mean_lost_share(1, 2, largest.data(), others.data()), 1);
    EXPECT_EQ(faiss_ext::mean_lost_share(0, 2, nullptr, nullptr), 0);
}

} // namespace

TEST(ScoreAwareLoss, EtaEqualsTheIntegrals) {
    for (size_t d : {2, 3, 4, 5, 8, 50, 100, 384, 768, 1000}) {
        for (double t : {0.01, 0.1, 0.2, 0.5, 0.8, 0.95}) {
            double expected = integrated_eta(t, double(d));
            EXPECT_NEAR(eta_from_threshold(t, 1, d), expected, 1e-6 * expected)
                    << "d " << d << ", T " << t;
            // only T / ||x|| counts
            EXPECT_NEAR(
                    eta_from_threshold(7 * t, 7, d),
                    eta_from_threshold(t, 1, d),
                    1e-9 * expected);
        }
    }
}

TEST(ScoreAwareLoss, EtaIsTheRatioOfSineIntegrals) {
    for (size_t d : {2, 3, 10, 51, 100}) {
        for (double t : {0.05, 0.2, 0.6}) {
            double alpha = std::acos(t);
            double ratio = sine_power_integral(d - 2, alpha) /
                           sine_power_integral(d, alpha);
            double expected = (d - 1) * (ratio - 1);
            EXPECT_NEAR(eta_from_threshold(t, 1, d), expected, 1e-9 * expected);
        }
    }
}

TEST(ScoreAwareLoss, Recurrence) {
    for (size_t d = 2; d <= 300; d += d < 20 ? 1 : 35) {
        for (double alpha = 0.1; alpha < kPi; alpha += 0.2) {
            double left = d * sine_power_integral(d, alpha);
            double right = (d - 1) * sine_power_integral(d - 2, alpha) -
                           std::cos(alpha) * std::pow(std::sin(alpha), d - 1.0);
            EXPECT_NEAR(left, right, 1e-9 * std::fabs(right) + 1e-15)
                    << "d " << d << ", alpha " << alpha;
        }
    }
}

TEST(ScoreAwareLoss, SineIntegralsOfSmallPowers) {
    for (double alpha : {0.0, 0.3, 1.0, kPi / 2, 2.0, 3.0, kPi}) {
        EXPECT_NEAR(sine_power_integral(0, alpha), alpha, 1e-12);
        EXPECT_NEAR(sine_power_integral(1, alpha), 1 - std::cos(alpha), 1e-12);
        EXPECT_NEAR(
                sine_power_integral(2, alpha),
                alpha / 2 - std::sin(2 * alpha) / 4,
                1e-12);
    }
}

// Theorem 3.3: eta >= 1, equal only for a constant weight.
TEST(ScoreAwareLoss, EtaIsAtLeastOneAndRises) {
    for (size_t d : {2, 3, 17, 384, 100000}) {
        EXPECT_EQ(eta_from_threshold(0, 1, d), 1);
        EXPECT_EQ(eta_from_threshold(-0.3, 1, d), 1);
        double last = 1;
        for (double t = 0.005; t < 0.999; t += 0.005) {
            double eta = eta_from_threshold(t, 1, d);
            EXPECT_TRUE(std::isfinite(eta));
            EXPECT_GT(eta, last) << "d " << d << ", T " << t;
            last = eta;
        }
        EXPECT_GE(eta_from_threshold(1e-9, 1, d), 1);
        EXPECT_EQ(eta_from_threshold(0.999, 1, d), eta_from_threshold(5, 1, d));
    }
}

// Theorem 3.4: eta / (d - 1) -> (T / ||x||)^2 / (1 - (T / ||x||)^2).
TEST(ScoreAwareLoss, Limit) {
    for (double t : {0.1, 0.2, 0.5, 0.9}) {
        double limit = t * t / (1 - t * t);
        double last = std::numeric_limits<double>::infinity();
        for (size_t d = 10; d <= 10000000; d *= 10) {
            double exact = eta_from_threshold(t, 1, d) / (d - 1.0);
            double distance = std::fabs(exact - limit);
            EXPECT_LT(distance, last) << "d " << d << ", T " << t;
            last = distance;
            double limited = eta_from_threshold(t, 1, d, EtaFormula::Limit);
            EXPECT_NEAR(
                    limited, std::max(1.0, (d - 1) * limit), 1e-9 * limited);
        }
        EXPECT_LT(last, 1e-4 * limit);
    }
    EXPECT_NEAR(
            eta_from_threshold(0.2, 1, 100, EtaFormula::Limit), 4.125, 1e-9);
    EXPECT_NEAR(eta_from_threshold(0.2, 1, 769, EtaFormula::Limit), 32, 1e-9);
}

TEST(ScoreAwareLoss, ThresholdFromEtaIsTheInverse) {
    for (double eta : {1.0, 4.0, 8.0, 32.0}) {
        double threshold = threshold_from_eta(eta, 2.5, 384);
        EXPECT_NEAR(
                eta_from_threshold(threshold, 2.5, 384, EtaFormula::Limit),
                eta,
                1e-9);
    }
}

TEST(ScoreAwareLoss, LossOfOneVector) {
    float x[3] = {3, 0, 4};
    float decoded[3] = {0, 1, 0};
    // error (3, -1, 4): parallel part 25 / 5 = 5, orthogonal part 1
    EXPECT_NEAR(score_aware_loss(x, decoded, 3, 1), 26, 1e-9);
    EXPECT_NEAR(score_aware_loss(x, decoded, 3, 4), 101, 1e-9);
    float zero[3] = {0, 0, 0};
    EXPECT_NEAR(score_aware_loss(zero, x, 3, 4), 25, 1e-9);
    EXPECT_EQ(score_aware_loss(x, x, 3, 4), 0);
}

TEST(ScoreAwareLoss, BadArgumentsThrow) {
    double nan = std::nan("");
    double infinity = std::numeric_limits<double>::infinity();
    EXPECT_THROW(eta_from_threshold(nan, 1, 10), faiss::FaissException);
    EXPECT_THROW(eta_from_threshold(infinity, 1, 10), faiss::FaissException);
    EXPECT_THROW(eta_from_threshold(0.2, 0, 10), faiss::FaissException);
    EXPECT_THROW(eta_from_threshold(0.2, -1, 10), faiss::FaissException);
    EXPECT_THROW(eta_from_threshold(0.2, infinity, 10), faiss::FaissException);
    EXPECT_THROW(eta_from_threshold(0.2, 1, 1), faiss::FaissException);
    EXPECT_THROW(threshold_from_eta(0.5, 1, 10), faiss::FaissException);
    EXPECT_THROW(sine_power_integral(3, 4), faiss::FaissException);
}
