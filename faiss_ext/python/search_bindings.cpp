/* Index: searching and reading back what is stored. */

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include <pybind11/stl.h>

#include <faiss/impl/AuxIndexStructures.h>

#include "array_arguments.h"
#include "bindings.h"
#include "docstrings.h"
#include "wrapped_index.h"

namespace faiss_ext::python {

namespace {

using Option = std::optional<int64_t>;

/// k that any index takes, however few rows it has
constexpr int64_t kMaxMissing = 1 << 20;

/// The arguments of a search; all of them read under the GIL.
struct SearchArguments {
    Rows queries;
    std::shared_ptr<const Filter> filter;
    SearchParametersScaNN params;
    ScaNNSearchStats counted; ///< of this call alone
};

SearchArguments search_arguments(
        const IndexHandle& self,
        py::handle q,
        Option nprobe,
        Option reorder_k,
        Option refine_k,
        Option max_codes,
        py::handle filter) {
    const faiss::Index& index = *self.index();
    SearchArguments arguments{
            rows_for(self, "q", q),
            filter_argument(filter, index.ntotal),
            {},
            {}};
    if (!index.is_trained) {
        throw py::value_error(
                "the index is not trained: call train(x) and add(x) before "
                "searching");
    }
    SearchParametersScaNN& params = arguments.params;
    if (const faiss::IndexIVF* ivf = self.ivf()) {
        params.nprobe =
                nprobe ? checked_integer("nprobe", *nprobe, 1, ivf->nlist)
                       : size_t(ivf->nprobe);
        params.max_codes = ivf->max_codes;
    } else if (nprobe) {
        params.nprobe = checked_integer("nprobe", *nprobe, 1);
    }
    if (max_codes) {
        params.max_codes = checked_integer("max_codes", *max_codes, 0);
    }
    if (reorder_k) {
        params.reorder_k = checked_integer("reorder_k", *reorder_k, 0);
    }
    if (refine_k) {
        params.refine_k = checked_integer("refine_k", *refine_k, 0);
    }
    if (arguments.filter != nullptr) {
        params.sel = &arguments.filter->selector();
    }
    return arguments;
}

/// Under the GIL: calls of several threads may fill the same object.
void add_stats(ScaNNSearchStats* to, const ScaNNSearchStats& from) {
    if (to == nullptr) {
        return;
    }
    *to += from;
}

py::tuple search_any(
        const IndexHandle& self,
        SearchArguments& arguments,
        int64_t k,
        bool with_rows,
        ScaNNSearchStats* stats) {
    // far more than there are rows would fill memory with "no result"
    checked_integer(
            "k", k, 1, std::max<int64_t>(kMaxMissing, self.index()->ntotal));
    int64_t n = arguments.queries.n;
    int64_t d = self.index()->d;
    py::array_t<float> distances({n, k});
    py::array_t<int64_t> labels({n, k});
    std::optional<py::array_t<float>> rows;
    if (with_rows) {
        rows.emplace(std::vector<int64_t>{n, k, d});
    }
    float* out_distances = distances.mutable_data();
    int64_t* out_labels = labels.mutable_data();
    float* out_rows = with_rows ? rows->mutable_data() : nullptr;
    if (stats != nullptr) {
        arguments.params.stats = &arguments.counted;
    }
    self.read(ErrorOrigin::Caller, [&] {
        in_slices(n, [&](int64_t begin, int64_t count) {
            search(self.index(),
                   count,
                   arguments.queries.data + begin * d,
                   k,
                   out_distances + begin * k,
                   out_labels + begin * k,
                   with_rows ? out_rows + begin * k * d : nullptr,
                   arguments.params);
        });
    });
    add_stats(stats, arguments.counted);
    if (with_rows) {
        return py::make_tuple(distances, labels, *rows);
    }
    return py::make_tuple(distances, labels);
}

py::tuple search_k(
        const IndexHandle& self,
        py::handle q,
        int64_t k,
        Option nprobe,
        Option reorder_k,
        Option refine_k,
        Option max_codes,
        py::handle filter,
        ScaNNSearchStats* stats) {
    SearchArguments arguments = search_arguments(
            self, q, nprobe, reorder_k, refine_k, max_codes, filter);
    return search_any(self, arguments, k, false, stats);
}

py::tuple search_rows(
        const IndexHandle& self,
        py::handle q,
        int64_t k,
        Option nprobe,
        Option reorder_k,
        Option refine_k,
        Option max_codes,
        py::handle filter) {
    SearchArguments arguments = search_arguments(
            self, q, nprobe, reorder_k, refine_k, max_codes, filter);
    return search_any(self, arguments, k, true, nullptr);
}

py::tuple search_range(
        const IndexHandle& self,
        py::handle q,
        double radius,
        Option nprobe,
        py::handle filter,
        ScaNNSearchStats* stats) {
    SearchArguments arguments =
            search_arguments(self, q, nprobe, {}, {}, {}, filter);
    if (std::isnan(radius)) {
        throw py::value_error("radius = nan (allowed: any other number)");
    }
    if (stats != nullptr) {
        arguments.params.stats = &arguments.counted;
    }
    int64_t n = arguments.queries.n;
    int64_t d = self.index()->d;
    std::vector<int64_t> lims = {0};
    std::vector<std::unique_ptr<faiss::RangeSearchResult>> slices;
    self.read(ErrorOrigin::Caller, [&] {
        in_slices(n, [&](int64_t begin, int64_t count) {
            auto found = std::make_unique<faiss::RangeSearchResult>(count);
            range_search(
                    self.index(),
                    count,
                    arguments.queries.data + begin * d,
                    float(radius),
                    found.get(),
                    arguments.params);
            int64_t before = lims.back();
            for (int64_t i = 1; i <= count; i++) {
                lims.push_back(before + int64_t(found->lims[i]));
            }
            slices.push_back(std::move(found));
        });
    });
    add_stats(stats, arguments.counted);
    py::array_t<int64_t> out_lims(int64_t(lims.size()), lims.data());
    py::array_t<float> distances(lims.back());
    py::array_t<int64_t> labels(lims.back());
    float* next_distance = distances.mutable_data();
    int64_t* next_label = labels.mutable_data();
    for (auto& found : slices) {
        size_t count = found->lims[found->nq];
        next_distance = std::copy_n(found->distances, count, next_distance);
        next_label = std::copy_n(found->labels, count, next_label);
        found.reset();
    }
    return py::make_tuple(out_lims, distances, labels);
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
    float* out = x.mutable_data();
    self.read(ErrorOrigin::Caller, [&] {
        reconstruct(self.index(), ids.n, ids.data, out);
    });
    return x;
}

py::array_t<float> reconstruct_batch(const IndexHandle& self, py::handle ids) {
    return reconstruct_ids(self, ids_argument("ids", ids));
}

py::array_t<float>
reconstruct_n(const IndexHandle& self, int64_t i0, int64_t n) {
    int64_t ntotal = self.index()->ntotal;
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
              arg("q"),
              arg("k"),
              py::kw_only(),
              arg("nprobe") = none,
              arg("reorder_k") = none,
              arg("refine_k") = none,
              arg("max_codes") = none,
              arg("filter") = none,
              arg("stats") = none,
              doc::search)
            .def("search_and_reconstruct",
                 search_rows,
                 arg("q"),
                 arg("k"),
                 py::kw_only(),
                 arg("nprobe") = none,
                 arg("reorder_k") = none,
                 arg("refine_k") = none,
                 arg("max_codes") = none,
                 arg("filter") = none,
                 doc::search_and_reconstruct)
            .def("range_search",
                 search_range,
                 arg("q"),
                 arg("radius"),
                 py::kw_only(),
                 arg("nprobe") = none,
                 arg("filter") = none,
                 arg("stats") = none,
                 doc::range_search)
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
