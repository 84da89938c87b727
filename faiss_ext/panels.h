/*
 * Rows in the layout of the matrix kernel, and the nearest of them.
 *
 * In: rows, such as centroids. Out: panels, half norms, the nearest row of
 * each of many; used by kmeans, partition, rotation, score_term.
 */

#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include <faiss_ext/aligned_buffer.h>
#include <faiss_ext/kernels/kernels.h>

namespace faiss_ext {

constexpr size_t round_up(size_t n, size_t unit) {
    return (n + unit - 1) / unit * unit;
}

/// Rows of panels per call of the matrix kernel; a multiple of kPanel.
constexpr size_t kChunkPanels = 256;

/// out[j/16][i][j%16] = rows[j][i], zero padded.
AlignedBuffer<float> make_panels(size_t n, size_t d, const float* rows);

/// ||row||^2 / 2 of n rows, padded to panels with infinity.
AlignedBuffer<float> make_half_norms(size_t n, size_t d, const float* rows);

/** Nearest of k rows, given as panels, for each of n rows x; on the calling
 * thread, for n of some hundreds. Equal distances go to the smaller number.
 * @param nearest  out, size n; -1 for rows with a NaN or infinite value
 */
void find_nearest(
        size_t n,
        size_t d,
        const float* x,
        size_t k,
        const float* panels,
        const float* half_norms,
        int64_t* nearest);

/// Largest of a row of scores that come in pieces; of equal ones the first.
struct Largest {
    float value = -HUGE_VALF;
    int64_t index = -1;

    /// @param n  multiple of kPanel
    void update(const float* values, size_t n, int64_t first);
};

} // namespace faiss_ext
