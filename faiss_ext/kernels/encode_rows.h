/*
 * encode() of a level from its encode_nearest() and cheapest().
 *
 * Included once per level, in its anonymous namespace (see select_keys.h).
 */

// (no include guard and no namespace: this is a part of its .cpp file)

/// One round of the coordinate descent over the blocks.
/// @returns whether a code changed
bool encode_round(const EncodeArgs& a, uint8_t* codes, float* parallel_sum) {
    float parallel = *parallel_sum;
    bool moved = false;
    for (size_t m = 0; m < a.M; m++) {
        const float* res = a.scratch + m * 2 * kCodewords;
        const float* par = res + kCodewords;
        float others = parallel - par[codes[m]];
        size_t best = cheapest(res, par, a.eta - 1, others, codes[m]);
        if (best != codes[m]) {
            codes[m] = static_cast<uint8_t>(best);
            parallel = others + par[best];
            moved = true;
        }
    }
    *parallel_sum = parallel;
    return moved;
}

void encode(const EncodeArgs& a) noexcept {
    const size_t d = a.offsets[a.M];
    for (size_t i = 0; i < a.n; i++) {
        const float* residual = a.residuals + i * d;
        uint8_t* codes = a.codes + i * a.M;
        if (a.eta == 1) {
            encode_nearest<false>(a, residual, nullptr, codes);
            continue;
        }
        float parallel =
                encode_nearest<true>(a, residual, a.directions + i * d, codes);
        for (size_t round = 0; round < a.max_rounds; round++) {
            if (!encode_round(a, codes, &parallel)) {
                break;
            }
        }
    }
}
