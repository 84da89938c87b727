/* Loops over slices of work on the caller's OpenMP threads. */

#pragma once

#include <omp.h>

#include <algorithm>
#include <cstddef>
#include <functional>

namespace faiss_ext {

/** Whether this thread may open OpenMP regions of several threads, here or in
 * Faiss. False in a forked child if the parent's OpenMP threads could not be
 * ended before the fork (parallel.cpp): a region would wait for them for ever.
 * There omp_get_max_threads() is 1, and for_tiles() stays on the calling thread
 * even if that is raised. */
bool may_use_threads();

/** Calls work(tile) for tile = 0 .. tiles - 1 on up to omp_get_max_threads()
 * threads. Tiles are independent, so results do not depend on the number of
 * threads; a call from within a tile stays on its thread, if there are others.
 * An exception of a tile, or Faiss' interrupt, ends the loop and is thrown here
 * (one must not leave an OpenMP region). */
void for_tiles(size_t tiles, const std::function<void(size_t)>& work);

/** Calls body(begin, end) for slices of [0, n), as for_tiles() does; one slice
 * is called directly, without a region. */
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
