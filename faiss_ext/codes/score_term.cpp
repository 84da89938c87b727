#include <faiss_ext/codes/score_term.h>

#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>
#include <vector>

#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/partition/panels.h>
#include <faiss_ext/memory/parallel.h>
#include <faiss_ext/memory/row_products.h>
#include <faiss_ext/memory/row_sample.h>

namespace faiss_ext {

namespace {

/// training rows that serve as queries, and neighbours that each is fitted with
constexpr size_t kPseudoQueries = 512;
constexpr size_t kNeighbors = 15;
/// rows that are searched for neighbours, and how many of them in one product
constexpr size_t kSearchedRows = 32768;
constexpr size_t kProductRows = 4096;
/// pseudo-queries, and rows, that a thread takes at a time
constexpr size_t kQueriesPerSlice = 8;
constexpr size_t kRowsPerSlice = 1024;
/// Share of the terms, at either end, that does not count for their range.
constexpr double kTailShare = 0.001;
/// Squares of rows of 1e19 and more leave the range of floats. Terms are kept
/// below this, so that the range of terms and its margins are finite.
constexpr double kMaxTerm = FLT_MAX / 16;

} // namespace

/// Products of x, r and e = r - r~, with c = x - r.
struct ScoreTerm::ErrorProducts {
    double xe = 0;
    double re = 0;
    double ee = 0;
    double xx = 0;
    double xr = 0;
    double rr = 0;

    ErrorProducts(
            size_t d,
            const float* vector,
            const float* residual,
            const float* decoded) {
        constexpr size_t kLanes = 4; // as in precise_dot()
        double sums[6][kLanes] = {};
        auto add = [&](size_t i, size_t lane) {
            const double x = vector[i];
            const double r = residual[i];
            const double e = r - decoded[i];
            sums[0][lane] += x * e;
            sums[1][lane] += r * e;
            sums[2][lane] += e * e;
            sums[3][lane] += x * x;
            sums[4][lane] += x * r;
            sums[5][lane] += r * r;
        };
        size_t i = 0;
        for (; i + kLanes <= d; i += kLanes) {
            for (size_t l = 0; l < kLanes; l++) {
                add(i + l, l);
            }
        }
        for (; i < d; i++) {
            add(i, 0);
        }
        double* out[] = {&xe, &re, &ee, &xx, &xr, &rr};
        for (size_t p = 0; p < 6; p++) {
            for (double part : sums[p]) {
                *out[p] += part;
            }
        }
    }
};

namespace {

using Matrix = std::array<std::array<double, 4>, 4>;

/// Solves the 4 x 4 system A w = b, A symmetric and not negative, by
/// elimination with pivoting; a singular direction gets weight 0. Unknowns are
/// scaled first, so that their units do not matter.
std::array<double, 4> solve(Matrix A, std::array<double, 4> b) {
    constexpr double kSingular = 1e-10; // of a diagonal of ones
    std::array<double, 4> scale{};
    for (size_t i = 0; i < 4; i++) {
        scale[i] = A[i][i] > 0 ? 1 / std::sqrt(A[i][i]) : 0;
    }
    for (size_t i = 0; i < 4; i++) {
        for (size_t j = 0; j < 4; j++) {
            A[i][j] *= scale[i] * scale[j];
        }
        b[i] *= scale[i];
    }
    std::array<double, 4> w{};
    std::array<int, 4> pivot_of{-1, -1, -1, -1};
    for (size_t column = 0, row = 0; column < 4; column++) {
        size_t best = row;
        for (size_t i = row; i < 4; i++) {
            if (std::fabs(A[i][column]) > std::fabs(A[best][column])) {
                best = i;
            }
        }
        if (row == 4 || !(std::fabs(A[best][column]) > kSingular)) {
            continue;
        }
        std::swap(A[row], A[best]);
        std::swap(b[row], b[best]);
        for (size_t i = 0; i < 4; i++) {
            if (i != row) {
                double factor = A[i][column] / A[row][column];
                for (size_t j = 0; j < 4; j++) {
                    A[i][j] -= factor * A[row][j];
                }
                b[i] -= factor * b[row];
            }
        }
        pivot_of[column] = int(row++);
    }
    for (size_t column = 0; column < 4; column++) {
        if (pivot_of[column] >= 0) {
            w[column] = scale[column] * b[pivot_of[column]] /
                        A[pivot_of[column]][column];
        }
    }
    return w;
}

/// Sums of a weighted least-squares fit.
struct LeastSquares {
    Matrix normal{};
    std::array<double, 4> right{};

    void
    add(const std::array<double, 4>& features, double target, double weight) {
        for (size_t a = 0; a < 4; a++) {
            for (size_t b = 0; b < 4; b++) {
                normal[a][b] += weight * weight * features[a] * features[b];
            }
            right[a] += weight * weight * features[a] * target;
        }
    }
};

/// Squared errors above this count as far above the others: four times the
/// median error, or, where that is (nearly) 0, twice the .9 quantile.
float limit_of_errors(const std::vector<float>& errors) {
    float median = quantile(errors, 0.5);
    float most = quantile(errors, 0.9);
    return std::max(16 * median, median < 1e-3f * most ? 4 * most : 0);
}

/// Score and number of a row.
using Scored = std::pair<float, size_t>;

/// Keeps, for some queries, the kNeighbors best of `best` and n more rows, the
/// first of which has the number `first`.
void keep_nearest(
        faiss::MetricType metric,
        size_t nq,
        size_t d,
        const float* queries,
        size_t first,
        size_t n,
        const float* panels,
        const float* half_norms,
        std::vector<Scored>* best) {
    const size_t padded = round_up(n, kernels::kPanel);
    std::vector<float> products(nq * padded);
    active_kernels().panel_products(
            {queries, nq, d, d, panels, n, products.data(), padded});
    for (size_t q = 0; q < nq; q++) {
        const float* scores = products.data() + q * padded;
        const bool l2 = metric == faiss::METRIC_L2;
        for (size_t i = 0; i < n; i++) {
            best[q].emplace_back(
                    scores[i] - (l2 ? half_norms[i] : 0), first + i);
        }
        const size_t count = std::min(best[q].size(), kNeighbors);
        std::partial_sort(
                best[q].begin(),
                best[q].begin() + ptrdiff_t(count),
                best[q].end(),
                [](const Scored& a, const Scored& b) {
                    return a.first != b.first ? a.first > b.first
                                              : a.second < b.second;
                });
        best[q].resize(count);
    }
}

/// The kNeighbors best rows of each query.
/// @param rows  numbers of n rows in x
std::vector<std::vector<Scored>> nearest_rows(
        faiss::MetricType metric,
        size_t nq,
        size_t d,
        const float* queries,
        size_t n,
        const size_t* rows,
        const float* x) {
    std::vector<float> half_norms(n);
    for (size_t i = 0; i < n; i++) {
        half_norms[i] = float(precise_square(d, x + rows[i] * d) / 2);
    }
    std::vector<std::vector<Scored>> best(nq);
    for (size_t first = 0; first < n; first += kProductRows) {
        const size_t size = std::min(kProductRows, n - first);
        const AlignedBuffer<float> panels =
                make_panels(size, d, x, rows + first);
        parallel_slices(nq, kQueriesPerSlice, [&](size_t begin, size_t end) {
            keep_nearest(
                    metric,
                    end - begin,
                    d,
                    queries + begin * d,
                    first,
                    size,
                    panels.data(),
                    half_norms.data() + first,
                    best.data() + begin);
        });
    }
    return best;
}

} // namespace

void ScoreTerm::train(
        size_t n,
        size_t d,
        const float* x,
        const float* residuals,
        const float* decoded,
        uint64_t seed) {
    std::vector<float> errors(n); // squared
    parallel_slices(n, kRowsPerSlice, [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; i++) {
            errors[i] = float(
                    ErrorProducts(
                            d, x + i * d, residuals + i * d, decoded + i * d)
                            .ee);
        }
    });
    error_limit = limit_of_errors(errors);
    // a random order: pseudo-queries first, then the rows that are searched
    std::vector<size_t> order = sample_rows(n, n, seed);
    std::erase_if(order, [&](size_t i) { return errors[i] > error_limit; });
    fit_weights(order, d, x, residuals, decoded);

    std::vector<float> terms(order.size());
    parallel_slices(order.size(), kRowsPerSlice, [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; i++) {
            size_t at = order[i] * d;
            terms[i] = term(d, x + at, residuals + at, decoded + at);
        }
    });
    // Few rows, or rows added later, may lie outside: the range is widened by
    // its own width on both sides.
    float low = quantile(terms, kTailShare);
    float high = quantile(terms, 1 - kTailShare);
    float room = std::max(high - low, 1e-6f * std::fabs(high));
    minimum = low - room;
    step = (high - low + 2 * room) / kLargest;
}

/// Fits the weights. @param order  rows: pseudo-queries first
void ScoreTerm::fit_weights(
        const std::vector<size_t>& order,
        size_t d,
        const float* x,
        const float* residuals,
        const float* decoded) {
    const size_t nq = std::min(kPseudoQueries, order.size() / 4);
    const size_t searched = std::min(kSearchedRows, order.size() - nq);
    std::vector<float> queries(nq * d);
    gather_rows(nq, order.data(), d, x, queries.data());
    const std::vector<float> lengths = row_lengths(nq, d, queries.data());
    const float typical = quantile(lengths, 0.5);

    const std::vector<std::vector<Scored>> neighbors = nearest_rows(
            metric, nq, d, queries.data(), searched, order.data() + nq, x);
    LeastSquares fit;
    for (size_t q = 0; q < nq; q++) {
        const float* query = queries.data() + q * d;
        // Inner product: queries and rows count as if they had length 1. L2:
        // long queries get less weight, or few of them would decide the fit.
        const double length = lengths[q];
        const bool l2 = metric == faiss::METRIC_L2;
        if (!l2 && length == 0) {
            continue;
        }
        const double weight = l2 && length > typical ? typical / length : 1;
        for (const auto& [score, neighbor] : neighbors[q]) {
            size_t i = order[nq + neighbor];
            const float* residual = residuals + i * d;
            const float* codes = decoded + i * d;
            const ErrorProducts products(d, x + i * d, residual, codes);
            if (!l2 && products.xx == 0) {
                continue;
            }
            const double unit = l2 ? 1 : 1 / std::sqrt(products.xx);
            const double target =
                    (l2 ? 1 : 1 / length) * (precise_dot(d, query, residual) -
                                             precise_dot(d, query, codes));
            const std::array<double, 4> features{
                    unit * (products.xe - products.re),
                    unit * products.re,
                    unit * products.ee,
                    1};
            fit.add(features, target, weight);
        }
    }
    std::array<double, 4> weights = solve(fit.normal, fit.right);
    centroid_weight = float(weights[0]);
    residual_weight = float(weights[1]);
    error_weight = float(weights[2]);
}

/// @param centroid_weight  a
float ScoreTerm::term_of(const ErrorProducts& products, double centroid_weight)
        const {
    const double prediction = centroid_weight * (products.xe - products.re) +
                              residual_weight * products.re +
                              error_weight * products.ee;
    double term = 0;
    if (metric == faiss::METRIC_L2) {
        // <c, r> + ||r||^2 / 2 with c = x - r
        term = products.xr - products.rr / 2 - prediction;
    } else if (products.xx > 0) {
        term = -prediction / std::sqrt(products.xx);
    }
    return float(std::clamp(term, -kMaxTerm, kMaxTerm));
}

float ScoreTerm::term(
        size_t d,
        const float* x,
        const float* residual,
        const float* decoded) const {
    return term_of(ErrorProducts(d, x, residual, decoded), centroid_weight);
}

float ScoreTerm::shift(
        size_t d,
        const float* x,
        const float* residual,
        const float* values) const {
    return term_of(
            ErrorProducts(d, x, residual, values),
            metric == faiss::METRIC_L2 ? 1 : centroid_weight);
}

uint16_t ScoreTerm::encode(
        size_t d,
        const float* x,
        const float* residual,
        const float* decoded,
        bool rescored) const {
    auto code_of = [&](float value) {
        return step > 0 ? std::nearbyint((value - minimum) / step) : 0;
    };
    const ErrorProducts products(d, x, residual, decoded);
    float code = code_of(term_of(products, centroid_weight));
    if (code >= 0 && code <= kLargest && products.ee <= error_limit) {
        return uint16_t(code);
    }
    if (rescored) {
        return kApart;
    }
    // without a prediction: the score of the decoded vector
    float value = 0;
    if (metric == faiss::METRIC_L2) {
        value = float(
                precise_dot(d, x, decoded) - precise_dot(d, residual, decoded) +
                precise_square(d, decoded) / 2);
    }
    code = code_of(value);
    // NaN becomes the worst code
    return uint16_t(code <= kLargest ? std::max(code, 0.0f) : kLargest);
}

float ScoreTerm::query_factor(size_t d, const float* query) const {
    return metric == faiss::METRIC_L2
                   ? 1
                   : float(std::sqrt(precise_square(d, query)));
}

} // namespace faiss_ext
