/*
 * The additive term of a vector's score: a number beside the codes that
 * corrects the part of their error which all near queries share.
 *
 * With x = c + r the vector, r~ its decoded codes and e = r - r~, a query sees
 * <q, r~> = <q, r> - <q, e>. Near queries resemble x, so <q, e> is predictable
 * from x alone:
 *
 *     <q, e> ~ a <c, e> + b <r, e> + g ||e||^2,
 *
 * a, b, g by least squares over training rows as queries and their nearest
 * neighbours. (a = b = 1, g = 0 would be exact at q = x; real queries lie
 * around x, and measured recall is better with the fitted weights: recall@10
 * from codes alone .673 against .575 on glove-50, .697 against .590 on
 * sift-128 with 16 bytes.) Scores, larger is better:
 *
 *     inner product:  <q, c> + <q, r~> - |q| term,
 *                     term = -prediction / |x|
 *     L2:             -||q - c||^2 / 2 + <q, r~> - term,
 *                     term = <c, r> + ||r||^2 / 2 - prediction
 *
 * For L2, q, c and x count from an origin m, the median of the rows
 * (ScaNNModel): the score is the same for any m, and the numbers are small for
 * this one.
 *
 * Some rows have no useful code: their error is far above that of other rows,
 * or their term is outside the range of the 16 bits. The prediction would give
 * them a high score with every query, not only with near ones. They get the
 * code kApart, the worst term for the scan, and each query rescores those of
 * its lists from refine codes or raw rows (ScaNNList::apart).
 *
 * In: vectors, residuals, decoded residuals. Out: terms; next: the uint16 of a
 * packed block, or the shift of a refine row (r^ in place of r~).
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include <faiss/MetricType.h>

namespace faiss_ext {

struct ScoreTerm {
    /// code of rows that are kept apart
    static constexpr uint16_t kApart = 65535;
    /// largest code of a term
    static constexpr uint16_t kLargest = kApart - 1;

    faiss::MetricType metric = faiss::METRIC_L2;
    float centroid_weight = 0; ///< a
    float residual_weight = 0; ///< b
    float error_weight = 0;    ///< g
    // uint16 code of a term: minimum + step * code
    float minimum = 0;
    float step = 0;
    /// ||e||^2 above which rows are kept apart
    float error_limit = std::numeric_limits<float>::infinity();

    bool operator==(const ScoreTerm&) const = default;

    /** Fits the weights, then the ranges of term and error. Rows whose error is
     * far above the others' are left out.
     * @param x, residuals, decoded  size n * d, either all rotated or none; x
     *        less the origin
     * @param seed  for choosing pseudo-queries
     */
    void train(
            size_t n,
            size_t d,
            const float* x,
            const float* residuals,
            const float* decoded,
            uint64_t seed);

    /// Term of one vector. @param x, residual, decoded  size d
    float term(
            size_t d,
            const float* x,
            const float* residual,
            const float* decoded) const;

    /** Code of the term of one vector.
     * @param rescored  whether the lists keep more than codes. If not, no row
     *        is kept apart: it gets the score of its decoded vector, within the
     *        range of the term */
    uint16_t encode(
            size_t d,
            const float* x,
            const float* residual,
            const float* decoded,
            bool rescored) const;
    float decode(uint16_t code) const {
        return minimum + step * code;
    }

    /** Shift of a refine row: the term, for L2 with a = 1, so that the remaining
     * error does not grow with the distance of the centroid from the origin.
     * @param values  size d, the residual as the refine row has it */
    float shift(
            size_t d,
            const float* x,
            const float* residual,
            const float* values) const;

    /// Factor of the terms for a query. @param query  size d
    float query_factor(size_t d, const float* query) const;

 private:
    struct ErrorProducts;
    void fit_weights(
            const std::vector<size_t>& order,
            size_t d,
            const float* x,
            const float* residuals,
            const float* decoded);
    float term_of(const ErrorProducts& products, double centroid_weight) const;
};

} // namespace faiss_ext
