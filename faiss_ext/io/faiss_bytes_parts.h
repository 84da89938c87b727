/*
 * Parts of Faiss' byte streams inside indexes: transforms, quantizers, graphs,
 * lists. Each function reads one and throws if a field is wrong. Next:
 * faiss_bytes.
 */

#pragma once

#include <cstdint>
#include <span>
#include <vector>

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

struct SQShape {
    int type = 0; ///< faiss::ScalarQuantizer::QuantizerType
    uint64_t code_size = 0;
    Column<float> trained;
};
SQShape
check_scalar_quantizer(FaissByteCursor& cursor, int64_t d, bool is_trained);

struct PQShape {
    uint64_t M = 0;
    uint64_t nbits = 0;
    Column<float> centroids; ///< size d * 2^nbits
    uint64_t code_size() const {
        return (M * nbits + 7) / 8;
    }
};
PQShape check_product_quantizer(FaissByteCursor& cursor, int64_t d);

void check_graph(FaissByteCursor& cursor, int64_t rows);

/// One list, in place.
struct FaissList {
    Column<int64_t> ids;
    std::span<const uint8_t> codes;
};

/// What the lists may hold.
struct ListRules {
    uint64_t nlist = 0;
    uint64_t code_size = 0;
    int64_t rows = 0;
    bool floats = false; ///< codes are floats, which must be finite
    /// Ids are the rows 0..rows-1, each once, all in lists. If not: any ids,
    /// and some of the rows may be in no list
    bool ids_are_rows = true;
};
/// @param lists  out, size nlist, or nullptr
void check_inverted_lists(
        FaissByteCursor& cursor,
        const ListRules& rules,
        std::vector<FaissList>* lists = nullptr);

/** Lists of 4-bit codes, interleaved in blocks; with any ids.
 * @param block_rows  rows of a block
 * @param lists       out, size nlist */
void check_block_lists(
        FaissByteCursor& cursor,
        const ListRules& rules,
        uint64_t block_rows,
        std::vector<FaissList>* lists);

} // namespace faiss_ext
