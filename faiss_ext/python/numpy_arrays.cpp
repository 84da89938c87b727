#include "numpy_arrays.h"

namespace faiss_ext::python {

std::string text_of(py::handle value) {
    return py::str(value).cast<std::string>();
}

std::string shape_of(const py::array& array) {
    return text_of(array.attr("shape"));
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

char dtype_kind(const py::array& array) {
    return array.dtype().kind();
}

bool is_plain(const py::array& array) {
    constexpr int kPlain = int(py::array::c_style) |
                           int(py::detail::npy_api::NPY_ARRAY_ALIGNED_);
    return (array.flags() & kPlain) == kPlain;
}

[[noreturn]] void
refuse_dtype(const char* name, const py::array& array, const char* allowed) {
    throw py::value_error(
            std::string(name) + " has dtype " + text_of(array.dtype()) +
            " (allowed: " + allowed + ")");
}

[[noreturn]] void refuse_shape(
        const char* name,
        const py::array& array,
        const std::string& allowed) {
    throw py::value_error(
            std::string(name) + " has shape " + shape_of(array) +
            " (allowed: " + allowed + ")");
}

} // namespace faiss_ext::python
