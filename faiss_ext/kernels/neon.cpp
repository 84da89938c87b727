/*
 * 128-bit kernels: Advanced SIMD of every ARMv8-A CPU, no extension.
 * scalar.cpp says what each kernel computes; this file and neon_products.h
 * only how.
 */

#include <faiss_ext/kernels/kernels.h>

#include <arm_neon.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include <faiss_ext/kernels/neon_products.h>

namespace faiss_ext::kernels {

extern const Kernels neon_kernels;

namespace {

// -------------------------------------------------------------------- scan

/// Appends the vectors of `mask` that reach the threshold.
void append(
        ScanQuery& query,
        uint32_t mask,
        const uint32x4_t* scores,
        size_t half,
        uint32_t offset) {
    int32_t score[kBlockSize];
    memcpy(score, scores, sizeof(score));
    for (; mask != 0; mask &= mask - 1) {
        uint32_t v = static_cast<uint32_t>(__builtin_ctz(mask));
        int32_t s = score[v < half ? v : 16 + v - half];
        if (s >= query.threshold) {
            uint32_t high = static_cast<uint32_t>(s) ^ 0x80000000u;
            uint32_t low = ~(query.position + offset + v);
            query.keys[query.count++] = static_cast<uint64_t>(high) << 32 | low;
        }
    }
}

/// One packed block for NQ queries. TBL with four registers looks up 16 bytes
/// in the whole 64-byte row of the table, as VPERMB does.
template <size_t NQ, bool kFull>
FAISS_EXT_INLINE void scan_block(
        const ScanList& list,
        const uint8_t* row,
        size_t half,
        uint32_t mask,
        uint32_t offset,
        ScanQuery* queries) {
    const uint8x16_t column =
            vreinterpretq_u8_u32(vdupq_n_u32(0x30201000)); // 16 * column
    const size_t row_bytes = kFull ? 64 : 4 * half;
    auto load_quarter = [&](const uint8_t* p, size_t i) {
        return 16 * i < row_bytes ? load_some(p + 16 * i, row_bytes - 16 * i)
                                  : vdupq_n_u8(0);
    };

    uint32x4_t scores[NQ][8]; // vectors 0..15, then half..; modulo 2^32
    for (size_t q = 0; q < NQ; q++) {
        for (size_t i = 0; i < 8; i++) {
            scores[q][i] = vdupq_n_u32(static_cast<uint32_t>(queries[q].bias));
        }
    }
    if (list.has_term) {
        for (size_t i = 0; i < 4; i++) {
            uint32x4_t terms = vreinterpretq_u32_u8(load_quarter(row, i));
            uint32x4_t low = vandq_u32(terms, vdupq_n_u32(0xffff));
            uint32x4_t high = vshrq_n_u32(terms, 16);
            for (size_t q = 0; q < NQ; q++) {
                const uint32_t mult = queries[q].term_mult;
                scores[q][i] = vsubq_u32(
                        scores[q][i], vshrq_n_u32(vmulq_n_u32(low, mult), 16));
                scores[q][i + 4] = vsubq_u32(
                        scores[q][i + 4],
                        vshrq_n_u32(vmulq_n_u32(high, mult), 16));
            }
        }
        row += row_bytes;
    }
    for (size_t g = 0; g < list.groups; g++, row += row_bytes) {
        uint8x16x4_t table[NQ];
        for (size_t q = 0; q < NQ; q++) {
            table[q] = vld1q_u8_x4(queries[q].table + g * 64);
        }
        for (size_t i = 0; i < 4; i++) {
            uint8x16_t codes = load_quarter(row, i);
            uint8x16_t index0 =
                    vorrq_u8(vandq_u8(codes, vdupq_n_u8(15)), column);
            uint8x16_t index1 = vorrq_u8(vshrq_n_u8(codes, 4), column);
            for (size_t q = 0; q < NQ; q++) {
                scores[q][i] = vpadalq_u16(
                        scores[q][i], vpaddlq_u8(vqtbl4q_u8(table[q], index0)));
                scores[q][i + 4] = vpadalq_u16(
                        scores[q][i + 4],
                        vpaddlq_u8(vqtbl4q_u8(table[q], index1)));
            }
        }
    }
    for (size_t q = 0; q < NQ; q++) {
        int32x4_t largest = vreinterpretq_s32_u32(scores[q][0]);
        for (size_t i = 1; i < 8; i++) {
            largest = vmaxq_s32(largest, vreinterpretq_s32_u32(scores[q][i]));
        }
        if (__builtin_expect(vmaxvq_s32(largest) >= queries[q].threshold, 0)) {
            append(queries[q], mask, scores[q], half, offset);
        }
    }
}

/// queries that share a block in registers
constexpr size_t kQueriesPerPass = 2;

#include <faiss_ext/kernels/scan_loops.h>

// ------------------------------------------------------------------- select

#include <faiss_ext/kernels/select_keys.h>

#include <faiss_ext/kernels/top_scores.h>

// ------------------------------------------------------------------- tables

FAISS_EXT_INLINE float smallest(const float32x4x4_t& x) {
    return vminvq_f32(vminq_f32(
            vminq_f32(x.val[0], x.val[1]), vminq_f32(x.val[2], x.val[3])));
}

FAISS_EXT_INLINE float largest(const float32x4x4_t& x) {
    return vmaxvq_f32(vmaxq_f32(
            vmaxq_f32(x.val[0], x.val[1]), vmaxq_f32(x.val[2], x.val[3])));
}

FAISS_EXT_INLINE float32x4x4_t zeros() {
    float32x4_t zero = vdupq_n_f32(0);
    return {{zero, zero, zero, zero}};
}

void float_table(TableArgs& a) noexcept {
    a.max_span = 0;
    a.sum_min = 0;
    for (size_t m = 0; m < a.M; m++) {
        float32x4x4_t sum = zeros();
        for (size_t i = a.offsets[m]; i < a.offsets[m + 1]; i++) {
            for (size_t h = 0; h < 4; h++) {
                sum.val[h] = vfmaq_n_f32(
                        sum.val[h],
                        vld1q_f32(a.codebook + i * kCodewords + 4 * h),
                        a.query[i]);
            }
        }
        vst1q_f32_x4(a.table + m * kCodewords, sum);
        float low = smallest(sum);
        float span = largest(sum) - low;
        a.max_span = span > a.max_span ? span : a.max_span;
        a.sum_min += low;
    }
}

void quantize_table(const QuantizeArgs& a) noexcept {
    for (size_t m = 0; m < a.M; m++) {
        float32x4x4_t values = vld1q_f32_x4(a.table + m * kCodewords);
        float32x4_t low = vdupq_n_f32(smallest(values));
        uint16x4_t words[4];
        for (size_t h = 0; h < 4; h++) {
            float32x4_t steps =
                    vmulq_n_f32(vsubq_f32(values.val[h], low), a.scale);
            steps = vminq_f32(steps, vdupq_n_f32(255.f));
            words[h] = vqmovn_u32(vcvtnq_u32_f32(steps));
        }
        vst1q_u8(
                a.bytes + m * kCodewords,
                vcombine_u8(
                        vqmovn_u16(vcombine_u16(words[0], words[1])),
                        vqmovn_u16(vcombine_u16(words[2], words[3]))));
    }
    const size_t padded = (a.M + kGroup - 1) / kGroup * kGroup;
    memset(a.bytes + a.M * kCodewords, 0, (padded - a.M) * kCodewords);
}

// ------------------------------------------------------------------- encode

/// Index of the first lane of four masks that is set, 16 if there is none.
FAISS_EXT_INLINE size_t first_set(const uint32x4_t* masks) {
    uint8x16_t bytes = vcombine_u8(
            vmovn_u16(vcombine_u16(vmovn_u32(masks[0]), vmovn_u32(masks[1]))),
            vmovn_u16(vcombine_u16(vmovn_u32(masks[2]), vmovn_u32(masks[3]))));
    uint64_t nibbles = vget_lane_u64( // 4 bits a lane
            vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(bytes), 4)),
            0);
    return nibbles == 0 ? 16
                        : static_cast<size_t>(__builtin_ctzll(nibbles)) / 4;
}

FAISS_EXT_INLINE size_t argmin(const float32x4x4_t& values) {
    float32x4_t low = vdupq_n_f32(smallest(values));
    uint32x4_t equal[4];
    for (size_t h = 0; h < 4; h++) {
        equal[h] = vceqq_f32(values.val[h], low);
    }
    return first_set(equal) % kCodewords; // the first if a value is NaN
}

/// Nearest codewords, and (kAware) the tables of the coordinate descent.
/// @returns the sum of the parallel errors
template <bool kAware>
float encode_nearest(
        const EncodeArgs& a,
        const float* residual,
        const float* direction,
        uint8_t* codes) {
    float parallel = 0;
    for (size_t m = 0; m < a.M; m++) {
        float32x4x4_t res = zeros();
        float32x4x4_t par = zeros();
        for (size_t i = a.offsets[m]; i < a.offsets[m + 1]; i++) {
            for (size_t h = 0; h < 4; h++) {
                float32x4_t error = vsubq_f32(
                        vdupq_n_f32(residual[i]),
                        vld1q_f32(a.codebook + i * kCodewords + 4 * h));
                res.val[h] = vfmaq_f32(res.val[h], error, error);
                if (kAware) {
                    par.val[h] = vfmaq_n_f32(par.val[h], error, direction[i]);
                }
            }
        }
        size_t best = argmin(res);
        codes[m] = static_cast<uint8_t>(best);
        if (kAware) {
            float* table = a.scratch + m * 2 * kCodewords;
            vst1q_f32_x4(table, res);
            vst1q_f32_x4(table + kCodewords, par);
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
    float32x4_t now = vdupq_n_f32(fmaf(weight * sum_now, sum_now, res[code]));
    float32x4x4_t cost;
    uint32x4_t better[4];
    for (size_t h = 0; h < 4; h++) {
        float32x4_t sum =
                vaddq_f32(vdupq_n_f32(others), vld1q_f32(par + 4 * h));
        cost.val[h] = vfmaq_f32(
                vld1q_f32(res + 4 * h), vmulq_n_f32(sum, weight), sum);
        better[h] = vcltq_f32(cost.val[h], now);
    }
    return first_set(better) < kCodewords ? argmin(cost) : code;
}

#include <faiss_ext/kernels/encode_rows.h>

// ------------------------------------------------------------------- filter

#include <faiss_ext/kernels/filter_plain.h>

} // namespace

const Kernels neon_kernels = {
        .name = "ARM_NEON",
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
