/*
 * Parts of Faiss' byte streams inside indexes: transforms, quantizers, graphs,
 * lists. Each function reads one and throws if a field is wrong. Next:
 * faiss_bytes.
 */

#pragma once

#include <cstdint>

#include <faiss_ext/io/faiss_byte_cursor.h>

namespace faiss_ext {

/// dimensions, as in index_factory
constexpr int64_t kMaxDimensions = 65536;

struct TransformShape {
    int64_t d_in = 0;
    int64_t d_out = 0;
    bool is_trained = false;
};
TransformShape check_transform(FaissByteCursor& cursor);

/// @return bytes of a code
uint64_t
check_scalar_quantizer(FaissByteCursor& cursor, int64_t d, bool is_trained);

struct PQShape {
    uint64_t M = 0;
    uint64_t nbits = 0;
    uint64_t code_size() const {
        return (M * nbits + 7) / 8;
    }
};
PQShape check_product_quantizer(FaissByteCursor& cursor, int64_t d);

void check_graph(FaissByteCursor& cursor, int64_t rows);

/// @param floats  codes are floats, which must be finite
void check_inverted_lists(
        FaissByteCursor& cursor,
        uint64_t nlist,
        uint64_t code_size,
        int64_t rows,
        bool floats);

} // namespace faiss_ext
