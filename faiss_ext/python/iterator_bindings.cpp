/* Index.iterate() and what it returns. */

#include <algorithm>
#include <string>
#include <utility>

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "array_arguments.h"
#include "bindings.h"
#include "docstrings.h"
#include "search_iterator.h"

namespace faiss_ext::python {

SearchIterator::SearchIterator(
        const IndexHandle& index,
        SearchArguments arguments,
        int64_t batch,
        const py::object& stats)
        : index_(index),
          owner_(py::cast(&index, py::return_value_policy::reference)),
          arguments_(std::move(arguments)),
          stats_(stats) {
    if (!stats_.is_none()) {
        arguments_.params.stats = &arguments_.counted;
    }
    std::vector<float> storage;
    const float* x = arguments_.queries.floats(0, 1, storage);
    version_ = index_.concurrent() ? index_.seen() : nullptr;
    index_.see(ErrorOrigin::Caller, [&](const faiss::Index& seen) {
        const faiss::Index& kept = version_ ? *version_ : seen;
        // arrays of more rows than there are would only fill memory
        batch_ = std::min(batch, std::max<int64_t>(kept.ntotal, 1));
        pieces_ = iterate(&kept, x, batch_, arguments_.params);
    });
}

py::tuple SearchIterator::next() {
    py::array_t<float> distances(batch_);
    py::array_t<int64_t> labels(batch_);
    float* to = distances.mutable_data();
    int64_t* labels_to = labels.mutable_data();
    ScaNNSearchStats counted;
    const int64_t n = index_.see(ErrorOrigin::Caller, [&](const auto&) {
        std::lock_guard lock(mutex_.here());
        const size_t found = pieces_.next(to, labels_to);
        counted = std::exchange(arguments_.counted, {});
        return int64_t(found);
    });
    if (!stats_.is_none()) {
        stats_.cast<ScaNNSearchStats&>() += counted;
    }
    if (n == 0) {
        throw py::stop_iteration();
    }
    if (n < batch_) {
        distances.resize({n});
        labels.resize({n});
    }
    return py::make_tuple(distances, labels);
}

namespace {

std::shared_ptr<SearchIterator> iterate_index(
        const IndexHandle& self,
        py::handle x,
        int64_t batch,
        const py::object& params,
        Option nprobe,
        Option reorder_k,
        Option refine_k,
        const py::object& filter,
        ScaNNSearchStats* stats) {
    SearchArguments arguments = search_arguments(
            self,
            x,
            {.params = params,
             .nprobe = nprobe,
             .reorder_k = reorder_k,
             .refine_k = refine_k,
             .filter = filter});
    checked_integer("batch", batch, 1);
    if (arguments.queries.n != 1) {
        throw py::value_error(
                "x has " + std::to_string(arguments.queries.n) +
                " rows (allowed: 1, the query)");
    }
    return std::make_shared<SearchIterator>(
            self,
            std::move(arguments),
            batch,
            py::cast(stats, py::return_value_policy::reference));
}

} // namespace

void bind_search_iterator(py::module_& module, IndexClass& index) {
    using py::arg;
    py::object none = py::none();
    py::class_<SearchIterator, std::shared_ptr<SearchIterator>>(
            module, "SearchIterator", doc::search_iterator)
            .def("__iter__",
                 [](py::object self) {
                     (void)self.cast<SearchIterator&>();
                     return self;
                 })
            .def("__next__", &SearchIterator::next)
            .def("__repr__",
                 [](const SearchIterator&) {
                     return "<faiss_ext.SearchIterator>";
                 })
            .def("__reduce__", refuse_pickle);
    index.def(
            "iterate",
            iterate_index,
            arg("x"),
            arg("batch") = 100,
            arg("params") = none,
            py::kw_only(),
            arg("nprobe") = none,
            arg("reorder_k") = none,
            arg("refine_k") = none,
            arg("filter") = none,
            arg("stats") = none,
            doc::iterate);
}

} // namespace faiss_ext::python
