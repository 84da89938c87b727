#include <faiss_ext/codes/score_aware_loss.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include <boost/math/special_functions/beta.hpp>
#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/memory/row_products.h>

namespace faiss_ext {

namespace {

/// T is at most this share of ||x||: eta is infinite at 1
constexpr double kLargestShare = 0.999;
/// below this ibeta is too close to the smallest double to divide by
constexpr double kSmallestBeta = 1e-250;

/** cos(alpha) sin^(d-1)(alpha) / I_d(alpha), 0 < alpha < pi / 2.
 *
 * I_d(alpha) = B(sin^2(alpha); (d+1)/2, 1/2) / 2, an incomplete beta function,
 * as one minus its complement, since cos(alpha) is known exactly.
 */
double boundary_ratio(double d, double cosine) {
    double a = (d + 1) / 2;
    double square = cosine * cosine;
    double s = 1 - square;
    double whole = boost::math::ibetac(0.5, a, square);
    if (whole > kSmallestBeta) {
        double power = std::exp((d - 1) / 2 * std::log1p(-square));
        return 2 * cosine * power / (boost::math::beta(a, 0.5) * whole);
    }
    // Both underflow for large d: their ratio is a hypergeometric series,
    // I_d = sin^(d+1)(alpha) / (d + 1) * 2F1(a, 1/2; a + 1; s), 0 < s < 1.
    double sum = 0;
    double coefficient = 1; // (1/2)_n / n! * s^n
    for (double n = 0; coefficient > sum * 1e-17; n++) {
        sum += coefficient * a / (a + n);
        coefficient *= s * (n + 0.5) / (n + 1);
    }
    return cosine * (d + 1) / (s * sum);
}

void check_norm_and_d(double norm, size_t d) {
    FAISS_THROW_IF_NOT_FMT(
            std::isfinite(norm) && norm > 0,
            "norm is %g (allowed: finite values above 0)",
            norm);
    FAISS_THROW_IF_NOT_FMT(d >= 2, "d is %zd (allowed: at least 2)", d);
}

} // namespace

double eta_from_threshold(
        double threshold,
        double norm,
        size_t d,
        EtaFormula formula) {
    check_norm_and_d(norm, d);
    FAISS_THROW_IF_NOT_FMT(
            std::isfinite(threshold),
            "threshold is %g (allowed: finite values)",
            threshold);
    if (threshold <= 0) {
        return 1;
    }
    double share = std::min(threshold / norm, kLargestShare);
    switch (formula) {
        case EtaFormula::Exact:
            // (d - 1) (I_(d-2) / I_d - 1) with I_(d-2) by the recurrence
            // d I_d = (d - 1) I_(d-2) - cos(alpha) sin^(d-1)(alpha): nothing
            // is subtracted, so nothing cancels
            return 1 + boundary_ratio(double(d), share);
        case EtaFormula::Limit: {
            double square = share * share;
            return std::max(1.0, (d - 1.0) * square / (1 - square));
        }
    }
    FAISS_THROW_FMT("unknown formula %d for eta", int(formula));
}

double threshold_from_eta(double eta, double norm, size_t d) {
    check_norm_and_d(norm, d);
    FAISS_THROW_IF_NOT_FMT(
            std::isfinite(eta) && eta >= 1,
            "eta is %g (allowed: finite values of at least 1)",
            eta);
    return norm * std::sqrt(eta / (d - 1 + eta));
}

double sine_power_integral(size_t k, double alpha) {
    constexpr double kPi = 3.14159265358979323846;
    FAISS_THROW_IF_NOT_FMT(
            alpha >= 0 && alpha <= kPi, "alpha is %g (allowed: 0..pi)", alpha);
    double a = (double(k) + 1) / 2;
    if (alpha > kPi / 2) {
        return boost::math::beta(a, 0.5) - sine_power_integral(k, kPi - alpha);
    }
    double sine = std::sin(alpha);
    if (sine * sine < 0.5) {
        return boost::math::beta(a, 0.5, sine * sine) / 2;
    }
    // Near pi / 2 the cosine is the argument that keeps its digits.
    double cosine = std::cos(alpha);
    return boost::math::betac(0.5, a, cosine * cosine) / 2;
}

double
score_aware_loss(const float* x, const float* decoded, size_t d, double eta) {
    double norm2 = 0;
    double error2 = 0;
    double product = 0;
    for (size_t i = 0; i < d; i++) {
        double error = double(x[i]) - decoded[i];
        norm2 += double(x[i]) * x[i];
        error2 += error * error;
        product += error * x[i];
    }
    double parallel2 = norm2 > 0 ? product * product / norm2 : 0;
    return error2 + (eta - 1) * parallel2;
}

double mean_lost_share(
        size_t n,
        size_t d,
        const float* residuals,
        const float* decoded) {
    double sum = 0;
    size_t count = 0;
    std::vector<float> error(d);
    for (size_t i = 0; i < n; i++) {
        const float* r = residuals + i * d;
        const double square = precise_square(d, r);
        if (!(square > 0)) {
            continue;
        }
        for (size_t j = 0; j < d; j++) {
            error[j] = r[j] - decoded[i * d + j];
        }
        const double share = precise_square(d, error.data()) / square;
        sum += share < 1 ? share : 1; // also of values beyond floats
        count++;
    }
    return count > 0 ? sum / double(count) : 0;
}

} // namespace faiss_ext
