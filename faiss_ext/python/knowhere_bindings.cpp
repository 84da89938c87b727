/*
 * The submodule `knowhere`: the index factory of knowhere_plugin/ and its nodes.
 *
 * In: arrays and keyword arguments. Out: DataSet and Config for a node, whose
 * Status becomes a Python exception. All that nodes decide (names, ranges,
 * defaults, messages) is theirs; here is only the way in and out.
 */

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <knowhere_plugin/index_factory.h>
#include <knowhere_plugin/parameters.h>

#include "array_arguments.h"
#include "bindings.h"
#include "docstrings.h"

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
        std::lock_guard lock(mutex_);
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
    std::mutex mutex_;
};

/// Python's IndexFactory: the one factory of this module.
struct FactoryHandle {
    kn::IndexFactory& factory = kn::IndexFactory::Instance();
};

namespace {

using kn::DataSet;
using kn::Status;
using kn::StatusCode;

// -------------------------------------------------------- calls of a node

PyObject* exception_of(StatusCode code) {
    switch (code) {
        case StatusCode::success:
        case StatusCode::invalid_args:
        case StatusCode::invalid_param_in_json:
        case StatusCode::out_of_range_in_json:
        case StatusCode::type_conflict_in_json:
        case StatusCode::invalid_metric_type:
        case StatusCode::empty_index:
        case StatusCode::not_implemented:
        case StatusCode::index_not_trained:
        case StatusCode::invalid_value_in_json:
        case StatusCode::invalid_index_error:
            return PyExc_ValueError;
        case StatusCode::malloc_error:
            return PyExc_MemoryError;
        case StatusCode::faiss_inner_error:
        case StatusCode::disk_file_error:
        case StatusCode::invalid_binary_set:
            return PyExc_RuntimeError;
    }
    return PyExc_RuntimeError; // of a node from outside
}

void raise_unless_ok(const Status& status) {
    if (PyErr_Occurred() != nullptr) { // an interrupt, whatever became of it
        throw py::error_already_set();
    }
    if (!status.ok()) {
        set_error(
                exception_of(status.code),
                status.message.empty() ? "out of memory"
                                       : status.message.c_str());
        throw py::error_already_set();
    }
}

/// work() -> Status, without the GIL: nodes have locks, and a call that holds
/// one may want the GIL to look for signals.
template <class Work>
void run(Work&& work) {
    raise_unless_ok(
            without_gil(Blame::Caller, [&]() -> Status { return work(); }));
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

/// work() -> what a node says of itself
template <class Work>
auto ask(Work&& work) {
    return without_gil(Blame::Caller, std::forward<Work>(work));
}

// --------------------------------------------------------------- arguments

/// @throws UnicodeEncodeError, a ValueError
std::string utf8(const py::str& text) {
    py::ssize_t size = 0;
    const char* bytes = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
    if (bytes == nullptr) {
        throw py::error_already_set();
    }
    return {bytes, size_t(size)};
}

/// Values as str() spells them, which the schema then reads; None: not given.
kn::Config config_of(const py::kwargs& parameters) {
    kn::Config config;
    for (auto [key, value] : parameters) {
        if (!value.is_none()) {
            config[utf8(py::reinterpret_borrow<py::str>(key))] =
                    utf8(py::str(value));
        }
    }
    return config;
}

DataSet data_of(const Rows& rows) {
    DataSet data;
    data.rows = rows.n;
    data.dim = rows.d;
    data.tensor = rows.data;
    return data;
}

/// Flags of rows that are filtered out, as bits.
struct Bits {
    std::vector<uint8_t> bytes;
    size_t size = 0;

    kn::BitsetView view() const {
        return {bytes.data(), size};
    }
};

Bits bits_argument(const NodeHandle& self, py::handle value) {
    Bits bits;
    if (value.is_none()) {
        return bits;
    }
    Flags flags = flags_argument("filtered", value);
    if (flags.n == 0 && ask([&] { return self.node->Count(); }) > 0) {
        throw py::value_error(
                "filtered has 0 flags (allowed: one for each row, or None)");
    }
    bits.size = size_t(flags.n);
    bits.bytes.resize((bits.size + 7) / 8);
    for (size_t i = 0; i < bits.size; i++) {
        bits.bytes[i / 8] |= uint8_t(flags.data[i] != 0) << i % 8;
    }
    return bits;
}

unsigned phase_argument(const std::string& name) {
    for (auto [known, phase] :
         {std::pair("build", kn::kBuild),
          {"search", kn::kSearch},
          {"range_search", kn::kRange},
          {"load", kn::kLoad}}) {
        if (name == known) {
            return phase;
        }
    }
    throw py::value_error(
            "phase = \"" + name +
            "\" (allowed: build|search|range_search|load)");
}

// ----------------------------------------------------------------- results

template <class T>
py::array_t<T>
shaped(const std::vector<T>& values, int64_t n, int64_t columns) {
    py::array_t<T> array({n, columns});
    std::copy(values.begin(), values.end(), array.mutable_data());
    return array;
}

template <class T>
py::array_t<T> array_of(const std::vector<T>& values) {
    return py::array_t<T>(py::ssize_t(values.size()), values.data());
}

/// Calls work(queries, result) for slices of the queries: Ctrl-C works between
/// them, whatever a query costs.
template <class Search, class Take>
void search_in_slices(const Rows& queries, Search&& search, Take&& take) {
    in_slices(
            std::max<int64_t>(queries.n, 1), [&](int64_t begin, int64_t count) {
                DataSet some = data_of(queries);
                some.rows = std::min(count, queries.n);
                some.tensor += begin * queries.d;
                take(run_for<DataSet>([&] { return search(some); }));
            });
}

py::tuple search(
        const NodeHandle& self,
        py::handle queries,
        py::handle filtered,
        const py::kwargs& parameters) {
    const kn::Config config = config_of(parameters);
    const Rows rows = any_rows_argument("queries", queries);
    const Bits bits = bits_argument(self, filtered);
    std::vector<float> distances;
    std::vector<int64_t> labels;
    int64_t k = 0;
    search_in_slices(
            rows,
            [&](const DataSet& some) {
                return self.node->Search(some, config, bits.view());
            },
            [&](const DataSet& found) {
                k = found.dim;
                const int64_t size = found.rows * found.dim;
                distances.insert(
                        distances.end(), found.distance, found.distance + size);
                labels.insert(labels.end(), found.ids, found.ids + size);
            });
    return py::make_tuple(
            shaped(distances, rows.n, k), shaped(labels, rows.n, k));
}

py::tuple range_search(
        const NodeHandle& self,
        py::handle queries,
        py::handle filtered,
        const py::kwargs& parameters) {
    const kn::Config config = config_of(parameters);
    const Rows rows = any_rows_argument("queries", queries);
    const Bits bits = bits_argument(self, filtered);
    std::vector<int64_t> limits{0};
    std::vector<float> distances;
    std::vector<int64_t> labels;
    search_in_slices(
            rows,
            [&](const DataSet& some) {
                return self.node->RangeSearch(some, config, bits.view());
            },
            [&](const DataSet& found) {
                const int64_t before = limits.back();
                for (int64_t q = 1; q <= found.rows; q++) {
                    limits.push_back(before + int64_t(found.lims[q]));
                }
                const size_t size = found.lims[found.rows];
                distances.insert(
                        distances.end(), found.distance, found.distance + size);
                labels.insert(labels.end(), found.ids, found.ids + size);
            });
    return py::make_tuple(
            array_of(limits), array_of(distances), array_of(labels));
}

py::list iterate(
        const NodeHandle& self,
        py::handle queries,
        py::handle filtered,
        const py::kwargs& parameters) {
    const kn::Config config = config_of(parameters);
    const Rows rows = any_rows_argument("queries", queries);
    const Bits bits = bits_argument(self, filtered);
    py::list iterators;
    for (auto& one : run_for<kn::IndexNode::Iterators>([&] {
             return self.node->AnnIterator(data_of(rows), config, bits.view());
         })) {
        iterators.append(std::make_shared<NodeRows>(self.node, std::move(one)));
    }
    return iterators;
}

py::tuple next_row(NodeRows& self) {
    std::pair<int64_t, float> row;
    bool found = false;
    run([&] { return self.next(&row, &found); });
    if (!found) {
        throw py::stop_iteration();
    }
    return py::make_tuple(row.first, row.second);
}

py::array_t<float> get_vectors(const NodeHandle& self, py::handle ids) {
    const Ids wanted = ids_argument("ids", ids);
    DataSet data;
    data.rows = wanted.n;
    data.ids = wanted.data;
    const DataSet rows =
            run_for<DataSet>([&] { return self.node->GetVectorByIds(data); });
    py::array_t<float> array({rows.rows, rows.dim});
    std::copy_n(rows.tensor, rows.rows * rows.dim, array.mutable_data());
    return array;
}

py::array_t<uint8_t> serialize(const NodeHandle& self) {
    return bytes_array(
            run_for<kn::Blob>([&] { return self.node->Serialize(); }));
}

// ------------------------------------------------------------------ schema

py::object default_of(const kn::Parameter& p, const kn::Parameters& values) {
    if (p.default_value[0] == 0) {
        return py::none();
    }
    switch (p.type) {
        case kn::ParameterType::Integer:
            return py::int_(values.integer(p.name));
        case kn::ParameterType::Real:
            return py::float_(values.real(p.name));
        case kn::ParameterType::Bool:
            return py::bool_(values.flag(p.name));
        case kn::ParameterType::Word:
            return py::str(values.word(p.name));
    }
    return py::none();
}

/// (type, minimum, maximum, words)
py::tuple range_of(const kn::Parameter& p) {
    const py::tuple none;
    auto type_named = [](const char* name) {
        return py::module_::import("builtins").attr(name);
    };
    switch (p.type) {
        case kn::ParameterType::Integer:
            return py::make_tuple(
                    type_named("int"), int64_t(p.min), int64_t(p.max), none);
        case kn::ParameterType::Real:
            return py::make_tuple(type_named("float"), p.min, p.max, none);
        case kn::ParameterType::Bool:
            return py::make_tuple(
                    type_named("bool"), py::none(), py::none(), none);
        case kn::ParameterType::Word:
            break;
    }
    py::object words = py::str(p.words).attr("split")("|");
    return py::make_tuple(
            type_named("str"),
            py::none(),
            py::none(),
            p.words[0] == 0 ? none : py::tuple(words));
}

py::tuple phases_of(const kn::Parameter& p) {
    py::list phases;
    for (auto [phase, name] :
         {std::pair(kn::kBuild, "build"),
          {kn::kSearch, "search"},
          {kn::kRange, "range_search"},
          {kn::kLoad, "load"}}) {
        if ((p.phases & phase) != 0) {
            phases.append(name);
        }
    }
    return py::tuple(phases);
}

kn::NodePtr create(const std::string& name, int64_t version) {
    checked_integer("version", version, kn::kMinVersion, kn::kMaxVersion);
    return run_for<kn::NodePtr>([&] {
        return kn::IndexFactory::Instance().Create(name, int32_t(version));
    });
}

/// Rows of the schema: (name, type, default, minimum, maximum, words, phases,
/// help).
py::list schema(const std::string& name) {
    const kn::NodePtr node = create(name, kn::kCurrentVersion);
    const kn::Parameters defaults(node->Schema(), {});
    py::list rows;
    for (const kn::Parameter& p : node->Schema()) {
        py::tuple range = range_of(p);
        rows.append(py::make_tuple(
                p.name,
                range[0],
                default_of(p, defaults),
                range[1],
                range[2],
                range[3],
                phases_of(p),
                p.doc));
    }
    return rows;
}

std::string node_repr(const NodeHandle& self) {
    return ask([&] {
        const kn::IndexNode& node = *self.node;
        const char* metric = node.MetricType();
        std::string text = "<faiss_ext.knowhere.IndexNode ";
        text += node.Type();
        return metric == nullptr
                       ? text + ", empty>"
                       : text + ": dim=" + std::to_string(node.Dim()) +
                                 ", metric_type=" + metric +
                                 ", count=" + std::to_string(node.Count()) +
                                 ">";
    });
}

// ----------------------------------------------------------------- classes

void bind_factory(py::module_& module) {
    using py::arg;
    using Names = std::map<std::string, uint64_t>;
    py::class_<FactoryHandle>(module, "IndexFactory", doc::knowhere_factory)
            .def(py::init<>())
            .def(
                    "names",
                    [](const FactoryHandle& self) {
                        std::vector<std::string> names;
                        for (const auto& [name, features] : ask([&]() -> Names {
                                 return self.factory.Types();
                             })) {
                            names.push_back(name);
                        }
                        return names;
                    },
                    doc::knowhere_names)
            .def(
                    "create",
                    [](const FactoryHandle&,
                       const std::string& name,
                       int64_t version) {
                        return std::make_shared<NodeHandle>(
                                create(name, version));
                    },
                    arg("name"),
                    arg("version") = kn::kCurrentVersion,
                    doc::knowhere_create)
            .def(
                    "load",
                    [](const FactoryHandle& self,
                       const std::filesystem::path& path) {
                        run([&] { return self.factory.Load(path.string()); });
                    },
                    arg("path"),
                    doc::knowhere_load)
            .def("__repr__",
                 [](const FactoryHandle& self) {
                     std::string names;
                     for (const auto& [name, features] : ask([&]() -> Names {
                              return self.factory.Types();
                          })) {
                         names += (names.empty() ? "" : ", ") + name;
                     }
                     return "<faiss_ext.knowhere.IndexFactory: " + names + ">";
                 })
            .def("__reduce__", refuse_pickle);
}

using NodeClass = py::class_<NodeHandle, std::shared_ptr<NodeHandle>>;

void bind_node_build(NodeClass& node) {
    using py::arg;
    using Build = Status (kn::IndexNode::*)(
            const DataSet&, const kn::Config&) noexcept;
    auto build = [](Build step) {
        return [step](NodeHandle& self,
                      py::handle rows,
                      const py::kwargs& parameters) {
            const kn::Config config = config_of(parameters);
            const Rows given = any_rows_argument("rows", rows);
            run([&] {
                return (self.node.get()->*step)(data_of(given), config);
            });
        };
    };
    node.def(
            "build",
            build(&kn::IndexNode::Build),
            arg("rows"),
            doc::knowhere_build);
    node.def(
            "train",
            build(&kn::IndexNode::Train),
            arg("rows"),
            doc::knowhere_train);
    node.def("add", build(&kn::IndexNode::Add), arg("rows"), doc::knowhere_add);
    node.def("serialize", serialize, doc::knowhere_serialize);
    node.def(
            "deserialize",
            [](NodeHandle& self,
               const py::buffer& data,
               const py::kwargs& parameters) {
                const kn::Config config = config_of(parameters);
                const py::buffer_info info = bytes_argument("data", data);
                run([&] {
                    return self.node->Deserialize(
                            {static_cast<const uint8_t*>(info.ptr),
                             size_t(info.size)},
                            config);
                });
            },
            arg("data"),
            doc::knowhere_deserialize);
    node.def(
            "deserialize_from_file",
            [](NodeHandle& self,
               const std::filesystem::path& path,
               const py::kwargs& parameters) {
                const kn::Config config = config_of(parameters);
                run([&] {
                    return self.node->DeserializeFromFile(
                            path.string(), config);
                });
            },
            arg("path"),
            doc::knowhere_deserialize_from_file);
}

void bind_node_search(NodeClass& node) {
    using py::arg;
    node.def(
            "search",
            search,
            arg("queries"),
            py::kw_only(),
            arg("filtered") = py::none(),
            doc::knowhere_search);
    node.def(
            "range_search",
            range_search,
            arg("queries"),
            py::kw_only(),
            arg("filtered") = py::none(),
            doc::knowhere_range_search);
    node.def(
            "iterate",
            iterate,
            arg("queries"),
            py::kw_only(),
            arg("filtered") = py::none(),
            doc::knowhere_iterate);
    node.def("get_vectors", get_vectors, arg("ids"), doc::knowhere_get_vectors);
    node.def(
            "has_raw_data",
            [](const NodeHandle& self, const std::string& metric_type) {
                return ask([&] { return self.node->HasRawData(metric_type); });
            },
            arg("metric_type") = "L2",
            doc::knowhere_has_raw_data);
    node.def(
            "check",
            [](const NodeHandle& self,
               const std::string& phase,
               const py::kwargs& parameters) {
                const kn::Config config = config_of(parameters);
                const unsigned phases = phase_argument(phase);
                run([&] { return self.node->CheckConfig(config, phases); });
            },
            arg("phase"),
            doc::knowhere_check);
}

void bind_node_facts(NodeClass& node) {
    node.def_property_readonly(
            "type",
            [](const NodeHandle& self) {
                return std::string(self.node->Type());
            },
            doc::knowhere_type);
    node.def_property_readonly(
            "metric_type",
            [](const NodeHandle& self) -> std::optional<std::string> {
                const char* metric =
                        ask([&] { return self.node->MetricType(); });
                return metric == nullptr ? std::optional<std::string>()
                                         : metric;
            },
            doc::knowhere_metric_type);
    node.def_property_readonly(
            "dim",
            [](const NodeHandle& self) {
                return ask([&] { return self.node->Dim(); });
            },
            doc::knowhere_dim);
    node.def_property_readonly(
            "count",
            [](const NodeHandle& self) {
                return ask([&] { return self.node->Count(); });
            },
            doc::knowhere_count);
    node.def_property_readonly(
            "size",
            [](const NodeHandle& self) {
                return ask([&] { return self.node->Size(); });
            },
            doc::knowhere_size);
    node.def("__repr__", node_repr);
    node.def("__reduce__", refuse_pickle);
}

} // namespace

void bind_knowhere(py::module_& parent) {
    py::module_ module = parent.def_submodule(
            "knowhere",
            "Native part of faiss_ext.knowhere; import that instead.");
    bind_factory(module);
    NodeClass node(module, "IndexNode", doc::knowhere_node);
    bind_node_build(node);
    bind_node_search(node);
    bind_node_facts(node);
    py::class_<NodeRows, std::shared_ptr<NodeRows>>(
            module, "RowIterator", doc::knowhere_row_iterator)
            .def("__iter__",
                 [](py::object self) {
                     (void)self.cast<NodeRows&>();
                     return self;
                 })
            .def("__next__", next_row)
            .def("__repr__",
                 [](const NodeRows&) {
                     return "<faiss_ext.knowhere.RowIterator>";
                 })
            .def("__reduce__", refuse_pickle);
    module.def("_schema", schema, py::arg("name"), doc::knowhere_schema);
}

} // namespace faiss_ext::python
