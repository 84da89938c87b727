#include <faiss_ext/memory/query_rows.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/memory/row_types.h>

namespace faiss_ext {

bool all_finite(size_t n, const float* values) {
    return all_finite(RowType::Float32, n, values);
}

void check_finite(
        size_t n,
        size_t d,
        const float* x,
        const char* what,
        size_t first) {
    for (size_t i = 0; i < n; i++) {
        FAISS_THROW_IF_NOT_FMT(
                all_finite(d, x + i * d),
                "%s %zu has a NaN or infinite value (allowed: finite)",
                what,
                first + i);
    }
}

double sum_of_squares(size_t n, const float* values) {
    double squares = 0;
    for (size_t i = 0; i < n; i++) {
        squares += double(values[i]) * values[i];
    }
    return squares;
}

float largest_value(size_t d) {
    // for differences of two rows, squared, and for adding a few of such sums
    constexpr float kReserve = 64;
    return std::sqrt(FLT_MAX / (kReserve * float(std::max<size_t>(d, 1))));
}

const float*
moderate_rows(size_t n, size_t d, const float* x, std::vector<float>& storage) {
    const float most = largest_value(d);
    // on the bits, as in all_finite(); they order positive floats as integers
    auto bits_of = [](float value) {
        uint32_t bits;
        std::memcpy(&bits, &value, sizeof(bits));
        return bits & 0x7FFFFFFF;
    };
    const uint32_t least_bits = bits_of(kMinValue);
    const uint32_t most_bits = bits_of(most);
    uint32_t beyond = 0;
    for (size_t i = 0; i < n * d; i++) {
        const uint32_t bits = bits_of(x[i]);
        const uint32_t tiny = bits < least_bits ? 1 : 0;
        const uint32_t some = bits != 0 ? 1 : 0;
        beyond |= (bits > most_bits ? 1 : 0) | (tiny & some);
    }
    if (beyond == 0) {
        return x;
    }
    storage.assign(x, x + n * d);
    for (float& value : storage) {
        value = std::fabs(value) < kMinValue ? 0
                                             : std::clamp(value, -most, most);
    }
    return storage.data();
}

const float* moderate_queries(
        size_t n,
        size_t d,
        const float* x,
        std::vector<float>& storage,
        std::vector<float>& scales) {
    constexpr int kMaxExponent = 40; // 1e-12 to 1e12
    scales.clear();
    for (size_t i = 0; i < n; i++) {
        const float* query = x + i * d;
        // the largest exponent: on the bits, as in all_finite()
        uint32_t largest = 0;
        for (size_t j = 0; j < d; j++) {
            uint32_t bits;
            std::memcpy(&bits, query + j, sizeof(bits));
            bits &= 0x7FFFFFFF;
            largest = bits > largest ? bits : largest;
        }
        float size;
        std::memcpy(&size, &largest, sizeof(size));
        int exponent = 0;
        std::frexp(size, &exponent);
        if (size == 0 || std::abs(exponent) <= kMaxExponent) {
            continue;
        }
        if (scales.empty()) {
            scales.assign(n, 1);
            storage.assign(x, x + n * d);
        }
        // a factor of denormals is at most 2^126
        exponent = std::clamp(-exponent, -126, 126);
        scales[i] = std::ldexp(1.0f, exponent);
        for (size_t j = 0; j < d; j++) {
            storage[i * d + j] = query[j] * scales[i];
        }
    }
    return scales.empty() ? x : storage.data();
}

const float* checked_rows(
        size_t n,
        size_t d,
        const float* x,
        RowScale scale,
        const char* what,
        std::vector<float>& storage,
        size_t first) {
    check_finite(n, d, x, what, first);
    for (size_t i = 0; i < n && scale == RowScale::Unit; i++) {
        const float* row = x + i * d;
        FAISS_THROW_IF_NOT_FMT(
                std::any_of(row, row + d, [](float v) { return v != 0; }),
                "%s %zu is zero, it has no direction",
                what,
                first + i);
    }
    return scaled_rows(n, d, x, scale, storage);
}

const float* scaled_rows(
        size_t n,
        size_t d,
        const float* x,
        RowScale scale,
        std::vector<float>& storage) {
    if (scale == RowScale::AsGiven) {
        return moderate_rows(n, d, x, storage);
    }
    storage.resize(n * d);
    for (size_t i = 0; i < n; i++) {
        const float* row = x + i * d;
        const double norm = sum_of_squares(d, row);
        // in doubles: of rows of 1e-40, 1 / norm is no float
        double factor = norm > 0 ? 1 / std::sqrt(norm) : 0;
        for (size_t j = 0; j < d; j++) {
            storage[i * d + j] = float(row[j] * factor);
        }
    }
    return storage.data();
}

} // namespace faiss_ext
