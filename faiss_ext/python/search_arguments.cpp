#include "search_arguments.h"

#include <string>

#include "array_arguments.h"
#include "selector_argument.h"

namespace faiss_ext::python {

namespace {

/// An integer field of an object; nothing for None.
Option number_in(py::handle params, const char* field) {
    py::object value = params.attr(field);
    if (value.is_none()) {
        return {};
    }
    auto number =
            py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
    if (!number) {
        PyErr_Clear();
        throw py::type_error(
                std::string("params.") + field + " = " +
                py::repr(value).cast<std::string>() + " (allowed: an integer)");
    }
    int overflow = 0;
    const int64_t result =
            PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
    if (overflow != 0) {
        throw py::value_error(
                std::string("params.") + field + " = " +
                py::str(number).cast<std::string>() +
                " (allowed: 64-bit integers)");
    }
    return result;
}

enum class ParameterKind { Plain, IVF, ScaNN };

/// By the names of the classes, so that faiss-cpu's are understood, too.
ParameterKind kind_of(py::handle params) {
    py::type type = py::type::of(params);
    for (py::handle base : py::tuple(type.attr("__mro__"))) {
        auto name = py::str(base.attr("__name__")).cast<std::string>();
        if (name == "SearchParametersScaNN") {
            return ParameterKind::ScaNN;
        }
        if (name == "SearchParametersIVF") {
            return ParameterKind::IVF;
        }
        // other classes below Faiss' base have what we would not see
        if (name == "SearchParameters" &&
            (base.is(type) || base.attr("__module__")
                                      .attr("startswith")("faiss_ext")
                                      .cast<bool>())) {
            return ParameterKind::Plain;
        }
    }
    throw py::type_error(
            "params is a " +
            py::str(type.attr("__name__")).cast<std::string>() +
            " (allowed: None, SearchParameters, SearchParametersIVF, "
            "SearchParametersScaNN)");
}

/// Fields of faiss-cpu's SearchParametersIVF that say nothing here.
void refuse_unknown_fields(py::handle params) {
    for (const char* field :
         {"quantizer_params",
          "inverted_list_context",
          "max_lists_num",
          "ensure_topk_full",
          "max_empty_result_buckets"}) {
        if (py::bool_(py::getattr(params, field, py::none()))) {
            throw py::value_error(
                    std::string("params.") + field +
                    " is set (allowed: sel, nprobe, max_codes)");
        }
    }
}

[[noreturn]] void refuse_twice(const char* name) {
    throw py::value_error(
            std::string(name) + " is given by the keyword and by params; " +
            "allowed: one of them");
}

Option only_one(const char* name, Option keyword, Option in_params) {
    if (keyword && in_params) {
        refuse_twice(name);
    }
    return keyword ? keyword : in_params;
}

/// The field target_recall, which objects of older versions do not have.
void take_target(py::handle params, std::optional<double>& keyword) {
    const py::object value = py::getattr(params, "target_recall", py::none());
    if (value.is_none()) {
        return;
    }
    if (keyword) {
        refuse_twice("target_recall");
    }
    const double target = PyFloat_AsDouble(value.ptr());
    if (PyErr_Occurred() != nullptr) {
        PyErr_Clear();
        throw py::type_error(
                "params.target_recall = " +
                py::repr(value).cast<std::string>() + " (allowed: a number)");
    }
    keyword = target;
}

/// @throws ValueError  out of range, or with what it chooses itself
float checked_target(const IndexHandle& self, const SearchKeywords& given) {
    const double target = *given.target_recall;
    need_scann(self, "target_recall");
    const std::string shown = py::str(py::float_(target)).cast<std::string>();
    const double highest = as_written(ScaNNProfile::kHighestTarget);
    if (!(target >= ScaNNProfile::kLowestTarget && target <= highest)) {
        throw py::value_error(
                "target_recall = " + shown + " (allowed: 0.5..0.999)");
    }
    if (given.nprobe || given.refine_k || given.reorder_k) {
        throw py::value_error(
                "target_recall = " + shown +
                " with nprobe, refine_k or reorder_k, which it chooses "
                "(allowed: one or the others)");
    }
    return float(target);
}

/// With what `params` holds.
SearchKeywords merged(SearchKeywords keywords) {
    const py::object& params = keywords.params;
    if (params.is_none()) {
        return keywords;
    }
    const ParameterKind kind = kind_of(params);
    if (kind == ParameterKind::IVF) {
        refuse_unknown_fields(params);
    }
    py::object sel = given_field(params, "sel");
    if (!sel.is_none()) {
        if (!keywords.filter.is_none()) {
            refuse_twice("filter");
        }
        keywords.filter = sel;
    }
    auto take = [&](const char* name, Option& keyword) {
        keyword = only_one(name, keyword, number_in(params, name));
    };
    // objects of older versions do not have them
    auto take_if_there = [&](const char* name, Option& keyword) {
        if (py::hasattr(params, name)) {
            take(name, keyword);
        }
    };
    if (kind != ParameterKind::Plain) {
        take("nprobe", keywords.nprobe);
        take("max_codes", keywords.max_codes);
    }
    if (kind == ParameterKind::ScaNN) {
        take("refine_k", keywords.refine_k);
        take("reorder_k", keywords.reorder_k);
        take_target(params, keywords.target_recall);
        take_if_there("max_per_group", keywords.max_per_group);
        take_if_there("groups", keywords.groups);
    }
    return keywords;
}

} // namespace

SearchArguments search_arguments(
        const IndexHandle& self,
        py::handle x,
        const SearchKeywords& keywords,
        size_t lists_given) {
    const auto seen = self.seen();
    const faiss::Index& index = *seen;
    SearchArguments arguments{typed_rows_for(self, "x", x), {}, {}, {}};
    const SearchKeywords given = merged(keywords);
    SelectorPointer selector = selector_argument("filter", given.filter, &self);
    if (!index.is_trained) {
        throw py::value_error(
                "the index is not trained: call train(x) and add(x) before "
                "searching");
    }
    SearchParametersScaNN& params = arguments.params;
    if (given.target_recall) {
        params.target_recall = checked_target(self, given);
    }
    if (const faiss::IndexIVF* ivf = find_ivf(&index)) {
        if (given.target_recall) {
            params.nprobe = 0;
        } else if (given.nprobe) {
            params.nprobe =
                    checked_integer("nprobe", *given.nprobe, 1, ivf->nlist);
        } else {
            params.nprobe = ivf->nprobe;
        }
        params.max_codes = ivf->max_codes;
    } else if (given.nprobe) {
        params.nprobe = checked_integer("nprobe", *given.nprobe, 1);
    }
    if (lists_given > 0) {
        params.nprobe = lists_given;
    }
    if (given.max_codes) {
        params.max_codes = checked_integer("max_codes", *given.max_codes, 0);
    }
    if (given.reorder_k) {
        params.reorder_k = checked_integer("reorder_k", *given.reorder_k, 0);
    }
    if (given.refine_k) {
        params.refine_k = checked_integer("refine_k", *given.refine_k, 0);
    }
    if (given.max_per_group || given.groups) {
        need_scann(self, "max_per_group");
        params.max_per_group = checked_integer(
                "max_per_group", given.max_per_group.value_or(0), 0);
        params.groups = checked_integer("groups", given.groups.value_or(0), 0);
    }
    if (selector != nullptr) {
        arguments.selector = selector->for_index(index.ntotal);
        // not const, as Faiss' SearchParameters require; it is never changed
        params.sel = const_cast<faiss::IDSelector*>(arguments.selector.get());
    }
    return arguments;
}

} // namespace faiss_ext::python
