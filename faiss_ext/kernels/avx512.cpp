/*
 * 512-bit kernels: F, BW, VL, DQ, VBMI and VNNI (Ice Lake, Zen 4 and later).
 * scalar.cpp says what each kernel computes; this file and avx512_products.h
 * only how.
 */

#include <faiss_ext/kernels/kernels.h>

#if defined(__GNUC__) && !defined(__clang__)
// GCC bug 105593: its own headers use an undefined vector on purpose
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <float.h>
#include <immintrin.h>
#include <string.h>

#include <faiss_ext/kernels/avx512_products.h>

namespace faiss_ext::kernels {

extern const Kernels avx512_kernels;

namespace {

// -------------------------------------------------------------------- scan

/// Appends the lanes in `mask`. Compresses in registers: VPCOMPRESSD to memory
/// is microcode on Zen 4 (over 100 cycles). May write kScanSlack keys.
FAISS_EXT_INLINE void
append(ScanQuery& query, __mmask16 mask, __m512i score, uint32_t offset) {
    const __m512i lane = _mm512_setr_epi32(
            0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i zip0 = _mm512_setr_epi32(
            0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i zip1 = _mm512_add_epi32(zip0, _mm512_set1_epi32(8));
    const uint32_t position = query.position + offset;
    __m512i high = _mm512_xor_si512(
            _mm512_maskz_compress_epi32(mask, score),
            _mm512_set1_epi32(INT32_MIN));
    __m512i low = _mm512_sub_epi32( // ~(position + lane)
            _mm512_set1_epi32(static_cast<int32_t>(~position)),
            _mm512_maskz_compress_epi32(mask, lane));
    uint64_t* keys = query.keys + query.count;
    _mm512_storeu_si512(keys, _mm512_permutex2var_epi32(low, zip0, high));
    _mm512_storeu_si512(keys + 8, _mm512_permutex2var_epi32(low, zip1, high));
    query.count += static_cast<size_t>(__builtin_popcount(mask));
}

/** One packed block for NQ queries. The lanes 0 .. half-1 of a row hold two
 * vectors each; kFull: half is 16.
 *
 * A row costs 2 ternary logic, 1 shift and, per query, 2 VPERMB and 2
 * VPDPBUSD: 14 half-width operations for 4 pipes, that is 3.5 cycles of Zen 4
 * for 64 bytes. Scanning two blocks at once gains 5% in cache but halves the
 * speed from DRAM (11 against 24 GB/s): the hardware prefetcher wants one
 * stream, and then needs no help from PREFETCH either. */
template <size_t NQ, bool kFull>
FAISS_EXT_INLINE void scan_block(
        const ScanList& list,
        const uint8_t* row,
        size_t half,
        uint32_t mask,
        uint32_t offset,
        ScanQuery* queries) {
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512i column = _mm512_set1_epi32(0x30201000);
    const __m512i ones = _mm512_set1_epi8(1);
    const __mmask16 lanes = static_cast<__mmask16>((1u << half) - 1);
    const size_t row_bytes = kFull ? 64 : 4 * half;
    auto load_row = [&](const uint8_t* p) {
        return kFull ? _mm512_load_si512(p)
                     : _mm512_maskz_loadu_epi32(lanes, p);
    };

    __m512i low[NQ];  // scores of vectors 0 .. half-1
    __m512i high[NQ]; // scores of vectors half ..
    const uint8_t* table[NQ];
    for (size_t q = 0; q < NQ; q++) {
        low[q] = high[q] = _mm512_set1_epi32(queries[q].bias);
        table[q] = queries[q].table;
    }
    if (list.has_term) {
        __m512i terms = load_row(row);
        row += row_bytes;
        for (size_t q = 0; q < NQ; q++) {
            __m512i scaled = _mm512_mulhi_epu16(
                    terms,
                    _mm512_set1_epi16(
                            static_cast<int16_t>(queries[q].term_mult)));
            low[q] = _mm512_sub_epi32(
                    low[q],
                    _mm512_and_si512(scaled, _mm512_set1_epi32(0xffff)));
            high[q] = _mm512_sub_epi32(high[q], _mm512_srli_epi32(scaled, 16));
        }
    }
    const size_t groups = list.groups;
#pragma GCC unroll 2
    for (size_t g = 0; g < groups; g++) {
        __m512i codes = load_row(row + g * row_bytes);
        // index into the 64 bytes of the table's row: 16 * column + code
        __m512i index0 = _mm512_ternarylogic_epi32(codes, nibble, column, 0xea);
        __m512i index1 = _mm512_ternarylogic_epi32(
                _mm512_srli_epi16(codes, 4), nibble, column, 0xea);
        for (size_t q = 0; q < NQ; q++) {
            __m512i entries = _mm512_load_si512(table[q] + g * 64);
            low[q] = _mm512_dpbusd_epi32(
                    low[q], _mm512_permutexvar_epi8(index0, entries), ones);
            high[q] = _mm512_dpbusd_epi32(
                    high[q], _mm512_permutexvar_epi8(index1, entries), ones);
        }
    }
    for (size_t q = 0; q < NQ; q++) {
        __m512i threshold = _mm512_set1_epi32(queries[q].threshold);
        __mmask16 keep0 = _mm512_mask_cmpge_epi32_mask(
                static_cast<__mmask16>(mask & lanes), low[q], threshold);
        __mmask16 keep1 = _mm512_mask_cmpge_epi32_mask(
                static_cast<__mmask16>(mask >> half), high[q], threshold);
        if (__builtin_expect((keep0 | keep1) != 0, 0)) {
            append(queries[q], keep0, low[q], offset);
            append(queries[q],
                   keep1,
                   high[q],
                   offset + static_cast<uint32_t>(half));
        }
    }
}

/// queries that share a block in registers
constexpr size_t kQueriesPerPass = kMaxScanQueries;

#include <faiss_ext/kernels/scan_loops.h>

// ------------------------------------------------------------------- select

#define FAISS_EXT_OWN_PARTITION
#include <faiss_ext/kernels/select_keys.h>

uint64_t select_keys(const SelectArgs& a) noexcept {
    auto partition = [](uint64_t* keys,
                        size_t n,
                        uint64_t pivot,
                        uint64_t* scratch) {
        const __m512i pivots = _mm512_set1_epi64(static_cast<int64_t>(pivot));
        size_t above = 0;
        size_t below = 0;
        size_t i = 0;
        // A store of 8 to keys + above never passes the 8 keys just read.
        for (; i + 8 <= n; i += 8) {
            __m512i key = _mm512_loadu_si512(keys + i);
            __mmask8 is_above = _mm512_cmpgt_epu64_mask(key, pivots);
            size_t count = static_cast<size_t>(__builtin_popcount(is_above));
            _mm512_storeu_si512(
                    keys + above, _mm512_maskz_compress_epi64(is_above, key));
            _mm512_storeu_si512(
                    scratch + below,
                    _mm512_maskz_compress_epi64(
                            static_cast<__mmask8>(~is_above), key));
            above += count;
            below += 8 - count;
        }
        for (; i < n; i++) {
            uint64_t key = keys[i];
            bool is_above = key > pivot;
            keys[above] = key;
            scratch[below] = key;
            above += is_above;
            below += !is_above;
        }
        return above;
    };
    return select_keys_by(a, partition);
}

// ------------------------------------------------------------------- tables

void float_table(TableArgs& a) noexcept {
    float max_span = 0;
    float sum_min = 0;
    for (size_t m = 0; m < a.M; m++) {
        __m512 sum = _mm512_setzero_ps();
        for (size_t i = a.offsets[m]; i < a.offsets[m + 1]; i++) {
            sum = _mm512_fmadd_ps(
                    _mm512_set1_ps(a.query[i]),
                    _mm512_load_ps(a.codebook + i * kCodewords),
                    sum);
        }
        _mm512_store_ps(a.table + m * kCodewords, sum);
        float smallest = _mm512_reduce_min_ps(sum);
        float span = _mm512_reduce_max_ps(sum) - smallest;
        max_span = span > max_span ? span : max_span;
        sum_min += smallest;
    }
    a.max_span = max_span;
    a.sum_min = sum_min;
}

void quantize_table(const QuantizeArgs& a) noexcept {
    const __m512 scale = _mm512_set1_ps(a.scale);
    const __m512 limit = _mm512_set1_ps(255.f);
    for (size_t m = 0; m < a.M; m++) {
        __m512 values = _mm512_load_ps(a.table + m * kCodewords);
        __m512 above = _mm512_sub_ps(
                values, _mm512_set1_ps(_mm512_reduce_min_ps(values)));
        __m512 steps = _mm512_min_ps(_mm512_mul_ps(above, scale), limit);
        _mm_store_si128(
                reinterpret_cast<__m128i*>(a.bytes + m * kCodewords),
                _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(steps)));
    }
    const size_t padded = (a.M + kGroup - 1) / kGroup * kGroup;
    memset(a.bytes + a.M * kCodewords, 0, (padded - a.M) * kCodewords);
}

// --------------------------------------------------------------------- top

#define FAISS_EXT_OWN_SCORE_LOOPS
#include <faiss_ext/kernels/top_scores.h>

FAISS_EXT_INLINE __mmask16 first_lanes(size_t n) {
    return static_cast<__mmask16>(n >= 16 ? 0xffff : (1u << n) - 1);
}

void score_range(
        const float* scores,
        size_t n,
        float* smallest,
        float* largest) {
    __m512 low = _mm512_set1_ps(scores[0]);
    __m512 high = low;
    for (size_t i = 0; i < n; i += 16) {
        __m512 s = _mm512_mask_loadu_ps(low, first_lanes(n - i), scores + i);
        low = _mm512_min_ps(low, s);
        high = _mm512_mask_max_ps(high, first_lanes(n - i), high, s);
    }
    *smallest = _mm512_reduce_min_ps(low);
    *largest = _mm512_reduce_max_ps(high);
}

size_t count_at_least(const float* scores, size_t n, float bound) {
    const __m512 b = _mm512_set1_ps(bound);
    size_t reached = 0;
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 lanes = first_lanes(n - i);
        __mmask16 hit = _mm512_mask_cmp_ps_mask(
                lanes, _mm512_maskz_loadu_ps(lanes, scores + i), b, _CMP_GE_OQ);
        reached += static_cast<size_t>(__builtin_popcount(hit));
    }
    return reached;
}

size_t
append_at_least(const float* scores, size_t n, float bound, uint64_t* keys) {
    const __m512 b = _mm512_set1_ps(bound);
    size_t found = 0;
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 lanes = first_lanes(n - i);
        __m512 s = _mm512_maskz_loadu_ps(lanes, scores + i);
        uint32_t hit = _mm512_mask_cmp_ps_mask(lanes, s, b, _CMP_GE_OQ);
        for (; hit != 0; hit &= hit - 1) {
            size_t at = i + static_cast<size_t>(__builtin_ctz(hit));
            keys[found++] = score_key(scores[at], at);
        }
    }
    return found;
}

// ------------------------------------------------------------------- encode

FAISS_EXT_INLINE size_t argmin(__m512 values) {
    __m512 smallest = _mm512_set1_ps(_mm512_reduce_min_ps(values));
    uint32_t equal = _mm512_cmpeq_ps_mask(values, smallest);
    // none where a value is NaN: the first then
    return static_cast<size_t>(__builtin_ctz(equal | 1u << kCodewords)) %
           kCodewords;
}

/// Nearest codewords, and (kAware) the tables of the coordinate descent.
/// @returns the sum of the parallel errors
template <bool kAware>
FAISS_EXT_INLINE float encode_nearest(
        const EncodeArgs& a,
        const float* residual,
        const float* direction,
        uint8_t* codes) {
    float parallel = 0;
    for (size_t m = 0; m < a.M; m++) {
        __m512 res = _mm512_setzero_ps();
        __m512 par = _mm512_setzero_ps();
        for (size_t i = a.offsets[m]; i < a.offsets[m + 1]; i++) {
            __m512 error = _mm512_sub_ps(
                    _mm512_set1_ps(residual[i]),
                    _mm512_load_ps(a.codebook + i * kCodewords));
            res = _mm512_fmadd_ps(error, error, res);
            if (kAware) {
                par = _mm512_fmadd_ps(error, _mm512_set1_ps(direction[i]), par);
            }
        }
        size_t best = argmin(res);
        codes[m] = static_cast<uint8_t>(best);
        if (kAware) {
            float* table = a.scratch + m * 2 * kCodewords;
            _mm512_store_ps(table, res);
            _mm512_store_ps(table + kCodewords, par);
            parallel += table[kCodewords + best];
        }
    }
    return parallel;
}

/// The codeword of the block with the least cost, `code` if none costs less.
/// Most blocks keep theirs: the branch spares their argmin, and lets the CPU go
/// on to the next block before it knows.
FAISS_EXT_INLINE size_t cheapest(
        const float* res,
        const float* par,
        float weight,
        float others,
        size_t code) {
    __m512 sum = _mm512_add_ps(_mm512_set1_ps(others), _mm512_load_ps(par));
    __m512 cost = _mm512_fmadd_ps(
            _mm512_mul_ps(_mm512_set1_ps(weight), sum),
            sum,
            _mm512_load_ps(res));
    __m512 now = _mm512_permutexvar_ps(
            _mm512_set1_epi32(static_cast<int>(code)), cost);
    return _mm512_cmplt_ps_mask(cost, now) != 0 ? argmin(cost) : code;
}

#include <faiss_ext/kernels/encode_rows.h>

// ------------------------------------------------------------------- filter

/// Bits of 8 ids. Gathers 4-byte words; the bitmap's last, incomplete word
/// comes in `last` because a gather there would read beyond the end. 1.6 to 2
/// times as fast as a load for every bit (Zen 4).
FAISS_EXT_INLINE __mmask8
filter8(const FilterArgs& a, const int64_t* ids, __mmask8 valid, int32_t last) {
    __m512i id = _mm512_maskz_loadu_epi64(valid, ids);
    // unsigned: negative ids are out of range too
    __mmask8 in =
            _mm512_mask_cmplt_epu64_mask(valid, id, _mm512_set1_epi64(a.nbits));
    __m512i word = _mm512_srli_epi64(id, 5);
    const int64_t words = (a.nbits + 7) / 8 / 4;
    __mmask8 whole =
            _mm512_mask_cmplt_epi64_mask(in, word, _mm512_set1_epi64(words));
    __m256i bits = _mm512_mask_i64gather_epi32(
            _mm256_set1_epi32(last), whole, word, a.bitmap, 4);
    __m256i shift =
            _mm256_and_si256(_mm512_cvtepi64_epi32(id), _mm256_set1_epi32(31));
    return _mm256_mask_test_epi32_mask(
            in, _mm256_srlv_epi32(bits, shift), _mm256_set1_epi32(1));
}

size_t filter_masks(const FilterArgs& a) noexcept {
    const size_t bytes = static_cast<size_t>((a.nbits + 7) / 8);
    int32_t last = 0;
    if (bytes % 4 != 0) {
        memcpy(&last, a.bitmap + bytes / 4 * 4, bytes % 4);
    }
    size_t passing = 0;
    for (size_t i = 0; i < a.n; i += kBlockSize) {
        uint32_t mask = 0;
        for (size_t j = 0; j < kBlockSize && i + j < a.n; j += 8) {
            size_t left = a.n - i - j;
            __mmask8 valid =
                    static_cast<__mmask8>(left < 8 ? (1u << left) - 1 : 0xff);
            mask |= static_cast<uint32_t>(
                            filter8(a, a.ids + i + j, valid, last))
                    << j;
        }
        a.masks[i / kBlockSize] = mask;
        passing += static_cast<size_t>(_mm_popcnt_u32(mask));
    }
    return passing;
}

} // namespace

const Kernels avx512_kernels = {
        .name = "AVX512",
        .scan = scan,
        .scan_lists = scan_lists,
        .select_keys = select_keys,
        .panel_products = panel_products,
        .byte_panel_scores = byte_panel_scores,
        .top_scores = top_scores,
        .select_near_best = select_near_best,
        .select_at_least = select_at_least,
        .float_table = float_table,
        .quantize_table = quantize_table,
        .byte_rows_dot = byte_rows_dot,
        .float_rows_dot = float_rows<Fp32>,
        .fp16_rows_dot = float_rows<Fp16>,
        .bf16_rows_dot = float_rows<Bf16>,
        .int8_rows_dot = float_rows<Int8>,
        .uint8_rows_dot = float_rows<UInt8>,
        .float_rows_l2 = float_rows<Fp32, true>,
        .fp16_rows_l2 = float_rows<Fp16, true>,
        .bf16_rows_l2 = float_rows<Bf16, true>,
        .int8_rows_l2 = float_rows<Int8, true>,
        .uint8_rows_l2 = float_rows<UInt8, true>,
        .encode = encode,
        .filter_masks = filter_masks,
};

} // namespace faiss_ext::kernels
