/*
 * Rows in the layout of the matrix kernel.
 *
 * In: rows, such as the axes of a rotation. Out: panels; used by rotation,
 * score_term.
 */

#pragma once

#include <cstddef>

#include <faiss_ext/memory/aligned_buffer.h>
#include <faiss_ext/kernels/kernels.h>

namespace faiss_ext {

/** out[j/16][i][j%16] = rows[j][i], padded with zeros.
 * @param which  size n: rows[which[j]] instead; or nullptr */
AlignedBuffer<float> make_panels(
        size_t n,
        size_t d,
        const float* rows,
        const size_t* which = nullptr);

} // namespace faiss_ext
