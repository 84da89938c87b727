/* Index: its lists, their centroids, searches in given lists. */

#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/stl.h>

#include <faiss/utils/distances.h>

#include <faiss_ext/io/clone_quantizer.h>

#include "array_arguments.h"
#include "bindings.h"
#include "docstrings.h"
#include "search_results.h"
#include "wrapped_index.h"

namespace faiss_ext::python {

namespace {

using HandlePointer = std::shared_ptr<IndexHandle>;

/// The IVF index, which has lists.
const faiss::IndexIVF& need_lists(const IndexHandle& self, const char* what) {
    const faiss::IndexIVF& ivf = need_ivf(self, what);
    if (!ivf.is_trained || ivf.nlist == 0) {
        throw py::value_error(
                std::string(what) +
                ": the index is not trained and has no lists: call train(x)");
    }
    return ivf;
}

size_t list_number(const faiss::IndexIVF& ivf, int64_t list_no) {
    return checked_integer("list_no", list_no, 0, int64_t(ivf.nlist) - 1);
}

HandlePointer quantizer(const IndexHandle& self) {
    const faiss::IndexIVF& ivf = need_ivf(self, "quantizer");
    return self.read(ErrorOrigin::Caller, [&] {
        return std::make_shared<IndexHandle>(clone_quantizer(*ivf.quantizer));
    });
}

py::array_t<float> centroids(const IndexHandle& self) {
    const faiss::IndexIVF& ivf = need_lists(self, "centroids");
    py::array_t<float> rows({int64_t(ivf.nlist), int64_t(ivf.d)});
    float* out = rows.mutable_data();
    self.read(ErrorOrigin::Caller, [&] {
        ivf.quantizer->reconstruct_n(0, int64_t(ivf.nlist), out);
    });
    return rows;
}

size_t list_size(const IndexHandle& self, int64_t list_no) {
    const faiss::IndexIVF& ivf = need_lists(self, "get_list_size");
    const size_t list = list_number(ivf, list_no);
    return self.read(
            ErrorOrigin::Caller, [&] { return ivf.invlists->list_size(list); });
}

py::array_t<int64_t> ids_of_list(const IndexHandle& self, int64_t list_no) {
    const faiss::IndexIVF& ivf = need_lists(self, "list_ids");
    const size_t list = list_number(ivf, list_no);
    const std::vector<int64_t> ids = self.read(
            ErrorOrigin::Caller, [&] { return list_ids(self.index(), list); });
    return py::array_t<int64_t>(int64_t(ids.size()), ids.data());
}

py::array_t<uint8_t> codes_of_list(const IndexHandle& self, int64_t list_no) {
    const faiss::IndexIVF& ivf = need_lists(self, "list_codes");
    const size_t list = list_number(ivf, list_no);
    if (ivf.invlists->code_size != ivf.code_size) {
        throw py::value_error(
                "list_codes: the lists of this index hold no single codes");
    }
    const size_t head = ivf.coarse_code_size();
    const size_t width = head + ivf.code_size;
    std::vector<uint8_t> codes = self.read(ErrorOrigin::Caller, [&] {
        const size_t n = ivf.invlists->list_size(list);
        faiss::InvertedLists::ScopedCodes stored(ivf.invlists, list);
        std::vector<uint8_t> made(n * width);
        for (size_t i = 0; i < n; i++) {
            uint8_t* code = made.data() + i * width;
            ivf.encode_listno(int64_t(list), code);
            std::memcpy(
                    code + head,
                    stored.get() + i * ivf.code_size,
                    ivf.code_size);
        }
        return made;
    });
    return py::array_t<uint8_t>(
            {int64_t(codes.size() / width), int64_t(width)}, codes.data());
}

// ------------------------------------------------------------ given lists

/// A search in lists that the caller chose.
struct GivenLists {
    const faiss::IndexIVF& ivf;
    SearchArguments arguments;
    ListNumbers lists;
    Rows distances;           ///< of the caller, or
    std::vector<float> found; ///< made here

    const float* distances_of(int64_t begin) const {
        const float* all = found.empty() ? distances.data : found.data();
        return all + begin * lists.per_query;
    }
};

/// Distances to the centroids, as the quantizer gives them.
std::vector<float> distances_to_lists(
        const IndexHandle& self,
        const faiss::IndexIVF& ivf,
        const Rows& queries,
        const ListNumbers& lists) {
    const size_t d = size_t(ivf.d);
    std::vector<float> distances(size_t(lists.n * lists.per_query));
    self.read(ErrorOrigin::Caller, [&] {
        std::vector<float> centroid(d);
        in_slices(lists.n, [&](int64_t begin, int64_t count) {
            for (int64_t i = begin * lists.per_query;
                 i < (begin + count) * lists.per_query;
                 i++) {
                if (lists.data[i] < 0) {
                    continue;
                }
                ivf.quantizer->reconstruct(lists.data[i], centroid.data());
                const float* x = queries.data + i / lists.per_query * d;
                distances[size_t(i)] =
                        ivf.metric_type == faiss::METRIC_L2
                                ? faiss::fvec_L2sqr(x, centroid.data(), d)
                                : faiss::fvec_inner_product(
                                          x, centroid.data(), d);
            }
        });
    });
    return distances;
}

/// Of the caller: one for each list.
Rows given_distances(py::handle Dq, const ListNumbers& lists) {
    Rows distances = any_rows_argument("Dq", Dq);
    auto shape = [](int64_t n, int64_t columns) {
        return "(" + std::to_string(n) + ", " + std::to_string(columns) + ")";
    };
    if (distances.n != lists.n || distances.d != lists.per_query) {
        throw py::value_error(
                "Dq has shape " + shape(distances.n, distances.d) +
                " (allowed: " + shape(lists.n, lists.per_query) +
                ", that of Iq)");
    }
    for (int64_t i = 0; i < lists.n * lists.per_query; i++) {
        if (!std::isfinite(distances.data[i]) && lists.data[i] >= 0) {
            throw py::value_error(
                    "Dq[" + std::to_string(i / lists.per_query) + ", " +
                    std::to_string(i % lists.per_query) +
                    "] is not finite (allowed: where Iq is -1)");
        }
    }
    return distances;
}

GivenLists given_lists(
        const IndexHandle& self,
        const char* what,
        py::handle x,
        py::handle Iq,
        py::handle Dq,
        const SearchKeywords& keywords) {
    const faiss::IndexIVF& ivf = need_lists(self, what);
    if (&ivf != self.index()) {
        throw py::value_error(
                std::string(what) +
                ": the IVF index lies below a transform or an id map; "
                "allowed: an IVF index by itself");
    }
    Rows queries = rows_for(self, "x", x);
    ListNumbers lists =
            list_numbers_argument("Iq", Iq, queries.n, int64_t(ivf.nlist));
    Rows distances{{}, nullptr, 0, 0};
    std::vector<float> found;
    if (Dq.is_none()) {
        found = distances_to_lists(self, ivf, queries, lists);
    } else {
        distances = given_distances(Dq, lists);
    }
    SearchArguments arguments = search_arguments(
            self, queries.owner, keywords, size_t(lists.per_query));
    return {ivf,
            std::move(arguments),
            std::move(lists),
            std::move(distances),
            std::move(found)};
}

/// Calls run(params) with parameters that the index understands.
template <class Run>
void with_params(
        const IndexHandle& self,
        const SearchParametersScaNN& params,
        Run&& run) {
    if (self.scann() != nullptr) {
        run(&params);
        return;
    }
    const faiss::SearchParametersIVF plain = faiss_params(params);
    run(&plain);
}

py::tuple search_preassigned(
        const IndexHandle& self,
        py::handle x,
        int64_t k,
        py::handle Iq,
        py::handle Dq,
        const py::object& params,
        const py::object& D,
        const py::object& I,
        Option reorder_k,
        Option refine_k,
        Option max_codes,
        const py::object& filter,
        ScaNNSearchStats* stats) {
    GivenLists given = given_lists(
            self,
            "search_preassigned",
            x,
            Iq,
            Dq,
            {params, {}, reorder_k, refine_k, max_codes, filter});
    return nearest_results(
            self,
            given.arguments,
            k,
            false,
            {D, I},
            stats,
            [&](const faiss::Index& index,
                int64_t begin,
                int64_t count,
                const ResultPointers& out) {
                std::vector<float> storage;
                with_params(self, given.arguments.params, [&](auto* p) {
                    find_ivf(&index)->search_preassigned(
                            count,
                            given.arguments.queries.floats(
                                    begin, count, storage),
                            k,
                            given.lists.data + begin * given.lists.per_query,
                            given.distances_of(begin),
                            out.distances,
                            out.labels,
                            false,
                            p);
                });
            });
}

py::tuple range_search_preassigned(
        const IndexHandle& self,
        py::handle x,
        double radius,
        py::handle Iq,
        py::handle Dq,
        const py::object& params,
        const py::object& filter,
        ScaNNSearchStats* stats) {
    GivenLists given = given_lists(
            self,
            "range_search_preassigned",
            x,
            Iq,
            Dq,
            {.params = params, .filter = filter});
    check_radius(radius);
    return range_results(
            self,
            given.arguments,
            stats,
            [&](const faiss::Index& index,
                int64_t begin,
                int64_t count,
                faiss::RangeSearchResult* out) {
                std::vector<float> storage;
                with_params(self, given.arguments.params, [&](auto* p) {
                    auto run = [&](const auto& ivf) {
                        ivf.range_search_preassigned(
                                count,
                                given.arguments.queries.floats(
                                        begin, count, storage),
                                float(radius),
                                given.lists.data +
                                        begin * given.lists.per_query,
                                given.distances_of(begin),
                                out,
                                false,
                                p);
                    };
                    // not virtual in Faiss 1.7.3
                    if (const IndexIVFScaNN* scann = find_scann(&index)) {
                        run(*scann);
                    } else {
                        run(given.ivf);
                    }
                });
            });
}

// ------------------------------------------------------------------- cp

/// The k-means of an index; ScaNN keeps it among its options.
class Clustering {
 public:
    explicit Clustering(HandlePointer index) : index_(std::move(index)) {}

    int64_t niter() const {
        const IndexIVFScaNN* scann = index_->scann();
        return scann ? int64_t(scann->options.kmeans_rounds)
                     : int64_t(index_->ivf()->cp.niter);
    }
    void set_niter(int64_t value) {
        const size_t rounds = checked_integer("niter", value, 1, INT32_MAX);
        if (IndexIVFScaNN* scann = index_->scann()) {
            scann->options.kmeans_rounds = rounds;
        } else {
            index_->ivf()->cp.niter = int(rounds);
        }
    }
    int64_t seed() const {
        const IndexIVFScaNN* scann = index_->scann();
        return scann ? int64_t(scann->options.seed)
                     : int64_t(index_->ivf()->cp.seed);
    }
    void set_seed(int64_t value) {
        if (IndexIVFScaNN* scann = index_->scann()) {
            scann->options.seed = checked_integer("seed", value, 0);
        } else {
            index_->ivf()->cp.seed =
                    int(checked_integer("seed", value, 0, INT32_MAX));
        }
    }
    int64_t max_points() const {
        const IndexIVFScaNN* scann = index_->scann();
        return scann ? int64_t(scann->options.max_points_per_centroid)
                     : int64_t(index_->ivf()->cp.max_points_per_centroid);
    }
    void set_max_points(int64_t value) {
        const size_t most =
                checked_integer("max_points_per_centroid", value, 1, INT32_MAX);
        if (IndexIVFScaNN* scann = index_->scann()) {
            scann->options.max_points_per_centroid = most;
        } else {
            index_->ivf()->cp.max_points_per_centroid = int(most);
        }
    }

 private:
    HandlePointer index_;
};

} // namespace

} // namespace faiss_ext::python

namespace pybind11::detail {

template <>
struct type_caster<faiss_ext::python::Clustering>
        : faiss_ext::python::ConstructedCaster<faiss_ext::python::Clustering> {
};

} // namespace pybind11::detail

namespace faiss_ext::python {

static void bind_searches_in_lists(IndexClass& index) {
    using py::arg;
    py::object none = py::none();
    index.def("search_preassigned",
              search_preassigned,
              arg("x"),
              arg("k"),
              arg("Iq"),
              arg("Dq") = none,
              arg("params") = none,
              arg("D") = none,
              arg("I") = none,
              py::kw_only(),
              arg("reorder_k") = none,
              arg("refine_k") = none,
              arg("max_codes") = none,
              arg("filter") = none,
              arg("stats") = none,
              doc::search_preassigned)
            .def("range_search_preassigned",
                 range_search_preassigned,
                 arg("x"),
                 arg("radius"),
                 arg("Iq"),
                 arg("Dq") = none,
                 arg("params") = none,
                 py::kw_only(),
                 arg("filter") = none,
                 arg("stats") = none,
                 doc::range_search_preassigned);
}

void bind_lists(py::module_& module, IndexClass& index) {
    using py::arg;
    py::class_<Clustering>(module, "ClusteringParameters", doc::clustering)
            .def_property(
                    "niter",
                    &Clustering::niter,
                    &Clustering::set_niter,
                    doc::clustering_niter)
            .def_property(
                    "seed",
                    &Clustering::seed,
                    &Clustering::set_seed,
                    doc::clustering_seed)
            .def_property(
                    "max_points_per_centroid",
                    &Clustering::max_points,
                    &Clustering::set_max_points,
                    doc::clustering_max_points)
            .def("__reduce__", refuse_pickle)
            .def("__repr__", [](const Clustering& self) {
                return "ClusteringParameters(niter=" +
                       std::to_string(self.niter()) +
                       ", seed=" + std::to_string(self.seed()) +
                       ", max_points_per_centroid=" +
                       std::to_string(self.max_points()) + ")";
            });
    index.def_property_readonly("quantizer", quantizer, doc::quantizer)
            .def_property_readonly(
                    "cp",
                    [](const py::object& self) {
                        need_ivf(self.cast<const IndexHandle&>(), "cp");
                        return Clustering(self.cast<HandlePointer>());
                    },
                    doc::cp)
            .def("centroids", centroids, doc::centroids)
            .def("get_list_size", list_size, arg("list_no"), doc::get_list_size)
            .def("list_ids", ids_of_list, arg("list_no"), doc::list_ids)
            .def("list_codes", codes_of_list, arg("list_no"), doc::list_codes);
    bind_searches_in_lists(index);
}

} // namespace faiss_ext::python
