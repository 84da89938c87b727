/* Bytes as somebody else may have made them: every field of a stream replaced
 * by hostile values (at every offset, as 1, 4 and 8 bytes, so that no field is
 * missed), cut at every place, with random bits flipped. And the largest
 * allocation that reading them caused.
 *
 * Defines operator new: one include a program. */

#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <random>
#include <vector>

namespace hostile {

using Bytes = std::vector<uint8_t>;

/// Since the last reset.
inline std::atomic<size_t> largest_allocation{0};

template <class T>
T value_at(const Bytes& bytes, size_t at) {
    T value;
    std::memcpy(&value, bytes.data() + at, sizeof(T));
    return value;
}

#if defined(__SANITIZE_ADDRESS__)
constexpr unsigned kSanitized = 4; ///< times as many changes are left out
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr unsigned kSanitized = 4;
#else
constexpr unsigned kSanitized = 1;
#endif
#else
constexpr unsigned kSanitized = 1;
#endif

/// One of so many, the same each time.
class Chosen {
 public:
    explicit Chosen(unsigned one_of) : one_of_(one_of * kSanitized) {}

    bool operator()() {
        return random_() % one_of_ == 0;
    }

 private:
    std::mt19937 random_{5};
    unsigned one_of_;
};

template <class T, class F>
void replace_each(
        const Bytes& bytes,
        const std::vector<T>& values,
        Chosen& chosen,
        F&& f) {
    for (size_t at = 0; at + sizeof(T) <= bytes.size(); at++) {
        T old = value_at<T>(bytes, at);
        std::vector<T> all = values;
        all.push_back(T(uint64_t(old) + 1));
        all.push_back(T(uint64_t(old) - 1));
        for (T value : all) {
            if (value != old && chosen()) {
                Bytes changed = bytes;
                std::memcpy(changed.data() + at, &value, sizeof(T));
                f(changed);
            }
        }
    }
}

/// f(bytes) for each change, or for one of `one_of`.
template <class F>
void for_each_change(const Bytes& bytes, F&& f, unsigned one_of = 1) {
    Chosen chosen(one_of);
    constexpr uint32_t kNan = 0x7FC00000, kInfinity = 0x7F800000,
                       kLargest = 0x7F7FFFFF, kDenormal = 1;
    replace_each<uint8_t>(bytes, {0, 2, 127, 128, 255}, chosen, f);
    replace_each<uint32_t>(
            bytes,
            {0,
             ~0u,
             1u << 31,
             (1u << 31) - 1,
             65537,
             kNan,
             kInfinity,
             kLargest,
             kDenormal},
            chosen,
            f);
    constexpr uint64_t kOne = 1;
    replace_each<uint64_t>(
            bytes,
            {0,
             ~uint64_t(0),
             kOne << 31,
             (kOne << 32) - 1,
             (kOne << 40) - 1,
             kOne << 61,
             kOne << 62,
             (kOne << 63) - 1,
             kOne << 63},
            chosen,
            f);
    for (size_t size = 0; size < bytes.size(); size++) {
        if (chosen()) {
            f(Bytes(bytes.begin(), bytes.begin() + size));
        }
    }
    Bytes longer = bytes;
    longer.push_back(0);
    f(longer);
    std::mt19937 random(7);
    for (int i = 0; i < 2000; i++) {
        Bytes changed = bytes;
        for (unsigned flips = 1 + random() % 8; flips > 0; flips--) {
            changed[random() % bytes.size()] ^= uint8_t(1 << random() % 8);
        }
        if (chosen()) {
            f(changed);
        }
    }
}

} // namespace hostile

namespace hostile {

inline void* allocate(size_t n) noexcept {
    size_t before = largest_allocation;
    while (n > before && !largest_allocation.compare_exchange_weak(before, n)) {
    }
    // far above what any test needs: the machine must not suffer
    return n > size_t(1) << 31 ? nullptr : std::malloc(n);
}

} // namespace hostile

// All forms, as a sanitizer has them apart. Not inlined: GCC would see new and
// free() in one place, and warn.

[[gnu::noinline]] void* operator new(size_t n) {
    void* memory = hostile::allocate(n);
    if (memory == nullptr) {
        throw std::bad_alloc();
    }
    return memory;
}

[[gnu::noinline]] void* operator new[](size_t n) {
    return operator new(n);
}

[[gnu::noinline]] void* operator new(size_t n, const std::nothrow_t&) noexcept {
    return hostile::allocate(n);
}

[[gnu::noinline]] void* operator new[](
        size_t n,
        const std::nothrow_t&) noexcept {
    return hostile::allocate(n);
}

[[gnu::noinline]] void operator delete(void* memory) noexcept {
    std::free(memory);
}

[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept {
    std::free(memory);
}

[[gnu::noinline]] void operator delete[](void* memory) noexcept {
    std::free(memory);
}

[[gnu::noinline]] void operator delete[](void* memory, size_t) noexcept {
    std::free(memory);
}

[[gnu::noinline]] void operator delete(
        void* memory,
        const std::nothrow_t&) noexcept {
    std::free(memory);
}

[[gnu::noinline]] void operator delete[](
        void* memory,
        const std::nothrow_t&) noexcept {
    std::free(memory);
}
