#include <faiss_ext/codes/packed_block.h>

#include <algorithm>
#include <cstring>

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
    // Full blocks of both sizes stay as they are. The columns of the block
    // after them change their width, in place, since this must not fail.
    const size_t begin = std::min(old_size, new_size) / kBlockSize * kBlockSize;
    const size_t kept = std::min(old_size, new_size) - begin;
    const size_t from = std::min(kBlockSize, old_size - begin);
    const size_t to = std::min(kBlockSize, new_size - begin);
    const size_t end = layout.list_bytes(std::max(old_size, new_size));
    uint8_t* block = packed + layout.list_bytes(begin);
    if (kept == 0) {
        std::fill(block, packed + end, 0);
        return;
    }
    const size_t old_width = (from + 1) / 2, new_width = (to + 1) / 2;
    const size_t columns = layout.columns();
    for (size_t i = 0; i < columns; i++) {
        // columns that become wider from the last one, narrower ones from the
        // first: each is read before it is overwritten
        const size_t c = new_width > old_width ? columns - 1 - i : i;
        uint8_t old[2 * kBlockSize], fresh[2 * kBlockSize] = {};
        std::memcpy(old, block + c * 4 * old_width, 4 * old_width);
        const bool terms = layout.has_term && c == 0;
        for (size_t v = 0; v < kept; v++) {
            const bool was_high = v >= old_width, high = v >= new_width;
            const uint8_t* in = old + 4 * (v - (was_high ? old_width : 0));
            uint8_t* out = fresh + 4 * (v - (high ? new_width : 0));
            for (size_t s = 0; s < kGroup && !terms; s++) {
                uint8_t code = was_high ? in[s] >> 4 : in[s] & 0x0F;
                out[s] |= high ? code << 4 : code;
            }
            for (size_t s = 0; s < sizeof(uint16_t) && terms; s++) {
                out[s + (high ? 2 : 0)] = in[s + (was_high ? 2 : 0)];
            }
        }
        std::memcpy(block + c * 4 * new_width, fresh, 4 * new_width);
    }
    std::fill(block + columns * 4 * new_width, packed + end, 0);
}

} // namespace faiss_ext
