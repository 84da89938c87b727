/* Loops over slices of work on the caller's OpenMP threads. */

#pragma once

#include <omp.h>

#include <algorithm>
#include <cstddef>
#include <exception>

namespace faiss_ext {

/** Calls body(begin, end) for slices of [0, n). One slice, or one thread: no
 * OpenMP region is entered. The first exception is rethrown here, after all
 * threads have stopped (one must not leave an OpenMP region). */
template <class Body>
void parallel_slices(size_t n, size_t slice, Body&& body) {
    size_t slices = (n + slice - 1) / slice;
    auto run = [&](size_t i) {
        body(i * slice, std::min(n, (i + 1) * slice));
    };
    if (slices <= 1 || omp_get_max_threads() == 1 || omp_in_parallel()) {
        for (size_t i = 0; i < slices; i++) {
            run(i);
        }
        return;
    }
    std::exception_ptr failure;
#pragma omp parallel for schedule(dynamic)
    for (size_t i = 0; i < slices; i++) {
        try {
            run(i);
        } catch (...) {
#pragma omp critical(faiss_ext_parallel_failure)
            if (!failure) {
                failure = std::current_exception();
            }
        }
    }
    if (failure) {
        std::rethrow_exception(failure);
    }
}

} // namespace faiss_ext
