/*
 * What the searches of Index take: rows, parameters by keyword or as an object,
 * a filter, arrays for the results; checked and put together.
 */

#pragma once

#include <cstdint>
#include <optional>

#include <pybind11/pybind11.h>

#include "bindings.h"
#include "row_arguments.h"
#include "selectors.h"

namespace faiss_ext::python {

using Option = std::optional<int64_t>;

/// Keywords; what is not given is left to `params`, then to the index.
struct SearchKeywords {
    py::object params = py::none();
    Option nprobe = {};
    Option reorder_k = {};
    Option refine_k = {};
    Option max_codes = {};
    py::object filter = py::none();
    std::optional<double> target_recall = {};
    Option max_per_group = {};
    Option groups = {};
};

/// All of it read under the GIL.
struct SearchArguments {
    TypedArray queries;
    std::shared_ptr<const faiss::IDSelector> selector; ///< kept for params
    SearchParametersScaNN params;
    ScaNNSearchStats counted; ///< of this call alone
};

/** @param lists_given  lists per query that the caller chose, or 0
 *  @throws ValueError  values out of range, or given twice */
SearchArguments search_arguments(
        const IndexHandle& self,
        py::handle x,
        const SearchKeywords& keywords,
        size_t lists_given = 0);

} // namespace faiss_ext::python
