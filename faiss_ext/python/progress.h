/* Callbacks of Python that are told how far a call is. */

#pragma once

#include <pybind11/pybind11.h>

#include <faiss_ext/scann_options.h>

namespace faiss_ext::python {

/// Calls the callback, which is borrowed, and looks at signals.
/// @param callback  of (stage, done, total), or None
ScaNNProgress progress_of(const pybind11::object& callback);

/// @throws TypeError if it is neither None nor callable
void check_callable(const pybind11::object& callback);

} // namespace faiss_ext::python
