#include <faiss_ext/packed_block.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include <faiss_ext/kernels/kernels.h>

namespace faiss_ext {

using kernels::kBlockSize;
using kernels::kGroup;

namespace {

/// Where vector v of a list of `size` vectors has its codes.
struct Place {
    size_t block; ///< byte offset of its block
    size_t width; ///< h, quads per column of the block
    size_t quad;  ///< v's quad, < width
    bool high;    ///< in the high nibble

    size_t column_bytes() const {
        return 4 * width;
    }
};

Place place_of(const PackedLayout& layout, size_t size, size_t v) {
    size_t block = v / kBlockSize;
    size_t in_block = std::min(kBlockSize, size - block * kBlockSize);
    size_t width = (in_block + 1) / 2;
    size_t i = v % kBlockSize;
    bool high = i >= width;
    return {block * layout.block_bytes(), width, high ? i - width : i, high};
}

} // namespace

void pack_codes(
        const PackedLayout& layout,
        uint8_t* packed,
        size_t size,
        size_t begin,
        size_t n,
        const uint8_t* codes,
        const uint16_t* terms) {
    for (size_t i = 0; i < n; i++) {
        Place at = place_of(layout, size, begin + i);
        uint8_t* column = packed + at.block;
        if (layout.has_term) {
            uint8_t* term = column + 4 * at.quad + (at.high ? 2 : 0);
            std::memcpy(term, &terms[i], sizeof(uint16_t));
            column += at.column_bytes();
        }
        const uint8_t* code = codes + i * layout.M;
        for (size_t m = 0; m < layout.M; m++) {
            uint8_t* byte = column + m / kGroup * at.column_bytes() +
                            4 * at.quad + m % kGroup;
            *byte = at.high ? (*byte & 0x0F) | (code[m] << 4)
                            : (*byte & 0xF0) | code[m];
        }
    }
}

void unpack_codes(
        const PackedLayout& layout,
        const uint8_t* packed,
        size_t size,
        size_t begin,
        size_t n,
        uint8_t* codes,
        uint16_t* terms) {
    for (size_t i = 0; i < n; i++) {
        Place at = place_of(layout, size, begin + i);
        const uint8_t* column = packed + at.block;
        if (layout.has_term) {
            if (terms != nullptr) {
                const uint8_t* term = column + 4 * at.quad + (at.high ? 2 : 0);
                std::memcpy(&terms[i], term, sizeof(uint16_t));
            }
            column += at.column_bytes();
        }
        uint8_t* code = codes + i * layout.M;
        for (size_t m = 0; m < layout.M; m++) {
            uint8_t byte =
                    column[m / kGroup * at.column_bytes() + 4 * at.quad +
                           m % kGroup];
            code[m] = at.high ? byte >> 4 : byte & 0x0F;
        }
    }
}

void reshape_tail(
        const PackedLayout& layout,
        uint8_t* packed,
        size_t old_size,
        size_t new_size) {
    // Full blocks that both sizes have stay as they are.
    size_t begin = std::min(old_size, new_size) / kBlockSize * kBlockSize;
    size_t kept = std::min(old_size, new_size) - begin;
    std::vector<uint8_t> codes(kept * layout.M);
    std::vector<uint16_t> terms(kept);
    unpack_codes(
            layout, packed, old_size, begin, kept, codes.data(), terms.data());
    size_t first = layout.list_bytes(begin);
    size_t last = layout.list_bytes(std::max(old_size, new_size));
    std::fill(packed + first, packed + last, 0);
    pack_codes(
            layout, packed, new_size, begin, kept, codes.data(), terms.data());
}

} // namespace faiss_ext
