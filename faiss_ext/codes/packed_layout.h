/* Sizes of packed codes; what stands in them: packed_block.h. */

#pragma once

#include <cstddef>

namespace faiss_ext {

/// Shape of the packed codes of a list.
struct PackedLayout {
    size_t M;      ///< codes per vector
    bool has_term; ///< blocks begin with a column of uint16 terms

    size_t groups() const {
        return (M + 3) / 4;
    }
    size_t columns() const {
        return groups() + (has_term ? 1 : 0);
    }
    /// bytes of a full block
    size_t block_bytes() const {
        return columns() * 64;
    }
    /// bytes of the packed codes of a list of n vectors
    size_t list_bytes(size_t n) const {
        size_t tail = n % 32;
        return n / 32 * block_bytes() + (tail + 1) / 2 * 4 * columns();
    }
};

} // namespace faiss_ext
