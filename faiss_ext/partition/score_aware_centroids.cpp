#include <faiss_ext/partition/score_aware_centroids.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/memory/parallel.h>
#include <faiss_ext/memory/query_rows.h>
#include <faiss_ext/memory/row_products.h>
#include <faiss_ext/partition/rows_by_list.h>

namespace faiss_ext {

namespace {

/** Solves (s I + (eta - 1) sum w x x^T) c = b by conjugate gradients, rows x
 * of unit length, s = sum w. The eigenvalues lie within [s, eta s]: some 20
 * steps for common eta, against a matrix of d x d for each list.
 * @param c  in/out, first guess and solution
 */
void solve_centroid(
        size_t d,
        const std::vector<const float*>& rows,
        const std::vector<double>& weights, // of x x^T, in units of s
        double eta,
        const std::vector<double>& b, // in units of s
        std::vector<double>& c) {
    constexpr double kTolerance = 1e-14; // of squared lengths
    size_t steps = size_t(40 * std::sqrt(eta)) + 10;
    auto multiply = [&](const std::vector<double>& v,
                        std::vector<double>& out) {
        out = v;
        for (size_t r = 0; r < rows.size(); r++) {
            const float* x = rows[r];
            double t = (eta - 1) * weights[r] * precise_dot(d, x, v.data());
            for (size_t i = 0; i < d; i++) {
                out[i] += t * x[i];
            }
        }
    };
    std::vector<double> image;
    multiply(c, image);
    std::vector<double> residual(d);
    for (size_t i = 0; i < d; i++) {
        residual[i] = b[i] - image[i];
    }
    std::vector<double> direction = residual;
    double error = precise_square(d, residual.data());
    double enough = kTolerance * precise_square(d, b.data());
    for (size_t step = 0; step < steps && error > enough; step++) {
        multiply(direction, image);
        double length = error / precise_dot(d, direction.data(), image.data());
        for (size_t i = 0; i < d; i++) {
            c[i] += length * direction[i];
            residual[i] -= length * image[i];
        }
        double next = precise_square(d, residual.data());
        for (size_t i = 0; i < d; i++) {
            direction[i] = residual[i] + next / error * direction[i];
        }
        error = next;
    }
}

/** The score-aware centroid of some rows.
 * @param order     numbers of the rows, size n
 * @param centroid  in/out; stays if all rows have length 0 */
void make_score_aware(
        size_t n,
        const size_t* order,
        size_t d,
        const float* x,
        float eta,
        float* centroid) {
    // rows of length 0 have no direction and weight 0
    std::vector<float> units;
    std::vector<double> norms;
    for (size_t r = 0; r < n; r++) {
        const float* row = x + order[r] * d;
        double norm2 = precise_square(d, row);
        if (norm2 > 0) {
            norms.push_back(std::sqrt(norm2));
            for (size_t i = 0; i < d; i++) {
                units.push_back(float(row[i] / norms.back()));
            }
        }
    }
    if (norms.empty()) {
        return;
    }
    // Only ratios of w_0 = ||x||^(eta - 1) count: the longest row has 1.
    // w_2 x x^T = w_0 x x^T / ||x||^2.
    double longest = *std::max_element(norms.begin(), norms.end());
    double total = 0;
    std::vector<double> weights;
    for (double norm : norms) {
        weights.push_back(std::pow(norm / longest, eta - 1.0));
        total += weights.back();
    }
    std::vector<const float*> rows;
    std::vector<double> right(d);
    for (size_t r = 0; r < norms.size(); r++) {
        weights[r] /= total;
        rows.push_back(units.data() + r * d);
        for (size_t i = 0; i < d; i++) {
            right[i] += eta * weights[r] * norms[r] * rows[r][i];
        }
    }
    std::vector<double> solution(centroid, centroid + d);
    solve_centroid(d, rows, weights, eta, right, solution);
    std::copy(solution.begin(), solution.end(), centroid);
}

} // namespace

void make_centroids_score_aware(
        size_t n,
        size_t d,
        const float* x,
        const int64_t* assign,
        size_t k,
        float eta,
        float* centroids) {
    FAISS_THROW_IF_NOT_FMT(
            eta >= 1 && std::isfinite(eta),
            "eta is %g (allowed: finite values of at least 1)",
            eta);
    check_finite(n, d, x, "row");
    for (size_t i = 0; i < n; i++) {
        FAISS_THROW_IF_NOT_FMT(
                assign[i] >= 0 && assign[i] < int64_t(k),
                "row %zd is assigned to list %zd (allowed: 0..%zd)",
                i,
                size_t(assign[i]),
                k - 1);
    }
    const RowsByList by_list(k, n, assign);
    for_tiles(k, [&](size_t l) {
        const size_t* order = by_list.order.data() + by_list.begin[l];
        make_score_aware(by_list.size(l), order, d, x, eta, centroids + l * d);
    });
}

} // namespace faiss_ext
