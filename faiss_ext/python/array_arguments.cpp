#include "array_arguments.h"

#include <algorithm>
#include <memory>
#include <span>
#include <utility>

#include "numpy_arrays.h"

namespace faiss_ext::python {

namespace {

py::array integers(const char* name, py::handle value, int64_t ndim = 1) {
    py::array array = as_array(name, value);
    char kind = dtype_kind(array);
    bool is_integer = kind == 'i' || kind == 'u';
    // [] is float64 in NumPy; nothing can be misread in it
    if (!is_integer && array.size() > 0) {
        refuse_dtype(name, array, "integers (int64 is used as it is)");
    }
    if (array.ndim() != ndim) {
        refuse_shape(name, array, "a " + std::to_string(ndim) + "-d array");
    }
    if (kind == 'u' && array.itemsize() == 8 && array.size() > 0) {
        py::object largest = array.attr("max")();
        if (largest.cast<uint64_t>() > uint64_t(INT64_MAX)) {
            throw py::value_error(
                    std::string(name) + " holds " + text_of(largest) +
                    "; ids are at most 9223372036854775807");
        }
    }
    return convert<int64_t>(array);
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

Flags flags_argument(const char* name, py::handle value) {
    py::array array = as_array(name, value);
    if (dtype_kind(array) != 'b') {
        refuse_dtype(name, array, "bool");
    }
    if (array.ndim() != 1) {
        refuse_shape(name, array, "a 1-d array, one flag for each row");
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
        refuse_shape(
                name,
                array,
                "(" + std::to_string(n) + ", 1..nlist = " +
                        std::to_string(nlist) + "), a row for each query");
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
        refuse_shape(
                name,
                array,
                "(n, " + std::to_string(code_size) +
                        "), as sa_encode() returns it");
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
    char kind = dtype_kind(array);
    if (kind != 'i' && kind != 'u' && array.size() > 0) {
        refuse_dtype(
                name,
                array,
                "bool (a mask over ids 0..n-1) or integers (allowed ids)");
    }
    return array;
}

bool is_mask(const py::array& array) {
    return dtype_kind(array) == 'b';
}

Bytes bitmap_argument(const char* name, py::handle value) {
    py::array array = as_array(name, value);
    if (!py::isinstance<py::array_t<uint8_t>>(array)) {
        refuse_dtype(name, array, "uint8, one bit for each id");
    }
    if (array.ndim() != 1) {
        refuse_shape(name, array, "a 1-d array, one bit for each id");
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
    const bool plain = is_plain(array);
    if (!array.dtype().equal(dtype) || !right_shape || !plain ||
        !array.writeable()) {
        throw py::value_error(
                std::string(name) + " is a " +
                (array.writeable() ? "" : "read-only ") + "array of " +
                text_of(array.dtype()) + " and shape " + shape_of(array) +
                (plain ? "" : ", not in C order") +
                " (allowed: a writable one of " + text_of(dtype) +
                " and shape " + wanted + " in C order)");
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
