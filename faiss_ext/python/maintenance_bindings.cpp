/* Index.maintain() and Index.health(). */

#include <string>

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings.h"
#include "docstrings.h"
#include "progress.h"

namespace faiss_ext::python {

namespace {

py::dict maintain(
        IndexHandle& self,
        int64_t rows,
        double seconds,
        const py::object& given_progress) {
    const py::object progress = progress_for(self, given_progress);
    IndexIVFScaNN& scann = need_scann(self, "maintain");
    if (rows < 0) {
        throw py::value_error(
                "rows is " + std::to_string(rows) +
                " (allowed: >= 0; 0: no bound)");
    }
    ProgressScope scope(&scann, progress);
    const ScaNNMaintenance done = self.maintain(size_t(rows), seconds);
    py::dict result;
    result["rows"] = done.rows;
    result["lists"] = done.lists;
    result["finished"] = done.finished;
    result["seconds"] = done.seconds;
    return result;
}

/// @param k  of the recall
ScaNNHealth measure(const IndexHandle& self, py::handle queries, int64_t k) {
    const auto measured = [&](int64_t n, const float* x) {
        return self.see(ErrorOrigin::Caller, [&](const faiss::Index& index) {
            return find_scann(&index)->health(n, x, k);
        });
    };
    if (queries.is_none()) {
        return measured(0, nullptr);
    }
    if (py::isinstance<py::int_>(queries)) {
        return measured(queries.cast<int64_t>(), nullptr);
    }
    need_plain_scann(
            self, "health", "a number of queries, or a ScaNN index by itself");
    const Rows rows = some_rows_for(self, "queries", queries);
    return measured(rows.n, rows.data);
}

py::dict health(const IndexHandle& self, py::handle queries, int64_t k) {
    need_scann(self, "health");
    const ScaNNHealth h = measure(self, queries, k);
    py::dict result;
    result["rows"] = h.rows;
    result["lists"] = h.lists;
    result["empty_lists"] = h.empty_lists;
    result["largest_list"] = h.largest_list;
    result["imbalance"] = h.imbalance;
    result["imbalance_at_fit"] = h.imbalance_at_fit;
    result["changed_rows"] = h.changed_rows;
    result["list_error"] = h.list_error;
    result["list_error_at_fit"] = h.list_error_at_fit;
    result["code_error"] = h.code_error;
    result["code_error_at_training"] = h.code_error_at_training;
    result["rows_apart"] = h.rows_apart;
    result["unused_bytes"] = h.unused_bytes;
    result["pending_lists"] = h.pending_lists;
    result["recall"] = h.recall;
    result["recall_k"] = h.recall_k;
    result["advice"] = h.advice;
    return result;
}

} // namespace

void bind_maintenance(IndexClass& index) {
    using py::arg;
    index.def("maintain",
              maintain,
              arg("rows") = 0,
              arg("seconds") = 0.0,
              arg("progress") = py::none(),
              doc::maintain)
            .def("health",
                 health,
                 arg("queries") = py::none(),
                 arg("k") = 10,
                 doc::health);
}

} // namespace faiss_ext::python
