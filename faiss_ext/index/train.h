/* Training of an index whose lists are there already. */

#pragma once

#include <cstddef>
#include <cstdint>

namespace faiss_ext {

class IndexIVFScaNN;

/** As IndexIVFScaNN::train(), for rows whose lists are known, of which there
 * may be fewer than lists. The quantizer must hold the nlist centroids.
 * @param x      size n * d, n >= 1
 * @param lists  size n, each in 0..nlist - 1 */
void train_in_lists(
        IndexIVFScaNN& index,
        size_t n,
        const float* x,
        const int64_t* lists);

} // namespace faiss_ext
