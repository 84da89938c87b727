/*
 * The module faiss_ext._faiss_ext. This file binds what is not a method of
 * Index: the factory, statistics, threads, kernels.
 */

#include <cinttypes>
#include <string>

#include <pybind11/stl.h>

#include <faiss_ext/index_factory.h>
#include <faiss_ext/kernels/dispatch.h>

#include "array_arguments.h"
#include "bindings.h"
#include "docstrings.h"
#include "index_locks.h"

namespace faiss_ext::python {

namespace {

std::shared_ptr<IndexHandle>
make_index(int64_t d, const std::string& description, int64_t metric) {
    checked_integer("d", d, 1, 65536);
    if (metric != faiss::METRIC_INNER_PRODUCT && metric != faiss::METRIC_L2) {
        throw py::value_error(
                "metric = " + std::to_string(metric) +
                " (allowed: METRIC_INNER_PRODUCT (0), METRIC_L2 (1); cosine "
                "is METRIC_INNER_PRODUCT with the option normalize=1)");
    }
    return without_gil(ErrorOrigin::Caller, [&] {
        return std::make_shared<IndexHandle>(std::unique_ptr<faiss::Index>(
                index_factory(int(d), description, faiss::MetricType(metric))));
    });
}

std::string stats_repr(const ScaNNSearchStats& s) {
    char text[400];
    snprintf(
            text,
            sizeof(text),
            "SearchStats(nq=%zu, lists=%zu, codes=%zu, candidates=%zu, "
            "refined=%zu, reranked=%zu, cached_rows=%zu, file_reads=%zu, "
            "disk_reads=%zu, "
            "partition_time=%.3g, "
            "table_time=%.3g, scan_time=%.3g, refine_time=%.3g, "
            "rerank_time=%.3g)",
            s.nq,
            s.lists,
            s.codes,
            s.candidates,
            s.refined,
            s.reranked,
            s.cached_rows,
            s.file_reads,
            s.disk_reads,
            s.partition_time,
            s.table_time,
            s.scan_time,
            s.refine_time,
            s.rerank_time);
    return text;
}

void bind_stats(py::module_& module) {
    using Stats = ScaNNSearchStats;
    py::class_<Stats>(module, "SearchStats", doc::search_stats)
            .def(py::init<>())
            .def_readonly("nq", &Stats::nq, "queries")
            .def_readonly("lists", &Stats::lists, "lists visited")
            .def_readonly("codes", &Stats::codes, "codes scored")
            .def_readonly(
                    "candidates",
                    &Stats::candidates,
                    "vectors that survived the scan")
            .def_readonly(
                    "refined",
                    &Stats::refined,
                    "vectors rescored from refine codes")
            .def_readonly(
                    "reranked",
                    &Stats::reranked,
                    "vectors rescored from raw rows")
            .def_readonly(
                    "cached_rows",
                    &Stats::cached_rows,
                    "of these, kept in memory from earlier searches of a file")
            .def_readonly(
                    "file_reads",
                    &Stats::file_reads,
                    "reads of a file for the others (rows nearby by one)")
            .def_readonly(
                    "disk_reads",
                    &Stats::disk_reads,
                    "of these, what was not in the system's memory of files")
            .def_readonly(
                    "partition_time",
                    &Stats::partition_time,
                    "seconds spent on choosing lists")
            .def_readonly(
                    "table_time",
                    &Stats::table_time,
                    "seconds spent on lookup tables")
            .def_readonly(
                    "scan_time",
                    &Stats::scan_time,
                    "seconds spent on scanning codes")
            .def_readonly(
                    "refine_time",
                    &Stats::refine_time,
                    "seconds spent on refine codes")
            .def_readonly(
                    "rerank_time",
                    &Stats::rerank_time,
                    "seconds spent on raw rows")
            .def_property_readonly(
                    "expected_recall",
                    &Stats::expected_recall,
                    "expected recall of a query (search, return_recall); nan: "
                    "not known")
            .def(
                    "reset",
                    [](Stats& self) { self = Stats(); },
                    doc::search_stats_reset)
            .def("__reduce__", refuse_pickle)
            .def("__repr__", stats_repr);
}

void bind_threads(py::module_& module) {
    using py::arg;
    module.def(
            "omp_set_num_threads",
            [](int64_t n) {
                set_thread_count(int(checked_integer("n", n, 1, 4096)));
            },
            arg("n"),
            doc::omp_set_num_threads);
    module.def("omp_get_max_threads", thread_count, doc::omp_get_max_threads);
    module.def(
            "simd_level",
            [] { return without_gil(ErrorOrigin::Caller, simd_level); },
            doc::simd_level);
    module.def(
            "simd_levels",
            [] { return without_gil(ErrorOrigin::Caller, simd_levels); },
            doc::simd_levels);
    module.def(
            "set_simd_level",
            [](const std::string& name) {
                without_gil(ErrorOrigin::Caller, [&] { set_simd_level(name); });
            },
            arg("name"),
            doc::set_simd_level);
}

void bind_constants(py::module_& module) {
    module.attr("METRIC_INNER_PRODUCT") = int(faiss::METRIC_INNER_PRODUCT);
    module.attr("METRIC_L2") = int(faiss::METRIC_L2);
    module.attr("SUBSET_TYPE_ID_RANGE") = 0;
    module.attr("SUBSET_TYPE_ID_MOD") = 1;
    module.attr("SUBSET_TYPE_ELEMENT_RANGE") = 2;
    module.attr("SUBSET_TYPE_INVLIST_FRACTION") = 3;
    module.attr("SUBSET_TYPE_INVLIST") = 4;
    module.attr("FAISS_VERSION") = std::to_string(FAISS_VERSION_MAJOR) + "." +
                                   std::to_string(FAISS_VERSION_MINOR) + "." +
                                   std::to_string(FAISS_VERSION_PATCH);
#ifdef FAISS_EXT_VERSION
    module.attr("__version__") = FAISS_EXT_VERSION;
#else
    module.attr("__version__") = "0+unknown";
#endif
    py::enum_<faiss::DirectMap::Type>(module, "DirectMap", doc::direct_map)
            .value("NoMap", faiss::DirectMap::NoMap)
            .value("Array", faiss::DirectMap::Array)
            .value("Hashtable", faiss::DirectMap::Hashtable)
            .def("__reduce__", [](const py::object& self) {
                return py::make_tuple(
                        py::type::of(self), py::make_tuple(py::int_(self)));
            });
}

} // namespace

py::object refuse_pickle(const py::object& self) {
    throw py::type_error(
            "cannot pickle or copy " +
            py::str(py::type::of(self).attr("__name__")).cast<std::string>() +
            " objects");
}

} // namespace faiss_ext::python

PYBIND11_MODULE(_faiss_ext, module) {
    using namespace faiss_ext::python;
    // docstrings start with a signature that inspect.signature() reads
    py::options options;
    options.disable_function_signatures();

    install_interrupt_callback();
    install_fork_hooks();
    module.doc() = "Native part of faiss_ext; import faiss_ext instead.";
    bind_constants(module);
    bind_threads(module);
    bind_selectors(module);
    bind_stats(module);
    IndexClass index(module, "Index", doc::index);
    bind_properties(index);
    bind_build(index);
    bind_maintenance(index);
    bind_search(index);
    bind_search_iterator(module, index);
    bind_lists(module, index);
    bind_wrappers(module);
    bind_files(module, index);
    bind_build_index(module);
    bind_knowhere(module);
    module.def(
            "index_factory",
            make_index,
            py::arg("d"),
            py::arg("description"),
            py::arg("metric") = int(faiss::METRIC_L2),
            doc::index_factory);
}
