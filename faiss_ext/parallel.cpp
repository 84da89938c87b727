#include <faiss_ext/parallel.h>

#include <atomic>
#include <chrono>
#include <exception>

#include <dlfcn.h>
#include <pthread.h>

#include <faiss/impl/AuxIndexStructures.h>

namespace faiss_ext {

namespace {

/*
 * fork() copies one thread. libgomp keeps the threads of the last region for
 * the next one, and a child would wait for some that it has not got. So these
 * are sent home before a fork; parent and child both start new ones with their
 * next region. (OpenBLAS does the same with its own; LLVM's OpenMP looks after
 * itself.) Where that is impossible, inside a region or with a libgomp before
 * GCC 9, the child keeps to one thread.
 */

using Pause = int (*)(int);
constexpr int kPauseSoft = 1; // omp_pause_soft

/// omp_pause_resource_all() of OpenMP 5, if the library at run time has it.
const Pause pause_threads =
        reinterpret_cast<Pause>(dlsym(RTLD_DEFAULT, "omp_pause_resource_all"));

thread_local bool threads_gone = false; ///< before the fork at hand
thread_local bool threads_lost = false; ///< after one

void before_fork() {
    // LLVM's OpenMP agrees to pause inside a region too
    threads_gone = !threads_lost && pause_threads != nullptr &&
                   !omp_in_parallel() && pause_threads(kPauseSoft) == 0;
}

void in_child() {
    if (!threads_gone) {
        threads_lost = true;
        omp_set_num_threads(1);
    }
}

/// Asked for when this library is loaded; forgotten when it is unloaded.
[[maybe_unused]] const int at_fork =
        pthread_atfork(before_fork, nullptr, in_child);

} // namespace

bool may_use_threads() {
    return !threads_lost;
}

void for_tiles(size_t tiles, const std::function<void(size_t)>& work) {
    using Clock = std::chrono::steady_clock;
    constexpr auto kPause = std::chrono::milliseconds(50);
    std::exception_ptr failure;
    std::atomic<bool> stop{false};
    faiss::InterruptCallback::check();
    auto checked = Clock::now();
    bool alone = tiles <= 1 || omp_get_max_threads() == 1 || !may_use_threads();
#pragma omp parallel for schedule(dynamic) if (!alone)
    for (size_t tile = 0; tile < tiles; tile++) {
        if (stop.load(std::memory_order_relaxed)) {
            continue;
        }
        try {
            work(tile);
            // the calling thread, the only one that Python's handlers run on
            if (omp_get_thread_num() == 0 && Clock::now() - checked > kPause) {
                faiss::InterruptCallback::check();
                checked = Clock::now();
            }
        } catch (...) {
#pragma omp critical(faiss_ext_for_tiles)
            failure = std::current_exception();
            stop = true;
        }
    }
    if (failure) {
        std::rethrow_exception(failure);
    }
}

} // namespace faiss_ext
