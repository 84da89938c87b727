/*
 * Rows that Python hands in: checked, converted if that is safe, refused by a
 * ValueError that says what was given and what is allowed.
 *
 * float32 rows in C order are used in place. Other floats and integers, other
 * orders, and nested lists are converted into a new array. Everything else
 * (complex, bool, str, object, masked arrays) is refused, never misread.
 *
 * All functions need the GIL. The structs keep their array alive.
 */

#pragma once

#include <cstdint>
#include <utility>

#include <pybind11/numpy.h>

#include <faiss_ext/memory/row_types.h>

namespace faiss_ext::python {

namespace py = pybind11;

/// Vectors, row by row.
struct Rows {
    py::array owner;
    const float* data; ///< size n * d
    int64_t n;
    int64_t d;
};

/// Which rows an index takes.
enum class RowSize {
    Any,      ///< finite
    Moderate, ///< squares sum up to at most kMaxSquares (memory/query_rows.h)
};

/// @param name  of the argument, for messages
/// @param d     columns wanted
/// @return any number of rows, also none
Rows rows_argument(
        const char* name,
        py::handle value,
        int64_t d,
        RowSize size = RowSize::Any);

/// Rows of any type, kept alive.
struct TypedArray : TypedRows {
    py::array owner;
    int64_t n;

    TypedArray(const TypedRows& rows, py::array owner, int64_t n)
            : TypedRows(rows), owner(std::move(owner)), n(n) {}
    explicit TypedArray(Rows rows)
            : TypedArray(
                      {rows.data, RowType::Float32, size_t(rows.d)},
                      std::move(rows.owner),
                      rows.n) {}
};

/// As rows_argument(), but float16, int8, uint8 and ml_dtypes' bfloat16 stay
/// where and what they are, too; all else becomes float32.
TypedArray typed_rows_argument(const char* name, py::handle value, int64_t d);

/// Any number of rows, not checked for being finite: the callee does that.
Rows any_rows_argument(const char* name, py::handle value);

} // namespace faiss_ext::python
