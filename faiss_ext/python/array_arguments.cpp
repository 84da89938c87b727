#include "array_arguments.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <span>
#include <vector>

#include <faiss_ext/memory/query_rows.h>
#include <faiss_ext/memory/row_types.h>

#include "call_guard.h"

namespace faiss_ext::python {

namespace {

std::string text(py::handle value) {
    return py::str(value).cast<std::string>();
}

std::string shape_of(const py::array& array) {
    return text(array.attr("shape"));
}

py::array as_array(const char* name, py::handle value) {
    if (value.is_none()) {
        throw py::value_error(
                std::string(name) + " is None (allowed: an array)");
    }
    if (Py_TYPE(value.ptr()) == py::detail::npy_api::get().PyArray_Type_) {
        return py::reinterpret_borrow<py::array>(value);
    }
    py::module_ numpy = py::module_::import("numpy");
    if (py::isinstance(value, numpy.attr("ma").attr("MaskedArray"))) {
        throw py::value_error(
                std::string(name) +
                " is a masked array, whose mask would be lost; fill or "
                "compress it first");
    }
    return py::array(numpy.attr("asarray")(value));
}

char kind_of(const py::array& array) {
    return array.dtype().kind();
}

[[noreturn]] void
refuse_dtype(const char* name, const py::array& array, const char* allowed) {
    throw py::value_error(
            std::string(name) + " has dtype " + text(array.dtype()) +
            " (allowed: " + allowed + ")");
}

/// The array itself if it holds T in C order, aligned; else a converted copy.
template <class T>
py::array convert(const py::array& array) {
    constexpr int good = int(py::array::c_style) |
                         int(py::detail::npy_api::NPY_ARRAY_ALIGNED_);
    if (py::isinstance<py::array_t<T>>(array) &&
        (array.flags() & good) == good) {
        return array;
    }
    py::array copy = py::array(
            array.attr("astype")(py::dtype::of<T>(), py::arg("order") = "C"));
    return copy;
}

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

py::array integers(const char* name, py::handle value, int64_t ndim = 1) {
    py::array array = as_array(name, value);
    char kind = kind_of(array);
    bool is_integer = kind == 'i' || kind == 'u';
    // [] is float64 in NumPy; nothing can be misread in it
    if (!is_integer && array.size() > 0) {
        refuse_dtype(name, array, "integers (int64 is used as it is)");
    }
    if (array.ndim() != ndim) {
        throw py::value_error(
                std::string(name) + " has shape " + shape_of(array) +
                " (allowed: a " + std::to_string(ndim) + "-d array)");
    }
    if (kind == 'u' && array.itemsize() == 8 && array.size() > 0) {
        py::object largest = array.attr("max")();
        if (largest.cast<uint64_t>() > uint64_t(INT64_MAX)) {
            throw py::value_error(
                    std::string(name) + " holds " + text(largest) +
                    "; ids are at most 9223372036854775807");
        }
    }
    return convert<int64_t>(array);
}

bool is_bfloat16(const py::array& array) {
    return kind_of(array) == 'V' && array.itemsize() == 2 &&
           text(array.dtype().attr("name")) == "bfloat16"; // of ml_dtypes
}

/// The type of rows that the array has, in the byte order of this machine.
std::optional<RowType> row_type_of(const py::array& array) {
    if (is_bfloat16(array)) {
        return RowType::BF16;
    }
    if (!array.dtype().attr("isnative").cast<bool>()) {
        return std::nullopt;
    }
    switch (kind_of(array)) {
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
    char kind = kind_of(array);
    if (kind != 'f' && kind != 'i' && kind != 'u' && !is_bfloat16(array)) {
        refuse_dtype(
                name,
                array,
                "float32 (used as it is), other floats and integers "
                "(converted)");
    }
    if (array.ndim() != 2) {
        throw py::value_error(
                std::string(name) + " has shape " + shape_of(array) +
                " (allowed: a 2-d array of shape " + wanted +
                (array.ndim() == 1
                         ? "; for one vector use " + std::string(name) +
                                   ".reshape(1, -1)"
                         : "") +
                ")");
    }
    return array;
}

/** Lists of queries, a list that a query names again replaced by -1: its
 * vectors would be found twice. Nothing if there are none of these. */
std::vector<int64_t>
each_once(std::span<const int64_t> lists, size_t per_query, size_t nlist) {
    std::vector<int64_t> once;
    std::vector<size_t> last_query(nlist); // counted from 1
    for (size_t i = 0; i < lists.size(); i++) {
        if (lists[i] < 0) {
            continue;
        }
        size_t& last = last_query[size_t(lists[i])];
        if (last == i / per_query + 1) {
            if (once.empty()) {
                once.assign(lists.begin(), lists.end());
            }
            once[i] = -1;
        }
        last = i / per_query + 1;
    }
    return once;
}

} // namespace

/// With d columns.
static py::array rows_of_index(const char* name, py::handle value, int64_t d) {
    std::string wanted = "(n, " + std::to_string(d) + ")";
    py::array array = float_matrix(name, value, wanted);
    if (array.shape(1) != d) {
        throw py::value_error(
                std::string(name) + " has shape " + shape_of(array) +
                " (allowed: " + wanted +
                ", since the index has d = " + std::to_string(d) + ")");
    }
    return array;
}

TypedArray typed_rows_argument(const char* name, py::handle value, int64_t d) {
    py::array array = rows_of_index(name, value, d);
    constexpr int good = int(py::array::c_style) |
                         int(py::detail::npy_api::NPY_ARRAY_ALIGNED_);
    const std::optional<RowType> type = row_type_of(array);
    if (!type || *type == RowType::Float32 || (array.flags() & good) != good) {
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

Flags flags_argument(const char* name, py::handle value) {
    py::array array = as_array(name, value);
    if (kind_of(array) != 'b') {
        refuse_dtype(name, array, "bool");
    }
    if (array.ndim() != 1) {
        throw py::value_error(
                std::string(name) + " has shape " + shape_of(array) +
                " (allowed: a 1-d array, one flag for each row)");
    }
    py::array flags = convert<bool>(array);
    const auto* data = static_cast<const uint8_t*>(flags.data());
    int64_t n = flags.shape(0);
    return {std::move(flags), data, n};
}

py::buffer_info bytes_argument(const char* name, const py::buffer& data) {
    py::buffer_info info = data.request();
    if (info.itemsize != 1 || info.ndim != 1 ||
        (info.shape[0] > 1 && info.strides[0] != 1)) {
        throw py::value_error(
                std::string(name) +
                " must be bytes or a contiguous 1-d uint8 array, as "
                "serialize_index() returns it");
    }
    return info;
}

py::array_t<uint8_t> bytes_array(std::vector<uint8_t> bytes) {
    auto kept = std::make_unique<std::vector<uint8_t>>(std::move(bytes));
    uint8_t* data = kept->data();
    auto n = py::ssize_t(kept->size());
    py::capsule owner(kept.release(), [](void* vector) {
        delete static_cast<std::vector<uint8_t>*>(vector);
    });
    return py::array_t<uint8_t>(n, data, owner);
}

Ids ids_argument(const char* name, py::handle value, std::optional<int64_t> n) {
    py::array array = integers(name, value);
    int64_t size = array.shape(0);
    if (n && size != *n) {
        throw py::value_error(
                std::string(name) + " has " + std::to_string(size) +
                " entries (allowed: " + std::to_string(*n) +
                ", one for each row)");
    }
    const int64_t* data = static_cast<const int64_t*>(array.data());
    return {std::move(array), data, size};
}

ListNumbers list_numbers_argument(
        const char* name,
        py::handle value,
        int64_t n,
        int64_t nlist) {
    py::array array = integers(name, value, 2);
    const int64_t per_query = array.shape(1);
    if (array.shape(0) != n || per_query < 1 || per_query > nlist) {
        throw py::value_error(
                std::string(name) + " has shape " + shape_of(array) +
                " (allowed: (" + std::to_string(n) + ", 1..nlist = " +
                std::to_string(nlist) + "), a row for each query)");
    }
    auto data = static_cast<const int64_t*>(array.data());
    for (int64_t i = 0; i < n * per_query; i++) {
        if (data[i] < -1 || data[i] >= nlist) {
            throw py::value_error(
                    std::string(name) + "[" + std::to_string(i / per_query) +
                    ", " + std::to_string(i % per_query) +
                    "] = " + std::to_string(data[i]) + " (allowed: lists 0.." +
                    std::to_string(nlist - 1) + ", -1 for none)");
        }
    }
    std::vector<int64_t> once = each_once(
            {data, size_t(n * per_query)}, size_t(per_query), size_t(nlist));
    if (!once.empty()) {
        array = py::array_t<int64_t>({n, per_query}, once.data());
        data = static_cast<const int64_t*>(array.data());
    }
    return {std::move(array), data, n, per_query};
}

Ids new_ids_argument(const char* name, py::handle value, int64_t n) {
    Ids ids = ids_argument(name, value, n);
    const int64_t* end = ids.data + ids.n;
    const int64_t* bad = std::find(ids.data, end, int64_t(-1));
    if (bad != end) {
        throw py::value_error(
                std::string(name) + "[" + std::to_string(bad - ids.data) +
                "] is -1, which marks a missing result (allowed: any other "
                "int64)");
    }
    return ids;
}

Codes codes_argument(const char* name, py::handle value, size_t code_size) {
    py::array array = as_array(name, value);
    if (!py::isinstance<py::array_t<uint8_t>>(array)) {
        refuse_dtype(name, array, "uint8");
    }
    if (array.ndim() != 2 || size_t(array.shape(1)) != code_size) {
        throw py::value_error(
                std::string(name) + " has shape " + shape_of(array) +
                " (allowed: (n, " + std::to_string(code_size) +
                "), as sa_encode() returns it)");
    }
    py::array codes = convert<uint8_t>(array);
    const uint8_t* data = static_cast<const uint8_t*>(codes.data());
    int64_t n = codes.shape(0);
    return {std::move(codes), data, n};
}

size_t checked_integer(
        const char* name,
        int64_t value,
        int64_t minimum,
        int64_t maximum) {
    if (value < minimum || value > maximum) {
        std::string range = maximum == INT64_MAX
                                    ? "at least " + std::to_string(minimum)
                                    : std::to_string(minimum) + ".." +
                                              std::to_string(maximum);
        throw py::value_error(
                std::string(name) + " = " + std::to_string(value) +
                " (allowed: " + range + ")");
    }
    return size_t(value);
}

py::array mask_or_ids(const char* name, py::handle value) {
    py::array array = as_array(name, value);
    if (is_mask(array)) {
        if (array.ndim() != 1) {
            throw py::value_error(
                    std::string(name) + " is a mask of shape " +
                    shape_of(array) +
                    " (allowed: a 1-d array, one flag for each id)");
        }
        return array;
    }
    char kind = kind_of(array);
    if (kind != 'i' && kind != 'u' && array.size() > 0) {
        refuse_dtype(
                name,
                array,
                "bool (a mask over ids 0..n-1) or integers (allowed ids)");
    }
    return array;
}

bool is_mask(const py::array& array) {
    return kind_of(array) == 'b';
}

Bytes bitmap_argument(const char* name, py::handle value) {
    py::array array = as_array(name, value);
    if (!py::isinstance<py::array_t<uint8_t>>(array)) {
        refuse_dtype(name, array, "uint8, one bit for each id");
    }
    if (array.ndim() != 1) {
        throw py::value_error(
                std::string(name) + " has shape " + shape_of(array) +
                " (allowed: a 1-d array, one bit for each id)");
    }
    py::array bytes = convert<uint8_t>(array);
    const auto* data = static_cast<const uint8_t*>(bytes.data());
    int64_t n = bytes.shape(0);
    return {std::move(bytes), data, n};
}

py::array checked_output(
        const char* name,
        py::handle value,
        const py::dtype& dtype,
        const std::vector<int64_t>& shape) {
    if (Py_TYPE(value.ptr()) != py::detail::npy_api::get().PyArray_Type_) {
        throw py::type_error(
                std::string(name) +
                " must be None or a numpy.ndarray that the results are "
                "written to");
    }
    auto array = py::reinterpret_borrow<py::array>(value);
    std::string wanted;
    for (size_t i = 0; i < shape.size(); i++) {
        wanted += (i == 0 ? "(" : ", ") + std::to_string(shape[i]);
    }
    wanted += ")";
    bool right_shape = size_t(array.ndim()) == shape.size() &&
                       std::equal(shape.begin(), shape.end(), array.shape());
    constexpr int good = int(py::array::c_style) |
                         int(py::detail::npy_api::NPY_ARRAY_ALIGNED_);
    if (!array.dtype().equal(dtype) || !right_shape ||
        (array.flags() & good) != good || !array.writeable()) {
        throw py::value_error(
                std::string(name) + " is a " +
                (array.writeable() ? "" : "read-only ") + "array of " +
                text(array.dtype()) + " and shape " + shape_of(array) +
                ((array.flags() & good) == good ? "" : ", not in C order") +
                " (allowed: a writable one of " + text(dtype) + " and shape " +
                wanted + " in C order)");
    }
    return array;
}

void check_apart(
        const char* name,
        const py::array& array,
        const char* other_name,
        const py::array& other) {
    auto begin = static_cast<const char*>(array.data());
    auto other_begin = static_cast<const char*>(other.data());
    if (begin < other_begin + other.nbytes() &&
        other_begin < begin + array.nbytes()) {
        throw py::value_error(
                std::string(name) + " and " + other_name +
                " share memory (allowed: arrays of their own)");
    }
}

} // namespace faiss_ext::python
