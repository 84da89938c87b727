/*
 * The kernels: every loop of the engine that touches many bytes.
 *
 * In: plain pointers prepared by the rooms above (packed_block, lookup_table,
 * partition, rerank, score_aware_pq). Out: plain arrays. A kernel never
 * allocates, never throws, never reads a byte that its args do not name.
 *
 * scalar.cpp is the specification. Integer kernels of every other level
 * return the same integers. The float kernels marked "exact order" do every
 * sum with fused multiply-adds in the stated order, so that they too return
 * the same bits at every level; the others agree to rounding. Where sums
 * overflow to infinity or NaN, levels may differ, but indices stay in range.
 *
 * Each level is one .cpp file that exports one table (dispatch.cpp lists them).
 * This header is all that those files share, hence no inline function and no
 * container here: the linker might keep the copy compiled for the widest ISA.
 */

#pragma once

#include <cstddef>
#include <cstdint>

namespace faiss_ext::kernels {

/// vectors in a full packed block
constexpr size_t kBlockSize = 32;
/// codewords per block of dimensions (4-bit codes)
constexpr size_t kCodewords = 16;
/// code columns that share a 64-byte row of a packed block and of the table
constexpr size_t kGroup = 4;
/// rows in a panel of the matrix kernels
constexpr size_t kPanel = 16;
/// largest number of queries that one scan call serves
constexpr size_t kMaxScanQueries = 4;
/// slots of scratch memory that select_keys() needs beyond n
constexpr size_t kSelectSlack = 8;
/// slots that scan() may write beyond the last survivor it reports
constexpr size_t kScanSlack = 16;

/** The codes of one list, in the layout of packed_block.h. */
struct ScanList {
    const uint8_t* blocks; ///< packed blocks, 64-byte aligned
    size_t n;              ///< vectors in the list
    size_t groups;         ///< ceil(M / kGroup)
    bool has_term;         ///< first column of each block holds uint16 terms
    /// one word per packed block, bit i = vector i may be returned; a block
    /// whose word is 0 is not read. nullptr: no filter
    const uint32_t* masks;
    /// blocks that will be scanned next, fetched meanwhile; or nullptr
    const uint8_t* next;
};

/** One query's side of a scan.
 *
 * score(v) = bias + sum_m table[m][code_m(v)] - ((term(v) * term_mult) >> 16)
 *
 * A vector with score >= threshold is appended to `keys` as
 * (uint32(score) ^ 0x80000000) << 32 | ~uint32(position + v), so that larger
 * keys are better and equal scores go to the smaller position.
 */
struct ScanQuery {
    const uint8_t* table; ///< [groups][kGroup][kCodewords], 64-byte aligned
    int32_t bias;         ///< score of the list's centroid, in table steps
    uint32_t term_mult;   ///< 0..65535
    int32_t threshold;    ///< lowest score kept
    uint32_t position;    ///< position of vector 0 of the list
    uint64_t* keys;       ///< size capacity + kScanSlack
    size_t count;         ///< in/out: keys held
    size_t capacity;      ///< of keys
    size_t enough;        ///< scan_lists() pauses when this many keys are held
};

/// A list that a query visits.
struct Probe {
    const uint8_t* blocks; ///< as in ScanList
    const uint32_t* masks; ///< as in ScanList
    uint32_t n;            ///< vectors in the list
    uint32_t position;     ///< for ScanQuery
    int32_t bias;          ///< for ScanQuery
    // Kernels do not read what follows.
    float score;   ///< of the list's centroid
    uint32_t list; ///< its number
    bool spilled;  ///< the list's spilled copies, not its own vectors
};

/** Lists of one layout, to be scanned one after the other for one query. */
struct ScanListsArgs {
    const Probe* probes; ///< size n
    size_t n;
    size_t groups;  ///< as in ScanList
    bool has_term;  ///< as in ScanList
    bool has_masks; ///< all probes have masks; else none has
    size_t probe;   ///< in/out: probe to go on with; n when done
    size_t begin;   ///< in/out: and its vector, a multiple of kBlockSize
};

/** Moves the `keep` largest of n distinct keys to the front, in any order. */
struct SelectArgs {
    uint64_t* keys; ///< size n
    size_t n;
    size_t keep;       ///< 1..n
    uint64_t* scratch; ///< size n + kSelectSlack
};

/** <x_i, y_j> for nx rows x and ny rows y given as panels of 16:
 * panels[j / 16][dim][j % 16], rows beyond ny are zeros. Exact order: one
 * accumulator per output, dimensions ascending, from 0. */
struct PanelArgs {
    const float* x; ///< size nx * ldx
    size_t nx;
    size_t ldx;
    size_t d;
    const float* panels; ///< size ceil(ny / 16) * d * 16, 64-byte aligned
    size_t ny;
    float* out; ///< size nx * ldo, ldo >= 16 * ceil(ny / 16)
    size_t ldo;
};

/** Scores of 7-bit queries with 8-bit rows, from the integer products
 *     p = sum_i queries[q][i] * panels[j/16][i/4][j%16][i%4] - excess[q]:
 *     out[q][j] = fma(steps[q] * scales[j], p,
 *                     fma(gains[j], offsets[q], terms[j])),
 * kept within the finite floats; NaN becomes the lowest. Exact. */
struct BytePanelArgs {
    const int8_t* queries; ///< size nq * d, values -63..63
    size_t nq;
    size_t d;              ///< multiple of 4
    const uint8_t* panels; ///< size ceil(ny / 16) * d * 16, 64-byte aligned
    size_t ny;
    const int32_t* excess; ///< these three: size nq
    const float* steps;
    const float* offsets;
    const float* scales; ///< these three: size 16 * ceil(ny / 16)
    const float* gains;
    const float* terms;
    float* out; ///< size nq * ldo, ldo >= 16 * ceil(ny / 16)
    size_t ldo;
};

/** Finds the best of many scores.
 *
 * Bisects between the smallest and the largest for a bound that `wanted`
 * scores reach, or up to half as many and 16 more, and writes the keys
 * (ordered score << 32 | ~index) of all that reach it; with many equal scores
 * these can be all. Exact: the same keys, in the order of the indices. */
struct TopArgs {
    const float* scores; ///< size n, finite
    size_t n;
    size_t wanted;  ///< 1..n
    uint64_t* keys; ///< size n + kScanSlack
};

/** Finds the scores close to the largest: writes the keys, as in TopArgs, of
 * all that are at least the largest less `margin`, which rounds as floats do,
 * in the order of the indices. */
struct NearBestArgs {
    const float* scores; ///< size n, finite
    size_t n;            ///< >= 1
    float margin;        ///< >= 0, finite
    uint64_t* keys;      ///< size n + kScanSlack
};

/** Writes the keys, as in TopArgs, of the scores that reach `bound`, in the
 * order of the indices. */
struct AtLeastArgs {
    const float* scores; ///< size n, finite
    size_t n;
    float bound;    ///< finite
    uint64_t* keys; ///< size n + kScanSlack
};

/** Float tables: table[m][j] = sum over the dimensions i of block m of
 * query[i] * codebook[i][j]. Exact order: dimensions ascending. */
struct TableArgs {
    const float* query;      ///< size offsets[M]
    const uint32_t* offsets; ///< size M + 1: block m holds dims [o[m], o[m+1])
    size_t M;
    const float* codebook; ///< size offsets[M] * 16, 64-byte aligned
    float* table;          ///< size M * 16, 64-byte aligned
    /// out: largest (max - min) over blocks
    float max_span;
    /// out: sum over blocks of the smallest entry, m ascending
    float sum_min;
};

/** bytes[m][j] = round_to_even((table[m][j] - min_j table[m][j]) * scale),
 * at most 255; blocks M..4*groups-1 are zeros. Exact. */
struct QuantizeArgs {
    const float* table; ///< size M * 16, 64-byte aligned
    size_t M;
    float scale;
    uint8_t* bytes; ///< size 16 * 4 * ceil(M / 4), 64-byte aligned
};

/** Integer dot products of a query with 8-bit rows:
 * out[r] = sum_i query[i] * rows[r][i], query[i] = 128 * high[i] + low[i]. */
struct ByteRowsArgs {
    const int8_t* const* rows; ///< n pointers, no alignment needed
    size_t n;
    size_t d;
    const int8_t* high; ///< size d, -127..127
    const int8_t* low;  ///< size d, -64..63
    int32_t* out;       ///< the caller scales the query so that this fits
};

/** Scores of rows of floats, half precision floats or bytes. Rows of two types
 * with the same values have the same score, in bits. */
struct FloatRowsArgs {
    const void* const* rows; ///< n pointers to d elements, no alignment needed
    size_t n;
    size_t d;
    const float* query; ///< size d
    float* out;         ///< size n
};

/** Score-aware codes of residuals by coordinate descent (notes in
 * score_aware_pq.h). Minimises ||e||^2 + (eta - 1) <e, u>^2 over the codes,
 * e = residual - decode(codes), u = direction. */
struct EncodeArgs {
    const float* residuals;  ///< size n * D, D = offsets[M]
    const float* directions; ///< size n * D, unit rows; unused when eta == 1
    size_t n;
    const uint32_t* offsets; ///< size M + 1
    size_t M;
    const float* codebook; ///< size D * 16, 64-byte aligned
    float eta;             ///< >= 1
    size_t max_rounds;     ///< of coordinate descent
    float* scratch;        ///< size M * 32, 64-byte aligned
    uint8_t* codes;        ///< out, size n * M, values 0..15
};

/** masks[b] bit i = (0 <= id < nbits and bit id of bitmap is set), for
 * id = ids[32 * b + i]; bits beyond n are 0. */
struct FilterArgs {
    const int64_t* ids; ///< size n
    size_t n;
    const uint8_t* bitmap; ///< size ceil(nbits / 8), LSB first
    int64_t nbits;
    uint32_t* masks; ///< size ceil(n / 32)
};

/** One level's kernels. */
struct Kernels {
    const char* name; ///< NONE, AVX2, AVX512, ARM_NEON (Faiss' level names)

    /// Scans vectors [begin, n), begin a multiple of kBlockSize, for
    /// 1..kMaxScanQueries queries. Stops before a block when a query has less
    /// than kBlockSize free slots. Returns where to go on; n when done.
    size_t (*scan)(
            const ScanList& list,
            size_t begin,
            ScanQuery* queries,
            size_t nq) noexcept;

    /// Does scan() for each list; the query's bias and position are those of
    /// the probes. Pauses where scan() stops, and after a list that brought
    /// the query to query.enough keys. Fetches each list while it scans the
    /// one before.
    void (*scan_lists)(ScanListsArgs& args, ScanQuery& query) noexcept;

    /// @return the smallest key kept
    uint64_t (*select_keys)(const SelectArgs& args) noexcept;

    void (*panel_products)(const PanelArgs& args) noexcept;
    void (*byte_panel_scores)(const BytePanelArgs& args) noexcept;
    /// @return number of keys
    size_t (*top_scores)(const TopArgs& args) noexcept;
    /// @return number of keys
    size_t (*select_near_best)(const NearBestArgs& args) noexcept;
    /// @return number of keys
    size_t (*select_at_least)(const AtLeastArgs& args) noexcept;
    void (*float_table)(TableArgs& args) noexcept;
    void (*quantize_table)(const QuantizeArgs& args) noexcept;
    void (*byte_rows_dot)(const ByteRowsArgs& args) noexcept;
    void (*float_rows_dot)(const FloatRowsArgs& args) noexcept;
    void (*fp16_rows_dot)(const FloatRowsArgs& args) noexcept;
    void (*bf16_rows_dot)(const FloatRowsArgs& args) noexcept;
    void (*int8_rows_dot)(const FloatRowsArgs& args) noexcept;
    void (*uint8_rows_dot)(const FloatRowsArgs& args) noexcept;
    // squared Euclidean distances
    void (*float_rows_l2)(const FloatRowsArgs& args) noexcept;
    void (*fp16_rows_l2)(const FloatRowsArgs& args) noexcept;
    void (*bf16_rows_l2)(const FloatRowsArgs& args) noexcept;
    void (*int8_rows_l2)(const FloatRowsArgs& args) noexcept;
    void (*uint8_rows_l2)(const FloatRowsArgs& args) noexcept;
    void (*encode)(const EncodeArgs& args) noexcept;
    /// @return number of ids that pass
    size_t (*filter_masks)(const FilterArgs& args) noexcept;
};

} // namespace faiss_ext::kernels
