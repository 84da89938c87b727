#include <faiss_ext/byte_panels.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <vector>

#include <faiss_ext/panels.h>
#include <faiss_ext/row_products.h>
#include <faiss_ext/row_sample.h>

namespace faiss_ext {

using kernels::kPanel;

namespace {

/// largest 8-bit query value; 63 * 255 * 2 fits the 16 bits of VPMADDUBSW
constexpr float kQueryRange = 63;
constexpr float kRowRange = 127;
/// added to the codes of rows, which are unsigned
constexpr int kExcess = 128;
/// A range below this counts as 0: its reciprocal would not be finite.
constexpr float kLeastRange = 1e-30f;

/// What `range` is multiplied with to become `steps`.
float reciprocal(float steps, float range) {
    return range > kLeastRange ? steps / range : 0;
}

/// The largest of some values, but at most twice their median: few rows, far
/// longer than all others, do not speak for these.
float robust_largest(std::vector<float> values) {
    if (values.empty()) {
        return 0;
    }
    float largest = *std::max_element(values.begin(), values.end());
    float median = quantile(std::move(values), 0.5);
    return median > 0 ? std::min(largest, 2 * median) : largest;
}

} // namespace

void ByteQueries::set(
        size_t n,
        size_t d,
        const float* x,
        const float* shift,
        const float* weights) {
    const size_t d4 = round_up(d, 4);
    codes_.resize(n * d4);
    excess_.resize(n);
    steps_.resize(n);
    norms_.resize(n);
    factors_.resize(n);
    shifted_.resize(d4);
    integers_.resize(d4);
    float* values = shifted_.mutable_data();
    int32_t* integers = integers_.mutable_data();
    for (size_t q = 0; q < n; q++, x += d) {
        for (size_t i = 0; i < d; i++) {
            float value = shift == nullptr ? x[i] : x[i] - shift[i];
            value *= weights == nullptr ? 1 : weights[i];
            value = value == value ? value : 0;
            values[i] = std::clamp(value, -FLT_MAX, FLT_MAX);
        }
        std::fill(values + d, values + d4, 0.f);
        float lanes[4] = {};
        float squares[4] = {};
        for (size_t i = 0; i < d4; i += 4) {
            for (size_t l = 0; l < 4; l++) {
                float size = std::fabs(values[i + l]);
                lanes[l] = size > lanes[l] ? size : lanes[l];
                squares[l] += size * size;
            }
        }
        float largest = *std::max_element(lanes, lanes + 4);
        float inverse = reciprocal(kQueryRange, largest);
        // rounds half up: unlike lrint, the compiler can vectorise it
        int32_t total = 0;
        for (size_t i = 0; i < d4; i++) {
            integers[i] = int32_t(values[i] * inverse + 64.5f) - 64;
            total += integers[i];
        }
        std::copy_n(integers, d4, codes_.mutable_data() + q * d4);
        excess_.mutable_data()[q] = kExcess * total;
        steps_.mutable_data()[q] = inverse > 0 ? largest / kQueryRange : 0;
        norms_.mutable_data()[q] = std::sqrt(
                (squares[0] + squares[1]) + (squares[2] + squares[3]));
    }
}

std::vector<float> balanced_weights(const std::vector<double>& squares) {
    constexpr double kLeastShare = 1e-6; // of the largest: counts as 0
    const double largest = *std::max_element(squares.begin(), squares.end());
    std::vector<float> weights(squares.size());
    for (size_t i = 0; i < weights.size() && largest > 0; i++) {
        double share = std::sqrt(squares[i] / largest);
        weights[i] = share > kLeastShare ? float(std::sqrt(share)) : 0;
    }
    return weights;
}

BytePanels::BytePanels(
        size_t n,
        size_t d,
        const float* rows,
        const float* weights)
        : n_(n), d_(round_up(d, 4)) {
    size_t padded = round_up(n, kPanel);
    codes_.resize(padded * d_);
    scales_.resize(padded);
    zeros_.resize(padded);
    std::vector<float> row(d), lengths(n);
    for (size_t j = 0; j < n; j++) {
        float largest = 0;
        for (size_t i = 0; i < d; i++) {
            float weight = weights == nullptr ? 1 : weights[i];
            row[i] = weight > 0 ? rows[j * d + i] / weight : 0;
            row[i] = std::clamp(row[i], -FLT_MAX, FLT_MAX);
            largest = std::max(largest, std::fabs(row[i]));
        }
        float inverse = reciprocal(kRowRange, largest);
        uint8_t* panel = codes_.mutable_data() + j / kPanel * kPanel * d_;
        for (size_t i = 0; i < d; i++) {
            panel[i / 4 * 4 * kPanel + j % kPanel * 4 + i % 4] =
                    uint8_t(kExcess + std::lrint(row[i] * inverse));
        }
        scales_.mutable_data()[j] = inverse > 0 ? largest / kRowRange : 0;
        lengths[j] = float(std::sqrt(precise_square(d, row.data())));
    }
    length_ = robust_largest(std::move(lengths));
    scale_ = robust_largest({scales_.data(), scales_.data() + n});
}

size_t BytePanels::memory_usage() const {
    return codes_.allocated_bytes() + scales_.allocated_bytes() +
           zeros_.allocated_bytes();
}

size_t BytePanels::estimate_memory(size_t n, size_t d) {
    return round_up(n, kPanel) * (round_up(d, 4) + 2 * sizeof(float));
}

void BytePanels::scores(
        const kernels::Kernels& kernels,
        const ByteQueries& queries,
        const Terms& added,
        float* out) const {
    auto or_zeros = [](const float* given, const AlignedBuffer<float>& zeros) {
        return given != nullptr ? given : zeros.data();
    };
    kernels.byte_panel_scores(
            {queries.codes_.data(),
             queries.size(),
             d_,
             codes_.data(),
             n_,
             queries.excess_.data(),
             queries.steps_.data(),
             or_zeros(added.factors, queries.factors_),
             scales_.data(),
             or_zeros(added.bonuses, zeros_),
             or_zeros(added.terms, zeros_),
             out,
             padded()});
}

float BytePanels::error(const ByteQueries& queries, size_t query) const {
    // of a value rounded to steps of s: s / sqrt(12)
    return std::hypot(
                   queries.steps_[query] * length_,
                   scale_ * queries.norms_[query]) /
           std::sqrt(12.0f);
}

} // namespace faiss_ext
