/*
 * The score-aware (anisotropic) loss: how much worse a parallel error is than
 * an orthogonal one.
 *
 * In: a threshold T on inner products (or eta directly), the length of x, d.
 * Out: eta, used by score_aware_pq (codes), kmeans (centroids).
 *
 * Source: Guo et al., "Accelerating Large-Scale Inference with Anisotropic
 * Vector Quantization", ICML 2020 (arXiv 1908.10396), Theorems 3.2 to 3.4.
 * For r = x - x~, r_par = <r, x> x / ||x||^2, r_orth = r - r_par:
 *
 *     loss = h_par ||r_par||^2 + h_orth ||r_orth||^2,   eta = h_par / h_orth
 */

#pragma once

#include <cstddef>

#include <faiss_ext/scann_options.h>

namespace faiss_ext {

/** eta for the weight w(t) = [t >= T].
 *
 * Exact: with alpha = arccos(T / norm), I_k = integral_0^alpha sin^k,
 * eta = (d - 1) (I_(d-2) / I_d - 1), by incomplete beta functions.
 * T <= 0 weights every positive score alike: eta = 1. T >= norm * 0.999 is
 * clamped to that (eta would be infinite or negative).
 *
 * @param threshold  T, in units of the inner product
 * @param norm       ||x||, > 0
 * @param d          dimension, >= 2
 * @return eta >= 1
 * @throws faiss::FaissException if an argument is not finite or d < 2
 */
double eta_from_threshold(
        double threshold,
        double norm,
        size_t d,
        EtaFormula formula = EtaFormula::Exact);

/** The threshold that gives eta: inverse of eta_from_threshold, Limit form:
 * T = norm * sqrt(eta / (d - 1 + eta)). */
double threshold_from_eta(double eta, double norm, size_t d);

/// I_k(alpha) = integral over [0, alpha] of sin^k, alpha in [0, pi], k >= 0
double sine_power_integral(size_t k, double alpha);

/** eta ||r_par||^2 + ||r_orth||^2 of one vector.
 * @param x, decoded  size d; x = 0 has no parallel direction: ||r||^2 */
double
score_aware_loss(const float* x, const float* decoded, size_t d, double eta);

/// Mean of ||r - decoded||^2 / ||r||^2, at most 1, over residuals r that are not 0.
/// @param residuals, decoded  size n * d
double mean_lost_share(
        size_t n,
        size_t d,
        const float* residuals,
        const float* decoded);

} // namespace faiss_ext
