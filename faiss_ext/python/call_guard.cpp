#include "call_guard.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <new>
#include <string>
#include <thread>

#include <omp.h>

#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/FaissException.h>

#include <faiss_ext/memory/file_fault.h>
#include <faiss_ext/memory/parallel.h>

namespace faiss_ext::python {

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kSignalPeriod = std::chrono::milliseconds(50);

unsigned long main_thread = 0;
std::atomic<int> threads_wanted{0};

/// True if a handler raised; the Python error is then set in this thread.
bool signal_raised() {
    if (PyThread_get_thread_ident() != main_thread) {
        return false;
    }
    // a plain static is enough: only the main thread gets here
    static Clock::time_point last;
    Clock::time_point now = Clock::now();
    if (now - last < kSignalPeriod) {
        return false;
    }
    last = now;
    py::gil_scoped_acquire gil;
    return PyErr_Occurred() != nullptr || PyErr_CheckSignals() != 0;
}

/// The Python error stays set until rethrow_as_python() finds it: Faiss may
/// call this inside a parallel region, where nothing may be thrown.
struct PythonInterruptCallback : faiss::InterruptCallback {
    bool want_interrupt() override {
        return signal_raised();
    }
};

/// "Error in virtual void f(..) at x.cpp:12: Error: 'k > 0' failed: text" to
/// "text"; other messages stay as they are.
std::string readable(const std::string& message) {
    static const std::string failed = "' failed: ";
    size_t start = message.find(failed);
    if (start != std::string::npos) {
        start += failed.size();
    } else if (message.rfind("Error in ", 0) == 0) {
        // ".. at <file>:<line>: text"
        start = message.find(".cpp:");
        if (start == std::string::npos) {
            start = message.find(".h:");
        }
        if (start != std::string::npos) {
            start = message.find(": ", start);
            start = start == std::string::npos ? start : start + 2;
        }
    } else {
        return message;
    }
    if (start == std::string::npos || start >= message.size()) {
        return message;
    }
    return message.substr(start);
}

} // namespace

void install_interrupt_callback() {
    py::object main = py::module_::import("threading").attr("main_thread")();
    main_thread = main.attr("ident").cast<unsigned long>();
    faiss::InterruptCallback::instance =
            std::make_unique<PythonInterruptCallback>();
}

void check_signals() {
    if (signal_raised()) {
        py::gil_scoped_acquire gil;
        throw py::error_already_set();
    }
}

void set_error(PyObject* type, const char* message) {
    PyObject* text = PyUnicode_DecodeUTF8(
            message, Py_ssize_t(std::strlen(message)), "backslashreplace");
    if (text != nullptr) {
        PyErr_SetObject(type, text);
        Py_DECREF(text);
    }
}

void rethrow_as_python(ErrorOrigin origin) {
    // an interrupt counts, not the exception that it led to
    if (PyErr_Occurred() != nullptr) {
        throw py::error_already_set();
    }
    try {
        throw;
    } catch (const py::error_already_set&) {
        throw;
    } catch (const py::builtin_exception&) {
        throw;
    } catch (const FileFault& e) {
        set_error(PyExc_RuntimeError, readable(e.msg).c_str());
    } catch (const ArgumentFault& e) {
        set_error(PyExc_ValueError, readable(e.msg).c_str());
    } catch (const faiss::FaissException& e) {
        set_error(
                origin == ErrorOrigin::Caller ? PyExc_ValueError
                                              : PyExc_RuntimeError,
                readable(e.msg).c_str());
    } catch (const std::bad_alloc&) {
        PyErr_SetString(PyExc_MemoryError, "out of memory");
    } catch (const std::exception& e) {
        set_error(PyExc_RuntimeError, e.what());
    } catch (...) {
        PyErr_SetString(PyExc_RuntimeError, "unknown C++ exception");
    }
    throw py::error_already_set();
}

void set_thread_count(int n) {
    threads_wanted = n;
}

int thread_count() {
    int wanted = threads_wanted;
    if (!may_use_threads()) {
        return 1;
    }
    return wanted > 0 ? wanted : omp_get_max_threads();
}

ThreadCountScope::ThreadCountScope() {
    int wanted = may_use_threads() ? threads_wanted.load() : 1;
    int now = omp_get_max_threads();
    if (wanted > 0 && wanted != now) {
        omp_set_num_threads(wanted);
        before_ = now;
    }
}

ThreadCountScope::~ThreadCountScope() {
    if (before_ > 0) {
        omp_set_num_threads(before_);
    }
}

} // namespace faiss_ext::python
