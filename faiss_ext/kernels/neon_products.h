/*
 * The other half of neon.cpp, which alone includes it: inner products of
 * vectors with panels and with scattered rows.
 */

#pragma once

#include <faiss_ext/kernels/kernels.h>

#include <arm_neon.h>
#include <string.h>

#define FAISS_EXT_INLINE [[gnu::always_inline]] inline

namespace faiss_ext::kernels {

namespace {

/// 16 bytes, of which the first `count` are read; zeros after them.
FAISS_EXT_INLINE uint8x16_t load_some(const void* p, size_t count) {
    if (count >= 16) {
        return vld1q_u8(static_cast<const uint8_t*>(p));
    }
    uint8_t padded[16] = {};
    memcpy(padded, p, count);
    return vld1q_u8(padded);
}

// ------------------------------------------------------------------ panels

/// R rows of x by P panels: 4 * R * P sums in registers.
template <size_t R, size_t P>
FAISS_EXT_INLINE void
panel_tile(const PanelArgs& a, const float* x, const float* panel, float* out) {
    float32x4_t sum[R][4 * P];
    for (size_t r = 0; r < R; r++) {
        for (size_t p = 0; p < 4 * P; p++) {
            sum[r][p] = vdupq_n_f32(0);
        }
    }
    const size_t d = a.d;
    for (size_t k = 0; k < d; k++) {
        for (size_t p = 0; p < 4 * P; p++) {
            float32x4_t y =
                    vld1q_f32(panel + (p / 4 * d + k) * kPanel + p % 4 * 4);
            for (size_t r = 0; r < R; r++) {
                sum[r][p] = vfmaq_n_f32(sum[r][p], y, x[r * a.ldx + k]);
            }
        }
    }
    for (size_t r = 0; r < R; r++) {
        for (size_t p = 0; p < 4 * P; p++) {
            vst1q_f32(out + r * a.ldo + p * 4, sum[r][p]);
        }
    }
}

template <size_t R, size_t P>
void panel_rows(const PanelArgs& a, size_t i, size_t j) {
    panel_tile<R, P>(
            a,
            a.x + i * a.ldx,
            a.panels + j * a.d * kPanel,
            a.out + i * a.ldo + j * kPanel);
}

void panel_products(const PanelArgs& a) noexcept {
    const size_t panels = (a.ny + kPanel - 1) / kPanel;
    const size_t nx4 = a.nx / 4 * 4;
    for (size_t j = 0; j < panels; j++) {
        for (size_t i = 0; i < nx4; i += 4) {
            panel_rows<4, 1>(a, i, j);
        }
    }
    for (size_t i = nx4; i < a.nx; i++) {
        size_t j = 0;
        for (; j + 4 <= panels; j += 4) {
            panel_rows<1, 4>(a, i, j);
        }
        for (; j < panels; j++) {
            panel_rows<1, 1>(a, i, j);
        }
    }
}

/// 16-bit products are exact, 255 * 63 < 2^15; pairs are added in 32 bits.
template <size_t P>
FAISS_EXT_INLINE void
byte_panel_tile(const BytePanelArgs& a, size_t q, size_t j) {
    const int8_t* queries = a.queries + q * a.d;
    float* out = a.out + q * a.ldo;
    const uint8_t* panel = a.panels + j * a.d * kPanel;
    const size_t d = a.d;
    int32x4_t sum[8 * P]; // lanes 2 i, 2 i + 1 belong to one row
    for (size_t p = 0; p < 8 * P; p++) {
        sum[p] = vdupq_n_s32(0);
    }
    for (size_t i = 0; i < d; i += 4) {
        int32_t four;
        memcpy(&four, queries + i, sizeof(four));
        int16x8_t query = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)));
        for (size_t p = 0; p < 4 * P; p++) {
            uint8x16_t rows =
                    vld1q_u8(panel + (p / 4 * d + i) * kPanel + p % 4 * 16);
            int16x8_t low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(rows)));
            int16x8_t high = vreinterpretq_s16_u16(vmovl_high_u8(rows));
            sum[2 * p] = vpadalq_s16(sum[2 * p], vmulq_s16(low, query));
            sum[2 * p + 1] =
                    vpadalq_s16(sum[2 * p + 1], vmulq_s16(high, query));
        }
    }
    for (size_t p = 0; p < 4 * P; p++) {
        const size_t at = j * kPanel + 4 * p;
        float32x4_t product = vcvtq_f32_s32(vsubq_s32(
                vpaddq_s32(sum[2 * p], sum[2 * p + 1]),
                vdupq_n_s32(a.excess[q])));
        float32x4_t score = vfmaq_f32(
                vfmaq_n_f32(
                        vld1q_f32(a.terms + at),
                        vld1q_f32(a.gains + at),
                        a.offsets[q]),
                vmulq_n_f32(vld1q_f32(a.scales + at), a.steps[q]),
                product);
        // of NaN and a number, these return the number
        score = vmaxnmq_f32(score, vdupq_n_f32(-FLT_MAX));
        score = vminnmq_f32(score, vdupq_n_f32(FLT_MAX));
        vst1q_f32(out + at, score);
    }
}

void byte_panel_scores(const BytePanelArgs& a) noexcept {
    const size_t panels = (a.ny + kPanel - 1) / kPanel;
    size_t j = 0;
    for (; j + 2 <= panels; j += 2) {
        for (size_t q = 0; q < a.nq; q++) {
            byte_panel_tile<2>(a, q, j);
        }
    }
    for (; j < panels; j++) {
        for (size_t q = 0; q < a.nq; q++) {
            byte_panel_tile<1>(a, q, j);
        }
    }
}

// --------------------------------------------------------------------- rows

#include <faiss_ext/kernels/row_loops.h>

/// Calls score_row(r) for every row.
template <class Score>
FAISS_EXT_INLINE void
for_rows(const void* const* rows, size_t n, size_t row_bytes, Score score_row) {
    for (size_t r = 0; r < n && r < kRowsAhead; r++) {
        prefetch_row(rows[r], row_bytes);
    }
    for (size_t r = 0; r < n; r++) {
        if (r + kRowsAhead < n) {
            prefetch_row(rows[r + kRowsAhead], row_bytes);
        }
        score_row(r);
    }
}

void byte_rows_dot(const ByteRowsArgs& a) noexcept {
    const void* const* rows = reinterpret_cast<const void* const*>(a.rows);
    for_rows(rows, a.n, a.d, [&](size_t r) {
        int32x4_t sum[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};
        for (size_t i = 0; i < a.d; i += 16) {
            auto load = [&](const int8_t* p) {
                return vreinterpretq_s8_u8(load_some(p + i, a.d - i));
            };
            int8x16_t row = load(a.rows[r]);
            int8x16_t high = load(a.high);
            int8x16_t low = load(a.low);
            int16x8_t row0 = vmovl_s8(vget_low_s8(row));
            int16x8_t row1 = vmovl_high_s8(row);
            int16x8_t query0 = vaddw_s8( // 128 * high + low
                    vshll_n_s8(vget_low_s8(high), 7),
                    vget_low_s8(low));
            int16x8_t query1 = vaddw_high_s8(vshll_high_n_s8(high, 7), low);
            sum[0] =
                    vmlal_s16(sum[0], vget_low_s16(row0), vget_low_s16(query0));
            sum[1] = vmlal_high_s16(sum[1], row0, query0);
            sum[0] =
                    vmlal_s16(sum[0], vget_low_s16(row1), vget_low_s16(query1));
            sum[1] = vmlal_high_s16(sum[1], row1, query1);
        }
        a.out[r] = vaddvq_s32(vaddq_s32(sum[0], sum[1]));
    });
}

/// The element types: 8 elements from p, of which `left` exist.
struct Fp32 {
    static constexpr size_t kBytes = 4;
    FAISS_EXT_INLINE static float32x4x2_t load(const char* p, size_t left) {
        float32x4_t rest = vdupq_n_f32(0);
        if (left > 4) {
            rest = vreinterpretq_f32_u8(load_some(p + 16, 4 * (left - 4)));
        }
        return {{vreinterpretq_f32_u8(load_some(p, 4 * left)), rest}};
    }
};
struct Fp16 {
    static constexpr size_t kBytes = 2;
    FAISS_EXT_INLINE static float32x4x2_t load(const char* p, size_t left) {
        float16x8_t x = vreinterpretq_f16_u8(load_some(p, 2 * left));
        return {{vcvt_f32_f16(vget_low_f16(x)), vcvt_high_f32_f16(x)}};
    }
};
struct Bf16 {
    static constexpr size_t kBytes = 2;
    FAISS_EXT_INLINE static float32x4x2_t load(const char* p, size_t left) {
        uint16x8_t x = vreinterpretq_u16_u8(load_some(p, 2 * left));
        return {
                {vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(x), 16)),
                 vreinterpretq_f32_u32(vshll_high_n_u16(x, 16))}};
    }
};
struct Int8 {
    static constexpr size_t kBytes = 1;
    FAISS_EXT_INLINE static float32x4x2_t load(const char* p, size_t left) {
        int16x8_t x = vmovl_s8(vget_low_s8(
                vreinterpretq_s8_u8(load_some(p, left < 8 ? left : 8))));
        return {
                {vcvtq_f32_s32(vmovl_s16(vget_low_s16(x))),
                 vcvtq_f32_s32(vmovl_high_s16(x))}};
    }
};
struct UInt8 {
    static constexpr size_t kBytes = 1;
    FAISS_EXT_INLINE static float32x4x2_t load(const char* p, size_t left) {
        uint16x8_t x = vmovl_u8(vget_low_u8(load_some(p, left < 8 ? left : 8)));
        return {
                {vcvtq_f32_u32(vmovl_u16(vget_low_u16(x))),
                 vcvtq_f32_u32(vmovl_high_u16(x))}};
    }
};

template <class Element, bool kL2 = false>
void float_rows(const FloatRowsArgs& a) noexcept {
    const char* query = reinterpret_cast<const char*>(a.query);
    for_rows(a.rows, a.n, a.d * Element::kBytes, [&](size_t r) {
        const char* row = static_cast<const char*>(a.rows[r]);
        float32x4_t sum[2] = {vdupq_n_f32(0), vdupq_n_f32(0)};
        for (size_t i = 0; i < a.d; i += 8) {
            float32x4x2_t x = Fp32::load(query + 4 * i, a.d - i);
            float32x4x2_t y = Element::load(row + i * Element::kBytes, a.d - i);
            for (size_t h = 0; h < 2; h++) {
                if (kL2) {
                    float32x4_t difference = vsubq_f32(x.val[h], y.val[h]);
                    sum[h] = vfmaq_f32(sum[h], difference, difference);
                } else {
                    sum[h] = vfmaq_f32(sum[h], x.val[h], y.val[h]);
                }
            }
        }
        a.out[r] = vaddvq_f32(vaddq_f32(sum[0], sum[1]));
    });
}

} // namespace

} // namespace faiss_ext::kernels
