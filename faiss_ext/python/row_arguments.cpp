#include "row_arguments.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include <faiss_ext/memory/query_rows.h>
#include <faiss_ext/memory/row_types.h>

#include "call_guard.h"
#include "numpy_arrays.h"

namespace faiss_ext::python {

namespace {

/// Without an early exit inside a block, so that compilers vectorise it.
size_t first_not_finite(const float* x, size_t n) {
    constexpr size_t kBlock = 1024;
    constexpr uint32_t kExponent = 0x7f800000;
    for (size_t start = 0; start < n; start += kBlock) {
        size_t end = std::min(n, start + kBlock);
        uint32_t worst = 0;
        for (size_t i = start; i < end; i++) {
            uint32_t bits;
            std::memcpy(&bits, x + i, sizeof(bits));
            worst = std::max(worst, bits & kExponent);
        }
        if (worst == kExponent) {
            return std::find_if(
                           x + start,
                           x + end,
                           [](float v) { return !std::isfinite(v); }) -
                   x;
        }
    }
    return n;
}

/// @param first  number of the first row, for the message
void check_finite(
        const char* name,
        const float* x,
        int64_t n,
        int64_t d,
        int64_t first = 0) {
    size_t total = size_t(n) * size_t(d);
    size_t bad;
    constexpr size_t kFewValues = 65536; // releasing the GIL would take longer
    if (total < kFewValues) {
        bad = first_not_finite(x, total);
    } else {
        bad = without_gil(ErrorOrigin::Caller, [&] {
            return first_not_finite(x, total);
        });
    }
    if (bad < total) {
        const char* what = std::isnan(x[bad]) ? "nan"
                           : x[bad] > 0       ? "inf"
                                              : "-inf";
        throw py::value_error(
                std::string(name) + "[" + std::to_string(first + bad / d) +
                ", " + std::to_string(bad % d) + "] is " + what +
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
        Rows rows = rows_argument(name, array, d);
        return {std::move(rows.owner), rows.data, RowType::Float32, rows.n, d};
    }
    const void* data = array.data();
    const int64_t n = array.shape(0);
    TypedArray rows{std::move(array), data, *type, n, d};
    constexpr int64_t kRows = 4096; // floats at a time
    std::vector<float> storage;
    for (int64_t i = 0; i < n && value_bytes(*type) > 1; i += kRows) {
        const int64_t count = std::min(kRows, n - i);
        const float* floats = without_gil(ErrorOrigin::Caller, [&] {
            return rows.floats(i, count, storage);
        });
        check_finite(name, floats, count, d, i);
    }
    return rows;
}

const float* TypedArray::floats(
        int64_t begin,
        int64_t count,
        std::vector<float>& storage) const {
    return TypedRows(data, type, size_t(d))
            .floats(size_t(begin), size_t(count), storage);
}

Rows rows_argument(
        const char* name,
        py::handle value,
        int64_t d,
        RowSize size) {
    py::array rows = convert<float>(rows_of_index(name, value, d));
    const float* data = static_cast<const float*>(rows.data());
    int64_t n = rows.shape(0);
    check_finite(name, data, n, d);
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
