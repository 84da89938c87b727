/*
 * What Python's Index holds: a Faiss index, perhaps of several layers, and a
 * lock, since without the GIL nothing else orders the calls of Python threads.
 *
 * Any number of threads read (search, write to a file); one at a time changes
 * (train, add, remove); readers that come while a writer waits queue up
 * behind it. Waiting threads hold no GIL and honour Ctrl-C.
 */

#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>
#include <thread>
#include <utility>

#include <faiss/Index.h>
#include <faiss/IndexIVF.h>

#include <faiss_ext/IndexIVFScaNN.h>

#include "call_guard.h"

namespace faiss_ext::python {

class IndexHandle {
 public:
    /// Takes ownership. @param index  not nullptr
    explicit IndexHandle(std::unique_ptr<faiss::Index> index);

    faiss::Index* index() const {
        return index_.get();
    }
    /// The ScaNN index inside, or nullptr.
    IndexIVFScaNN* scann() const {
        return scann_;
    }
    /// The IVF index inside (the same object if there is a ScaNN index), or
    /// nullptr.
    faiss::IndexIVF* ivf() const {
        return ivf_;
    }

    /// Calls work() while nobody changes the index, without the GIL.
    template <class Work>
    auto read(Blame blame, Work&& work) const {
        return without_gil(blame, [&] {
            refuse_reentry();
            std::unique_lock gate(gate_, std::defer_lock);
            wait_for(gate);
            std::shared_lock lock(mutex_, std::defer_lock);
            wait_for(lock);
            gate.unlock();
            return work();
        });
    }

    /// Calls work() while nobody else uses the index, without the GIL.
    template <class Work>
    auto change(Blame blame, Work&& work) {
        return without_gil(blame, [&] {
            refuse_reentry();
            ChangeScope scope(*this);
            return work();
        });
    }

    /// Same for two indexes; `other` may not be this one.
    template <class Work>
    auto change_both(IndexHandle& other, Blame blame, Work&& work) {
        return without_gil(blame, [&] {
            refuse_reentry();
            other.refuse_reentry();
            bool this_first = std::less<>()(this, &other);
            ChangeScope first(this_first ? *this : other);
            ChangeScope second(this_first ? other : *this);
            return work();
        });
    }

 private:
    struct ChangeScope {
        explicit ChangeScope(IndexHandle& handle)
                : handle(handle),
                  gate(handle.gate_, std::defer_lock),
                  lock(handle.mutex_, std::defer_lock) {
            wait_for(gate);
            wait_for(lock);
            handle.changing_ = std::this_thread::get_id();
        }
        ~ChangeScope() {
            handle.changing_ = std::thread::id();
        }
        IndexHandle& handle;
        std::unique_lock<std::timed_mutex> gate;
        std::unique_lock<std::shared_timed_mutex> lock;
    };

    template <class Lock>
    static void wait_for(Lock& lock) {
        if (lock.try_lock()) {
            return;
        }
        while (!lock.try_lock_for(std::chrono::milliseconds(100))) {
            check_signals();
        }
    }

    /// A progress callback may not use the index that is being changed: the
    /// lock would wait for itself.
    void refuse_reentry() const {
        if (changing_.load() == std::this_thread::get_id()) {
            throw std::runtime_error(
                    "the index is being changed by the call that runs this "
                    "callback; use it when that call has returned");
        }
    }

    std::unique_ptr<faiss::Index> index_;
    IndexIVFScaNN* scann_ = nullptr;
    faiss::IndexIVF* ivf_ = nullptr;
    /// held while a writer waits and works, and by readers that come in
    mutable std::timed_mutex gate_;
    mutable std::shared_timed_mutex mutex_;
    std::atomic<std::thread::id> changing_{};
};

} // namespace faiss_ext::python
