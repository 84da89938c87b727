/* Index files of more rows than fit into memory: build_index() of the package,
 * which says where the rows are. */

#include <cstring>
#include <filesystem>
#include <optional>
#include <string>

#include <pybind11/numpy.h>
#include <pybind11/stl/filesystem.h>

#include <faiss_ext/build_index.h>
#include <faiss_ext/memory/row_types.h>

#include "array_arguments.h"
#include "bindings.h"
#include "progress.h"

namespace faiss_ext::python {

namespace {

using Path = std::filesystem::path;

RowType type_of(const std::string& name) {
    const std::optional<RowType> type = row_type_named(name);
    if (!type) {
        throw py::value_error(
                "rows have dtype " + name +
                " (allowed: float32, float16, bfloat16, int8, uint8)");
    }
    return *type;
}

/// Rows of this type in C order, of any alignment, not checked for being finite:
/// the build does that, and names rows by their numbers in the source.
py::array piece_of(py::handle value, RowType type, size_t d) {
    py::array rows = py::array_t<float>(0);
    if (py::isinstance<py::array>(value)) {
        rows = py::reinterpret_borrow<py::array>(value);
    }
    constexpr int good = int(py::array::c_style);
    if (rows.ndim() != 2 || size_t(rows.shape(1)) != d ||
        size_t(rows.itemsize()) != value_bytes(type) ||
        (rows.flags() & good) != good) {
        throw py::value_error(
                "rows came as " + py::repr(value).cast<std::string>() +
                " (allowed: arrays of shape (n, " + std::to_string(d) + "), " +
                name_of(type) + ")");
    }
    return rows;
}

/// What all calls have in common, checked by the package.
struct Target {
    std::string description;
    Path path;
    int64_t metric;
    int64_t memory;
    int64_t piece_rows;
    py::object progress;
};

Target target_of(const py::dict& options) {
    Target target{
            options["description"].cast<std::string>(),
            options["path"].cast<Path>(),
            options["metric"].cast<int64_t>(),
            options["memory"].cast<int64_t>(),
            options["piece_rows"].cast<int64_t>(),
            options["progress"]};
    check_callable(target.progress);
    return target;
}

template <class Rows>
void build(const Target& target, Rows&& rows_of) {
    without_gil(ErrorOrigin::Caller, [&] {
        BuildOptions options;
        options.metric = faiss::MetricType(target.metric);
        options.memory = uint64_t(target.memory);
        options.piece_rows = size_t(target.piece_rows);
        options.progress = progress_of(target.progress);
        rows_of([&](auto& rows) {
            build_index(
                    target.description, rows, target.path.string(), options);
        });
    });
}

void build_from_array(
        const py::dict& options,
        const py::object& value,
        const std::string& dtype,
        int64_t d) {
    const RowType type = type_of(dtype);
    const py::array rows = piece_of(value, type, size_t(d));
    const void* data = rows.data();
    const auto n = size_t(rows.shape(0));
    build(target_of(options), [&](const auto& run) {
        run(*rows_in_memory(data, n, size_t(d), type));
    });
}

void build_from_file(
        const py::dict& options,
        const Path& file,
        int64_t offset,
        int64_t stride,
        int64_t n,
        const std::string& dtype,
        int64_t d) {
    const RowType type = type_of(dtype);
    build(target_of(options), [&](const auto& run) {
        run(*rows_in_file(
                file.string(),
                size_t(n),
                size_t(d),
                type,
                uint64_t(offset),
                uint64_t(stride)));
    });
}

/// Rows that Python gives: read(begin, end).
class PythonRows : public RowSource {
 public:
    PythonRows(const py::object& read, size_t n, size_t d, RowType type)
            : RowSource(n, d, type), read_(read) {}

    void read(size_t begin, size_t count, void* rows) override {
        py::gil_scoped_acquire gil;
        const py::array piece =
                piece_of(read_(begin, begin + count), type(), d());
        if (size_t(piece.shape(0)) != count) {
            throw py::value_error(
                    "rows[" + std::to_string(begin) + ":" +
                    std::to_string(begin + count) + "] has " +
                    std::to_string(piece.shape(0)) + " rows");
        }
        std::memcpy(rows, piece.data(), size_t(piece.nbytes()));
    }

 private:
    const py::object& read_;
};

void build_from_pieces(
        const py::dict& options,
        const py::object& read,
        int64_t n,
        const std::string& dtype,
        int64_t d) {
    const RowType type = type_of(dtype);
    build(target_of(options), [&](const auto& run) {
        PythonRows rows(read, size_t(n), size_t(d), type);
        run(rows);
    });
}

/// @param next   gives the next piece, or None
/// @param total  0: not known
void build_from_stream(
        const py::dict& options,
        const py::object& next,
        int64_t total,
        const std::string& dtype,
        int64_t d) {
    const RowType type = type_of(dtype);
    py::object piece;
    RowStream stream{.d = size_t(d), .type = type, .n = size_t(total)};
    stream.next = [&]() -> RowStream::Piece {
        py::gil_scoped_acquire gil;
        piece = next();
        if (piece.is_none()) {
            return {};
        }
        const py::array rows = piece_of(piece, type, size_t(d));
        piece = rows;
        return {rows.data(), size_t(rows.shape(0))};
    };
    build(target_of(options), [&](const auto& run) { run(stream); });
}

} // namespace

void bind_build_index(py::module_& module) {
    using py::arg;
    module.def(
            "_build_from_array",
            build_from_array,
            arg("options"),
            arg("rows"),
            arg("dtype"),
            arg("d"));
    module.def(
            "_build_from_file",
            build_from_file,
            arg("options"),
            arg("file"),
            arg("offset"),
            arg("stride"),
            arg("n"),
            arg("dtype"),
            arg("d"));
    module.def(
            "_build_from_pieces",
            build_from_pieces,
            arg("options"),
            arg("read"),
            arg("n"),
            arg("dtype"),
            arg("d"));
    module.def(
            "_build_from_stream",
            build_from_stream,
            arg("options"),
            arg("next"),
            arg("total"),
            arg("dtype"),
            arg("d"));
}

} // namespace faiss_ext::python
