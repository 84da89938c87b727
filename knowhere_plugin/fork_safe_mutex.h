/*
 * Mutexes that a forked child finds free.
 *
 * fork() copies a mutex as it is, and the threads that hold it stay behind in
 * the parent: the child would wait for ever. Here it gets a new mutex. What
 * such a thread was changing is half changed in the child; who guards more than
 * one pointer by such a mutex must know (FaissNode::changing_).
 */

#pragma once

#include <atomic>
#include <memory>

namespace knowhere_plugin {

/// Forks between the process that loaded this library and this one.
unsigned forks_since_load();

template <class Mutex>
class ForkSafeMutex {
 public:
    ForkSafeMutex() : copy_(new Copy) {}
    ~ForkSafeMutex() {
        delete copy_.load();
    }
    ForkSafeMutex(const ForkSafeMutex&) = delete;
    ForkSafeMutex& operator=(const ForkSafeMutex&) = delete;

    /// This process's mutex, valid as long as this object.
    Mutex& here() const {
        Copy* now = copy_.load(std::memory_order_acquire);
        while (now->forks != forks_since_load()) {
            auto fresh = std::make_unique<Copy>();
            fresh->parent = now;
            if (copy_.compare_exchange_strong(now, fresh.get())) {
                now = fresh.release();
            } else { // another thread was first
                fresh->parent = nullptr;
            }
        }
        return now->mutex;
    }

 private:
    struct Copy {
        ~Copy() {
            delete parent;
        }

        const unsigned forks = forks_since_load();
        Mutex mutex;
        Copy* parent = nullptr; ///< for who holds it across the fork
    };
    mutable std::atomic<Copy*> copy_;
};

} // namespace knowhere_plugin
