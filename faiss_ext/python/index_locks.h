/*
 * The locks of one index of Python, which work on in a forked child.
 *
 * fork() copies locks as they are, and the threads that hold them stay behind:
 * a child makes new ones. What another thread was changing at that moment
 * stays half changed for ever, so Python's fork waits for changes first,
 * but not for long ones: of these the child is told.
 *
 * Any number of threads read; one at a time changes; readers that come while a
 * writer waits queue up behind it. Waiting threads honour Ctrl-C.
 */

#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>

namespace faiss_ext::python {

class IndexLocks {
    /// As one process sees them.
    struct Locks {
        /// held while a writer waits and works, and by readers that come in
        std::timed_mutex gate;
        std::shared_timed_mutex mutex;
        /// thread that changes the index, or 0
        std::atomic<uint64_t> changing{0};
        std::atomic<unsigned> forks{0};
        /// when this process was forked, another thread was changing
        bool half_changed = false;
        /// the parent's; kept for who holds them still
        std::unique_ptr<Locks> parent;
    };

 public:
    IndexLocks();
    ~IndexLocks();
    IndexLocks(const IndexLocks&) = delete;
    IndexLocks& operator=(const IndexLocks&) = delete;

    class ReadScope {
     public:
        explicit ReadScope(const IndexLocks& locks);

     private:
        std::shared_lock<std::shared_timed_mutex> lock_;
    };

    class ChangeScope {
     public:
        explicit ChangeScope(IndexLocks& locks);
        ~ChangeScope();
        ChangeScope(const ChangeScope&) = delete;
        ChangeScope& operator=(const ChangeScope&) = delete;

     private:
        Locks& locks_;
        std::unique_lock<std::timed_mutex> gate_;
        std::unique_lock<std::shared_timed_mutex> lock_;
    };

    /** A progress callback may not use the index that is being changed: the
     * lock would wait for itself.
     * @throws std::runtime_error  in such a callback */
    void refuse_reentry() const;

 private:
    /// @throws std::runtime_error  of a half changed index
    Locks& here() const;

    mutable std::atomic<Locks*> locks_;
};

/** Has Python's fork wait for changes of other threads, at most 5 seconds, and
 * new ones for the fork. Once, at import. */
void install_fork_hooks();

} // namespace faiss_ext::python
