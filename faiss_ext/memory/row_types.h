/*
 * Rows of other types than float: read as floats, and written.
 *
 * In: rows as the caller has them, or as the lists keep them. Out: floats, for
 * all that computes; rows of a type, for the lists.
 */

#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include <faiss_ext/kernels/kernels.h>
#include <faiss_ext/scann_options.h>

namespace faiss_ext {

/// All of them.
inline constexpr std::array kRowTypes = {
        RowType::Float32,
        RowType::FP16,
        RowType::BF16,
        RowType::Int8,
        RowType::UInt8};

/// Bytes of a value.
size_t value_bytes(RowType type);

/// "float32", "float16", "bfloat16", "int8", "uint8"
const char* name_of(RowType type);
/// The type of this name; nothing for other names.
std::optional<RowType> row_type_named(const std::string& name);

/// Values as floats, exactly. @param values  n values, any alignment
void to_floats(RowType type, size_t n, const void* values, float* out);

/// Whether none of n values is a NaN or infinite. @param values  any alignment
bool all_finite(RowType type, size_t n, const void* values);

/** Values of a type from floats that it can hold; half precision rounds to the
 * nearest, to even between two.
 * @param values  out, n values, any alignment */
void from_floats(RowType type, size_t n, const float* x, void* values);

/** @throws faiss::FaissException naming the first row with a value that the
 * type cannot hold: for integers all but whole numbers in their range, for half
 * precision what would round to infinity
 * @param x      size n * d, finite
 * @param first  number of the first row, for the message */
void check_held(
        RowType type,
        size_t n,
        size_t d,
        const float* x,
        const char* what,
        size_t first = 0);

/// The kernel that scores rows of a type: inner products or squared distances.
using RowsKernel = void (*)(const kernels::FloatRowsArgs& args) noexcept;
RowsKernel rows_dot(const kernels::Kernels& kernels, RowType type);
RowsKernel rows_l2(const kernels::Kernels& kernels, RowType type);

/// Rows of any type, read as floats some at a time. Borrows them.
struct TypedRows {
    const void* data = nullptr;
    RowType type = RowType::Float32;
    size_t d = 0;

    TypedRows(const void* data, RowType type, size_t d)
            : data(data), type(type), d(d) {}

    const void* row(size_t i) const {
        return static_cast<const char*>(data) + i * d * value_bytes(type);
    }
    /// Rows [begin, begin + n) as floats: in place, or in `storage`.
    const float* floats(size_t begin, size_t n, std::vector<float>& storage)
            const;
    /// Copies rows as floats next to one another. @param out  size n * d
    void gather(size_t n, const size_t* rows, float* out) const;
};

} // namespace faiss_ext
