#include <faiss_ext/parallel.h>

#include <atomic>
#include <chrono>
#include <exception>

#include <faiss/impl/AuxIndexStructures.h>

namespace faiss_ext {

void for_tiles(size_t tiles, const std::function<void(size_t)>& work) {
    using Clock = std::chrono::steady_clock;
    constexpr auto kPause = std::chrono::milliseconds(50);
    std::exception_ptr failure;
    std::atomic<bool> stop{false};
    faiss::InterruptCallback::check();
    auto checked = Clock::now();
#pragma omp parallel for schedule( \
        dynamic) if (tiles > 1 && omp_get_max_threads() > 1)
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
