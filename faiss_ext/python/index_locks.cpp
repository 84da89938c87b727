#include "index_locks.h"

#include <chrono>
#include <stdexcept>
#include <thread>

#include <pthread.h>

#include "call_guard.h"

namespace faiss_ext::python {

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kLongestWait = std::chrono::seconds(5);
constexpr auto kPause = std::chrono::milliseconds(1);

/// A number of this thread, never 0. Unlike the system's thread ids, none is
/// used twice, not even in a child.
uint64_t this_thread() {
    static std::atomic<uint64_t> last{0};
    thread_local const uint64_t number = ++last;
    return number;
}

std::atomic<uint64_t> forked_by{0};  ///< thread that forked this process
std::atomic<int> changes{0};         ///< in progress
std::atomic<int> forks_that_wait{0}; ///< for changes to end
thread_local int changes_here = 0;   ///< in progress in this thread

/// In the child, whose only thread this is.
void in_child() {
    forked_by = this_thread();
    forks_that_wait = 0;
    changes = changes_here;
}

[[maybe_unused]] const int at_fork = pthread_atfork(nullptr, nullptr, in_child);

template <class Lock>
void wait_for(Lock& lock) {
    if (lock.try_lock()) {
        return;
    }
    while (!lock.try_lock_for(std::chrono::milliseconds(100))) {
        check_signals();
    }
}

/// Counts a change, unless a fork waits.
bool begin_change() {
    changes++;
    if (forks_that_wait == 0 || changes_here > 0) {
        changes_here++;
        return true;
    }
    changes--;
    return false;
}

void end_change() {
    changes--;
    changes_here--;
}

} // namespace

IndexLocks::Locks& IndexLocks::here() const {
    Locks& here = locks_.here(
            // a thread that forks while it changes the index continues in the
            // child
            [](const Locks& parents) { return parents.changing == forked_by; },
            [](const Locks& parents, Locks& fresh) {
                fresh.half_changed =
                        parents.half_changed || parents.changing != 0;
            });
    if (here.half_changed) {
        throw std::runtime_error(
                "another thread was changing the index when this process was "
                "forked: here it is half changed; make or read it anew");
    }
    return here;
}

void IndexLocks::refuse_reentry() const {
    if (here().changing == this_thread()) {
        throw std::runtime_error(
                "the index is being changed by the call that runs this "
                "callback; use it when that call has returned");
    }
}

IndexLocks::ReadScope::ReadScope(const IndexLocks& locks) {
    Locks& here = locks.here();
    std::unique_lock gate(here.gate, std::defer_lock);
    wait_for(gate);
    lock_ = std::shared_lock(here.mutex, std::defer_lock);
    wait_for(lock_);
}

IndexLocks::ChangeScope::ChangeScope(IndexLocks& locks, bool refuses)
        : locks_(locks.here()),
          gate_(locks_.gate, std::defer_lock),
          lock_(locks_.mutex, std::defer_lock) {
    if (refuses && locks_.changing != 0) {
        throw std::runtime_error(
                "another thread changes the index (allowed of a concurrent "
                "index: one at a time)");
    }
    while (true) {
        wait_for(gate_);
        wait_for(lock_);
        if (begin_change()) {
            break;
        }
        lock_.unlock();
        gate_.unlock();
        std::this_thread::sleep_for(kPause);
        check_signals();
    }
    locks_.changing = this_thread();
}

IndexLocks::ChangeScope::~ChangeScope() {
    locks_.changing = 0;
    end_change();
}

CountedChange::CountedChange() {
    while (!begin_change()) {
        std::this_thread::sleep_for(kPause);
        check_signals();
    }
}

CountedChange::~CountedChange() {
    end_change();
}

namespace {

void wait_for_changes() {
    py::gil_scoped_release release; // changes may need it
    forks_that_wait++;
    const auto end = Clock::now() + kLongestWait;
    // not in a callback of a change: it would wait for itself
    while (changes_here == 0 && changes > 0 && Clock::now() < end) {
        std::this_thread::sleep_for(kPause);
    }
}

void end_wait_for_changes() {
    forks_that_wait--;
}

} // namespace

void install_fork_hooks() {
    // the child forgets both counts (in_child)
    py::module_::import("os").attr("register_at_fork")(
            py::arg("before") = py::cpp_function(wait_for_changes),
            py::arg("after_in_parent") =
                    py::cpp_function(end_wait_for_changes));
}

} // namespace faiss_ext::python
