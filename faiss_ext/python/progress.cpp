#include "progress.h"

#include "call_guard.h"

namespace faiss_ext::python {

ScaNNProgress progress_of(const py::object& callback) {
    const py::object* call = callback.is_none() ? nullptr : &callback;
    return [call](const char* stage, size_t done, size_t total) {
        check_signals();
        if (call == nullptr) {
            return;
        }
        py::gil_scoped_acquire gil;
        if (PyErr_Occurred() != nullptr) { // an interrupt
            throw py::error_already_set();
        }
        (*call)(stage, done, total);
    };
}

void check_callable(const py::object& progress) {
    if (!progress.is_none() && PyCallable_Check(progress.ptr()) == 0) {
        throw py::type_error(
                "progress must be None or callable as progress(stage, done, "
                "total)");
    }
}

py::object progress_for(const IndexHandle& self, const py::object& given) {
    check_callable(given);
    if (!given.is_none() || !self.verbose()) {
        return given;
    }
    return py::module_::import("faiss_ext").attr("progress_bar")();
}

} // namespace faiss_ext::python
