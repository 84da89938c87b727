/*
 * Calls of the nodes of knowhere_plugin/: what Python's classes hold, and the
 * conversion of arguments and results.
 *
 * In: arrays and keyword arguments. Out: a node's results as arrays; its Status
 * as a Python exception. Next: knowhere_bindings.cpp.
 */

#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include <pybind11/numpy.h>

#include <faiss_ext/memory/per_process.h>
#include <knowhere_plugin/index_factory.h>

#include "call_guard.h"
#include "constructed.h"
#include "index_locks.h"
#include "row_arguments.h"

namespace faiss_ext::python {

namespace kn = knowhere_plugin;

/// What Python's IndexNode holds.
class NodeHandle {
 public:
    explicit NodeHandle(kn::NodePtr node) : node(std::move(node)) {}

    const kn::NodePtr node;
};

/// What Python's RowIterator holds: rows of one query, nearest first.
class NodeRows {
 public:
    NodeRows(kn::NodePtr node, std::unique_ptr<kn::Iterator> rows)
            : node_(std::move(node)), rows_(std::move(rows)) {}

    /// One thread at a time: a node's iterator belongs to one.
    kn::Status next(std::pair<int64_t, float>* row, bool* found) {
        std::lock_guard lock(mutex_.here());
        auto more = rows_->HasNext();
        *found = more.ok() && more.value();
        if (!*found) {
            return more.status();
        }
        auto next = rows_->Next();
        if (next.ok()) {
            *row = next.value();
        }
        return next.status();
    }

 private:
    kn::NodePtr node_; ///< outlives the iterator
    std::unique_ptr<kn::Iterator> rows_;
    PerProcess<std::mutex> mutex_;
};

/// Python's IndexFactory: the one factory of this module.
struct FactoryHandle {
    kn::IndexFactory& factory = kn::IndexFactory::Instance();
};

// ------------------------------------------------------------------- calls

/// A failed status, or an interrupt, as a Python exception. Needs the GIL.
void raise_unless_ok(const kn::Status& status);

/// work() -> Status, without the GIL: nodes have locks, and a call that holds
/// one may want the GIL to look for signals.
template <class Work>
void run(Work&& work) {
    raise_unless_ok(without_gil(
            ErrorOrigin::Caller, [&]() -> kn::Status { return work(); }));
}

/// The same for what changes a node: Python's fork waits for it. OpenBLAS, in
/// which training may be, is not safe to fork either.
template <class Work>
void run_change(Work&& work) {
    run([&] {
        CountedChange change;
        return work();
    });
}

/// work() -> Expected<T>
template <class T, class Work>
T run_for(Work&& work) {
    std::optional<T> value;
    run([&] {
        kn::Expected<T> made = work();
        if (made.ok()) {
            value.emplace(std::move(made.value()));
        }
        return made.status();
    });
    return std::move(*value);
}

/// work() -> a property of a node
template <class Work>
auto property_of(Work&& work) {
    return without_gil(ErrorOrigin::Caller, std::forward<Work>(work));
}

/// Values as str() spells them, which the schema parses; None: not given.
kn::Config config_of(const py::kwargs& parameters);

kn::DataSet data_of(const Rows& rows);

/// IndexNode.search() and so on.
py::tuple search_node(
        const NodeHandle& self,
        py::handle queries,
        py::handle filtered,
        const py::kwargs& parameters);
py::tuple range_search_node(
        const NodeHandle& self,
        py::handle queries,
        py::handle filtered,
        const py::kwargs& parameters);
py::list iterate_node(
        const NodeHandle& self,
        py::handle queries,
        py::handle filtered,
        const py::kwargs& parameters);
py::tuple next_row(NodeRows& self);
py::array_t<float> get_vectors(const NodeHandle& self, py::handle ids);

} // namespace faiss_ext::python
