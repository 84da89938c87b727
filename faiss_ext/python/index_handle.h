/*
 * What Python's Index holds: a Faiss index, perhaps of several layers, and its
 * locks, since without the GIL nothing else orders the calls of Python threads.
 *
 * Any number of threads read (search, write to a file); one at a time changes
 * (train, add, remove). Waiting threads hold no GIL.
 */

#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <utility>

#include <faiss/Index.h>
#include <faiss/IndexIVF.h>

#include <faiss_ext/IndexIVFScaNN.h>

#include "call_guard.h"
#include "index_locks.h"

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

    /// Training and adding draw a progress bar; nothing of the index itself.
    bool verbose() const {
        return verbose_;
    }
    void set_verbose(bool on) {
        verbose_ = on;
    }

    /// Calls work() while no other thread changes the index, without the GIL.
    template <class Work>
    auto read(ErrorOrigin origin, Work&& work) const {
        return without_gil(origin, [&] {
            locks_.refuse_reentry();
            IndexLocks::ReadScope scope(locks_);
            return work();
        });
    }

    /// Calls work() while no other thread uses the index, without the GIL.
    template <class Work>
    auto change(ErrorOrigin origin, Work&& work) {
        return without_gil(origin, [&] {
            locks_.refuse_reentry();
            IndexLocks::ChangeScope scope(locks_);
            return work();
        });
    }

    /// Same for two indexes; `other` may not be this one.
    template <class Work>
    auto change_both(IndexHandle& other, ErrorOrigin origin, Work&& work) {
        return without_gil(origin, [&] {
            locks_.refuse_reentry();
            other.locks_.refuse_reentry();
            bool this_first = std::less<>()(this, &other);
            IndexLocks::ChangeScope first((this_first ? *this : other).locks_);
            IndexLocks::ChangeScope second((this_first ? other : *this).locks_);
            return work();
        });
    }

 private:
    std::unique_ptr<faiss::Index> index_;
    IndexIVFScaNN* scann_ = nullptr;
    faiss::IndexIVF* ivf_ = nullptr;
    std::atomic<bool> verbose_{false};
    IndexLocks locks_;
};

} // namespace faiss_ext::python
