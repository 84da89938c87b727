/*
 * The results of a search: arrays checked or made, filled slice by slice with a
 * look at signals between them, figures added up.
 */

#pragma once

#include <cstdint>
#include <functional>

#include <faiss/impl/AuxIndexStructures.h>
#include <pybind11/pybind11.h>

#include "search_arguments.h"

namespace faiss_ext::python {

/// Arrays that the caller wants filled, or None.
struct Outputs {
    py::object D = py::none();
    py::object I = py::none();
    py::object R = py::none();
};

/// Where the results of some queries go.
struct ResultPointers {
    float* distances; ///< size count * k
    int64_t* labels;  ///< size count * k
    float* rows;      ///< size count * k * d, or nullptr
};

/// Searches an index for `count` queries from `begin` on.
using NearestWork = std::function<void(
        const faiss::Index& index,
        int64_t begin,
        int64_t count,
        const ResultPointers&)>;
using RangeWork = std::function<void(
        const faiss::Index& index,
        int64_t begin,
        int64_t count,
        faiss::RangeSearchResult*)>;

/** @param work  called with the index that searches see
 *  @return (D, I) or (D, I, R) */
py::tuple nearest_results(
        const IndexHandle& self,
        SearchArguments& arguments,
        int64_t k,
        bool with_rows,
        const Outputs& outputs,
        ScaNNSearchStats* stats,
        const NearestWork& work);

/// @return (lims, D, I)
py::tuple range_results(
        const IndexHandle& self,
        SearchArguments& arguments,
        ScaNNSearchStats* stats,
        const RangeWork& work);

/// @throws ValueError  for NaN
void check_radius(double radius);

} // namespace faiss_ext::python
