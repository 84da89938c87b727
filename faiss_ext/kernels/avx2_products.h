/*
 * The other half of avx2.cpp, which alone includes it: inner products of
 * vectors with panels and with scattered rows.
 */

#pragma once

#include <faiss_ext/kernels/kernels.h>

#include <immintrin.h>
#include <string.h>

#define FAISS_EXT_INLINE [[gnu::always_inline]] inline

namespace faiss_ext::kernels {

namespace {

// ------------------------------------------------------------------ panels

/// R rows of x by P panels: 2 * R * P sums in registers.
template <size_t R, size_t P>
FAISS_EXT_INLINE void
panel_tile(const PanelArgs& a, const float* x, const float* panel, float* out) {
    __m256 sum[R][2 * P];
    for (size_t r = 0; r < R; r++) {
        for (size_t p = 0; p < 2 * P; p++) {
            sum[r][p] = _mm256_setzero_ps();
        }
    }
    const size_t d = a.d;
    const size_t ldx = a.ldx;
    for (size_t k = 0; k < d; k++) {
        __m256 y[2 * P];
        for (size_t p = 0; p < 2 * P; p++) {
            y[p] = _mm256_load_ps(panel + (p / 2 * d + k) * kPanel + p % 2 * 8);
        }
        for (size_t r = 0; r < R; r++) {
            __m256 xk = _mm256_set1_ps(x[r * ldx + k]);
            for (size_t p = 0; p < 2 * P; p++) {
                sum[r][p] = _mm256_fmadd_ps(xk, y[p], sum[r][p]);
            }
        }
    }
    for (size_t r = 0; r < R; r++) {
        for (size_t p = 0; p < 2 * P; p++) {
            _mm256_storeu_ps(out + r * a.ldo + p * 8, sum[r][p]);
        }
    }
}

/// All panels for R rows of x, P at a time, then one by one.
template <size_t R, size_t P>
void panel_rows(const PanelArgs& a, size_t i) {
    const size_t panels = (a.ny + kPanel - 1) / kPanel;
    const float* x = a.x + i * a.ldx;
    float* out = a.out + i * a.ldo;
    size_t j = 0;
    for (; j + P <= panels; j += P) {
        panel_tile<R, P>(a, x, a.panels + j * a.d * kPanel, out + j * kPanel);
    }
    for (; j < panels; j++) {
        panel_tile<R, 1>(a, x, a.panels + j * a.d * kPanel, out + j * kPanel);
    }
}

void panel_products(const PanelArgs& a) noexcept {
    const size_t panels = (a.ny + kPanel - 1) / kPanel;
    const size_t nx6 = a.nx / 6 * 6;
    // a panel stays in cache while the rows of x pass by; 6 rows leave one
    // register for the broadcast
    for (size_t j = 0; nx6 > 0 && j < panels; j++) {
        for (size_t i = 0; i < nx6; i += 6) {
            panel_tile<6, 1>(
                    a,
                    a.x + i * a.ldx,
                    a.panels + j * a.d * kPanel,
                    a.out + i * a.ldo + j * kPanel);
        }
    }
    size_t i = nx6;
    for (; i + 2 <= a.nx; i += 2) {
        panel_rows<2, 2>(a, i);
    }
    if (i < a.nx) {
        panel_rows<1, 4>(a, i);
    }
}

/// Q queries by P panels. VPMADDUBSW adds pairs in 16 bits without saturation:
/// 2 * 255 * 63 < 2^15.
template <size_t Q, size_t P>
FAISS_EXT_INLINE void
byte_panel_tile(const BytePanelArgs& a, size_t first, size_t j) {
    const __m256i ones = _mm256_set1_epi16(1);
    const uint8_t* panel = a.panels + j * a.d * kPanel;
    const int8_t* queries = a.queries + first * a.d;
    const size_t d = a.d;
    __m256i sum[Q][2 * P];
    for (size_t q = 0; q < Q; q++) {
        for (size_t p = 0; p < 2 * P; p++) {
            sum[q][p] = _mm256_setzero_si256();
        }
    }
    for (size_t i = 0; i < d; i += 4) {
        __m256i rows[2 * P];
        for (size_t p = 0; p < 2 * P; p++) {
            rows[p] = _mm256_load_si256(reinterpret_cast<const __m256i*>(
                    panel + (p / 2 * d + i) * kPanel + p % 2 * 32));
        }
        for (size_t q = 0; q < Q; q++) {
            int32_t four;
            memcpy(&four, queries + q * d + i, sizeof(four));
            __m256i query = _mm256_set1_epi32(four);
            for (size_t p = 0; p < 2 * P; p++) {
                sum[q][p] = _mm256_add_epi32(
                        sum[q][p],
                        _mm256_madd_epi16(
                                _mm256_maddubs_epi16(rows[p], query), ones));
            }
        }
    }
    for (size_t q = 0; q < Q; q++) {
        const __m256i excess = _mm256_set1_epi32(a.excess[first + q]);
        const __m256 step = _mm256_set1_ps(a.steps[first + q]);
        const __m256 offset = _mm256_set1_ps(a.offsets[first + q]);
        float* out = a.out + (first + q) * a.ldo;
        for (size_t p = 0; p < 2 * P; p++) {
            const size_t at = j * kPanel + 8 * p;
            __m256 product =
                    _mm256_cvtepi32_ps(_mm256_sub_epi32(sum[q][p], excess));
            __m256 score = _mm256_fmadd_ps(
                    _mm256_mul_ps(step, _mm256_loadu_ps(a.scales + at)),
                    product,
                    _mm256_fmadd_ps(
                            offset,
                            _mm256_loadu_ps(a.gains + at),
                            _mm256_loadu_ps(a.terms + at)));
            // of NaN and a number, VMAXPS returns the second
            score = _mm256_max_ps(score, _mm256_set1_ps(-FLT_MAX));
            score = _mm256_min_ps(score, _mm256_set1_ps(FLT_MAX));
            _mm256_storeu_ps(out + at, score);
        }
    }
}

void byte_panel_scores(const BytePanelArgs& a) noexcept {
    const size_t panels = (a.ny + kPanel - 1) / kPanel;
    const size_t nq4 = a.nq / 4 * 4;
    for (size_t j = 0; nq4 > 0 && j < panels; j++) {
        for (size_t q = 0; q < nq4; q += 4) {
            byte_panel_tile<4, 1>(a, q, j);
        }
    }
    for (size_t q = nq4; q < a.nq; q++) {
        size_t j = 0;
        for (; j + 4 <= panels; j += 4) {
            byte_panel_tile<1, 4>(a, q, j);
        }
        for (; j < panels; j++) {
            byte_panel_tile<1, 1>(a, q, j);
        }
    }
}

// --------------------------------------------------------------------- rows

#include <faiss_ext/kernels/row_loops.h>

/// Lane r: sum of the 8 lanes of s[r].
FAISS_EXT_INLINE __m128i add_up(const __m256i* s) {
    __m256i sum = _mm256_hadd_epi32(
            _mm256_hadd_epi32(s[0], s[1]), _mm256_hadd_epi32(s[2], s[3]));
    return _mm_add_epi32(
            _mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
}

FAISS_EXT_INLINE __m128 add_up(const __m256* s) {
    __m256 sum = _mm256_hadd_ps(
            _mm256_hadd_ps(s[0], s[1]), _mm256_hadd_ps(s[2], s[3]));
    return _mm_add_ps(
            _mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
}

/// The last count < 16 bytes of a vector, then zeros.
FAISS_EXT_INLINE __m128i load_tail(const void* p, size_t count) {
    __m128i padded = _mm_setzero_si128();
    memcpy(&padded, p, count);
    return padded;
}

FAISS_EXT_INLINE __m128i load_16_bytes(const void* p) {
    return _mm_loadu_si128(static_cast<const __m128i*>(p));
}

/// 16-bit products: |128 * high + low| and |row| make pairs below 2^23.
struct ByteRows {
    const ByteRowsArgs& a;

    template <size_t R>
    FAISS_EXT_INLINE void score(size_t first) const {
        const size_t d = a.d;
        const int8_t* rows[R];
        __m256i sum[4] = {};
        for (size_t r = 0; r < R; r++) {
            rows[r] = a.rows[first + r];
        }
        auto step = [&](size_t i, auto load) {
            __m256i query = _mm256_add_epi16(
                    _mm256_slli_epi16(
                            _mm256_cvtepi8_epi16(load(a.high + i)), 7),
                    _mm256_cvtepi8_epi16(load(a.low + i)));
            for (size_t r = 0; r < R; r++) {
                __m256i row = _mm256_cvtepi8_epi16(load(rows[r] + i));
                sum[r] =
                        _mm256_add_epi32(sum[r], _mm256_madd_epi16(row, query));
            }
        };
        size_t i = 0;
        for (; i + 16 <= d; i += 16) {
            step(i, [](const int8_t* p) { return load_16_bytes(p); });
        }
        if (i < d) {
            step(i, [&](const int8_t* p) { return load_tail(p, d - i); });
        }
        int32_t total[4];
        _mm_storeu_si128(reinterpret_cast<__m128i*>(total), add_up(sum));
        memcpy(a.out + first, total, R * sizeof(int32_t));
    }
};

void byte_rows_dot(const ByteRowsArgs& a) noexcept {
    const void* const* rows = reinterpret_cast<const void* const*>(a.rows);
    for_rows(ByteRows{a}, rows, a.n, a.d);
}

/// The element types, 8 elements at a time; tail: the last count < 8.
struct Fp32 {
    static constexpr size_t kBytes = 4;
    FAISS_EXT_INLINE static __m256 load(const void* p) {
        return _mm256_loadu_ps(static_cast<const float*>(p));
    }
    FAISS_EXT_INLINE static __m256 tail(const void* p, size_t count) {
        __m256i mask = _mm256_cmpgt_epi32(
                _mm256_set1_epi32(static_cast<int>(count)),
                _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        return _mm256_maskload_ps(static_cast<const float*>(p), mask);
    }
};
struct Fp16 {
    static constexpr size_t kBytes = 2;
    FAISS_EXT_INLINE static __m256 load(const void* p) {
        return _mm256_cvtph_ps(load_16_bytes(p));
    }
    FAISS_EXT_INLINE static __m256 tail(const void* p, size_t count) {
        return _mm256_cvtph_ps(load_tail(p, count * kBytes));
    }
};
struct Bf16 {
    static constexpr size_t kBytes = 2;
    FAISS_EXT_INLINE static __m256 widen(__m128i halves) {
        __m256i wide = _mm256_cvtepu16_epi32(halves);
        return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
    }
    FAISS_EXT_INLINE static __m256 load(const void* p) {
        return widen(load_16_bytes(p));
    }
    FAISS_EXT_INLINE static __m256 tail(const void* p, size_t count) {
        return widen(load_tail(p, count * kBytes));
    }
};
struct Int8 {
    static constexpr size_t kBytes = 1;
    FAISS_EXT_INLINE static __m256 widen(__m128i bytes) {
        return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
    }
    FAISS_EXT_INLINE static __m256 load(const void* p) {
        return widen(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
    }
    FAISS_EXT_INLINE static __m256 tail(const void* p, size_t count) {
        return widen(load_tail(p, count));
    }
};
struct UInt8 {
    static constexpr size_t kBytes = 1;
    FAISS_EXT_INLINE static __m256 widen(__m128i bytes) {
        return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
    }
    FAISS_EXT_INLINE static __m256 load(const void* p) {
        return widen(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
    }
    FAISS_EXT_INLINE static __m256 tail(const void* p, size_t count) {
        return widen(load_tail(p, count));
    }
};

template <class Element, bool kL2>
struct FloatRows {
    const FloatRowsArgs& a;

    template <size_t R>
    FAISS_EXT_INLINE void score(size_t first) const {
        const size_t d = a.d;
        const char* rows[R];
        __m256 sum[4] = {};
        for (size_t r = 0; r < R; r++) {
            rows[r] = static_cast<const char*>(a.rows[first + r]);
        }
        auto add = [&](size_t r, __m256 query, __m256 row) {
            if (kL2) {
                __m256 difference = _mm256_sub_ps(query, row);
                sum[r] = _mm256_fmadd_ps(difference, difference, sum[r]);
            } else {
                sum[r] = _mm256_fmadd_ps(query, row, sum[r]);
            }
        };
        size_t i = 0;
        for (; i + 8 <= d; i += 8) {
            __m256 query = Fp32::load(a.query + i);
            for (size_t r = 0; r < R; r++) {
                add(r, query, Element::load(rows[r] + i * Element::kBytes));
            }
        }
        if (i < d) {
            __m256 query = Fp32::tail(a.query + i, d - i);
            for (size_t r = 0; r < R; r++) {
                const char* p = rows[r] + i * Element::kBytes;
                add(r, query, Element::tail(p, d - i));
            }
        }
        float total[4];
        _mm_storeu_ps(total, add_up(sum));
        memcpy(a.out + first, total, R * sizeof(float));
    }
};

template <class Element, bool kL2 = false>
void float_rows(const FloatRowsArgs& a) noexcept {
    for_rows(FloatRows<Element, kL2>{a}, a.rows, a.n, a.d * Element::kBytes);
}

} // namespace

} // namespace faiss_ext::kernels
