/*
 * The submodule `knowhere`: the index factory of knowhere_plugin/ and its
 * nodes.
 *
 * All that nodes decide (names, ranges, defaults, messages) is theirs. The way
 * in and out of a call: knowhere_calls.h.
 */

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <knowhere_plugin/index_factory.h>
#include <knowhere_plugin/parameters.h>

#include "array_arguments.h"
#include "bindings.h"
#include "docstrings.h"
#include "knowhere_calls.h"

namespace faiss_ext::python {

namespace {

using kn::DataSet;
using kn::Status;

py::array_t<uint8_t> serialize_node(const NodeHandle& self) {
    return bytes_array(
            run_for<kn::Blob>([&] { return self.node->Serialize(); }));
}

constexpr std::pair<const char*, kn::Phase> kPhases[] = {
        {"build", kn::kBuild},
        {"search", kn::kSearch},
        {"range_search", kn::kRange},
        {"load", kn::kLoad}};

unsigned phase_argument(const std::string& name) {
    for (auto [known, phase] : kPhases) {
        if (name == known) {
            return phase;
        }
    }
    throw py::value_error(
            "phase = \"" + name +
            "\" (allowed: build|search|range_search|load)");
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
    for (auto [name, phase] : kPhases) {
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
    return property_of([&] {
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
                        for (const auto& [name, features] :
                             property_of([&]() -> Names {
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
                     for (const auto& [name, features] :
                          property_of([&]() -> Names {
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
            run_change([&] {
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
    node.def("serialize", serialize_node, doc::knowhere_serialize);
    node.def(
            "deserialize",
            [](NodeHandle& self,
               const py::buffer& data,
               const py::kwargs& parameters) {
                const kn::Config config = config_of(parameters);
                const py::buffer_info info = bytes_argument("data", data);
                run_change([&] {
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
                run_change([&] {
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
            search_node,
            arg("queries"),
            py::kw_only(),
            arg("filtered") = py::none(),
            doc::knowhere_search);
    node.def(
            "range_search",
            range_search_node,
            arg("queries"),
            py::kw_only(),
            arg("filtered") = py::none(),
            doc::knowhere_range_search);
    node.def(
            "iterate",
            iterate_node,
            arg("queries"),
            py::kw_only(),
            arg("filtered") = py::none(),
            doc::knowhere_iterate);
}

void bind_node_questions(NodeClass& node) {
    using py::arg;
    node.def("get_vectors", get_vectors, arg("ids"), doc::knowhere_get_vectors);
    node.def(
            "has_raw_data",
            [](const NodeHandle& self, const std::string& metric_type) {
                return property_of(
                        [&] { return self.node->HasRawData(metric_type); });
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
                        property_of([&] { return self.node->MetricType(); });
                return metric == nullptr ? std::optional<std::string>()
                                         : metric;
            },
            doc::knowhere_metric_type);
    node.def_property_readonly(
            "dim",
            [](const NodeHandle& self) {
                return property_of([&] { return self.node->Dim(); });
            },
            doc::knowhere_dim);
    node.def_property_readonly(
            "count",
            [](const NodeHandle& self) {
                return property_of([&] { return self.node->Count(); });
            },
            doc::knowhere_count);
    node.def_property_readonly(
            "size",
            [](const NodeHandle& self) {
                return property_of([&] { return self.node->Size(); });
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
    bind_node_questions(node);
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
