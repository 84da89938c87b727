/*
 * Memory that runs out at a chosen allocation. Replaces operator new,
 * aligned_alloc() and, for the engine's objects, which are part of a test
 * program, mmap(): include it in one file of a program.
 */

#pragma once

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace failing_memory {

enum class Fails {
    One,    ///< only that allocation
    AllFrom ///< and all that follow: undoing has no memory either
};

inline std::atomic<bool> armed = false;
inline std::atomic<size_t> allocations = 0; ///< since the scope began
inline std::atomic<size_t> failures = 0;
inline size_t first = 0;
inline Fails kind = Fails::One;

/// While it lives, allocation number n (from 0) fails, on any thread.
class Scope {
 public:
    Scope(size_t n, Fails fails) {
        first = n;
        kind = fails;
        allocations = failures = 0;
        armed = true;
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() {
        armed = false;
    }
};

inline bool next_fails() {
    if (!armed.load(std::memory_order_relaxed)) {
        return false;
    }
    size_t n = allocations++;
    bool fails = kind == Fails::One ? n == first : n >= first;
    failures += fails;
    return fails;
}

} // namespace failing_memory

// GCC takes the replaced pair for a mismatch where it sees through one of them
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
#endif

void* operator new(size_t n) {
    void* p = failing_memory::next_fails() ? nullptr : std::malloc(n + !n);
    if (p == nullptr) {
        throw std::bad_alloc();
    }
    return p;
}

void operator delete(void* p) noexcept {
    std::free(p);
}

void operator delete(void* p, size_t) noexcept {
    std::free(p);
}

extern "C" {

void* aligned_alloc(size_t alignment, size_t n) noexcept {
    void* p = nullptr;
    if (failing_memory::next_fails() || posix_memalign(&p, alignment, n) != 0) {
        errno = ENOMEM;
        return nullptr;
    }
    return p;
}

extern char __executable_start;
extern char etext;

void* mmap(
        void* at,
        size_t n,
        int protection,
        int flags,
        int fd,
        off_t offset) noexcept {
    auto caller = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
    bool ours = caller >= reinterpret_cast<uintptr_t>(&__executable_start) &&
                caller < reinterpret_cast<uintptr_t>(&etext);
    if (ours && failing_memory::next_fails()) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return reinterpret_cast<void*>(
            syscall(SYS_mmap, at, n, protection, flags, fd, offset));
}
}
