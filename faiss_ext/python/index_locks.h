/*
 * The locks of one index of Python, which also work in a forked child.
 *
 * fork() copies locks in their present state, but not the threads that hold
 * them: so a child makes new ones. An index that another thread was changing
 * stays half changed in the child. Python's fork therefore waits for changes,
 * but not for long ones: after these, the child refuses to use the index.
 *
 * Any number of threads read; one at a time changes; readers that come while a
 * writer waits must wait for it. Ctrl-C interrupts waiting threads.
 */

#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <shared_mutex>

#include <faiss_ext/memory/per_process.h>

namespace faiss_ext::python {

class IndexLocks {
    /// Those of one process.
    struct Locks {
        /// held by a writer while it waits and works, and by readers that enter
        std::timed_mutex gate;
        std::shared_timed_mutex mutex;
        /// thread that changes the index, or 0
        std::atomic<uint64_t> changing{0};
        /// when this process was forked, another thread was changing
        bool half_changed = false;
    };

 public:
    class ReadScope {
     public:
        explicit ReadScope(const IndexLocks& locks);

     private:
        std::shared_lock<std::shared_timed_mutex> lock_;
    };

    class ChangeScope {
     public:
        /// @param refuses  not to wait while another thread changes
        /// @throws std::runtime_error  in that case
        ChangeScope(IndexLocks& locks, bool refuses);
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
    /// @throws std::runtime_error  in a child that has half of a change
    void refuse_half_changed() const {
        (void)here();
    }

 private:
    /// @throws std::runtime_error  if the index is half changed
    Locks& here() const;

    PerProcess<Locks> locks_;
};

/// A change that Python's fork waits for, of what has locks of its own (nodes).
/// Made without the GIL; waits for a fork that waits.
class CountedChange {
 public:
    CountedChange();
    ~CountedChange();
    CountedChange(const CountedChange&) = delete;
    CountedChange& operator=(const CountedChange&) = delete;
};

/** Makes Python's fork wait for changes of other threads, at most 5 seconds, and
 * lets new changes wait for the fork. Once, at import. */
void install_fork_hooks();

} // namespace faiss_ext::python
