/*
 * Calls from Python into native code: the GIL is released, signals are checked
 * regularly, exceptions are translated.
 *
 * In: any work that touches no Python object. Out: its result, or a Python
 * exception. Everything that may take longer than a microsecond goes this way.
 */

#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <utility>

#include <pybind11/pybind11.h>

namespace faiss_ext::python {

namespace py = pybind11;

/** The origin of a faiss::FaissException, unless it is a FileFault or an
 * ArgumentFault, decides which exception Python gets.
 * The mapping is documented in faiss_ext.__doc__:
 *     Caller: arguments or the order of calls are wrong -> ValueError
 *     File:   a file or stream cannot be read or written -> RuntimeError
 * std::bad_alloc is a MemoryError, any other C++ exception a RuntimeError. */
enum class ErrorOrigin { Caller, File };

/// Remembers Python's main thread and installs faiss::InterruptCallback. Once,
/// at import.
void install_interrupt_callback();

/** Runs Python's signal handlers if they were last checked 50 ms ago or more and
 * this is Python's main thread; elsewhere it does nothing. Works with and
 * without the GIL.
 * @throws py::error_already_set  what a handler raised (KeyboardInterrupt) */
void check_signals();

/// Calls work(begin, count) for slices of n queries and checks signals between
/// them. The first slices are small, so that Ctrl-C works even with slow
/// queries; they grow while they take less than 50 ms.
template <class Work>
void in_slices(int64_t n, Work&& work) {
    using Clock = std::chrono::steady_clock;
    constexpr int64_t kFirstSlice = 256;
    int64_t slice = kFirstSlice;
    for (int64_t begin = 0; begin < n;) {
        Clock::time_point start = Clock::now();
        int64_t count = std::min(slice, n - begin);
        work(begin, count);
        begin += count;
        if (begin < n) {
            check_signals();
        }
        if (Clock::now() - start < std::chrono::milliseconds(50)) {
            slice *= 2;
        }
    }
}

/// Sets a Python error. The message may contain the caller's bytes, which may
/// be invalid UTF-8. Needs the GIL.
void set_error(PyObject* type, const char* message);

/// Rethrows the exception being handled as a Python exception. Needs the GIL.
[[noreturn]] void rethrow_as_python(ErrorOrigin origin);

/// Threads that calls into native code may use; 0: OpenMP's own setting.
void set_thread_count(int n);
int thread_count();

/** While this lives, thread_count() holds in the calling thread: OpenMP has one
 * setting per thread, but users expect one for the process. */
class ThreadCountScope {
 public:
    ThreadCountScope();
    ~ThreadCountScope();
    ThreadCountScope(const ThreadCountScope&) = delete;
    ThreadCountScope& operator=(const ThreadCountScope&) = delete;

 private:
    int before_ = 0; ///< 0: nothing to restore
};

/// Calls `work` without the GIL.
template <class Work>
auto without_gil(ErrorOrigin origin, Work&& work) {
    try {
        py::gil_scoped_release release;
        ThreadCountScope threads;
        return std::forward<Work>(work)();
    } catch (...) {
        rethrow_as_python(origin); // the GIL is back: release is gone
    }
}

} // namespace faiss_ext::python
