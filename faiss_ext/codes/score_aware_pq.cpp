#include <faiss_ext/codes/score_aware_pq.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/memory/parallel.h>

namespace faiss_ext {

using kernels::kCodewords;

namespace {

/// rows that a thread encodes at a time
constexpr size_t kEncodeRows = 64;

void encode_tile(
        size_t n,
        const float* residuals,
        const float* directions,
        const std::vector<uint32_t>& offsets,
        const float* codebook,
        float eta,
        uint8_t* codes) {
    size_t M = offsets.size() - 1;
    thread_local AlignedBuffer<float> scratch;
    scratch.resize(M * 2 * kCodewords);
    active_kernels().encode(
            {.residuals = residuals,
             .directions = directions,
             .n = n,
             .offsets = offsets.data(),
             .M = M,
             .codebook = codebook,
             .eta = eta,
             .max_rounds = kDescentRounds,
             .scratch = scratch.mutable_data(),
             .codes = codes});
}

} // namespace

std::vector<uint32_t> uniform_block_offsets(size_t d, size_t sub_dim) {
    FAISS_THROW_IF_NOT_FMT(
            sub_dim >= 1 && sub_dim <= kMaxBlockWidth,
            "sub_dim is %zd (allowed: 1..%zd)",
            sub_dim,
            kMaxBlockWidth);
    FAISS_THROW_IF_NOT_FMT(
            d >= 1 && d < UINT32_MAX, "d is %zd (allowed: 1..2^32-2)", d);
    std::vector<uint32_t> offsets;
    for (size_t o = 0; o < d; o += sub_dim) {
        offsets.push_back(uint32_t(o));
    }
    offsets.push_back(uint32_t(d));
    return offsets;
}

std::vector<uint32_t> even_block_offsets(size_t d, size_t M) {
    FAISS_THROW_IF_NOT_FMT(
            M <= d && M * kMaxBlockWidth >= d,
            "M is %zd codes for %zd dimensions (allowed: %zd..%zd)",
            M,
            d,
            (d + kMaxBlockWidth - 1) / kMaxBlockWidth,
            d);
    std::vector<uint32_t> offsets(M + 1);
    for (size_t m = 0; m <= M; m++) {
        offsets[m] = uint32_t(m * d / M);
    }
    return offsets;
}

void leading_columns(
        size_t n,
        size_t d,
        size_t coded,
        const float* x,
        float* out) {
    for (size_t i = 0; i < n && (coded < d || out != x); i++) {
        // forwards, so that a row never overwrites one that is still to come
        std::copy(x + i * d, x + i * d + coded, out + i * coded);
    }
}

ScoreAwarePQ::ScoreAwarePQ(std::vector<uint32_t> offsets)
        : offsets_(std::move(offsets)) {
    FAISS_THROW_IF_NOT_MSG(
            !offsets_.empty() && offsets_[0] == 0,
            "the first block must begin at 0");
    for (size_t m = 0; m + 1 < offsets_.size(); m++) {
        FAISS_THROW_IF_NOT_FMT(
                offsets_[m + 1] > offsets_[m] &&
                        offsets_[m + 1] - offsets_[m] <= kMaxBlockWidth,
                "block %zd spans dimensions %u to %u (allowed: 1..%zd of them)",
                m,
                offsets_[m],
                offsets_[m + 1],
                kMaxBlockWidth);
    }
    codebook_.resize(d() * kCodewords);
}

void ScoreAwarePQ::train(
        size_t n,
        const float* residuals,
        const float* directions,
        const ScoreAwarePQTraining& training) {
    codebook_ = train_codebook(offsets_, n, residuals, directions, training);
    eta_ = training.eta;
}

void ScoreAwarePQ::set_codebook(const float* codebook, float eta) {
    FAISS_THROW_IF_NOT_FMT(
            eta >= 1 && std::isfinite(eta),
            "eta is %g (allowed: finite values of at least 1)",
            eta);
    std::copy_n(codebook, d() * kCodewords, codebook_.mutable_data());
    eta_ = eta;
}

void ScoreAwarePQ::encode(
        size_t n,
        const float* residuals,
        const float* directions,
        uint8_t* codes) const {
    FAISS_THROW_IF_NOT_MSG(
            eta_ == 1 || directions != nullptr, "eta above 1 needs directions");
    for_tiles((n + kEncodeRows - 1) / kEncodeRows, [&](size_t tile) {
        size_t begin = tile * kEncodeRows;
        encode_tile(
                std::min(kEncodeRows, n - begin),
                residuals + begin * d(),
                eta_ == 1 ? nullptr : directions + begin * d(),
                offsets_,
                codebook_.data(),
                eta_,
                codes + begin * M());
    });
}

void ScoreAwarePQ::decode(size_t n, const uint8_t* codes, float* out) const {
    const float* codebook = codebook_.data();
    for (size_t i = 0; i < n; i++) {
        for (size_t m = 0; m < M(); m++) {
            for (size_t a = offsets_[m]; a < offsets_[m + 1]; a++) {
                out[i * d() + a] =
                        codebook[a * kCodewords + codes[i * M() + m]];
            }
        }
    }
}

} // namespace faiss_ext
