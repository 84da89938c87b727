/*
 * For the tests of the kernels: arrays that end at an inaccessible page, and
 * the list of the levels that run here.
 */

#pragma once

#include <faiss_ext/kernels/dispatch.h>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define POISON(p, n) ASAN_POISON_MEMORY_REGION(p, n)
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
#define POISON(p, n) ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

namespace {

using namespace faiss_ext::kernels;

std::mt19937 rng(20240607);

size_t random_below(size_t n) {
    return rng() % n;
}
float random_float() {
    return std::uniform_real_distribution<float>(-1, 1)(rng);
}

/// n elements whose last byte is followed by `gap` bytes (misalignment),
/// padding up to `alignment`, and an inaccessible page.
template <class T>
class Guarded {
 public:
    explicit Guarded(size_t n, size_t alignment = alignof(T), size_t gap = 0)
            : n_(n) {
        size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
        size_t used = n * sizeof(T) + gap;
        used = (used + alignment - 1) / alignment * alignment;
        // at least one byte, so that an empty array has an address too
        mapped_ = (used + page) / page * page + page;
        void* memory =
                mmap(nullptr,
                     mapped_,
                     PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS,
                     -1,
                     0);
        EXPECT_NE(memory, MAP_FAILED);
        map_ = static_cast<char*>(memory);
        char* end = map_ + mapped_ - page;
        EXPECT_EQ(mprotect(end, page, PROT_NONE), 0);
        data_ = reinterpret_cast<T*>(
                end - (alignment > 1 && gap == 0 ? used : n * sizeof(T) + gap));
        POISON(map_, reinterpret_cast<char*>(data_) - map_);
        char* last = reinterpret_cast<char*>(data_) + n * sizeof(T);
        POISON(last, end - last);
    }
    Guarded(Guarded&& other)
            : n_(other.n_),
              mapped_(other.mapped_),
              map_(other.map_),
              data_(other.data_) {
        other.map_ = nullptr;
    }
    ~Guarded() {
        if (map_ != nullptr) {
            UNPOISON(map_, mapped_);
            munmap(map_, mapped_);
        }
    }

    T* data() {
        return data_;
    }
    T& operator[](size_t i) {
        return data_[i];
    }
    size_t size() const {
        return n_;
    }
    template <class Generator>
    void fill(Generator generator) {
        for (size_t i = 0; i < n_; i++) {
            T value = static_cast<T>(generator());
            memcpy(reinterpret_cast<char*>(data_) + i * sizeof(T),
                   &value,
                   sizeof(T));
        }
    }
    bool same_bits(const Guarded& other) const {
        return n_ == other.n_ &&
               memcmp(data_, other.data_, n_ * sizeof(T)) == 0;
    }

 private:
    size_t n_;
    size_t mapped_;
    char* map_;
    T* data_;
};

const Kernels& kernels_of(const std::string& level) {
    faiss_ext::set_simd_level(level);
    const Kernels& kernels = faiss_ext::active_kernels();
    EXPECT_EQ(level, kernels.name);
    return kernels;
}

std::vector<const Kernels*> all_levels() {
    std::string before = faiss_ext::simd_level();
    std::vector<const Kernels*> levels;
    for (const std::string& name : faiss_ext::simd_levels()) {
        levels.push_back(&kernels_of(name));
    }
    faiss_ext::set_simd_level(before);
    return levels;
}

const Kernels& scalar() {
    return *all_levels().back();
}

const std::vector<size_t>& dimensions() {
    static const std::vector<size_t> all = [] {
        std::vector<size_t> d;
        for (size_t i = 1; i <= 70; i++) {
            d.push_back(i);
        }
        d.insert(d.end(), {128, 384, 1000});
        return d;
    }();
    return all;
}

} // namespace
