/* The additive term of a score against its formulas, in doubles. */

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <faiss_ext/memory/row_sample.h>
#include <faiss_ext/codes/score_term.h>
#include <faiss_ext/model/scann_model.h>

#include "fixtures/random_rows.h"
#include "fixtures/reference.h"

using namespace faiss_ext;

namespace {

constexpr auto kIP = faiss::METRIC_INNER_PRODUCT;
constexpr auto kL2 = faiss::METRIC_L2;
constexpr size_t kD = 17; // no multiple of the lanes

/// Rows x = c + r and what codes make of r: multiples of a step.
struct Rows {
    std::vector<float> x, residuals, decoded;

    size_t size() const {
        return x.size() / kD;
    }
    const float* row(size_t i) const {
        return &x[i * kD];
    }
    const float* residual(size_t i) const {
        return &residuals[i * kD];
    }
    const float* codes(size_t i) const {
        return &decoded[i * kD];
    }
    void scale(float factor) {
        for (auto* values : {&x, &residuals, &decoded}) {
            for (float& value : *values) {
                value *= factor;
            }
        }
    }
};

Rows make_rows(size_t n, uint64_t seed) {
    constexpr size_t kCentroids = 40;
    constexpr float kStep = 0.75f;
    auto centroids = random_rows::normal(kCentroids * kD, seed);
    Rows rows;
    rows.residuals = random_rows::normal(n * kD, seed + 1);
    for (size_t i = 0; i < n * kD; i++) {
        float& r = rows.residuals[i];
        r *= 0.6f;
        rows.x.push_back(centroids[i % (kCentroids * kD)] + r);
        rows.decoded.push_back(0.9f * kStep * std::nearbyint(r / kStep));
    }
    return rows;
}

ScoreTerm trained(faiss::MetricType metric, const Rows& rows) {
    ScoreTerm term;
    term.metric = metric;
    term.train(
            rows.size(),
            kD,
            rows.x.data(),
            rows.residuals.data(),
            rows.decoded.data(),
            1);
    return term;
}

/// The formula of score_term.h. @param a  weight of <c, e>
double expected_term(
        const ScoreTerm& term,
        const float* x,
        const float* r,
        const float* decoded,
        double a) {
    double ce = 0, re = 0, ee = 0, cr = 0, rr = 0, xx = 0;
    for (size_t i = 0; i < kD; i++) {
        double e = double(r[i]) - decoded[i], c = double(x[i]) - r[i];
        ce += c * e;
        re += r[i] * e;
        ee += e * e;
        cr += c * r[i];
        rr += double(r[i]) * r[i];
        xx += double(x[i]) * x[i];
    }
    double prediction =
            a * ce + term.residual_weight * re + term.error_weight * ee;
    return term.metric == kL2 ? cr + rr / 2 - prediction
                              : -prediction / std::sqrt(xx);
}

/// Code of a row without prediction: the score of what was decoded.
double code_of_decoded(const ScoreTerm& term, const Rows& rows, size_t i) {
    double value = 0;
    for (size_t j = 0; j < kD && term.metric == kL2; j++) {
        double c = double(rows.row(i)[j]) - rows.residual(i)[j];
        double decoded = rows.codes(i)[j];
        value += c * decoded + decoded * decoded / 2;
    }
    double code = (value - term.minimum) / term.step;
    return std::clamp(code, 0., double(ScoreTerm::kLargest));
}

double squared_error(const Rows& rows, size_t i) {
    return reference::squared_distance(kD, rows.residual(i), rows.codes(i));
}

uint16_t
encoded(const ScoreTerm& term, const Rows& rows, size_t i, bool rescored) {
    return term.encode(
            kD, rows.row(i), rows.residual(i), rows.codes(i), rescored);
}

bool all_finite(const ScoreTerm& term) {
    for (float value :
         {term.centroid_weight,
          term.residual_weight,
          term.error_weight,
          term.minimum,
          term.step}) {
        if (!std::isfinite(value)) {
            return false;
        }
    }
    // 0 where no row has an error: then any error is beyond the others
    return term.step >= 0 && term.error_limit >= 0;
}

TEST(ScoreTerm, RowsWithErrorsAreApartWhereNoneHadOne) {
    Rows exact = make_rows(300, 13);
    exact.decoded = exact.residuals;
    for (auto metric : {kIP, kL2}) {
        ScoreTerm term = trained(metric, exact);
        Rows later = make_rows(1, 14);
        EXPECT_EQ(encoded(term, later, 0, true), ScoreTerm::kApart);
        EXPECT_LE(encoded(term, later, 0, false), ScoreTerm::kLargest);
    }
}

/// Range and limit within `share`, for rows so many times as long.
void expect_near_range(
        const ScoreTerm& term,
        const ScoreTerm& expected,
        double share,
        double length_factor = 1) {
    double squared = length_factor * length_factor;
    double of_term = expected.metric == kL2 ? squared : length_factor;
    EXPECT_NEAR(term.error_limit / squared / expected.error_limit, 1, share);
    EXPECT_NEAR(term.step / of_term / expected.step, 1, share);
    double range = double(expected.step) * ScoreTerm::kLargest;
    EXPECT_NEAR(term.minimum / of_term, expected.minimum, share * range);
}

/// The same, and weights within `share` of the largest.
void expect_near(
        const ScoreTerm& term,
        const ScoreTerm& expected,
        double share,
        double length_factor = 1) {
    expect_near_range(term, expected, share, length_factor);
    double weight = std::max(
            {1.f,
             std::abs(expected.centroid_weight),
             std::abs(expected.residual_weight),
             std::abs(expected.error_weight)});
    EXPECT_NEAR(term.centroid_weight, expected.centroid_weight, share * weight);
    EXPECT_NEAR(term.residual_weight, expected.residual_weight, share * weight);
    EXPECT_NEAR(term.error_weight, expected.error_weight, share * weight);
}

} // namespace

TEST(ScoreTerm, IsTheFormula) {
    Rows rows = make_rows(2000, 1);
    for (auto metric : {kIP, kL2}) {
        ScoreTerm term = trained(metric, rows);
        EXPECT_TRUE(all_finite(term));
        EXPECT_GT(term.centroid_weight, 0.3);
        for (size_t i = 0; i < rows.size(); i++) {
            auto x = rows.row(i), r = rows.residual(i), codes = rows.codes(i);
            EXPECT_NEAR(
                    term.term(kD, x, r, codes),
                    expected_term(term, x, r, codes, term.centroid_weight),
                    1e-5);
            EXPECT_NEAR(
                    term.shift(kD, x, r, codes),
                    expected_term(
                            term,
                            x,
                            r,
                            codes,
                            metric == kL2 ? 1 : term.centroid_weight),
                    1e-5);
        }
        const float* q = rows.row(3);
        double length = std::sqrt(reference::dot(kD, q, q));
        EXPECT_NEAR(term.query_factor(kD, q), metric == kL2 ? 1 : length, 1e-5);
    }
}

TEST(ScoreTerm, CodesAreOffByHalfAStep) {
    Rows rows = make_rows(3000, 2);
    for (auto metric : {kIP, kL2}) {
        ScoreTerm term = trained(metric, rows);
        size_t apart = 0;
        for (size_t i = 0; i < rows.size(); i++) {
            double value = expected_term(
                    term,
                    rows.row(i),
                    rows.residual(i),
                    rows.codes(i),
                    term.centroid_weight);
            double at = (value - term.minimum) / term.step;
            // ordinary rows are well inside
            EXPECT_TRUE(at > 0 && at < ScoreTerm::kLargest) << at;
            uint16_t code = encoded(term, rows, i, true);
            if (squared_error(rows, i) > term.error_limit) {
                apart++;
                continue;
            }
            EXPECT_LE(code, ScoreTerm::kLargest);
            EXPECT_NEAR(term.decode(code), value, 0.51 * term.step + 1e-5);
            EXPECT_EQ(encoded(term, rows, i, false), code);
        }
        EXPECT_LE(apart, rows.size() / 100);
    }
}

TEST(ScoreTerm, RowsFarOutAreApartOrClamped) {
    Rows rows = make_rows(3000, 3);
    for (auto metric : {kIP, kL2}) {
        ScoreTerm term = trained(metric, rows);
        ScoreTerm below = term, above = term, strict = term;
        float range = term.step * ScoreTerm::kLargest;
        below.minimum -= 2 * range; // all terms beyond the largest
        above.minimum += 2 * range;
        std::vector<float> errors;
        for (size_t i = 0; i < rows.size(); i++) {
            errors.push_back(float(squared_error(rows, i)));
        }
        strict.error_limit = quantile(errors, 0.5);
        for (size_t i = 0; i < rows.size(); i++) {
            EXPECT_EQ(encoded(below, rows, i, true), ScoreTerm::kApart);
            EXPECT_EQ(encoded(above, rows, i, true), ScoreTerm::kApart);
            EXPECT_EQ(encoded(below, rows, i, false), ScoreTerm::kLargest);
            EXPECT_EQ(encoded(above, rows, i, false), 0);
            if (std::abs(errors[i] - strict.error_limit) < 1e-4) {
                continue;
            }
            bool apart = errors[i] > strict.error_limit;
            uint16_t code = encoded(term, rows, i, true);
            if (code == ScoreTerm::kApart) {
                continue; // by the limit that was learnt
            }
            if (!apart) {
                EXPECT_EQ(encoded(strict, rows, i, true), code);
                EXPECT_EQ(encoded(strict, rows, i, false), code);
                continue;
            }
            EXPECT_EQ(encoded(strict, rows, i, true), ScoreTerm::kApart);
            EXPECT_NEAR(
                    encoded(strict, rows, i, false),
                    code_of_decoded(strict, rows, i),
                    1);
        }
    }
}

TEST(ScoreTerm, NumbersBeyondFloatsAreApartOrAtTheBadEnd) {
    Rows rows = make_rows(500, 4);
    for (auto metric : {kIP, kL2}) {
        ScoreTerm term = trained(metric, rows);
        for (float value : {1e30f, -1e30f, 3e38f}) {
            Rows one = make_rows(1, 5);
            one.x.assign(kD, value);
            one.residuals.assign(kD, value);
            EXPECT_EQ(encoded(term, one, 0, true), ScoreTerm::kApart);
            EXPECT_LE(encoded(term, one, 0, false), ScoreTerm::kLargest);
        }
        term.minimum = std::numeric_limits<float>::quiet_NaN();
        EXPECT_EQ(encoded(term, rows, 0, true), ScoreTerm::kApart);
        EXPECT_EQ(encoded(term, rows, 0, false), ScoreTerm::kLargest);
    }
}

TEST(ScoreTerm, TranslationOfRowsAndOriginChangesNothing) {
    Rows rows = make_rows(4000, 6);
    auto from_origin = [](const std::vector<float>& x) {
        ScaNNModel made;
        made.origin = dimension_medians(x.size() / kD, kD, x.data(), 1024);
        std::vector<float> shifted;
        made.from_origin(x.size() / kD, x.data(), shifted);
        return shifted;
    };
    Rows near = rows, far = rows;
    near.x = from_origin(rows.x);
    for (float& value : far.x) {
        value += 100;
    }
    far.x = from_origin(far.x);
    expect_near(trained(kL2, far), trained(kL2, near), 1e-3);
}

TEST(ScoreTerm, ScaleOfRowsChangesNoWeight) {
    Rows rows = make_rows(4000, 7);
    for (auto metric : {kIP, kL2}) {
        ScoreTerm expected = trained(metric, rows);
        for (float factor : {1e-8f, 1e-3f, 1e8f}) {
            Rows scaled = rows;
            scaled.scale(factor);
            ScoreTerm term = trained(metric, scaled);
            expect_near(term, expected, 1e-3, factor);
            // so the codes are the same
            for (size_t i = 0; i < 100; i++) {
                EXPECT_NEAR(
                        encoded(term, scaled, i, true),
                        encoded(expected, rows, i, true),
                        100);
            }
        }
    }
}

/// @param own_centroid  the row lies on it, else far from it
void expect_wild_row_changes_little(
        faiss::MetricType metric,
        bool own_centroid) {
    Rows rows = make_rows(8000, 8);
    ScoreTerm expected = trained(metric, rows);
    for (float length : {10.f, 1e3f, 1e6f}) {
        for (size_t i : {size_t(0), size_t(4321)}) {
            SCOPED_TRACE(
                    testing::Message() << "metric " << metric << ", row " << i
                                       << " times " << length);
            Rows wild = rows;
            for (size_t j = i * kD; j < (i + 1) * kD; j++) {
                float more = (length - 1) * wild.x[j];
                wild.x[j] += more;
                wild.residuals[j] += own_centroid ? 0 : more;
            }
            ScoreTerm term = trained(metric, wild);
            if (metric == kIP && own_centroid) {
                // A neighbour of half of all pseudo-queries, it has a say in
                // the weights; but the terms of all others stay near, less
                // what they share, which ranks nothing.
                expect_near_range(term, expected, 0.02);
                double range = double(expected.step) * ScoreTerm::kLargest;
                std::vector<float> moved;
                for (size_t r = 1; r < 1000; r++) {
                    auto term_of = [&](const ScoreTerm& by) {
                        return by.term(
                                kD,
                                rows.row(r),
                                rows.residual(r),
                                rows.codes(r));
                    };
                    moved.push_back(term_of(term) - term_of(expected));
                }
                for (float by : moved) {
                    EXPECT_NEAR(by, quantile(moved, 0.5), 0.03 * range);
                }
                continue;
            }
            expect_near(term, expected, 0.02);
        }
    }
}

TEST(ScoreTerm, OneRowFarFromItsCentroidChangesLittle) {
    expect_wild_row_changes_little(kL2, false);
    expect_wild_row_changes_little(kIP, false);
}

TEST(ScoreTerm, OneCentroidFarOutChangesLittleL2) {
    expect_wild_row_changes_little(kL2, true);
}

TEST(ScoreTerm, OneCentroidFarOutChangesLittleIP) {
    expect_wild_row_changes_little(kIP, true);
}

TEST(ScoreTerm, FewOrEqualRowsGiveFiniteValues) {
    for (auto metric : {kIP, kL2}) {
        std::vector<Rows> kinds;
        for (size_t n : {1, 2, 3, 5, 9}) {
            kinds.push_back(make_rows(n, 9));
        }
        Rows equal;
        Rows one = make_rows(1, 10);
        for (size_t i = 0; i < 300; i++) {
            for (auto [to, from] :
                 {std::pair(&equal.x, &one.x),
                  std::pair(&equal.residuals, &one.residuals),
                  std::pair(&equal.decoded, &one.decoded)}) {
                to->insert(to->end(), from->begin(), from->end());
            }
        }
        kinds.push_back(equal);
        Rows exact = make_rows(300, 11); // no error
        exact.decoded = exact.residuals;
        kinds.push_back(exact);
        Rows on_centroids = make_rows(300, 12); // no residuals
        on_centroids.residuals.assign(300 * kD, 0);
        on_centroids.decoded.assign(300 * kD, 0);
        kinds.push_back(on_centroids);
        Rows zeros = on_centroids;
        zeros.x.assign(300 * kD, 0);
        kinds.push_back(zeros);
        for (size_t k = 0; k < kinds.size(); k++) {
            SCOPED_TRACE(k);
            const Rows& rows = kinds[k];
            ScoreTerm term = trained(metric, rows);
            EXPECT_TRUE(all_finite(term));
            for (size_t i = 0; i < rows.size(); i++) {
                float value = term.term(
                        kD, rows.row(i), rows.residual(i), rows.codes(i));
                ASSERT_TRUE(std::isfinite(value));
                uint16_t code = encoded(term, rows, i, false);
                EXPECT_LE(code, ScoreTerm::kLargest);
                if (code == encoded(term, rows, i, true)) {
                    EXPECT_NEAR(
                            term.decode(code),
                            value,
                            0.51 * term.step + 1e-5 * std::abs(value));
                }
            }
            // the row of one kind is inside what it taught
            EXPECT_NE(encoded(term, rows, 0, true), ScoreTerm::kApart);
        }
    }
}
