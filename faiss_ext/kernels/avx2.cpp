/*
 * 256-bit kernels: AVX2, FMA and F16C (Haswell, Zen 1 and later).
 * scalar.cpp says what each kernel computes; this file and avx2_products.h
 * only how.
 */

#include <faiss_ext/kernels/kernels.h>

#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include <faiss_ext/kernels/avx2_products.h>

namespace faiss_ext::kernels {

extern const Kernels avx2_kernels;

namespace {

// -------------------------------------------------------------------- scan

/// Sums of one query over up to kFlushGroups groups. 16-bit lane i counts
/// vector i in `both` and vector i + 8 in its upper byte, which `odd` counts
/// alone; the two 128-bit halves belong to different columns.
struct ByteSums {
    __m256i both;
    __m256i odd;

    FAISS_EXT_INLINE void add(__m256i values) {
        both = _mm256_add_epi16(both, values);
        odd = _mm256_add_epi16(odd, _mm256_srli_epi16(values, 8));
    }
    /// scores of vectors 0..7 and 8..15 += the sums
    FAISS_EXT_INLINE void flush(__m256i* scores) {
        __m256i even = _mm256_sub_epi16(both, _mm256_slli_epi16(odd, 8));
        scores[0] = _mm256_add_epi32(scores[0], fold(even));
        scores[1] = _mm256_add_epi32(scores[1], fold(odd));
    }

 private:
    FAISS_EXT_INLINE static __m256i fold(__m256i sums) {
        return _mm256_add_epi32(
                _mm256_cvtepu16_epi32(_mm256_castsi256_si128(sums)),
                _mm256_cvtepu16_epi32(_mm256_extracti128_si256(sums, 1)));
    }
};

/// A group adds two bytes to a 16-bit lane: 128 * 2 * 255 < 65536.
constexpr size_t kFlushGroups = 128;

/// Two registers of 8 row lanes; lanes 0 .. half-1 exist.
template <bool kFull>
struct RowLoader {
    __m256i lanes[2];

    FAISS_EXT_INLINE explicit RowLoader(size_t half) {
        const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        const int h = static_cast<int>(half);
        lanes[0] = _mm256_cmpgt_epi32(_mm256_set1_epi32(h), lane);
        lanes[1] = _mm256_cmpgt_epi32(_mm256_set1_epi32(h - 8), lane);
    }
    FAISS_EXT_INLINE __m256i load(const uint8_t* row, size_t i) const {
        if (kFull) {
            return _mm256_load_si256(reinterpret_cast<const __m256i*>(row) + i);
        }
        return _mm256_maskload_epi32(
                reinterpret_cast<const int*>(row) + 8 * i, lanes[i]);
    }
};

/// Appends the lanes of `keep` in the order of their vectors.
void append(
        ScanQuery& query,
        uint32_t keep,
        const __m256i* scores,
        size_t half,
        uint32_t offset) {
    int32_t score[kBlockSize];
    memcpy(score, scores, sizeof(score));
    for (; keep != 0; keep &= keep - 1) {
        uint32_t v = static_cast<uint32_t>(__builtin_ctz(keep));
        size_t lane = v < half ? v : 16 + v - half;
        uint32_t high = static_cast<uint32_t>(score[lane]) ^ 0x80000000u;
        uint32_t low = ~(query.position + offset + v);
        query.keys[query.count++] = static_cast<uint64_t>(high) << 32 | low;
    }
}

/** One packed block for NQ queries.
 *
 * VPSHUFB looks up 16 bytes in one column's 16 entries, hence a row's bytes
 * are sorted by column first: VPSHUFB groups each half's 4 columns, byte
 * unpacking pairs vector i with vector i + 8, and VPERMQ collects what belongs
 * to a column in one 128-bit lane. That is 6 shuffles a row, shared by the
 * queries. Two queries fill the 16 registers. */
template <size_t NQ, bool kFull>
FAISS_EXT_INLINE void scan_block(
        const ScanList& list,
        const uint8_t* row,
        size_t half,
        uint32_t mask,
        uint32_t offset,
        ScanQuery* queries) {
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i by_column = _mm256_broadcastsi128_si256(_mm_setr_epi8(
            0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const size_t row_bytes = kFull ? 64 : 4 * half;
    const RowLoader<kFull> loader(half);

    __m256i scores[NQ][4]; // of vectors 0..7, 8..15, half.., half+8..
    for (size_t q = 0; q < NQ; q++) {
        for (size_t i = 0; i < 4; i++) {
            scores[q][i] = _mm256_set1_epi32(queries[q].bias);
        }
    }
    if (list.has_term) {
        for (size_t i = 0; i < 2; i++) {
            __m256i terms = loader.load(row, i);
            for (size_t q = 0; q < NQ; q++) {
                __m256i scaled = _mm256_mulhi_epu16(
                        terms,
                        _mm256_set1_epi16(
                                static_cast<int16_t>(queries[q].term_mult)));
                scores[q][i] = _mm256_sub_epi32(
                        scores[q][i],
                        _mm256_and_si256(scaled, _mm256_set1_epi32(0xffff)));
                scores[q][i + 2] = _mm256_sub_epi32(
                        scores[q][i + 2], _mm256_srli_epi32(scaled, 16));
            }
        }
        row += row_bytes;
    }
    for (size_t g = 0; g < list.groups;) {
        const size_t end =
                list.groups - g < kFlushGroups ? list.groups : g + kFlushGroups;
        ByteSums low[NQ];
        ByteSums high[NQ];
        for (size_t q = 0; q < NQ; q++) {
            low[q] = high[q] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
        }
        for (; g < end; g++) {
            const uint8_t* p = row + g * row_bytes;
            __m256i a = _mm256_shuffle_epi8(loader.load(p, 0), by_column);
            __m256i b = _mm256_shuffle_epi8(loader.load(p, 1), by_column);
            const __m256i codes[2] = {
                    _mm256_permute4x64_epi64(_mm256_unpacklo_epi8(a, b), 0xd8),
                    _mm256_permute4x64_epi64(_mm256_unpackhi_epi8(a, b), 0xd8),
            };
            for (size_t i = 0; i < 2; i++) {
                __m256i index0 = _mm256_and_si256(codes[i], nibble);
                __m256i index1 = _mm256_and_si256(
                        _mm256_srli_epi16(codes[i], 4), nibble);
                for (size_t q = 0; q < NQ; q++) {
                    __m256i table = _mm256_load_si256(
                            reinterpret_cast<const __m256i*>(
                                    queries[q].table + g * 64) +
                            i);
                    low[q].add(_mm256_shuffle_epi8(table, index0));
                    high[q].add(_mm256_shuffle_epi8(table, index1));
                }
            }
        }
        for (size_t q = 0; q < NQ; q++) {
            low[q].flush(scores[q]);
            high[q].flush(scores[q] + 2);
        }
    }
    for (size_t q = 0; q < NQ; q++) {
        __m256i threshold = _mm256_set1_epi32(queries[q].threshold);
        uint32_t below[4];
        for (size_t i = 0; i < 4; i++) {
            below[i] = static_cast<uint32_t>(
                    _mm256_movemask_ps(_mm256_castsi256_ps(
                            _mm256_cmpgt_epi32(threshold, scores[q][i]))));
        }
        uint32_t keep0 = ~(below[0] | below[1] << 8) & ((1u << half) - 1);
        uint32_t keep1 = ~(below[2] | below[3] << 8) << half;
        uint32_t keep = (keep0 | keep1) & mask;
        if (__builtin_expect(keep != 0, 0)) {
            append(queries[q], keep, scores[q], half, offset);
        }
    }
}

/// queries that share a block in registers
constexpr size_t kQueriesPerPass = 2;

#include <faiss_ext/kernels/scan_loops.h>

// ------------------------------------------------------------------- select

#include <faiss_ext/kernels/select_keys.h>

// ------------------------------------------------------------------- tables

/// 16 floats.
struct Floats {
    __m256 half[2];
};

FAISS_EXT_INLINE Floats load16(const float* p) {
    return {{_mm256_load_ps(p), _mm256_load_ps(p + 8)}};
}

FAISS_EXT_INLINE void store16(float* p, const Floats& values) {
    _mm256_store_ps(p, values.half[0]);
    _mm256_store_ps(p + 8, values.half[1]);
}

/// The smallest of the 16, everywhere.
FAISS_EXT_INLINE __m256 smallest(const Floats& values) {
    __m256 low = _mm256_min_ps(values.half[0], values.half[1]);
    low = _mm256_min_ps(low, _mm256_permute2f128_ps(low, low, 1));
    low = _mm256_min_ps(low, _mm256_permute_ps(low, 0x4e));
    return _mm256_min_ps(low, _mm256_permute_ps(low, 0xb1));
}

FAISS_EXT_INLINE __m256 largest(const Floats& values) {
    __m256 high = _mm256_max_ps(values.half[0], values.half[1]);
    high = _mm256_max_ps(high, _mm256_permute2f128_ps(high, high, 1));
    high = _mm256_max_ps(high, _mm256_permute_ps(high, 0x4e));
    return _mm256_max_ps(high, _mm256_permute_ps(high, 0xb1));
}

void float_table(TableArgs& a) noexcept {
    float max_span = 0;
    float sum_min = 0;
    for (size_t m = 0; m < a.M; m++) {
        Floats sum = {{_mm256_setzero_ps(), _mm256_setzero_ps()}};
        for (size_t i = a.offsets[m]; i < a.offsets[m + 1]; i++) {
            __m256 query = _mm256_set1_ps(a.query[i]);
            Floats codewords = load16(a.codebook + i * kCodewords);
            for (size_t h = 0; h < 2; h++) {
                sum.half[h] =
                        _mm256_fmadd_ps(query, codewords.half[h], sum.half[h]);
            }
        }
        store16(a.table + m * kCodewords, sum);
        float low = _mm256_cvtss_f32(smallest(sum));
        float span = _mm256_cvtss_f32(largest(sum)) - low;
        max_span = span > max_span ? span : max_span;
        sum_min += low;
    }
    a.max_span = max_span;
    a.sum_min = sum_min;
}

void quantize_table(const QuantizeArgs& a) noexcept {
    const __m256 scale = _mm256_set1_ps(a.scale);
    const __m256 limit = _mm256_set1_ps(255.f);
    for (size_t m = 0; m < a.M; m++) {
        Floats values = load16(a.table + m * kCodewords);
        __m256 low = smallest(values);
        __m256i steps[2];
        for (size_t h = 0; h < 2; h++) {
            __m256 above = _mm256_sub_ps(values.half[h], low);
            steps[h] = _mm256_cvtps_epi32(
                    _mm256_min_ps(_mm256_mul_ps(above, scale), limit));
        }
        __m256i words = _mm256_permute4x64_epi64(
                _mm256_packs_epi32(steps[0], steps[1]), 0xd8);
        _mm_store_si128(
                reinterpret_cast<__m128i*>(a.bytes + m * kCodewords),
                _mm_packus_epi16(
                        _mm256_castsi256_si128(words),
                        _mm256_extracti128_si256(words, 1)));
    }
    const size_t padded = (a.M + kGroup - 1) / kGroup * kGroup;
    memset(a.bytes + a.M * kCodewords, 0, (padded - a.M) * kCodewords);
}

// --------------------------------------------------------------------- top

#define FAISS_EXT_OWN_SCORE_LOOPS
#include <faiss_ext/kernels/top_scores.h>

void score_range(
        const float* scores,
        size_t n,
        float* smallest,
        float* largest) {
    __m256 low = _mm256_set1_ps(scores[0]);
    __m256 high = low;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 s = _mm256_loadu_ps(scores + i);
        low = _mm256_min_ps(low, s);
        high = _mm256_max_ps(high, s);
    }
    float lows[8];
    float highs[8];
    _mm256_storeu_ps(lows, low);
    _mm256_storeu_ps(highs, high);
    *smallest = lows[0];
    *largest = highs[0];
    for (size_t l = 1; l < 8; l++) {
        *smallest = lows[l] < *smallest ? lows[l] : *smallest;
        *largest = highs[l] > *largest ? highs[l] : *largest;
    }
    for (; i < n; i++) {
        *smallest = scores[i] < *smallest ? scores[i] : *smallest;
        *largest = scores[i] > *largest ? scores[i] : *largest;
    }
}

FAISS_EXT_INLINE uint32_t select_at_least(const float* scores, __m256 bound) {
    return static_cast<uint32_t>(_mm256_movemask_ps(
            _mm256_cmp_ps(_mm256_loadu_ps(scores), bound, _CMP_GE_OQ)));
}

size_t count_at_least(const float* scores, size_t n, float bound) {
    const __m256 b = _mm256_set1_ps(bound);
    size_t reached = 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        reached += static_cast<size_t>(
                __builtin_popcount(select_at_least(scores + i, b)));
    }
    for (; i < n; i++) {
        reached += scores[i] >= bound;
    }
    return reached;
}

size_t
append_at_least(const float* scores, size_t n, float bound, uint64_t* keys) {
    const __m256 b = _mm256_set1_ps(bound);
    size_t found = 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (uint32_t hit = select_at_least(scores + i, b); hit != 0;
             hit &= hit - 1) {
            size_t at = i + static_cast<size_t>(__builtin_ctz(hit));
            keys[found++] = score_key(scores[at], at);
        }
    }
    for (; i < n; i++) {
        if (scores[i] >= bound) {
            keys[found++] = score_key(scores[i], i);
        }
    }
    return found;
}

// ------------------------------------------------------------------- encode

FAISS_EXT_INLINE uint32_t bits_of(__m256 low, __m256 high) {
    return static_cast<uint32_t>(
            _mm256_movemask_ps(low) | _mm256_movemask_ps(high) << 8);
}

FAISS_EXT_INLINE size_t argmin(const Floats& values) {
    __m256 low = smallest(values);
    uint32_t equal =
            bits_of(_mm256_cmp_ps(values.half[0], low, _CMP_EQ_OQ),
                    _mm256_cmp_ps(values.half[1], low, _CMP_EQ_OQ));
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
        Floats res = {{_mm256_setzero_ps(), _mm256_setzero_ps()}};
        Floats par = res;
        for (size_t i = a.offsets[m]; i < a.offsets[m + 1]; i++) {
            Floats codewords = load16(a.codebook + i * kCodewords);
            for (size_t h = 0; h < 2; h++) {
                __m256 error = _mm256_sub_ps(
                        _mm256_set1_ps(residual[i]), codewords.half[h]);
                res.half[h] = _mm256_fmadd_ps(error, error, res.half[h]);
                if (kAware) {
                    par.half[h] = _mm256_fmadd_ps(
                            error, _mm256_set1_ps(direction[i]), par.half[h]);
                }
            }
        }
        size_t best = argmin(res);
        codes[m] = static_cast<uint8_t>(best);
        if (kAware) {
            float* table = a.scratch + m * 2 * kCodewords;
            store16(table, res);
            store16(table + kCodewords, par);
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
    float sum_now = others + par[code];
    __m256 now = _mm256_set1_ps(fmaf(weight * sum_now, sum_now, res[code]));
    Floats cost;
    for (size_t h = 0; h < 2; h++) {
        __m256 sum = _mm256_add_ps(
                _mm256_set1_ps(others), _mm256_load_ps(par + 8 * h));
        cost.half[h] = _mm256_fmadd_ps(
                _mm256_mul_ps(_mm256_set1_ps(weight), sum),
                sum,
                _mm256_load_ps(res + 8 * h));
    }
    uint32_t better =
            bits_of(_mm256_cmp_ps(cost.half[0], now, _CMP_LT_OQ),
                    _mm256_cmp_ps(cost.half[1], now, _CMP_LT_OQ));
    return better != 0 ? argmin(cost) : code;
}

#include <faiss_ext/kernels/encode_rows.h>

// ------------------------------------------------------------------- filter

#include <faiss_ext/kernels/filter_plain.h>

} // namespace

const Kernels avx2_kernels = {
        .name = "AVX2",
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
