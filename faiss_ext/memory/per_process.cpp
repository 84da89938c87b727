#include <faiss_ext/memory/per_process.h>

#include <pthread.h>

namespace faiss_ext {

namespace {

std::atomic<unsigned> forks{0};

[[maybe_unused]] const int counts_forks =
        pthread_atfork(nullptr, nullptr, [] { forks++; });

} // namespace

unsigned forks_since_load() {
    return forks.load(std::memory_order_relaxed);
}

} // namespace faiss_ext
