#include "row_arguments.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>

#include <faiss_ext/memory/query_rows.h>
#include <faiss_ext/memory/row_types.h>

#include "call_guard.h"
#include "numpy_arrays.h"

namespace faiss_ext::python {

namespace {

struct NotFinite {
    size_t place; ///< among all values
    float value;
};

/// The first of n values that is not finite.
std::optional<NotFinite>
first_not_finite(RowType type, size_t n, const void* values) {
    constexpr size_t kBlock = 1024;
    auto from = [&](size_t i) {
        return static_cast<const char*>(values) + i * value_bytes(type);
    };
    for (size_t start = 0; start < n; start += kBlock) {
        const size_t count = std::min(kBlock, n - start);
        if (all_finite(type, count, from(start))) {
            continue;
        }
        for (size_t i = start;; i++) {
            float value;
            to_floats(type, 1, from(i), &value);
            if (!std::isfinite(value)) {
                return NotFinite{i, value};
            }
        }
    }
    return std::nullopt;
}

/** Before the engine, which does so too, but of training rows looks at those it
 * takes, counts queries from the first of a slice, and names no dimension. Here
 * nothing is converted. */
void check_finite(const char* name, const TypedRows& rows, int64_t n) {
    const size_t total = size_t(n) * rows.d;
    auto find = [&] { return first_not_finite(rows.type, total, rows.data); };
    constexpr size_t kFewValues = 65536; // releasing the GIL would take longer
    const std::optional<NotFinite> bad =
            total < kFewValues ? find()
                               : without_gil(ErrorOrigin::Caller, find);
    if (bad) {
        const char* what = std::isnan(bad->value) ? "nan"
                           : bad->value > 0       ? "inf"
                                                  : "-inf";
        throw py::value_error(
                std::string(name) + "[" + std::to_string(bad->place / rows.d) +
                ", " + std::to_string(bad->place % rows.d) + "] is " + what +
                " (as float32); all values must be finite");
    }
}

void check_moderate(const char* name, const float* x, int64_t n, int64_t d) {
    int64_t bad = -1;
    double squares = 0;
    without_gil(ErrorOrigin::Caller, [&] {
        for (int64_t i = 0; i < n && bad < 0; i++) {
            squares = sum_of_squares(size_t(d), x + i * d);
            bad = squares > kMaxSquares ? i : -1;
        }
    });
    if (bad >= 0) {
        char text[160];
        snprintf(
                text,
                sizeof(text),
                "%s[%lld]: its squares sum to %.3g (allowed without ScaNN: at "
                "most %g)",
                name,
                static_cast<long long>(bad),
                squares,
                kMaxSquares);
        throw py::value_error(text);
    }
}

bool is_bfloat16(const py::array& array) {
    return dtype_kind(array) == 'V' && array.itemsize() == 2 &&
           text_of(array.dtype().attr("name")) == "bfloat16"; // of ml_dtypes
}

/// The type of rows that the array has, in the byte order of this machine.
std::optional<RowType> row_type_of(const py::array& array) {
    if (is_bfloat16(array)) {
        return RowType::BF16;
    }
    if (!array.dtype().attr("isnative").cast<bool>()) {
        return std::nullopt;
    }
    switch (dtype_kind(array)) {
        case 'f':
            return array.itemsize() == 4   ? std::optional(RowType::Float32)
                   : array.itemsize() == 2 ? std::optional(RowType::FP16)
                                           : std::nullopt;
        case 'i':
            return array.itemsize() == 1 ? std::optional(RowType::Int8)
                                         : std::nullopt;
        case 'u':
            return array.itemsize() == 1 ? std::optional(RowType::UInt8)
                                         : std::nullopt;
        default:
            return std::nullopt;
    }
}

/// Two dimensions, of float32 or of what can be converted.
py::array
float_matrix(const char* name, py::handle value, const std::string& wanted) {
    py::array array = as_array(name, value);
    char kind = dtype_kind(array);
    if (kind != 'f' && kind != 'i' && kind != 'u' && !is_bfloat16(array)) {
        refuse_dtype(
                name,
                array,
                "float32 (used as it is), other floats and integers "
                "(converted)");
    }
    if (array.ndim() != 2) {
        refuse_shape(
                name,
                array,
                "a 2-d array of shape " + wanted +
                        (array.ndim() == 1
                                 ? "; for one vector use " + std::string(name) +
                                           ".reshape(1, -1)"
                                 : ""));
    }
    return array;
}

/// With d columns.
py::array rows_of_index(const char* name, py::handle value, int64_t d) {
    std::string wanted = "(n, " + std::to_string(d) + ")";
    py::array array = float_matrix(name, value, wanted);
    if (array.shape(1) != d) {
        refuse_shape(
                name,
                array,
                wanted + ", since the index has d = " + std::to_string(d));
    }
    return array;
}

} // namespace

TypedArray typed_rows_argument(const char* name, py::handle value, int64_t d) {
    py::array array = rows_of_index(name, value, d);
    const std::optional<RowType> type = row_type_of(array);
    if (!type || *type == RowType::Float32 || !is_plain(array)) {
        return TypedArray(rows_argument(name, array, d));
    }
    const TypedRows rows(array.data(), *type, size_t(d));
    const int64_t n = array.shape(0);
    check_finite(name, rows, n);
    return {rows, std::move(array), n};
}

Rows rows_argument(
        const char* name,
        py::handle value,
        int64_t d,
        RowSize size) {
    py::array rows = convert<float>(rows_of_index(name, value, d));
    const float* data = static_cast<const float*>(rows.data());
    int64_t n = rows.shape(0);
    check_finite(name, {data, RowType::Float32, size_t(d)}, n);
    if (size == RowSize::Moderate) {
        check_moderate(name, data, n, d);
    }
    return {std::move(rows), data, n, d};
}

Rows any_rows_argument(const char* name, py::handle value) {
    py::array rows = convert<float>(float_matrix(name, value, "(n, dim)"));
    const float* data = static_cast<const float*>(rows.data());
    int64_t n = rows.shape(0);
    int64_t d = rows.shape(1);
    return {std::move(rows), data, n, d};
}

} // namespace faiss_ext::python
