/*
 * Arrays that Python hands in: checked, converted if that is safe, refused by
 * a ValueError that says what was given and what is allowed.
 *
 * Ids, flags, bytes, codes, arrays to be filled; row_arguments has the rows.
 * Integers of other types and orders, and lists, are converted into a new
 * array; everything else is refused, never misread.
 *
 * All functions need the GIL. The structs keep their array alive.
 */

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <pybind11/numpy.h>

namespace faiss_ext::python {

namespace py = pybind11;

struct Flags {
    py::array owner;
    const uint8_t* data; ///< size n
    int64_t n;           ///< may be 0
};

Flags flags_argument(const char* name, py::handle value);

/// For output_argument().
py::array checked_output(
        const char* name,
        py::handle value,
        const py::dtype& dtype,
        const std::vector<int64_t>& shape);

/// An array of bool, which is a mask, or of integers, which are ids.
py::array mask_or_ids(const char* name, py::handle value);
bool is_mask(const py::array& array);

struct Bytes {
    py::array owner;
    const uint8_t* data; ///< size n
    int64_t n;           ///< may be 0
};

/// uint8, one bit for each id; nothing is converted.
Bytes bitmap_argument(const char* name, py::handle value);

/** An array that a call fills: of T, this shape, in C order, writable.
 * @return  the array given, or a new one for None */
template <class T>
py::array_t<T> output_argument(
        const char* name,
        py::handle value,
        const std::vector<int64_t>& shape) {
    if (value.is_none()) {
        return py::array_t<T>(shape);
    }
    return py::array_t<T>(
            checked_output(name, value, py::dtype::of<T>(), shape));
}

/// @throws ValueError if it shares memory with another one
void check_apart(
        const char* name,
        const py::array& array,
        const char* other_name,
        const py::array& other);

struct Ids {
    py::array owner;
    const int64_t* data; ///< size n
    int64_t n;           ///< may be 0
};

/// Any ids. @param n  how many are wanted, or nothing
Ids ids_argument(
        const char* name,
        py::handle value,
        std::optional<int64_t> n = {});

/// Lists of queries: (n, any number), each -1 or 0..most, in a row each once.
struct ListNumbers {
    py::array owner;
    const int64_t* data; ///< size n * per_query
    int64_t n;
    int64_t per_query; ///< >= 1
};

ListNumbers list_numbers_argument(
        const char* name,
        py::handle value,
        int64_t n,
        int64_t nlist);

/// Ids for new vectors: n of them, none of them -1 (the label of "no result").
Ids new_ids_argument(const char* name, py::handle value, int64_t n);

struct Codes {
    py::array owner;
    const uint8_t* data; ///< size n * code_size
    int64_t n;           ///< may be 0
};

/// Codes of sa_encode(): uint8, nothing is converted.
Codes codes_argument(const char* name, py::handle value, size_t code_size);

/// Bytes of a file in memory: bytes, or a contiguous 1-d array of them.
py::buffer_info bytes_argument(const char* name, const py::buffer& data);

/// Without a copy.
py::array_t<uint8_t> bytes_array(std::vector<uint8_t> bytes);

/** An integer option. @throws ValueError outside of minimum..maximum */
size_t checked_integer(
        const char* name,
        int64_t value,
        int64_t minimum,
        int64_t maximum = INT64_MAX);

} // namespace faiss_ext::python
