#include <faiss_ext/memory/row_types.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include <faiss/impl/FaissAssert.h>

namespace faiss_ext {

namespace {

float from_bits(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
}

/// As the scalar kernel; compilers turn it into vector instructions.
float decode_fp16(uint16_t half) {
    const uint32_t sign = (half & 0x8000u) << 16;
    const uint32_t rest = (half & 0x7FFFu) << 13;
    const uint32_t special = rest >= 0x0F800000u ? 0x7F800000u : 0;
    return special != 0 ? from_bits(sign | rest | special)
                        : from_bits(sign | rest) * 0x1p112f;
}

float decode_bf16(uint16_t half) {
    return from_bits(uint32_t(half) << 16);
}

uint32_t bits_of(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof(bits));
    return bits;
}

/// The nearest, to even between two. (Faiss' own rounds up between two where it
/// was compiled without F16C.)
uint16_t encode_fp16(float x) {
    const uint32_t sign = bits_of(x) >> 16 & 0x8000;
    const uint32_t size = bits_of(x) & 0x7FFFFFFF;
    if (size >= 0x47800000) { // 65536: infinity, or NaN
        return uint16_t(sign | (size > 0x7F800000 ? 0x7E00 : 0x7C00));
    }
    if (size < 0x38800000) { // 2^-14: the sum rounds to multiples of 2^-24
        return uint16_t(sign | (bits_of(from_bits(size) + .5f) - 0x3F000000));
    }
    // another bias of the exponent
    const uint32_t rounded = size - 0x38000000 + 0xFFF + (size >> 13 & 1);
    return uint16_t(sign | rounded >> 13);
}

uint16_t encode_bf16(float x) {
    const uint32_t bits = bits_of(x);
    return uint16_t((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

/// Calls transform(value) for values of type T. @param out  size n
template <class T, class Transform>
void read_values(
        size_t n,
        const void* values,
        float* out,
        Transform&& transform) {
    const char* at = static_cast<const char*>(values);
    for (size_t i = 0; i < n; i++) {
        T value;
        std::memcpy(&value, at + i * sizeof(T), sizeof(T));
        out[i] = transform(value);
    }
}

/// memcpy() takes no null pointers, not even for zero floats.
void copy_floats(size_t n, const void* from, void* to) {
    std::copy_n(
            static_cast<const char*>(from),
            n * sizeof(float),
            static_cast<char*>(to));
}

template <class T, class Transform>
void write_values(
        size_t n,
        const float* x,
        void* values,
        Transform&& transform) {
    char* at = static_cast<char*>(values);
    for (size_t i = 0; i < n; i++) {
        const T value = transform(x[i]);
        std::memcpy(at + i * sizeof(T), &value, sizeof(T));
    }
}

/// On the bits, since the compiler may vectorise that without fast-math, and
/// does so without an early exit.
template <class Bits>
bool none_has(Bits exponent, size_t n, const void* values) {
    const char* at = static_cast<const char*>(values);
    Bits found = 0;
    for (size_t i = 0; i < n; i++) {
        Bits bits;
        std::memcpy(&bits, at + i * sizeof(Bits), sizeof(Bits));
        found |= (bits & exponent) == exponent ? 1 : 0;
    }
    return found == 0;
}

/// What a type can hold.
struct Held {
    float least, most;
    bool whole;
};

Held held(RowType type) {
    switch (type) {
        case RowType::FP16: // the largest float that rounds to 65504
            return {-0x1.ffdffep15f, 0x1.ffdffep15f, false};
        case RowType::BF16: // and to the largest bfloat16
            return {-0x1.fefffep127f, 0x1.fefffep127f, false};
        case RowType::Int8:
            return {-128, 127, true};
        case RowType::UInt8:
            return {0, 255, true};
        case RowType::Float32:
            break;
    }
    return {-HUGE_VALF, HUGE_VALF, false};
}

} // namespace

size_t value_bytes(RowType type) {
    switch (type) {
        case RowType::Float32:
            return 4;
        case RowType::FP16:
        case RowType::BF16:
            return 2;
        case RowType::Int8:
        case RowType::UInt8:
            return 1;
    }
    FAISS_THROW_FMT("unknown type of rows %d", int(type));
}

const char* name_of(RowType type) {
    switch (type) {
        case RowType::Float32:
            return "float32";
        case RowType::FP16:
            return "float16";
        case RowType::BF16:
            return "bfloat16";
        case RowType::Int8:
            return "int8";
        case RowType::UInt8:
            return "uint8";
    }
    FAISS_THROW_FMT("unknown type of rows %d", int(type));
}

std::optional<RowType> row_type_named(const std::string& name) {
    for (RowType type : kRowTypes) {
        if (name == name_of(type)) {
            return type;
        }
    }
    return std::nullopt;
}

void to_floats(RowType type, size_t n, const void* values, float* out) {
    switch (type) {
        case RowType::Float32:
            return copy_floats(n, values, out);
        case RowType::FP16:
            return read_values<uint16_t>(n, values, out, decode_fp16);
        case RowType::BF16:
            return read_values<uint16_t>(n, values, out, decode_bf16);
        case RowType::Int8:
            return read_values<int8_t>(
                    n, values, out, [](int8_t v) { return float(v); });
        case RowType::UInt8:
            return read_values<uint8_t>(
                    n, values, out, [](uint8_t v) { return float(v); });
    }
}

bool all_finite(RowType type, size_t n, const void* values) {
    switch (type) {
        case RowType::Float32:
            return none_has<uint32_t>(0x7F800000, n, values);
        case RowType::FP16:
            return none_has<uint16_t>(0x7C00, n, values);
        case RowType::BF16:
            return none_has<uint16_t>(0x7F80, n, values);
        case RowType::Int8:
        case RowType::UInt8:
            break;
    }
    return true;
}

void from_floats(RowType type, size_t n, const float* x, void* values) {
    switch (type) {
        case RowType::Float32:
            return copy_floats(n, x, values);
        case RowType::FP16:
            return write_values<uint16_t>(n, x, values, encode_fp16);
        case RowType::BF16:
            return write_values<uint16_t>(n, x, values, encode_bf16);
        case RowType::Int8:
            return write_values<int8_t>(
                    n, x, values, [](float v) { return int8_t(v); });
        case RowType::UInt8:
            return write_values<uint8_t>(
                    n, x, values, [](float v) { return uint8_t(v); });
    }
}

void check_held(
        RowType type,
        size_t n,
        size_t d,
        const float* x,
        const char* what,
        size_t first) {
    if (type == RowType::Float32) {
        return;
    }
    const Held range = held(type);
    for (size_t i = 0; i < n; i++) {
        const float* row = x + i * d;
        for (size_t j = 0; j < d; j++) {
            const bool fits = row[j] >= range.least && row[j] <= range.most &&
                              (!range.whole || row[j] == std::trunc(row[j]));
            FAISS_THROW_IF_NOT_FMT(
                    fits,
                    "%s %zu, dimension %zu: %.9g does not fit raw rows of "
                    "type %s (allowed: %s%.9g..%.9g)",
                    what,
                    first + i,
                    j,
                    row[j],
                    name_of(type),
                    range.whole ? "whole numbers " : "",
                    range.least,
                    range.most);
        }
    }
}

RowsKernel rows_dot(const kernels::Kernels& kernels, RowType type) {
    const RowsKernel of_type[] = {
            kernels.float_rows_dot,
            kernels.fp16_rows_dot,
            kernels.bf16_rows_dot,
            kernels.int8_rows_dot,
            kernels.uint8_rows_dot};
    return of_type[size_t(type)];
}

RowsKernel rows_l2(const kernels::Kernels& kernels, RowType type) {
    const RowsKernel of_type[] = {
            kernels.float_rows_l2,
            kernels.fp16_rows_l2,
            kernels.bf16_rows_l2,
            kernels.int8_rows_l2,
            kernels.uint8_rows_l2};
    return of_type[size_t(type)];
}

const float*
TypedRows::floats(size_t begin, size_t n, std::vector<float>& storage) const {
    if (type == RowType::Float32) {
        return static_cast<const float*>(row(begin));
    }
    storage.resize(n * d);
    to_floats(type, n * d, row(begin), storage.data());
    return storage.data();
}

void TypedRows::gather(size_t n, const size_t* rows, float* out) const {
    for (size_t i = 0; i < n; i++) {
        to_floats(type, d, row(rows[i]), out + i * d);
    }
}

} // namespace faiss_ext
