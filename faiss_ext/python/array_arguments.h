/*
 * Arrays that Python hands in: checked, converted if that is safe, refused by
 * a ValueError that says what was given and what is allowed.
 *
 * float32 rows in C order are used in place. Other floats and integers, other
 * orders, and nested lists are converted into a new array. Everything else
 * (complex, bool, str, object, masked arrays) is refused, never misread.
 *
 * All functions need the GIL. The structs keep their array alive.
 */

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <faiss/impl/IDSelector.h>
#include <pybind11/numpy.h>

#include "constructed.h"

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
    Moderate, ///< squares sum up to at most kMaxSquares: with infinite distances
              ///< Faiss' own indexes read out of bounds
};
constexpr double kMaxSquares = 1e37;

/// @param name  of the argument, for messages
/// @param d     columns wanted
/// @return at least one row
Rows rows_argument(
        const char* name,
        py::handle value,
        int64_t d,
        RowSize size = RowSize::Any);

/// Any number of rows, not checked for being finite: the callee does that.
Rows any_rows_argument(const char* name, py::handle value);

struct Flags {
    py::array owner;
    const uint8_t* data; ///< size n
    int64_t n;           ///< may be 0
};

Flags flags_argument(const char* name, py::handle value);

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

/// Ids for new vectors: n of them, none of them -1 (the label of "no result").
Ids new_ids_argument(const char* name, py::handle value, int64_t n);

struct Codes {
    py::array owner;
    const uint8_t* data; ///< size n * code_size
    int64_t n;           ///< >= 1
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

/** The ids that a search may return. Immutable, so searches may share one. */
class Filter {
 public:
    /// @param value  bool mask over ids 0 .. len - 1, or integer array of ids
    explicit Filter(py::handle value);

    /// not const, as Faiss' SearchParameters require; it is never changed
    faiss::IDSelector& selector() const {
        return *selector_;
    }
    /// ids allowed
    size_t count() const {
        return count_;
    }
    bool is_mask() const {
        return is_mask_;
    }
    /// @throws ValueError if this is a mask with fewer flags than vectors
    void check_covers(int64_t ntotal) const;
    std::string description() const;

 private:
    void set_mask(const uint8_t* flags, size_t n);
    void set_ids(std::vector<int64_t> ids);

    bool is_mask_ = false;
    size_t flags_ = 0; ///< length of the mask given
    size_t count_ = 0;
    std::vector<uint8_t> bitmap_; ///< padded by kBitmapPadding zeros
    std::unique_ptr<faiss::IDSelector> selector_;
};

/// None -> nullptr, a Filter -> that one, else a new one. @param ntotal  of the
/// index to be searched
std::shared_ptr<const Filter> filter_argument(py::handle value, int64_t ntotal);

} // namespace faiss_ext::python
