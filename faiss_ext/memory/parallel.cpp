#include <faiss_ext/memory/parallel.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <new>
#include <vector>

#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>

#include <faiss/impl/AuxIndexStructures.h>

namespace faiss_ext {

namespace {

/*
 * fork() copies only the calling thread. libgomp keeps the threads of the last
 * region for the next one, and a child would wait for threads that it does not
 * have. So they are ended before a fork; parent and child both start new ones
 * with their next region. (OpenBLAS does the same with its own threads; LLVM's
 * OpenMP needs no help.) Where they cannot be ended, inside a region or with a
 * libgomp before GCC 9, the child uses one thread.
 */

using Pause = int (*)(int);
constexpr int kPauseSoft = 1; // omp_pause_soft

/// omp_pause_resource_all() of OpenMP 5, if the library at run time has it.
const Pause pause_threads =
        reinterpret_cast<Pause>(dlsym(RTLD_DEFAULT, "omp_pause_resource_all"));

/// LLVM's OpenMP holds its locks while fork handlers run: they must not call
/// it.
const bool llvm = dlsym(RTLD_DEFAULT, "__kmpc_fork_call") != nullptr;

thread_local bool in_loop = false; ///< inside for_tiles()
/// OpenMP's threads were ended for the fork that is going on
thread_local bool threads_ended = false;
/// in a child whose parent could not end them
thread_local bool threads_lost = false;
/// Threads of the largest region that this thread has opened here, which
/// libgomp keeps.
thread_local int threads_kept = 1;

void before_fork() {
    if (llvm) {
        threads_ended = !threads_lost && !in_loop;
    } else {
        threads_ended = !threads_lost && pause_threads != nullptr &&
                        pause_threads(kPauseSoft) == 0;
    }
    threads_kept = threads_ended ? 1 : threads_kept;
}

void in_child() {
    if (!threads_ended) {
        threads_lost = true;
        if (!llvm) {
            omp_set_num_threads(1);
        }
    }
}

/** Whether n more threads can be started. Where a region cannot start its
 * threads, because memory or processes are limited, libgomp ends the process.
 * So this starts n threads first, and checks that some memory is left for each. */
bool can_start_threads(int n) {
    constexpr size_t kSpare = size_t(1) << 20;
    std::vector<pthread_t> started;
    try {
        started.reserve(size_t(n));
    } catch (const std::bad_alloc&) {
        return false;
    }
    std::mutex gate; // keeps all of them alive until the last was started
    gate.lock();
    auto wait = [](void* gate) -> void* {
        std::lock_guard<std::mutex> lock(*static_cast<std::mutex*>(gate));
        return nullptr;
    };
    pthread_t thread;
    while (started.size() < size_t(n) &&
           pthread_create(&thread, nullptr, wait, &gate) == 0) {
        started.push_back(thread);
    }
    bool good = started.size() == size_t(n);
    if (good) {
        void* spare =
                mmap(nullptr,
                     size_t(n) * kSpare,
                     PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                     -1,
                     0);
        good = spare != MAP_FAILED && munmap(spare, size_t(n) * kSpare) == 0;
    }
    gate.unlock();
    for (pthread_t one : started) {
        pthread_join(one, nullptr);
    }
    return good;
}

/// Whether a region of omp_get_max_threads() threads can be opened.
bool can_open_region() {
    const int wanted = omp_get_max_threads();
    if (wanted > threads_kept && !omp_in_parallel()) {
        if (!can_start_threads(wanted - threads_kept)) {
            return false;
        }
        threads_kept = wanted;
    }
    return true;
}

/// Registered when this library is loaded; libc forgets it at unload.
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
    // a loop inside a tile of several threads stays on the tile's thread, which
    // need not be the one that handlers of interrupts run on
    const bool inner = in_loop && omp_in_parallel() != 0;
    if (!inner) {
        faiss::InterruptCallback::check();
    }
    auto checked = Clock::now();
    bool alone = inner || tiles <= 1 || omp_get_max_threads() == 1 ||
                 !may_use_threads() || !can_open_region();
#pragma omp parallel for schedule(dynamic) if (!alone)
    for (size_t tile = 0; tile < tiles; tile++) {
        if (stop.load(std::memory_order_relaxed)) {
            continue;
        }
        const bool nested = in_loop;
        in_loop = true;
        try {
            work(tile);
            // the calling thread, the only one that Python's handlers run on
            if (!inner && omp_get_thread_num() == 0 &&
                Clock::now() - checked > kPause) {
                faiss::InterruptCallback::check();
                checked = Clock::now();
            }
        } catch (...) {
#pragma omp critical(faiss_ext_for_tiles)
            failure = std::current_exception();
            stop = true;
        }
        in_loop = nested;
    }
    if (failure) {
        std::rethrow_exception(failure);
    }
}

} // namespace faiss_ext
