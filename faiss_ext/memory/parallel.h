/* Loops over slices of work on the caller's OpenMP threads. */

#pragma once

#include <omp.h>

#include <algorithm>
#include <cstddef>
#include <functional>

namespace faiss_ext {

/** Whether this thread may open OpenMP regions of several threads, be it here
 * or in Faiss. Not if it is what fork() left of a process and its OpenMP threads
 * could not be sent home before (parallel.cpp): a region would wait for them
 * for ever. Its omp_get_max_threads() is 1 then, and for_tiles() uses no other
 * thread whatever it is. */
bool may_use_threads();

/** Calls work(tile) for tile = 0 .. tiles - 1 on up to omp_get_max_threads()
 * threads. Tiles are independent, so that results are too of the number of
 * threads. An exception of a tile, or Faiss' interrupt, ends the loop and is
 * thrown here (one must not leave an OpenMP region). */
void for_tiles(size_t tiles, const std::function<void(size_t)>& work);

/** Calls body(begin, end) for slices of [0, n), as for_tiles() does; one slice
 * is called in place, without any cost. */
template <class Body>
void parallel_slices(size_t n, size_t slice, Body&& body) {
    if (n <= slice) {
        if (n > 0) {
            body(size_t(0), n);
        }
        return;
    }
    for_tiles((n + slice - 1) / slice, [&](size_t i) {
        body(i * slice, std::min(n, (i + 1) * slice));
    });
}

} // namespace faiss_ext
