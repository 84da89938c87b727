/*
 * The additive term of a vector's score: a number beside the codes that takes
 * out the part of their error which all near queries share.
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
 *                     term = -prediction / typical |q|
 *     L2:             -||q - c||^2 / 2 + <q, r~> - term,
 *                     term = <c, r> + ||r||^2 / 2 - prediction
 *
 * In: vectors, residuals, decoded residuals. Out: terms; next: the uint16 of a
 * packed block, or the shift of a refine row (r^ in place of r~).
 */

#pragma once

#include <cstddef>
#include <cstdint>

#include <faiss/MetricType.h>

#include <faiss_ext/export.h>

namespace faiss_ext {

struct FAISS_EXT_API ScoreTerm {
    faiss::MetricType metric = faiss::METRIC_L2;
    float centroid_weight = 0; ///< a
    float residual_weight = 0; ///< b
    float error_weight = 0;    ///< g
    float query_norm = 1;      ///< typical |q|, inner product only
    // uint16 code of a term: minimum + step * code, clamped to 0..65535
    float minimum = 0;
    float step = 0;

    bool operator==(const ScoreTerm&) const = default;

    /** Fits the weights, then minimum and step.
     * @param x, residuals, decoded  size n * d, all rotated alike, or not
     * @param seed  of the choice of pseudo-queries
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

    /// What a term is multiplied by for a query. @param query  size d
    float query_factor(size_t d, const float* query) const;

    uint16_t encode(float term) const;
    float decode(uint16_t code) const {
        return minimum + step * code;
    }
};

} // namespace faiss_ext
