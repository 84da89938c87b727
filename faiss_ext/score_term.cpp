#include <faiss_ext/score_term.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <random>
#include <vector>

#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/kmeans.h>
#include <faiss_ext/panels.h>
#include <faiss_ext/parallel.h>
#include <faiss_ext/row_products.h>

namespace faiss_ext {

namespace {

constexpr size_t kPseudoQueries = 512;
constexpr size_t kNeighbors = 15;
/// rows that are searched for neighbours
constexpr size_t kSearchedRows = 32768;
constexpr size_t kQueriesPerSlice = 8;

/// <x, e>, <r, e>, <e, e>, with <c, e> = <x, e> - <r, e>
struct ErrorProducts {
    double x = 0;
    double r = 0;
    double e = 0;

    ErrorProducts(
            size_t d,
            const float* vector,
            const float* residual,
            const float* decoded) {
        constexpr size_t kLanes = 4; // as in precise_dot()
        double sums[3][kLanes] = {};
        auto add = [&](size_t i, size_t lane) {
            double error = double(residual[i]) - decoded[i];
            sums[0][lane] += vector[i] * error;
            sums[1][lane] += residual[i] * error;
            sums[2][lane] += error * error;
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
        for (size_t l = 0; l < kLanes; l++) {
            x += sums[0][l];
            r += sums[1][l];
            e += sums[2][l];
        }
    }
};

/// Solves the 4 x 4 system A w = b by elimination with pivoting; a singular
/// direction gets weight 0.
std::array<double, 4> solve(
        std::array<std::array<double, 4>, 4> A,
        std::array<double, 4> b) {
    std::array<double, 4> w{};
    std::array<int, 4> pivot_of{-1, -1, -1, -1};
    double scale = 0;
    for (size_t i = 0; i < 4; i++) {
        scale = std::max(scale, std::fabs(A[i][i]));
    }
    for (size_t column = 0, row = 0; column < 4; column++) {
        size_t best = row;
        for (size_t i = row; i < 4; i++) {
            if (std::fabs(A[i][column]) > std::fabs(A[best][column])) {
                best = i;
            }
        }
        if (row == 4 || std::fabs(A[best][column]) <= 1e-12 * scale) {
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
            w[column] = b[pivot_of[column]] / A[pivot_of[column]][column];
        }
    }
    return w;
}

/// The kNeighbors best of the rows for some queries, as indexes.
void nearest_rows(
        faiss::MetricType metric,
        size_t nq,
        size_t d,
        const float* queries,
        size_t n,
        const float* panels,
        const std::vector<float>& half_norms,
        std::vector<std::vector<size_t>>& neighbors) {
    size_t padded =
            (n + kernels::kPanel - 1) / kernels::kPanel * kernels::kPanel;
    std::vector<float> products(nq * padded);
    active_kernels().panel_products(
            {queries, nq, d, d, panels, n, products.data(), padded});
    for (size_t q = 0; q < nq; q++) {
        float* scores = products.data() + q * padded;
        if (metric == faiss::METRIC_L2) {
            for (size_t i = 0; i < n; i++) {
                scores[i] -= half_norms[i];
            }
        }
        std::vector<size_t>& best = neighbors[q];
        best.resize(n);
        for (size_t i = 0; i < n; i++) {
            best[i] = i;
        }
        size_t count = std::min(n, kNeighbors);
        std::partial_sort(
                best.begin(),
                best.begin() + count,
                best.end(),
                [&](size_t a, size_t b) {
                    return scores[a] != scores[b] ? scores[a] > scores[b]
                                                  : a < b;
                });
        best.resize(count);
    }
}

} // namespace

void ScoreTerm::train(
        size_t n,
        size_t d,
        const float* x,
        const float* residuals,
        const float* decoded,
        uint64_t seed) {
    // Pseudo-queries from the front of a random order, searched rows behind.
    std::vector<size_t> order(n);
    for (size_t i = 0; i < n; i++) {
        order[i] = i;
    }
    std::mt19937_64 random(seed);
    for (size_t i = n; i > 1; i--) {
        std::swap(order[i - 1], order[random() % i]);
    }
    size_t nq = std::min(kPseudoQueries, n / 4);
    size_t searched = std::min(kSearchedRows, n - nq);
    std::vector<float> queries(nq * d), rows(searched * d);
    std::vector<float> half_norms(searched);
    double norms = 0;
    for (size_t i = 0; i < nq; i++) {
        const float* row = x + order[i] * d;
        std::copy_n(row, d, queries.data() + i * d);
        norms += std::sqrt(precise_square(d, row));
    }
    for (size_t i = 0; i < searched; i++) {
        const float* row = x + order[nq + i] * d;
        std::copy_n(row, d, rows.data() + i * d);
        half_norms[i] = float(precise_square(d, row) / 2);
    }
    query_norm = nq > 0 && norms > 0 ? float(norms / nq) : 1;

    AlignedBuffer<float> panels = make_panels(searched, d, rows.data());
    std::vector<std::vector<size_t>> neighbors(nq);
    parallel_slices(nq, kQueriesPerSlice, [&](size_t begin, size_t end) {
        std::vector<std::vector<size_t>> found(end - begin);
        nearest_rows(
                metric,
                end - begin,
                d,
                queries.data() + begin * d,
                searched,
                panels.data(),
                half_norms,
                found);
        std::move(found.begin(), found.end(), neighbors.begin() + begin);
    });

    std::array<std::array<double, 4>, 4> normal{};
    std::array<double, 4> right{};
    for (size_t q = 0; q < nq; q++) {
        const float* query = queries.data() + q * d;
        double length = std::sqrt(precise_square(d, query));
        double factor = metric == faiss::METRIC_L2 || length == 0
                                ? 1
                                : query_norm / length;
        for (size_t neighbor : neighbors[q]) {
            size_t i = order[nq + neighbor];
            const float* residual = residuals + i * d;
            const float* codes = decoded + i * d;
            ErrorProducts products(d, x + i * d, residual, codes);
            double target = factor * (precise_dot(d, query, residual) -
                                      precise_dot(d, query, codes));
            std::array<double, 4> features{
                    products.x - products.r, products.r, products.e, 1};
            for (size_t a = 0; a < 4; a++) {
                for (size_t b = 0; b < 4; b++) {
                    normal[a][b] += features[a] * features[b];
                }
                right[a] += features[a] * target;
            }
        }
    }
    std::array<double, 4> weights = solve(normal, right);
    centroid_weight = float(weights[0]);
    residual_weight = float(weights[1]);
    error_weight = float(weights[2]);

    float low = 0, high = 0;
    for (size_t i = 0; i < n; i++) {
        float value = term(d, x + i * d, residuals + i * d, decoded + i * d);
        low = i == 0 ? value : std::min(low, value);
        high = i == 0 ? value : std::max(high, value);
    }
    // Rows added later may lie outside; what lies further is clamped.
    float margin = std::max((high - low) / 4, 1e-6f * (1 + std::fabs(high)));
    minimum = low - margin;
    step = (high - low + 2 * margin) / 65535;
}

float ScoreTerm::term(
        size_t d,
        const float* x,
        const float* residual,
        const float* decoded) const {
    ErrorProducts products(d, x, residual, decoded);
    double prediction = centroid_weight * (products.x - products.r) +
                        residual_weight * products.r +
                        error_weight * products.e;
    if (metric == faiss::METRIC_L2) {
        // <c, r> + ||r||^2 / 2 with c = x - r
        return float(
                precise_dot(d, x, residual) - precise_square(d, residual) / 2 -
                prediction);
    }
    return float(-prediction / query_norm);
}

float ScoreTerm::query_factor(size_t d, const float* query) const {
    return metric == faiss::METRIC_L2
                   ? 1
                   : float(std::sqrt(precise_square(d, query)));
}

uint16_t ScoreTerm::encode(float value) const {
    float code = step > 0 ? std::nearbyint((value - minimum) / step) : 0;
    return uint16_t(std::clamp(code, 0.0f, 65535.0f));
}

} // namespace faiss_ext
