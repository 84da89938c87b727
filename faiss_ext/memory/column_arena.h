/*
 * One piece of memory for the columns of many lists.
 *
 * Why: a query reads a few KB of each of dozens of lists, and single rows of
 * others. On the 4-KB pages of a heap nearly each of these is a TLB miss; with
 * 2-MB pages a query of wordnet-384, glove-50 or sift-128 takes 6 to 9 % less
 * (bench/stages with and without GLIBC_TUNABLES=glibc.malloc.hugetlb=1, which
 * does the same to all of malloc), and the lists have no gaps between them.
 */

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace faiss_ext {

class ColumnArena {
 public:
    /// Zeroed memory, aligned to 64 bytes, not touched before it is written.
    /// @throws std::bad_alloc
    explicit ColumnArena(size_t bytes);
    ColumnArena(const ColumnArena&) = delete;
    ColumnArena& operator=(const ColumnArena&) = delete;
    ~ColumnArena();

    uint8_t* data() {
        return data_;
    }
    /// Bytes held, without those given back.
    size_t memory_usage() const {
        return size_ - given_back_;
    }
    /// The piece [p, p + n) will not be used any more: its whole pages go back
    /// to the system. Each piece once; from any thread.
    void give_back(const void* p, size_t n);

 private:
    uint8_t* data_ = nullptr; ///< inside the mapping, at a multiple of 2 MB
    size_t size_ = 0;
    std::atomic<size_t> given_back_ = 0;
    void* mapping_ = nullptr;
    size_t mapped_bytes_ = 0;
};

} // namespace faiss_ext
