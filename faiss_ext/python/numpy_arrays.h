/*
 * NumPy arrays as Python hands them in: what array_arguments and row_arguments
 * share to look at them, to convert them and to refuse them.
 *
 * All functions need the GIL.
 */

#pragma once

#include <string>

#include <pybind11/numpy.h>

namespace faiss_ext::python {

namespace py = pybind11;

std::string text_of(py::handle value);
std::string shape_of(const py::array& array);
/// NumPy's letter: 'f' floats, 'i' and 'u' integers, 'b' bool, 'V' others..
char dtype_kind(const py::array& array);
/// In C order, aligned.
bool is_plain(const py::array& array);

/// @throws ValueError for None and masked arrays
py::array as_array(const char* name, py::handle value);

[[noreturn]] void
refuse_dtype(const char* name, const py::array& array, const char* allowed);
[[noreturn]] void refuse_shape(
        const char* name,
        const py::array& array,
        const std::string& allowed);

/// The array itself if it holds T in C order, aligned; else a converted copy.
template <class T>
py::array convert(const py::array& array) {
    if (py::isinstance<py::array_t<T>>(array) && is_plain(array)) {
        return array;
    }
    py::array copy = py::array(
            array.attr("astype")(py::dtype::of<T>(), py::arg("order") = "C"));
    return copy;
}

} // namespace faiss_ext::python
