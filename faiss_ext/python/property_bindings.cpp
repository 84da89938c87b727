/* Index: what it is and what it will do; read-only but for the defaults of
 * searches and the numbers that steer training. */

#include <charconv>
#include <cmath>
#include <iterator>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include <pybind11/stl.h>

#include <faiss_ext/memory/row_types.h>
#include <faiss_ext/model/index_state.h>
#include <faiss_ext/model/options.h>

#include "array_arguments.h"
#include "bindings.h"
#include "docstrings.h"
#include "wrapped_index.h"

namespace faiss_ext::python {

IndexIVFScaNN& need_scann(const IndexHandle& handle, const char* what) {
    if (handle.scann() == nullptr) {
        throw py::attribute_error(
                std::string(what) + " needs a ScaNN index; this one is " +
                layers(handle.index()) +
                ". Make one by index_factory(d, \"IVF1024,ScaNN,RFlat\"), or "
                "of an index of Faiss by faiss_ext.from_faiss()");
    }
    return *handle.scann();
}

IndexIVFScaNN& need_plain_scann(
        const IndexHandle& handle,
        const char* what,
        const char* allowed) {
    IndexIVFScaNN& scann = need_scann(handle, what);
    if (&scann != handle.index()) {
        throw py::value_error(
                std::string(what) +
                ": the ScaNN index lies below a transform or an id map "
                "(allowed: " +
                allowed + ")");
    }
    return scann;
}

faiss::IndexIVF& need_ivf(const IndexHandle& handle, const char* what) {
    if (handle.ivf() == nullptr) {
        throw py::attribute_error(
                std::string(what) + " needs an IVF index; this one is " +
                layers(handle.index()));
    }
    return *handle.ivf();
}

double as_written(float value) {
    if (!std::isfinite(value)) {
        return value;
    }
    char text[32];
    char* end = std::to_chars(text, std::end(text), value).ptr;
    double written = 0;
    std::from_chars(text, end, written);
    return written;
}

namespace {

const char* name_of(RotationKind kind) {
    switch (kind) {
        case RotationKind::None:
            return "none";
        case RotationKind::PCA:
            return "pca";
        case RotationKind::Balanced:
            return "balanced";
        case RotationKind::Random:
            return "random";
    }
    return "unknown";
}

const char* name_of(RefineType type) {
    switch (type) {
        case RefineType::None:
            return "none";
        case RefineType::Int8:
            return "int8";
        case RefineType::FP16:
            return "fp16";
        case RefineType::BF16:
            return "bf16";
    }
    return "unknown";
}

const char* name_of(EtaFormula formula) {
    switch (formula) {
        case EtaFormula::Exact:
            return "exact";
        case EtaFormula::Limit:
            return "limit";
    }
    return "unknown";
}

/// The ScaNN index inside what searches see.
std::shared_ptr<const IndexIVFScaNN> seen_scann(
        const IndexHandle& self,
        const char* what) {
    need_scann(self, what);
    const auto seen = self.seen();
    return {seen, find_scann(seen.get())};
}

/// The same of any index with lists.
std::shared_ptr<const faiss::IndexIVF> seen_ivf(
        const IndexHandle& self,
        const char* what) {
    need_ivf(self, what);
    const auto seen = self.seen();
    return {seen, find_ivf(seen.get())};
}

size_t coded_dims(const IndexHandle& self) {
    const auto scann = seen_scann(self, "coded_dims");
    return scann->is_trained ? scann->state().model->pq.d()
                             : scann->options.coded_dims;
}

double auto_maintain(const IndexHandle& self) {
    return as_written(seen_scann(self, "auto_maintain")->options.auto_maintain);
}

void set_auto_maintain(IndexHandle& self, float value) {
    IndexIVFScaNN& scann = need_scann(self, "auto_maintain");
    self.change(ErrorOrigin::Caller, [&] {
        ScaNNOptions options = scann.options;
        options.auto_maintain = value;
        check_options(size_t(scann.d), scann.metric_type, options);
        scann.options.auto_maintain = value;
    });
}

double eta(const IndexHandle& self) {
    need_scann(self, "eta");
    return self.see(ErrorOrigin::Caller, [&](const faiss::Index& index) {
        const IndexIVFScaNN& scann = *find_scann(&index);
        return as_written(
                scann.is_trained ? scann.state().model->pq.eta()
                                 : scann.options.eta);
    });
}

/// A field of ScaNNOptions as Python has it: an enum by its name.
template <class T>
auto shown(T value) {
    if constexpr (std::is_enum_v<T>) {
        return name_of(value);
    } else {
        return value;
    }
}
double shown(float value) {
    return as_written(value);
}

std::string repr(const IndexHandle& self) {
    const auto seen = self.seen();
    const faiss::Index& index = *seen;
    std::ostringstream text;
    text << "<faiss_ext.Index " << layers(&index) << ": d=" << index.d
         << ", metric="
         << (index.metric_type == faiss::METRIC_INNER_PRODUCT
                     ? "METRIC_INNER_PRODUCT"
                     : "METRIC_L2");
    if (self.ivf() != nullptr) {
        text << ", nlist=" << self.ivf()->nlist;
    }
    if (const IndexIVFScaNN* scann = self.scann()) {
        const ScaNNOptions& options = scann->options;
        text << ", sub_dim=" << options.sub_dim
             << ", refine_type=" << name_of(options.refine_type)
             << ", with_raw_data="
             << (options.with_raw_data ? "True" : "False");
    }
    text << ", ntotal=" << index.ntotal
         << (index.is_trained ? "" : ", not trained") << ">";
    return text.str();
}

/// A read-only field of ScaNNOptions.
template <class Field>
void option(IndexClass& index, const char* name, Field field, const char* doc) {
    index.def_property_readonly(
            name,
            [name, field](const IndexHandle& self) {
                return shown(need_scann(self, name).options.*field);
            },
            doc);
}

/// A size_t of ScaNNOptions that training reads.
template <class Field>
void training_option(
        IndexClass& index,
        const char* name,
        Field field,
        int64_t minimum,
        const char* doc) {
    index.def_property(
            name,
            [name, field](const IndexHandle& self) {
                return need_scann(self, name).options.*field;
            },
            [name, field, minimum](IndexHandle& self, int64_t value) {
                IndexIVFScaNN& scann = need_scann(self, name);
                scann.options.*field = checked_integer(name, value, minimum);
            },
            doc);
}

/// A default of searches, size_t, 0: chosen by the index.
template <class Field>
void search_default(
        IndexClass& index,
        const char* name,
        Field field,
        const char* doc) {
    index.def_property(
            name,
            [name, field](const IndexHandle& self) {
                return (*seen_scann(self, name)).*field;
            },
            [name, field](IndexHandle& self, int64_t value) {
                IndexIVFScaNN& scann = need_scann(self, name);
                const size_t checked = checked_integer(name, value, 0);
                self.set([&] { scann.*field = checked; });
            },
            doc);
}

void set_nprobe(IndexHandle& self, int64_t value) {
    faiss::IndexIVF& ivf = need_ivf(self, "nprobe");
    // nlist is 0 until training chooses it
    const size_t checked =
            ivf.nlist > 0 ? checked_integer("nprobe", value, 1, ivf.nlist)
                          : checked_integer("nprobe", value, 1);
    self.set([&] { ivf.nprobe = checked; });
}

size_t memory_usage(const IndexHandle& self) {
    need_scann(self, "memory_usage");
    return self.see(ErrorOrigin::Caller, [&](const faiss::Index& index) {
        return find_scann(&index)->memory_usage() +
               wrapper_memory(&index, index.ntotal);
    });
}

size_t estimate_memory(const IndexHandle& self, int64_t n) {
    need_scann(self, "estimate_memory");
    size_t count = checked_integer("n", n, 0);
    return self.see(ErrorOrigin::Caller, [&](const faiss::Index& index) {
        return find_scann(&index)->estimate_memory(count) +
               wrapper_memory(&index, count);
    });
}

using Self = const IndexHandle&;

void set_max_codes(IndexHandle& self, int64_t value) {
    faiss::IndexIVF& ivf = need_ivf(self, "max_codes");
    const size_t checked = checked_integer("max_codes", value, 0);
    self.set([&] { ivf.max_codes = checked; });
}

py::object calibration(Self self) {
    const ScaNNCalibration chosen =
            seen_scann(self, "calibration")->calibration;
    return chosen.k == 0 ? py::object(py::none())
                         : py::object(calibration_dict(chosen));
}

std::vector<std::string> notes(Self self) {
    need_scann(self, "notes");
    return self.see(ErrorOrigin::Caller, [&](const faiss::Index& index) {
        return find_scann(&index)->notes();
    });
}

void set_concurrent(IndexHandle& self, bool on) {
    if (on) {
        self.make_concurrent();
    } else if (self.concurrent()) {
        throw py::value_error(
                "concurrent = False of a concurrent index (allowed: True; a "
                "clone_index() of it is not concurrent)");
    }
}

/// What every index of Faiss has.
void bind_index_figures(IndexClass& index) {
    index.def_property_readonly(
                 "d", [](Self s) { return s.index()->d; }, doc::d)
            .def_property_readonly(
                    "ntotal",
                    [](Self s) { return s.seen()->ntotal; },
                    doc::ntotal)
            .def_property_readonly(
                    "is_trained",
                    [](Self s) { return s.index()->is_trained; },
                    doc::is_trained)
            .def_property_readonly(
                    "metric_type",
                    [](Self s) { return int(s.index()->metric_type); },
                    doc::metric_type)
            .def("__len__", [](Self s) { return s.seen()->ntotal; })
            // an index without vectors is not False
            .def("__bool__", [](Self) { return true; })
            .def_property(
                    "verbose",
                    [](Self s) { return s.verbose(); },
                    [](IndexHandle& s, bool on) { s.set_verbose(on); },
                    doc::verbose)
            .def_property(
                    "concurrent",
                    [](Self s) { return s.concurrent(); },
                    set_concurrent,
                    doc::concurrent)
            .def("__repr__", repr);
}

/// What every index with lists has.
void bind_list_settings(IndexClass& index) {
    index.def_property_readonly(
                 "nlist",
                 [](Self s) { return size_t(need_ivf(s, "nlist").nlist); },
                 doc::nlist)
            .def_property(
                    "nprobe",
                    [](Self s) {
                        return size_t(seen_ivf(s, "nprobe")->nprobe);
                    },
                    set_nprobe,
                    doc::nprobe)
            .def_property(
                    "max_codes",
                    [](Self s) {
                        return size_t(seen_ivf(s, "max_codes")->max_codes);
                    },
                    set_max_codes,
                    doc::max_codes)
            .def_property_readonly(
                    "direct_map_type",
                    [](Self s) {
                        return need_ivf(s, "direct_map_type").direct_map.type;
                    },
                    doc::direct_map_type)
            .def("set_index_parameters",
                 set_index_parameters,
                 py::arg("description"),
                 doc::set_index_parameters);
}

/// What a ScaNN index has become, and how its searches are set.
void bind_scann_properties(IndexClass& index) {
    index.def_property_readonly("calibration", calibration, doc::calibration)
            .def_property_readonly("notes", notes, doc::notes)
            .def("memory_usage", memory_usage, doc::memory_usage)
            .def("estimate_memory",
                 estimate_memory,
                 py::arg("n"),
                 doc::estimate_memory);
    search_default(
            index, "reorder_k", &IndexIVFScaNN::reorder_k, doc::reorder_k);
    search_default(index, "refine_k", &IndexIVFScaNN::refine_k, doc::refine_k);
}

/// The options that an index was made with.
void bind_options(IndexClass& index) {
    index.def_property_readonly("eta", eta, doc::eta);
    option(index, "eta_formula", &ScaNNOptions::eta_formula, doc::eta_formula);
    option(index, "rotation", &ScaNNOptions::rotation, doc::rotation);
    option(index, "refine_type", &ScaNNOptions::refine_type, doc::refine_type);
    option(index, "raw_type", &ScaNNOptions::raw_type, doc::raw_type);
    option(index, "sub_dim", &ScaNNOptions::sub_dim, doc::sub_dim);
    index.def_property_readonly("coded_dims", coded_dims, doc::coded_dims);
    option(index, "threshold", &ScaNNOptions::threshold, doc::threshold);
    option(index, "normalize", &ScaNNOptions::normalize, doc::normalize);
    option(index, "allow_zero", &ScaNNOptions::allow_zero, doc::allow_zero);
    option(index,
           "score_aware_centroids",
           &ScaNNOptions::score_aware_centroids,
           doc::score_aware_centroids);
    option(index, "soar_lambda", &ScaNNOptions::soar_lambda, doc::soar_lambda);
    index.def_property(
            "auto_maintain",
            auto_maintain,
            set_auto_maintain,
            doc::auto_maintain);
    option(index, "with_tags", &ScaNNOptions::with_tags, doc::with_tags);
    option(index,
           "with_raw_data",
           &ScaNNOptions::with_raw_data,
           doc::with_raw_data);
}

/// The options that count until training, and can be set until then.
void bind_training_options(IndexClass& index) {
    training_option(index, "seed", &ScaNNOptions::seed, 0, doc::seed);
    training_option(
            index,
            "max_points_per_centroid",
            &ScaNNOptions::max_points_per_centroid,
            1,
            doc::max_points_per_centroid);
    training_option(
            index,
            "kmeans_rounds",
            &ScaNNOptions::kmeans_rounds,
            1,
            doc::kmeans_rounds);
}

} // namespace

void bind_properties(IndexClass& index) {
    bind_index_figures(index);
    bind_list_settings(index);
    bind_scann_properties(index);
    bind_options(index);
    bind_training_options(index);
}

} // namespace faiss_ext::python
