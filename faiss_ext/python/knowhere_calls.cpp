#include "knowhere_calls.h"

#include <algorithm>
#include <vector>

#include "array_arguments.h"

namespace faiss_ext::python {

namespace {

using kn::DataSet;
using kn::Status;
using kn::StatusCode;

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

/// @throws UnicodeEncodeError, a ValueError
std::string utf8(const py::str& text) {
    py::ssize_t size = 0;
    const char* bytes = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
    if (bytes == nullptr) {
        throw py::error_already_set();
    }
    return {bytes, size_t(size)};
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
    if (flags.n == 0 && property_of([&] { return self.node->Count(); }) > 0) {
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

/// The arguments of a search of a node.
struct NodeSearch {
    kn::Config config;
    Rows queries;
    Bits bits;

    NodeSearch(
            const NodeHandle& self,
            py::handle queries,
            py::handle filtered,
            const py::kwargs& parameters)
            : config(config_of(parameters)),
              queries(any_rows_argument("queries", queries)),
              bits(bits_argument(self, filtered)) {}
};

/// Hits of all slices.
struct Hits {
    std::vector<float> distances;
    std::vector<int64_t> ids;

    void append(const DataSet& found, size_t size) {
        distances.insert(
                distances.end(), found.distance, found.distance + size);
        ids.insert(ids.end(), found.ids, found.ids + size);
    }
};

/// Calls take(search(slice)) for slices of the queries; between them, Ctrl-C
/// works.
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

} // namespace

void raise_unless_ok(const Status& status) {
    if (PyErr_Occurred() != nullptr) { // an interrupt, whatever the status is
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

py::tuple search_node(
        const NodeHandle& self,
        py::handle queries,
        py::handle filtered,
        const py::kwargs& parameters) {
    const NodeSearch given(self, queries, filtered, parameters);
    Hits hits;
    int64_t k = 0;
    search_in_slices(
            given.queries,
            [&](const DataSet& some) {
                return self.node->Search(some, given.config, given.bits.view());
            },
            [&](const DataSet& found) {
                k = found.dim;
                hits.append(found, size_t(found.rows * found.dim));
            });
    return py::make_tuple(
            shaped(hits.distances, given.queries.n, k),
            shaped(hits.ids, given.queries.n, k));
}

py::tuple range_search_node(
        const NodeHandle& self,
        py::handle queries,
        py::handle filtered,
        const py::kwargs& parameters) {
    const NodeSearch given(self, queries, filtered, parameters);
    std::vector<int64_t> limits{0};
    Hits hits;
    search_in_slices(
            given.queries,
            [&](const DataSet& some) {
                return self.node->RangeSearch(
                        some, given.config, given.bits.view());
            },
            [&](const DataSet& found) {
                const int64_t before = limits.back();
                for (int64_t q = 1; q <= found.rows; q++) {
                    limits.push_back(before + int64_t(found.lims[q]));
                }
                hits.append(found, found.lims[found.rows]);
            });
    return py::make_tuple(
            array_of(limits), array_of(hits.distances), array_of(hits.ids));
}

py::list iterate_node(
        const NodeHandle& self,
        py::handle queries,
        py::handle filtered,
        const py::kwargs& parameters) {
    const NodeSearch given(self, queries, filtered, parameters);
    py::list iterators;
    for (auto& one : run_for<kn::IndexNode::Iterators>([&] {
             return self.node->AnnIterator(
                     data_of(given.queries), given.config, given.bits.view());
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

} // namespace faiss_ext::python
