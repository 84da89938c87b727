/*
 * encode() of a level from its encode_nearest() and encode_round().
 *
 * Included once per level, in its anonymous namespace (see select_keys.h).
 */

// (no include guard and no namespace: this is a part of its .cpp file)

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
