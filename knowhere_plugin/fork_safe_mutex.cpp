#include <knowhere_plugin/fork_safe_mutex.h>

#include <pthread.h>

namespace knowhere_plugin {

namespace {

std::atomic<unsigned> forks{0};

[[maybe_unused]] const int at_fork =
        pthread_atfork(nullptr, nullptr, [] { forks++; });

} // namespace

unsigned forks_since_load() {
    return forks.load(std::memory_order_relaxed);
}

} // namespace knowhere_plugin
