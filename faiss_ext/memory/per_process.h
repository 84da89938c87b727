/*
 * Objects that each process has for itself, such as mutexes.
 *
 * fork() copies a mutex as it is, and the threads that hold it stay behind in
 * the parent: the child would wait for ever. Here the child gets a new one. What
 * such a thread was changing is half changed in the child; who guards more than
 * one pointer by such a mutex must know.
 */

#pragma once

#include <atomic>
#include <memory>

namespace faiss_ext {

/// Forks between the process that loaded this library and this one.
unsigned forks_since_load();

template <class T>
class PerProcess {
 public:
    PerProcess() : copy_(new Copy) {}
    ~PerProcess() {
        delete copy_.load();
    }
    PerProcess(const PerProcess&) = delete;
    PerProcess& operator=(const PerProcess&) = delete;

    /** The T of this process, valid as long as this object. Where that is the
     * parent's still, it is replaced first.
     * @param keeps   called with (parent's): whether it serves on instead
     * @param inherit called with (parent's, new one) before others see it */
    template <class Keeps, class Inherit>
    T& here(Keeps&& keeps, Inherit&& inherit) const {
        Copy* now = copy_.load(std::memory_order_acquire);
        while (now->forks != forks_since_load()) {
            if (keeps(now->value)) {
                now->forks = forks_since_load();
                break;
            }
            auto fresh = std::make_unique<Copy>();
            inherit(now->value, fresh->value);
            fresh->parent.reset(now);
            if (copy_.compare_exchange_strong(now, fresh.get())) {
                now = fresh.release();
            } else { // another thread was first
                (void)fresh->parent.release();
            }
        }
        return now->value;
    }
    T& here() const {
        return here([](const T&) { return false; }, [](const T&, T&) {});
    }

 private:
    struct Copy {
        T value;
        std::atomic<unsigned> forks{forks_since_load()};
        std::unique_ptr<Copy> parent; ///< a thread that forked may use it still
    };
    mutable std::atomic<Copy*> copy_;
};

} // namespace faiss_ext
