#include <faiss_ext/partition/byte_panels.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <vector>

#include <faiss_ext/partition/length_of.h>
#include <faiss_ext/partition/panels.h>
#include <faiss_ext/memory/query_rows.h>
#include <faiss_ext/memory/row_products.h>
#include <faiss_ext/memory/row_sample.h>

namespace faiss_ext {

using kernels::kPanel;

namespace {

/// largest code of a query; 63 * 255 * 2 fits the 16 bits of VPMADDUBSW
constexpr float kQueryRange = 63;
/// largest code of a row
constexpr float kRowRange = 127;
/// added to the codes of rows, which are unsigned
constexpr int kExcess = 128;

/// The factor that turns `range` into `steps`.
float reciprocal(float steps, float range) {
    return range > kMinValue ? steps / range : 0;
}

} // namespace

void ByteQueries::set(
        const BytePanels& panels,
        size_t n,
        const float* x,
        const float* shift) {
    const size_t d = panels.dimensions_;
    const size_t d4 = panels.d_;
    const float* weights = panels.weights_.data(); // d4 values, zeros behind
    const float* inverses = panels.inverses_.data();
    codes_.resize(n * d4);
    excess_.resize(n);
    steps_.resize(n);
    norms_.resize(n);
    row_norms_.resize(n);
    zeros_.resize(n);
    shifted_.resize(d4);
    integers_.resize(d4);
    float* values = shifted_.mutable_data();
    int32_t* integers = integers_.mutable_data();
    for (size_t q = 0; q < n; q++, x += d) {
        for (size_t i = 0; i < d; i++) {
            float value = shift == nullptr ? x[i] : x[i] - shift[i];
            value = value == value ? value : 0;
            values[i] = std::clamp(value, -FLT_MAX, FLT_MAX);
        }
        std::fill(values + d, values + d4, 0.f);
        // a plain loop would be one long chain of additions
        float largest = 0, square = 0, row_square = 0;
#pragma omp simd reduction(max : largest) reduction(+ : square, row_square)
        for (size_t i = 0; i < d4; i++) {
            const float as_row = values[i] * inverses[i];
            const float value = values[i] * weights[i];
            const float size = std::fabs(value);
            values[i] = value;
            largest = size > largest ? size : largest;
            square += value * value;
            row_square += as_row * as_row;
        }
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
        norms_.mutable_data()[q] = std::sqrt(square);
        row_norms_.mutable_data()[q] = std::sqrt(row_square);
    }
}

std::vector<float> balanced_weights(const std::vector<double>& squares) {
    constexpr double kMinShare = 1e-6; // of the largest: counts as 0
    const double largest = *std::max_element(squares.begin(), squares.end());
    std::vector<float> weights(squares.size());
    for (size_t i = 0; i < weights.size() && largest > 0; i++) {
        double share = std::sqrt(squares[i] / largest);
        weights[i] = share > kMinShare ? float(std::sqrt(share)) : 0;
    }
    return weights;
}

BytePanels::BytePanels(
        size_t n,
        size_t d,
        const float* rows,
        std::vector<float> weights)
        : n_(n),
          dimensions_(d),
          d_(round_up(d, 4)),
          weights_(std::move(weights)),
          inverses_(d_),
          lengths_(n) {
    weights_.resize(d, 1);
    weights_.resize(d_, 0);
    for (size_t i = 0; i < d; i++) {
        inverses_[i] = weights_[i] > 0 ? 1 / weights_[i] : 0;
    }
    size_t padded = round_up(n, kPanel);
    codes_.resize(padded * d_);
    scales_.resize(padded);
    zeros_.resize(padded);
    std::vector<float> row(d);
    for (size_t j = 0; j < n; j++) {
        float largest = 0;
        for (size_t i = 0; i < d; i++) {
            row[i] = std::clamp(
                    rows[j * d + i] * inverses_[i], -FLT_MAX, FLT_MAX);
            largest = std::max(largest, std::fabs(row[i]));
        }
        float inverse = reciprocal(kRowRange, largest);
        uint8_t* panel = codes_.mutable_data() + j / kPanel * kPanel * d_;
        for (size_t i = 0; i < d; i++) {
            panel[i / 4 * 4 * kPanel + j % kPanel * 4 + i % 4] =
                    uint8_t(kExcess + std::lrint(row[i] * inverse));
        }
        const float scale = inverse > 0 ? largest / kRowRange : 0;
        scales_.mutable_data()[j] = scale;
        lengths_[j] = float(std::sqrt(precise_square(d, row.data())));
        if (lengths_[j] > 0) {
            relative_scale_ = std::max(relative_scale_, scale / lengths_[j]);
        }
    }
    longest_ = quantile(lengths_, 1);
    typical_length_ = robust_largest(lengths_);
}

BytePanels BytePanels::reordered(const std::vector<uint32_t>& rows) const {
    BytePanels other = *this;
    other.n_ = rows.size();
    const size_t padded = round_up(rows.size(), kPanel);
    other.codes_ = AlignedBuffer<uint8_t>(padded * d_);
    other.scales_ = AlignedBuffer<float>(padded);
    other.zeros_ = AlignedBuffer<float>(padded);
    other.lengths_.assign(rows.size(), 0);
    auto place = [this](size_t row) {
        return row / kPanel * kPanel * d_ + row % kPanel * 4;
    };
    for (size_t i = 0; i < rows.size(); i++) {
        if (rows[i] == kNoRow) {
            continue;
        }
        const uint8_t* from = codes_.data() + place(rows[i]);
        uint8_t* to = other.codes_.mutable_data() + place(i);
        for (size_t j = 0; j < d_; j += 4) {
            std::copy_n(from + j * kPanel, 4, to + j * kPanel);
        }
        other.scales_.mutable_data()[i] = scales_[rows[i]];
        other.lengths_[i] = lengths_[rows[i]];
    }
    return other;
}

size_t BytePanels::memory_usage() const {
    return codes_.allocated_bytes() + scales_.allocated_bytes() +
           zeros_.allocated_bytes() +
           (weights_.size() + inverses_.size() + lengths_.size()) *
                   sizeof(float);
}

size_t BytePanels::estimate_memory(size_t n, size_t d) {
    return round_up(n, kPanel) * (round_up(d, 4) + 3 * sizeof(float)) +
           2 * d * sizeof(float);
}

AlignedBuffer<float> BytePanels::scales_for(const float* gains) const {
    AlignedBuffer<float> scaled(padded());
    for (size_t j = 0; j < n_; j++) {
        scaled.mutable_data()[j] = scales_[j] * gains[j];
    }
    return scaled;
}

void BytePanels::scores(
        const kernels::Kernels& kernels,
        const ByteQueries& queries,
        const Coefficients& coefficients,
        float* out,
        size_t begin,
        size_t count) const {
    auto or_else = [begin](const float* given,
                           const AlignedBuffer<float>& other) {
        return (given != nullptr ? given : other.data()) + begin;
    };
    // without gains, the offsets are zeros, and gains only multiply these
    const float* offsets = coefficients.offsets;
    kernels.byte_panel_scores(
            {.queries = queries.codes_.data(),
             .nq = queries.size(),
             .d = d_,
             .panels = codes_.data() + begin * d_,
             .ny = count,
             .excess = queries.excess_.data(),
             .steps = queries.steps_.data(),
             .offsets = offsets != nullptr ? offsets : queries.zeros_.data(),
             .scales = or_else(coefficients.scales, scales_),
             .gains = or_else(coefficients.gains, zeros_),
             .terms = or_else(coefficients.terms, zeros_),
             .out = out,
             .ldo = round_up(count, kPanel)});
}

float BytePanels::length_near(const ByteQueries& queries, size_t query) const {
    return std::min(
            longest_, std::max(typical_length_, 2 * queries.row_norms_[query]));
}

float BytePanels::error(const ByteQueries& queries, size_t query, float length)
        const {
    // of a value rounded to steps of s: s / sqrt(12)
    const float step = queries.steps_[query];
    return length * length_of(step, relative_scale_ * queries.norms_[query]) /
           std::sqrt(12.0f);
}

} // namespace faiss_ext
