/* Index: searching and reading back what is stored. */

#include <optional>
#include <string>
#include <vector>

#include <pybind11/stl.h>

#include <faiss/impl/AuxIndexStructures.h>

#include "array_arguments.h"
#include "bindings.h"
#include "docstrings.h"
#include "search_arguments.h"
#include "search_results.h"
#include "wrapped_index.h"

namespace faiss_ext::python {

namespace {

py::tuple search_any(
        const IndexHandle& self,
        SearchArguments& arguments,
        int64_t k,
        bool with_rows,
        const Outputs& outputs,
        ScaNNSearchStats* stats) {
    return nearest_results(
            self,
            arguments,
            k,
            with_rows,
            outputs,
            stats,
            [&](const faiss::Index& index,
                int64_t begin,
                int64_t count,
                const ResultPointers& out) {
                std::vector<float> storage;
                search(&index,
                       count,
                       arguments.queries.floats(begin, count, storage),
                       k,
                       out.distances,
                       out.labels,
                       out.rows,
                       arguments.params);
            });
}

py::tuple search_k(
        const IndexHandle& self,
        py::handle x,
        int64_t k,
        const py::object& params,
        const py::object& D,
        const py::object& I,
        Option nprobe,
        Option reorder_k,
        Option refine_k,
        Option max_codes,
        const py::object& filter,
        ScaNNSearchStats* stats,
        std::optional<double> target_recall,
        bool return_recall,
        Option max_per_group,
        Option groups) {
    SearchArguments arguments = search_arguments(
            self,
            x,
            {params,
             nprobe,
             reorder_k,
             refine_k,
             max_codes,
             filter,
             target_recall,
             max_per_group,
             groups});
    if (!return_recall) {
        return search_any(self, arguments, k, false, {D, I}, stats);
    }
    need_scann(self, "return_recall");
    ScaNNSearchStats counted;
    const py::tuple found =
            search_any(self, arguments, k, false, {D, I}, &counted);
    if (stats != nullptr) {
        *stats += counted;
    }
    return py::make_tuple(found[0], found[1], counted.expected_recall());
}

py::tuple search_rows(
        const IndexHandle& self,
        py::handle x,
        int64_t k,
        const py::object& params,
        const py::object& D,
        const py::object& I,
        const py::object& R,
        Option nprobe,
        Option reorder_k,
        Option refine_k,
        Option max_codes,
        const py::object& filter,
        std::optional<double> target_recall,
        Option max_per_group,
        Option groups) {
    SearchArguments arguments = search_arguments(
            self,
            x,
            {params,
             nprobe,
             reorder_k,
             refine_k,
             max_codes,
             filter,
             target_recall,
             max_per_group,
             groups});
    return search_any(self, arguments, k, true, {D, I, R}, nullptr);
}

py::tuple search_range(
        const IndexHandle& self,
        py::handle x,
        double radius,
        const py::object& params,
        Option nprobe,
        const py::object& filter,
        ScaNNSearchStats* stats) {
    SearchArguments arguments = search_arguments(
            self, x, {.params = params, .nprobe = nprobe, .filter = filter});
    check_radius(radius);
    return range_results(
            self,
            arguments,
            stats,
            [&](const faiss::Index& index,
                int64_t begin,
                int64_t count,
                faiss::RangeSearchResult* out) {
                std::vector<float> storage;
                range_search(
                        &index,
                        count,
                        arguments.queries.floats(begin, count, storage),
                        float(radius),
                        out,
                        arguments.params);
            });
}

py::array_t<float> reconstruct_one(IndexHandle& self, int64_t id) {
    bool mapped = self.read(
            ErrorOrigin::Caller, [&] { return has_direct_map(self.index()); });
    if (!mapped) {
        self.change(ErrorOrigin::Caller, [&] {
            set_direct_map_type(*self.ivf(), faiss::DirectMap::Hashtable);
        });
    }
    py::array_t<float> x(int64_t(self.index()->d));
    float* out = x.mutable_data();
    self.read(ErrorOrigin::Caller, [&] {
        reconstruct(self.index(), 1, &id, out);
    });
    return x;
}

py::array_t<float> reconstruct_ids(const IndexHandle& self, const Ids& ids) {
    py::array_t<float> x({ids.n, int64_t(self.index()->d)});
    if (ids.n == 0) {
        return x;
    }
    float* out = x.mutable_data();
    self.read(ErrorOrigin::Caller, [&] {
        reconstruct(self.index(), ids.n, ids.data, out);
    });
    return x;
}

py::object assign(const IndexHandle& self, py::handle x, int64_t k) {
    SearchArguments arguments = search_arguments(self, x, {});
    return search_any(self, arguments, k, false, {}, nullptr)[1];
}

py::array_t<float> reconstruct_batch(const IndexHandle& self, py::handle ids) {
    return reconstruct_ids(self, ids_argument("ids", ids));
}

py::array_t<float>
reconstruct_n(const IndexHandle& self, int64_t i0, int64_t n) {
    int64_t ntotal = self.seen()->ntotal;
    checked_integer("i0", i0, 0, n < 0 ? ntotal : INT64_MAX - ntotal);
    if (n < 0) {
        n = ntotal - i0; // as faiss.Index.reconstruct_n
    }
    checked_integer("n", n, 0, ntotal);
    py::array_t<int64_t> ids(n);
    int64_t* values = ids.mutable_data();
    for (int64_t i = 0; i < n; i++) {
        values[i] = i0 + i;
    }
    return reconstruct_ids(self, {ids, values, n});
}

} // namespace

void bind_search(IndexClass& index) {
    using py::arg;
    py::object none = py::none();
    index.def("search",
              search_k,
              arg("x"),
              arg("k"),
              arg("params") = none,
              arg("D") = none,
              arg("I") = none,
              py::kw_only(),
              arg("nprobe") = none,
              arg("reorder_k") = none,
              arg("refine_k") = none,
              arg("max_codes") = none,
              arg("filter") = none,
              arg("stats") = none,
              arg("target_recall") = none,
              arg("return_recall") = false,
              arg("max_per_group") = none,
              arg("groups") = none,
              doc::search)
            .def("search_and_reconstruct",
                 search_rows,
                 arg("x"),
                 arg("k"),
                 arg("params") = none,
                 arg("D") = none,
                 arg("I") = none,
                 arg("R") = none,
                 py::kw_only(),
                 arg("nprobe") = none,
                 arg("reorder_k") = none,
                 arg("refine_k") = none,
                 arg("max_codes") = none,
                 arg("filter") = none,
                 arg("target_recall") = none,
                 arg("max_per_group") = none,
                 arg("groups") = none,
                 doc::search_and_reconstruct)
            .def("range_search",
                 search_range,
                 arg("x"),
                 arg("radius"),
                 arg("params") = none,
                 py::kw_only(),
                 arg("nprobe") = none,
                 arg("filter") = none,
                 arg("stats") = none,
                 doc::range_search)
            .def("assign", assign, arg("x"), arg("k") = 1, doc::assign)
            .def("reconstruct", reconstruct_one, arg("id"), doc::reconstruct)
            .def("reconstruct_batch",
                 reconstruct_batch,
                 arg("ids"),
                 doc::reconstruct_batch)
            .def("reconstruct_n",
                 reconstruct_n,
                 arg("i0") = 0,
                 arg("n") = -1,
                 doc::reconstruct_n);
}

} // namespace faiss_ext::python
