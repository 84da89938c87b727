#include "targets.h"

#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "../fixtures/sanitizers.h"

namespace fuzz {

namespace {
constexpr uint64_t kAlways = uint64_t(256) << 20;
constexpr uint64_t kPerByte = 8;
} // namespace

#if FAISS_EXT_ADDRESS_SANITIZER

extern "C" {
int __sanitizer_install_malloc_and_free_hooks(
        void (*malloc_hook)(const volatile void*, size_t),
        void (*free_hook)(const volatile void*));
size_t __sanitizer_get_allocated_size(const volatile void* block);
void __sanitizer_print_stack_trace();
}

namespace {

std::atomic<int64_t> held = 0;
std::atomic<int64_t> limit = 0; ///< 0: none

void on_malloc(const volatile void*, size_t size) {
    int64_t now = held += int64_t(size);
    int64_t allowed = limit;
    if (allowed != 0 && now > allowed) {
        limit = 0;
        fprintf(stderr,
                "%lld bytes are held, the last block of %zu; the limit is "
                "%lld\n",
                static_cast<long long>(now),
                size,
                static_cast<long long>(allowed));
        __sanitizer_print_stack_trace();
        abort();
    }
}

void on_free(const volatile void* block) {
    if (block != nullptr) {
        held -= int64_t(__sanitizer_get_allocated_size(block));
    }
}

} // namespace

MemoryLimit::MemoryLimit(size_t input_bytes) {
    static bool installed =
            __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free) != 0;
    if (!installed) {
        abort();
    }
    held = 0;
    limit = int64_t(kAlways + kPerByte * input_bytes);
}

MemoryLimit::~MemoryLimit() {
    limit = 0;
}

#else

MemoryLimit::MemoryLimit(size_t input_bytes) {
    uint64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    rlimit space{};
    getrlimit(RLIMIT_AS, &space);
    old_limit_ = space.rlim_cur;
    space.rlim_cur = pages * uint64_t(sysconf(_SC_PAGESIZE)) + kAlways +
                     kPerByte * input_bytes;
    setrlimit(RLIMIT_AS, &space);
}

MemoryLimit::~MemoryLimit() {
    rlimit space{};
    getrlimit(RLIMIT_AS, &space);
    space.rlim_cur = old_limit_;
    setrlimit(RLIMIT_AS, &space);
}

#endif

} // namespace fuzz
