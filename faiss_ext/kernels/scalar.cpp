/*
 * The specification: what each kernel computes, in the shortest code. Every
 * other level is tested against this file; it also serves CPUs that have none
 * of the extensions.
 *
 * A fused multiply-add is written fmaf(): one rounding, whatever the CPU. The
 * build forbids the compiler to fuse anything else (-ffp-contract=off).
 */

#include <faiss_ext/kernels/kernels.h>

#include <float.h>
#include <math.h>
#include <string.h>

namespace faiss_ext::kernels {

extern const Kernels scalar_kernels;

namespace {

int32_t score_of(
        const ScanList& list,
        const ScanQuery& query,
        const uint8_t* block,
        size_t half,
        size_t v) {
    size_t lane = v < half ? v : v - half;
    int32_t score = query.bias;
    if (list.has_term) {
        const uint8_t* p = block + 4 * lane + (v < half ? 0 : 2);
        uint32_t term = p[0] | p[1] << 8;
        score -= static_cast<int32_t>(term * query.term_mult >> 16);
        block += 4 * half;
    }
    for (size_t g = 0; g < list.groups; g++) {
        for (size_t s = 0; s < kGroup; s++) {
            uint8_t both = block[g * 4 * half + 4 * lane + s];
            uint8_t code = v < half ? both & 15 : both >> 4;
            score += query.table[(g * kGroup + s) * kCodewords + code];
        }
    }
    return score;
}

size_t scan(
        const ScanList& list,
        size_t begin,
        ScanQuery* queries,
        size_t nq) noexcept {
    size_t columns = list.groups + (list.has_term ? 1 : 0);
    for (; begin < list.n; begin += kBlockSize) {
        uint32_t mask = list.masks ? list.masks[begin / kBlockSize] : ~0u;
        if (mask == 0) {
            continue;
        }
        for (size_t q = 0; q < nq; q++) {
            if (queries[q].capacity - queries[q].count < kBlockSize) {
                return begin;
            }
        }
        size_t left = list.n - begin;
        size_t size = left < kBlockSize ? left : kBlockSize;
        const uint8_t* block = list.blocks + begin * 2 * columns;
        for (size_t q = 0; q < nq; q++) {
            ScanQuery& query = queries[q];
            for (size_t v = 0; v < size; v++) {
                if ((mask >> v & 1) == 0) {
                    continue;
                }
                int32_t score = score_of(list, query, block, (size + 1) / 2, v);
                if (score >= query.threshold) {
                    uint32_t high = static_cast<uint32_t>(score) ^ 0x80000000u;
                    uint32_t low =
                            ~static_cast<uint32_t>(query.position + begin + v);
                    query.keys[query.count++] =
                            static_cast<uint64_t>(high) << 32 | low;
                }
            }
        }
    }
    return list.n;
}

void scan_lists(ScanListsArgs& a, ScanQuery& query) noexcept {
    while (a.probe < a.n) {
        const Probe& probe = a.probes[a.probe];
        ScanList list{
                probe.blocks,
                probe.n,
                a.groups,
                a.has_term,
                probe.masks,
                nullptr};
        query.bias = probe.bias;
        query.position = probe.position;
        a.begin = scan(list, a.begin, &query, 1);
        if (a.begin < probe.n) {
            return;
        }
        a.begin = 0;
        a.probe++;
        if (query.count >= query.enough) {
            return;
        }
    }
}

void panel_products(const PanelArgs& a) noexcept {
    for (size_t i = 0; i < a.nx; i++) {
        for (size_t j = 0; j < (a.ny + kPanel - 1) / kPanel * kPanel; j++) {
            const float* y = a.panels + j / kPanel * a.d * kPanel + j % kPanel;
            float sum = 0;
            for (size_t k = 0; k < a.d; k++) {
                sum = fmaf(a.x[i * a.ldx + k], y[k * kPanel], sum);
            }
            a.out[i * a.ldo + j] = sum;
        }
    }
}

void byte_panel_scores(const BytePanelArgs& a) noexcept {
    const size_t padded = (a.ny + kPanel - 1) / kPanel * kPanel;
    for (size_t q = 0; q < a.nq; q++) {
        const int8_t* query = a.queries + q * a.d;
        for (size_t j = 0; j < padded; j++) {
            const uint8_t* panel = a.panels + j / kPanel * a.d * kPanel;
            int32_t sum = 0;
            for (size_t i = 0; i < a.d; i++) {
                sum += query[i] *
                       panel[i / 4 * 4 * kPanel + j % kPanel * 4 + i % 4];
            }
            float score =
                    fmaf(a.steps[q] * a.scales[j],
                         static_cast<float>(sum - a.excess[q]),
                         fmaf(a.gains[j], a.offsets[q], a.terms[j]));
            score = score > -FLT_MAX ? score : -FLT_MAX;
            a.out[q * a.ldo + j] = score < FLT_MAX ? score : FLT_MAX;
        }
    }
}

// ------------------------------------------------------------------- select

#include <faiss_ext/kernels/select_keys.h>

#include <faiss_ext/kernels/top_scores.h>

void float_table(TableArgs& a) noexcept {
    a.max_span = 0;
    a.sum_min = 0;
    for (size_t m = 0; m < a.M; m++) {
        float smallest = 0;
        float largest = 0;
        for (size_t j = 0; j < kCodewords; j++) {
            float sum = 0;
            for (size_t i = a.offsets[m]; i < a.offsets[m + 1]; i++) {
                sum = fmaf(a.query[i], a.codebook[i * kCodewords + j], sum);
            }
            a.table[m * kCodewords + j] = sum;
            smallest = j == 0 || sum < smallest ? sum : smallest;
            largest = j == 0 || sum > largest ? sum : largest;
        }
        float span = largest - smallest;
        a.max_span = span > a.max_span ? span : a.max_span;
        a.sum_min += smallest;
    }
}

void quantize_table(const QuantizeArgs& a) noexcept {
    for (size_t m = 0; m < (a.M + kGroup - 1) / kGroup * kGroup; m++) {
        const float* values = a.table + m * kCodewords;
        uint8_t* bytes = a.bytes + m * kCodewords;
        if (m >= a.M) {
            memset(bytes, 0, kCodewords);
            continue;
        }
        float smallest = values[0];
        for (size_t j = 1; j < kCodewords; j++) {
            smallest = values[j] < smallest ? values[j] : smallest;
        }
        for (size_t j = 0; j < kCodewords; j++) {
            float steps = (values[j] - smallest) * a.scale;
            bytes[j] = static_cast<uint8_t>(
                    nearbyintf(steps < 255.f ? steps : 255.f));
        }
    }
}

void byte_rows_dot(const ByteRowsArgs& a) noexcept {
    for (size_t r = 0; r < a.n; r++) {
        int32_t sum = 0;
        for (size_t i = 0; i < a.d; i++) {
            sum += (128 * a.high[i] + a.low[i]) * a.rows[r][i];
        }
        a.out[r] = sum;
    }
}

float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

float fp32_at(const void* row, size_t i) {
    float value;
    memcpy(&value, static_cast<const char*>(row) + 4 * i, sizeof(value));
    return value;
}

float bf16_at(const void* row, size_t i) {
    uint16_t half;
    memcpy(&half, static_cast<const char*>(row) + 2 * i, sizeof(half));
    return from_bits(static_cast<uint32_t>(half) << 16);
}

float fp16_at(const void* row, size_t i) {
    uint16_t half;
    memcpy(&half, static_cast<const char*>(row) + 2 * i, sizeof(half));
    uint32_t sign = (half & 0x8000u) << 16;
    uint32_t rest = (half & 0x7fffu) << 13;
    if (rest >= 0x0f800000u) { // infinity or NaN
        return from_bits(sign | rest | 0x7f800000u);
    }
    // the exponent's bias is 112 less; the product is exact, also from
    // subnormals
    return from_bits(sign | rest) * 0x1p112f;
}

float int8_at(const void* row, size_t i) {
    return static_cast<const int8_t*>(row)[i];
}

float uint8_at(const void* row, size_t i) {
    return static_cast<const uint8_t*>(row)[i];
}

using At = float (*)(const void* row, size_t i);

template <At at>
void rows_dot(const FloatRowsArgs& a) noexcept {
    for (size_t r = 0; r < a.n; r++) {
        float sum = 0;
        for (size_t i = 0; i < a.d; i++) {
            sum += a.query[i] * at(a.rows[r], i);
        }
        a.out[r] = sum;
    }
}

template <At at>
void rows_l2(const FloatRowsArgs& a) noexcept {
    for (size_t r = 0; r < a.n; r++) {
        float sum = 0;
        for (size_t i = 0; i < a.d; i++) {
            float difference = a.query[i] - at(a.rows[r], i);
            sum += difference * difference;
        }
        a.out[r] = sum;
    }
}

/// Smallest j with the smallest value.
size_t argmin(const float* values) {
    size_t best = 0;
    for (size_t j = 1; j < kCodewords; j++) {
        best = values[j] < values[best] ? j : best;
    }
    return best;
}

/** One vector. With c_ij the codebook, for a block m of dimensions:
 *     res[m][j] = sum_i (rho_i - c_ij)^2     scratch[32 m + j]
 *     par[m][j] = sum_i (rho_i - c_ij) u_i   scratch[32 m + 16 + j]
 * so that the loss is sum_m res[m][code_m] + (eta - 1) (sum_m
 * par[m][code_m])^2.
 */
void encode_one(
        const EncodeArgs& a,
        const float* residual,
        const float* direction,
        uint8_t* codes) {
    bool aware = a.eta != 1;
    float parallel = 0;
    for (size_t m = 0; m < a.M; m++) {
        float* res = a.scratch + m * 2 * kCodewords;
        float* par = res + kCodewords;
        for (size_t j = 0; j < kCodewords; j++) {
            res[j] = par[j] = 0;
            for (size_t i = a.offsets[m]; i < a.offsets[m + 1]; i++) {
                float error = residual[i] - a.codebook[i * kCodewords + j];
                res[j] = fmaf(error, error, res[j]);
                par[j] = aware ? fmaf(error, direction[i], par[j]) : 0;
            }
        }
        codes[m] = static_cast<uint8_t>(argmin(res));
        parallel += par[codes[m]];
    }
    bool moved = aware;
    for (size_t round = 0; moved && round < a.max_rounds; round++) {
        moved = false;
        for (size_t m = 0; m < a.M; m++) {
            const float* res = a.scratch + m * 2 * kCodewords;
            const float* par = res + kCodewords;
            float others = parallel - par[codes[m]];
            float cost[kCodewords];
            for (size_t j = 0; j < kCodewords; j++) {
                float sum = others + par[j];
                cost[j] = fmaf((a.eta - 1) * sum, sum, res[j]);
            }
            size_t best = argmin(cost);
            if (cost[best] < cost[codes[m]]) {
                codes[m] = static_cast<uint8_t>(best);
                parallel = others + par[best];
                moved = true;
            }
        }
    }
}

void encode(const EncodeArgs& a) noexcept {
    size_t d = a.offsets[a.M];
    for (size_t i = 0; i < a.n; i++) {
        encode_one(
                a,
                a.residuals + i * d,
                a.eta != 1 ? a.directions + i * d : nullptr,
                a.codes + i * a.M);
    }
}

size_t filter_masks(const FilterArgs& a) noexcept {
    size_t passing = 0;
    for (size_t b = 0; b < (a.n + kBlockSize - 1) / kBlockSize; b++) {
        uint32_t mask = 0;
        for (size_t i = 0; i < kBlockSize && b * kBlockSize + i < a.n; i++) {
            int64_t id = a.ids[b * kBlockSize + i];
            if (id >= 0 && id < a.nbits) {
                uint32_t bit = a.bitmap[id >> 3] >> (id & 7) & 1u;
                mask |= bit << i;
                passing += bit;
            }
        }
        a.masks[b] = mask;
    }
    return passing;
}

} // namespace

const Kernels scalar_kernels = {
        .name = "NONE",
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
        .float_rows_dot = rows_dot<fp32_at>,
        .fp16_rows_dot = rows_dot<fp16_at>,
        .bf16_rows_dot = rows_dot<bf16_at>,
        .int8_rows_dot = rows_dot<int8_at>,
        .uint8_rows_dot = rows_dot<uint8_at>,
        .float_rows_l2 = rows_l2<fp32_at>,
        .fp16_rows_l2 = rows_l2<fp16_at>,
        .bf16_rows_l2 = rows_l2<bf16_at>,
        .int8_rows_l2 = rows_l2<int8_at>,
        .uint8_rows_l2 = rows_l2<uint8_at>,
        .encode = encode,
        .filter_masks = filter_masks,
};

} // namespace faiss_ext::kernels
