/* A pointer that one thread replaces while others read it. */

#pragma once

#include <atomic>
#include <memory>
#include <thread>
#include <utility>

namespace faiss_ext {

/** Holds a shared_ptr. Readers are wait-free: they copy it in a few atomic
 * operations, whatever the writer does. The writer may wait for readers that
 * are copying.
 *
 * Left-Right (P. Ramalhete, A. Correia, 2013): the pointer is there twice.
 * Readers use the one, announced in one of two counters; the writer changes the
 * other, sends new readers there, and waits for those that may still use the
 * first one. Not std::atomic<std::shared_ptr>: it is a spinlock, and that of
 * GCC 12 is a data race (its readers unlock without release).
 */
template <class T>
class SharedSlot {
 public:
    std::shared_ptr<T> load() const {
        const int counter = counter_;
        readers_[counter]++;
        std::shared_ptr<T> copy = values_[side_];
        readers_[counter]--;
        return copy;
    }

    /// The value, while nobody stores another: in a child of fork(), which may
    /// have been made in the middle of a call.
    const std::shared_ptr<T>& whole() const {
        return values_[side_];
    }

    /// One thread at a time.
    void store(std::shared_ptr<T> value) noexcept {
        const int old_side = side_;
        values_[1 - old_side] = value;
        side_ = 1 - old_side;
        const int old_counter = counter_;
        wait_for_readers(1 - old_counter);
        counter_ = 1 - old_counter;
        wait_for_readers(old_counter);
        values_[old_side] = std::move(value);
    }

 private:
    void wait_for_readers(int counter) const {
        while (readers_[counter] != 0) {
            std::this_thread::yield();
        }
    }

    std::shared_ptr<T> values_[2];
    std::atomic<int> side_{0};    ///< that readers use
    std::atomic<int> counter_{0}; ///< that readers announce themselves in
    mutable std::atomic<int> readers_[2]{};
};

} // namespace faiss_ext
