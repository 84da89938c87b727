/*
 * The other half of avx512.cpp, which alone includes it: inner products of
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

/// R rows of x by P panels: R * P sums in registers, each panel row loaded
/// once for R fused multiply-adds.
template <size_t R, size_t P>
FAISS_EXT_INLINE void
panel_tile(const PanelArgs& a, const float* x, const float* panel, float* out) {
    __m512 sum[R][P];
    for (size_t r = 0; r < R; r++) {
        for (size_t p = 0; p < P; p++) {
            sum[r][p] = _mm512_setzero_ps();
        }
    }
    const size_t d = a.d;
    const size_t ldx = a.ldx;
    for (size_t k = 0; k < d; k++) {
        __m512 y[P];
        for (size_t p = 0; p < P; p++) {
            y[p] = _mm512_load_ps(panel + (p * d + k) * kPanel);
        }
        for (size_t r = 0; r < R; r++) {
            __m512 xk = _mm512_set1_ps(x[r * ldx + k]);
            for (size_t p = 0; p < P; p++) {
                sum[r][p] = _mm512_fmadd_ps(xk, y[p], sum[r][p]);
            }
        }
    }
    for (size_t r = 0; r < R; r++) {
        for (size_t p = 0; p < P; p++) {
            _mm512_storeu_ps(out + r * a.ldo + p * kPanel, sum[r][p]);
        }
    }
}

/// All panels for R rows of x, P at a time, then one by one.
template <size_t R, size_t P>
FAISS_EXT_INLINE void panel_row(const PanelArgs& a, size_t i) {
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
    const size_t nx8 = a.nx / 8 * 8;
    // two panels stay in L2 while the rows of x pass by
    size_t j = 0;
    for (; nx8 > 0 && j < panels; j += 2) {
        const float* panel = a.panels + j * a.d * kPanel;
        for (size_t i = 0; i < nx8; i += 8) {
            const float* x = a.x + i * a.ldx;
            float* out = a.out + i * a.ldo + j * kPanel;
            if (j + 2 <= panels) {
                panel_tile<8, 2>(a, x, panel, out);
            } else {
                panel_tile<8, 1>(a, x, panel, out);
            }
        }
    }
    size_t i = nx8;
    for (; i + 4 <= a.nx; i += 4) {
        panel_row<4, 4>(a, i);
    }
    for (; i + 2 <= a.nx; i += 2) {
        panel_row<2, 4>(a, i);
    }
    for (; i < a.nx; i++) {
        panel_row<1, 8>(a, i);
    }
}

/// Sums of VPDPBUSD. As __m512i, GCC 12 converts them by a copy before and one
/// after each product, and runs out of registers.
using Int32x16 = int __attribute__((vector_size(64)));

/// Q queries by P panels, as panel_tile().
template <size_t Q, size_t P>
FAISS_EXT_INLINE void
byte_panel_tile(const BytePanelArgs& a, size_t first, size_t j) {
    const uint8_t* panel = a.panels + j * a.d * kPanel;
    const int8_t* queries = a.queries + first * a.d;
    const size_t d = a.d;
    Int32x16 sum[Q][P];
    for (size_t q = 0; q < Q; q++) {
        for (size_t p = 0; p < P; p++) {
            sum[q][p] = Int32x16{};
        }
    }
    for (size_t i = 0; i < d; i += 4) {
        __m512i rows[P];
        for (size_t p = 0; p < P; p++) {
            rows[p] = _mm512_load_si512(panel + (p * d + i) * kPanel);
        }
        for (size_t q = 0; q < Q; q++) {
            int32_t four;
            memcpy(&four, queries + q * d + i, sizeof(four));
            __m512i query = _mm512_set1_epi32(four);
            for (size_t p = 0; p < P; p++) {
                sum[q][p] = Int32x16(_mm512_dpbusd_epi32(
                        __m512i(sum[q][p]), rows[p], query));
            }
        }
    }
    for (size_t q = 0; q < Q; q++) {
        const __m512i excess = _mm512_set1_epi32(a.excess[first + q]);
        const __m512 step = _mm512_set1_ps(a.steps[first + q]);
        const __m512 offset = _mm512_set1_ps(a.offsets[first + q]);
        float* out = a.out + (first + q) * a.ldo;
        for (size_t p = 0; p < P; p++) {
            const size_t at = (j + p) * kPanel;
            __m512 product = _mm512_cvtepi32_ps(
                    _mm512_sub_epi32(__m512i(sum[q][p]), excess));
            __m512 score = _mm512_fmadd_ps(
                    _mm512_mul_ps(step, _mm512_loadu_ps(a.scales + at)),
                    product,
                    _mm512_fmadd_ps(
                            offset,
                            _mm512_loadu_ps(a.gains + at),
                            _mm512_loadu_ps(a.terms + at)));
            // of NaN and a number, VMAXPS returns the second
            score = _mm512_max_ps(score, _mm512_set1_ps(-FLT_MAX));
            score = _mm512_min_ps(score, _mm512_set1_ps(FLT_MAX));
            _mm512_storeu_ps(out + at, score);
        }
    }
}

void byte_panel_scores(const BytePanelArgs& a) noexcept {
    const size_t panels = (a.ny + kPanel - 1) / kPanel;
    const size_t nq8 = a.nq / 8 * 8;
    // two panels stay in cache while the queries pass by
    for (size_t j = 0; nq8 > 0 && j < panels; j += 2) {
        for (size_t q = 0; q < nq8; q += 8) {
            if (j + 2 <= panels) {
                byte_panel_tile<8, 2>(a, q, j);
            } else {
                byte_panel_tile<8, 1>(a, q, j);
            }
        }
    }
    for (size_t q = nq8; q < a.nq; q++) {
        size_t j = 0;
        for (; j + 8 <= panels; j += 8) {
            byte_panel_tile<1, 8>(a, q, j);
        }
        for (; j < panels; j++) {
            byte_panel_tile<1, 1>(a, q, j);
        }
    }
}

// --------------------------------------------------------------------- rows

#include <faiss_ext/kernels/row_loops.h>

/// Lane r: sum of the 16 lanes of s[r].
FAISS_EXT_INLINE __m128i add_up(const __m512i* s) {
    __m512i s01 = _mm512_add_epi32(
            _mm512_unpacklo_epi32(s[0], s[1]),
            _mm512_unpackhi_epi32(s[0], s[1]));
    __m512i s23 = _mm512_add_epi32(
            _mm512_unpacklo_epi32(s[2], s[3]),
            _mm512_unpackhi_epi32(s[2], s[3]));
    __m512i sum = _mm512_add_epi32(
            _mm512_unpacklo_epi64(s01, s23), _mm512_unpackhi_epi64(s01, s23));
    __m256i half = _mm256_add_epi32(
            _mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1));
    return _mm_add_epi32(
            _mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

FAISS_EXT_INLINE __m128 add_up(const __m512* s) {
    __m512 s01 = _mm512_add_ps(
            _mm512_unpacklo_ps(s[0], s[1]), _mm512_unpackhi_ps(s[0], s[1]));
    __m512 s23 = _mm512_add_ps(
            _mm512_unpacklo_ps(s[2], s[3]), _mm512_unpackhi_ps(s[2], s[3]));
    __m512d t01 = _mm512_castps_pd(s01);
    __m512d t23 = _mm512_castps_pd(s23);
    __m512 sum = _mm512_add_ps(
            _mm512_castpd_ps(_mm512_unpacklo_pd(t01, t23)),
            _mm512_castpd_ps(_mm512_unpackhi_pd(t01, t23)));
    __m256 half = _mm256_add_ps(
            _mm512_castps512_ps256(sum), _mm512_extractf32x8_ps(sum, 1));
    return _mm_add_ps(
            _mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

/// VPDPBUSD needs an unsigned factor: row + 128 (the top bit flipped), for which
/// 128 * sum(query) is subtracted at the end. The sums may wrap modulo 2^32: the
/// results fit.
struct ByteRows {
    const ByteRowsArgs& a;
    uint32_t excess; ///< 128 * sum(query)

    template <size_t R>
    FAISS_EXT_INLINE void score(size_t first) const {
        const __m512i flip = _mm512_set1_epi8(-128);
        const size_t d = a.d;
        const int8_t* rows[R];
        __m512i high[R];
        __m512i low[R];
        for (size_t r = 0; r < R; r++) {
            rows[r] = a.rows[first + r];
            high[r] = low[r] = _mm512_setzero_si512();
        }
        auto step = [&](size_t i, __mmask64 mask) {
            __m512i query_high = _mm512_maskz_loadu_epi8(mask, a.high + i);
            __m512i query_low = _mm512_maskz_loadu_epi8(mask, a.low + i);
            for (size_t r = 0; r < R; r++) {
                __m512i row = _mm512_xor_si512(
                        _mm512_maskz_loadu_epi8(mask, rows[r] + i), flip);
                high[r] = _mm512_dpbusd_epi32(high[r], row, query_high);
                low[r] = _mm512_dpbusd_epi32(low[r], row, query_low);
            }
        };
        size_t i = 0;
        for (; i + 64 <= d; i += 64) {
            step(i, ~__mmask64(0));
        }
        if (i < d) {
            step(i, ~__mmask64(0) >> (64 - (d - i)));
        }
        __m512i sum[4] = {};
        for (size_t r = 0; r < R; r++) {
            sum[r] = _mm512_add_epi32(_mm512_slli_epi32(high[r], 7), low[r]);
        }
        __m128i total = _mm_sub_epi32(
                add_up(sum), _mm_set1_epi32(static_cast<int32_t>(excess)));
        _mm_mask_storeu_epi32(a.out + first, (1 << R) - 1, total);
    }
};

void byte_rows_dot(const ByteRowsArgs& a) noexcept {
    uint32_t query_sum = 0;
    for (size_t i = 0; i < a.d; i++) {
        query_sum += static_cast<uint32_t>(128 * a.high[i] + a.low[i]);
    }
    const void* const* rows = reinterpret_cast<const void* const*>(a.rows);
    for_rows(ByteRows{a, 128 * query_sum}, rows, a.n, a.d);
}

/// The element types, 16 elements at a time.
struct Fp32 {
    static constexpr size_t kBytes = 4;
    FAISS_EXT_INLINE static __m512 load(const void* p, __mmask16 mask) {
        return _mm512_maskz_loadu_ps(mask, p);
    }
};
struct Fp16 {
    static constexpr size_t kBytes = 2;
    FAISS_EXT_INLINE static __m512 load(const void* p, __mmask16 mask) {
        return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, p));
    }
};
struct Bf16 {
    static constexpr size_t kBytes = 2;
    FAISS_EXT_INLINE static __m512 load(const void* p, __mmask16 mask) {
        __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p));
        return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
    }
};
struct Int8 {
    static constexpr size_t kBytes = 1;
    FAISS_EXT_INLINE static __m512 load(const void* p, __mmask16 mask) {
        return _mm512_cvtepi32_ps(
                _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, p)));
    }
};
struct UInt8 {
    static constexpr size_t kBytes = 1;
    FAISS_EXT_INLINE static __m512 load(const void* p, __mmask16 mask) {
        return _mm512_cvtepi32_ps(
                _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, p)));
    }
};

template <class Element, bool kL2>
struct FloatRows {
    const FloatRowsArgs& a;

    template <size_t R>
    FAISS_EXT_INLINE void score(size_t first) const {
        const size_t d = a.d;
        const char* rows[R];
        __m512 sum[4] = {};
        for (size_t r = 0; r < R; r++) {
            rows[r] = static_cast<const char*>(a.rows[first + r]);
        }
        auto step = [&](size_t i, __mmask16 mask) {
            __m512 query = _mm512_maskz_loadu_ps(mask, a.query + i);
            for (size_t r = 0; r < R; r++) {
                __m512 row = Element::load(rows[r] + i * Element::kBytes, mask);
                if (kL2) {
                    __m512 difference = _mm512_sub_ps(query, row);
                    sum[r] = _mm512_fmadd_ps(difference, difference, sum[r]);
                } else {
                    sum[r] = _mm512_fmadd_ps(query, row, sum[r]);
                }
            }
        };
        size_t i = 0;
        for (; i + 16 <= d; i += 16) {
            step(i, 0xffff);
        }
        if (i < d) {
            step(i, static_cast<__mmask16>((1u << (d - i)) - 1));
        }
        _mm_mask_storeu_ps(a.out + first, (1 << R) - 1, add_up(sum));
    }
};

template <class Element, bool kL2 = false>
void float_rows(const FloatRowsArgs& a) noexcept {
    for_rows(FloatRows<Element, kL2>{a}, a.rows, a.n, a.d * Element::kBytes);
}

} // namespace

} // namespace faiss_ext::kernels
