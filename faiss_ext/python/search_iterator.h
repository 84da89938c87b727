/*
 * What Index.iterate() gives: the rows of one query, some at a time, with all
 * that the engine's iterator borrows.
 *
 * In: a query and parameters, as searches take them. Out: arrays for each piece.
 */

#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include <pybind11/pybind11.h>

#include <faiss_ext/memory/per_process.h>

#include "search_arguments.h"
#include "wrapped_index.h"

namespace faiss_ext::python {

class SearchIterator {
 public:
    /// @param arguments  of one query
    /// @param stats      None, or a SearchStats to be filled
    SearchIterator(
            const IndexHandle& index,
            SearchArguments arguments,
            int64_t batch,
            const py::object& stats);

    /// @return (D, I)
    /// @throws StopIteration  at the end
    py::tuple next();

 private:
    const IndexHandle& index_;
    py::object owner_; ///< of index_
    /// of a concurrent index: that in which the iterator goes on
    std::shared_ptr<const faiss::Index> version_;
    SearchArguments arguments_;
    py::object stats_;
    int64_t batch_;
    PiecesOfSearch pieces_;
    PerProcess<std::mutex> mutex_; ///< pieces_ is for one thread at a time
};

} // namespace faiss_ext::python
