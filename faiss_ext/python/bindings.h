/* The parts of the module `_faiss_ext`; each file below binds one part. */

#pragma once

#include <memory>
#include <string>

#include <pybind11/pybind11.h>

#include "constructed.h"
#include "index_handle.h"
#include "row_arguments.h"

namespace faiss_ext::python {

namespace py = pybind11;

/// The reference counts calls in other threads too.
using IndexClass = py::class_<IndexHandle, std::shared_ptr<IndexHandle>>;

void bind_selectors(py::module_& module); // Filter, IDSelector..
void bind_build(IndexClass& index);       // train, add, remove, merge
void bind_maintenance(IndexClass& index); // maintain, health
void bind_search(IndexClass& index);      // search, range_search, reconstruct
void bind_search_iterator(py::module_& module, IndexClass& index); // iterate
void bind_lists(py::module_& module, IndexClass& index); // centroids, cp, ..
void bind_wrappers(py::module_& module);                 // IndexIDMap, ..
void bind_properties(IndexClass& index); // ntotal, nprobe, sub_dim, ...
void bind_files(py::module_& module, IndexClass& index); // read, write, pickle
void bind_build_index(py::module_& module);              // rows beyond memory
void bind_knowhere(py::module_& module); // the submodule knowhere

/// __reduce__ of classes that cannot be pickled: without it, protocols below 2
/// end the process. See Index.__reduce__.
py::object refuse_pickle(const py::object& self);

/// The double of the shortest decimal that gives this float: .95, not
/// 0.949999988079071.
double as_written(float value);

/// What calibrate() returns and `calibration` shows.
py::dict calibration_dict(const ScaNNCalibration& chosen);

/// Rows for this index.
inline Rows
rows_for(const IndexHandle& handle, const char* name, py::handle value) {
    return rows_argument(
            name,
            value,
            handle.index()->d,
            handle.scann() == nullptr ? RowSize::Moderate : RowSize::Any);
}

/// The same, of any type of rows where there is a ScaNN index.
inline TypedArray
typed_rows_for(const IndexHandle& handle, const char* name, py::handle value) {
    if (handle.scann() != nullptr) {
        return typed_rows_argument(name, value, handle.index()->d);
    }
    return TypedArray(rows_for(handle, name, value));
}

/// @throws ValueError if there is no row
template <class Array>
Array at_least_one(const char* name, Array rows) {
    if (rows.n == 0) {
        std::string d = std::to_string(rows.d);
        throw py::value_error(
                std::string(name) + " has shape (0, " + d + ") (allowed: (n, " +
                d + ") with n >= 1)");
    }
    return rows;
}

/// At least one row.
inline Rows
some_rows_for(const IndexHandle& handle, const char* name, py::handle value) {
    return at_least_one(name, rows_for(handle, name, value));
}

/// @throws AttributeError if there is no ScaNN index inside
IndexIVFScaNN& need_scann(const IndexHandle& handle, const char* what);
/// @throws ValueError, too, if it is not the index itself
/// @param allowed  for the message
IndexIVFScaNN& need_plain_scann(
        const IndexHandle& handle,
        const char* what,
        const char* allowed = "a ScaNN index by itself");
faiss::IndexIVF& need_ivf(const IndexHandle& handle, const char* what);

/// "nprobe=16,reorder_k=100": all of it is checked before anything is set.
void set_index_parameters(IndexHandle& self, const std::string& description);

} // namespace faiss_ext::python
