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

/// Lends a Python callback to the ScaNN index, and a look at signals with it.
class ProgressScope {
 public:
    ProgressScope(IndexIVFScaNN* scann, const py::object& callback)
            : scann_(scann) {
        if (scann_ != nullptr) {
            scann_->progress = progress_of(callback);
        }
    }
    ~ProgressScope() {
        if (scann_ != nullptr) {
            scann_->progress = nullptr;
        }
    }
    ProgressScope(const ProgressScope&) = delete;
    ProgressScope& operator=(const ProgressScope&) = delete;

 private:
    IndexIVFScaNN* scann_;
};

/// The callback given, or with index.verbose a progress bar on stderr.
/// @throws TypeError if it cannot be called
py::object progress_for(const IndexHandle& self, const py::object& given);

} // namespace faiss_ext::python
