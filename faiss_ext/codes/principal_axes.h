/*
 * Orthonormal axes, by LAPACK: the principal ones of rows, and random ones. On
 * the calling thread; the same for any number of threads.
 *
 * In: training residuals. Out: axes as rows; next: rotation.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace faiss_ext {

/// Eigenvalues and the eigenvectors as rows, largest eigenvalue first.
struct PrincipalAxes {
    std::vector<double> values;
    std::vector<float> axes;
};

/** Of the second moments about the origin.
 * @param x  size n * d, finite; any exponents
 * @throws faiss::FaissException if the eigenvalues do not converge */
PrincipalAxes principal_axes(size_t n, size_t d, const float* x);

/// Q of the QR decomposition of a normal matrix: uniform over rotations.
/// Size d * d.
std::vector<float> random_axes(size_t d, uint64_t seed);

} // namespace faiss_ext
