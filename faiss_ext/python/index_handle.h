/*
 * What Python's Index holds: a Faiss index, perhaps of several layers, and its
 * locks, since without the GIL nothing else orders the calls of Python threads.
 *
 * Any number of threads read (search, write to a file); one at a time changes
 * (train, add, remove). Waiting threads hold no GIL. A concurrent index has
 * versions, which see() reads without waiting for a change.
 */

#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include <faiss/Index.h>
#include <faiss/IndexIVF.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/versioned_scann.h>

#include "call_guard.h"
#include "index_locks.h"

namespace faiss_ext::python {

class IndexHandle {
 public:
    /// Takes ownership. @param index  not nullptr
    explicit IndexHandle(std::unique_ptr<faiss::Index> index);

    /// That which changes; its figures that changes alter are those of seen().
    faiss::Index* index() const {
        return index_;
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

    bool concurrent() const {
        return versions_.load() != nullptr;
    }
    /// From now on searches do not wait for changes. Has no effect twice.
    /// @throws ValueError  if this is no trained ScaNN index by itself
    void make_concurrent();
    /// What searches see at present: a version, or the index itself.
    std::shared_ptr<const faiss::Index> seen() const;

    /// Calls work(index) with what is seen(), without the GIL; while no other
    /// thread changes the index, unless it is concurrent.
    template <class Work>
    auto see(ErrorOrigin origin, Work&& work) const {
        return without_gil(origin, [&] {
            if (concurrent()) {
                locks_.refuse_half_changed();
                return work(*seen());
            }
            locks_.refuse_reentry();
            IndexLocks::ReadScope scope(locks_);
            return work(*std::as_const(index_));
        });
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

    /// Calls work() while no other thread uses the index, without the GIL. Of a
    /// concurrent index: while no other thread changes it.
    /// @throws std::runtime_error  if it is concurrent and being changed
    template <class Work>
    auto change(ErrorOrigin origin, Work&& work) {
        return without_gil(origin, [&] {
            locks_.refuse_reentry();
            IndexLocks::ChangeScope scope(locks_, concurrent());
            return changed(work);
        });
    }
    /// The same for a setting of searches, which waits for other changes, and has
    /// no need of locks without versions.
    template <class Work>
    void set(Work&& work) {
        if (!concurrent()) {
            work();
            return;
        }
        without_gil(ErrorOrigin::Caller, [&] {
            locks_.refuse_reentry();
            IndexLocks::ChangeScope scope(locks_, false);
            changed(work);
        });
    }
    ScaNNMaintenance maintain(size_t rows, double seconds);

    /// Same for two indexes; `other` may not be this one.
    template <class Work>
    auto change_both(IndexHandle& other, ErrorOrigin origin, Work&& work) {
        return without_gil(origin, [&] {
            locks_.refuse_reentry();
            other.locks_.refuse_reentry();
            bool this_first = std::less<>()(this, &other);
            IndexLocks::ChangeScope first(
                    (this_first ? *this : other).locks_, false);
            IndexLocks::ChangeScope second(
                    (this_first ? other : *this).locks_, false);
            return changed([&] { return other.changed(work); });
        });
    }

 private:
    /// Calls work(), which changes the index; its end makes a version.
    template <class Work>
    auto changed(Work&& work) {
        VersionedScaNN* versions = versions_.load();
        if (versions == nullptr) {
            return work();
        }
        using Result = decltype(work());
        if constexpr (std::is_void_v<Result>) {
            versions->change([&](IndexIVFScaNN&) { work(); });
        } else {
            std::optional<Result> result;
            versions->change([&](IndexIVFScaNN&) { result.emplace(work()); });
            return *std::move(result);
        }
    }

    std::unique_ptr<faiss::Index> owned_; ///< unless there are versions
    std::unique_ptr<VersionedScaNN> versions_owned_;
    std::atomic<VersionedScaNN*> versions_{nullptr};
    faiss::Index* index_;
    IndexIVFScaNN* scann_ = nullptr;
    faiss::IndexIVF* ivf_ = nullptr;
    std::atomic<bool> verbose_{false};
    IndexLocks locks_;
};

} // namespace faiss_ext::python
