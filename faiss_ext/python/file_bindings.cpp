/* Files, bytes, copies: write_index, read_index, pickle, clone, export. */

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <faiss/impl/FaissAssert.h>
#include <faiss/impl/FaissException.h>
#include <faiss/impl/io.h>
#include <faiss/index_io.h>

#include <faiss_ext/index_io.h>
#include <faiss_ext/io/column_tiers.h>
#include <faiss_ext/io/faiss_bytes.h>
#include <faiss_ext/io/regular_files.h>

#include "array_arguments.h"
#include "bindings.h"
#include "docstrings.h"
#include "progress.h"

namespace faiss_ext::python {

namespace {

using Path = std::filesystem::path;
using IndexPointer = std::shared_ptr<IndexHandle>;

IndexPointer handle_of(faiss::Index* index) {
    return std::make_shared<IndexHandle>(std::unique_ptr<faiss::Index>(index));
}

void write(const IndexHandle& self, const Path& path) {
    need_scann(self, "write_index");
    self.see(ErrorOrigin::File, [&](const faiss::Index& index) {
        faiss_ext::write_index(&index, path.string());
    });
}

/** Calls work(), which reads an index.
 * @param source  what from_faiss() takes for the same bytes
 * @throws faiss::FaissException  which also says how to take over an index of
 *         Faiss if this is one */
template <class Work>
IndexPointer reading(const char* source, Work&& work) {
    try {
        return work();
    } catch (faiss::FaissException& error) {
        // without the zero byte at the end of msg
        const std::string message = error.what();
        if (message.find("this is a file of Faiss") != std::string::npos) {
            error.msg = message +
                        ". For an index that searches with ScaNN: "
                        "faiss_ext.from_faiss(" +
                        source + ")";
        }
        throw;
    }
}

IndexPointer read(const Path& path, bool mmap, bool verify) {
    ReadMode mode = !mmap    ? ReadMode::Copy
                    : verify ? ReadMode::MmapVerified
                             : ReadMode::Mmap;
    return without_gil(ErrorOrigin::File, [&] {
        return reading("path", [&] {
            return handle_of(faiss_ext::read_index(path.string(), mode));
        });
    });
}

IndexPointer read_within(const Path& path, uint64_t memory) {
    return without_gil(ErrorOrigin::File, [&] {
        return reading("path", [&] {
            return handle_of(
                    faiss_ext::read_index(path.string(), ReadBounds{memory}));
        });
    });
}

py::list as_tuples(const std::vector<ColumnBytes>& columns) {
    py::list list;
    for (const ColumnBytes& c : columns) {
        list.append(py::make_tuple(
                c.column, c.memory, c.mapped, c.on_demand, c.cache));
    }
    return list;
}

py::list columns_of(const IndexHandle& self) {
    need_scann(self, "column_bytes");
    return as_tuples(self.see(
            ErrorOrigin::Caller,
            [&](const faiss::Index& index) { return column_bytes(&index); }));
}

py::list columns_of_file(const Path& path, uint64_t memory) {
    return as_tuples(without_gil(ErrorOrigin::File, [&] {
        return column_bytes(path.string(), ReadBounds{memory});
    }));
}

IndexPointer clone(const IndexHandle& self) {
    need_scann(self, "clone_index");
    return self.see(ErrorOrigin::Caller, [&](const faiss::Index& index) {
        return handle_of(faiss_ext::clone_index(&index));
    });
}

std::vector<uint8_t> serialized(const IndexHandle& self) {
    need_scann(self, "serialize_index");
    return self.see(ErrorOrigin::File, [&](const faiss::Index& index) {
        faiss::VectorIOWriter writer;
        faiss_ext::write_index(&index, &writer);
        return std::move(writer.data);
    });
}

IndexPointer deserialized(const void* data, size_t n) {
    return without_gil(ErrorOrigin::File, [&] {
        SpanReader reader({static_cast<const uint8_t*>(data), n});
        return reading("data", [&] {
            return handle_of(faiss_ext::read_index(&reader, n));
        });
    });
}

py::array_t<uint8_t> serialize(const IndexHandle& self) {
    return bytes_array(serialized(self));
}

IndexPointer deserialize(const py::buffer& data) {
    py::buffer_info info = bytes_argument("data", data);
    return deserialized(info.ptr, info.size);
}

void export_plain(const IndexHandle& self, const Path& path) {
    need_scann(self, "export_to_faiss");
    const auto plain =
            self.see(ErrorOrigin::Caller, [&](const faiss::Index& index) {
                return std::unique_ptr<faiss::Index>(export_to_faiss(&index));
            });
    without_gil(ErrorOrigin::File, [&] {
        OutputFile file(path.string());
        faiss::write_index(plain.get(), &file);
        file.become_target();
    });
}

/// The new index and notes on it.
py::tuple import_bytes(
        const uint8_t* bytes,
        size_t size,
        const std::string& description,
        const py::object& progress) {
    std::vector<std::string> notes;
    IndexPointer index = without_gil(ErrorOrigin::Caller, [&] {
        FaissImport how;
        how.description = description;
        how.progress = progress_of(progress);
        return handle_of(import_from_faiss(bytes, size, how, &notes));
    });
    return py::make_tuple(std::move(index), notes);
}

py::tuple import_data(
        const py::buffer& data,
        const std::string& description,
        const py::object& progress) {
    check_callable(progress);
    py::buffer_info info = bytes_argument("data", data);
    return import_bytes(
            static_cast<const uint8_t*>(info.ptr),
            info.size,
            description,
            progress);
}

py::tuple import_file(
        const Path& path,
        const std::string& description,
        const py::object& progress) {
    check_callable(progress);
    size_t size = 0;
    std::shared_ptr<const uint8_t> memory = without_gil(ErrorOrigin::File, [&] {
        InputFile file(path.string());
        size = file.size();
        return file.map();
    });
    return import_bytes(memory.get(), size, description, progress);
}

void bind_copies(IndexClass& index) {
    index.def("__deepcopy__", [](const IndexHandle& self, py::handle) {
        return clone(self);
    });
    // below protocol 2, object.__reduce__ calls the base class of pybind11's
    // classes, which ends the process
    index.def("__reduce__", [](const py::object& self) {
        (void)self.cast<const IndexHandle&>();
        py::object make = py::module_::import("copyreg").attr("__newobj__");
        return py::make_tuple(
                make,
                py::make_tuple(py::type::of(self)),
                self.attr("__getstate__")());
    });
    index.def(py::pickle(
            [](const IndexHandle& self) {
                std::vector<uint8_t> bytes = serialized(self);
                return py::bytes(
                        reinterpret_cast<const char*>(bytes.data()),
                        bytes.size());
            },
            [](const py::bytes& state) {
                std::string_view bytes = state;
                return deserialized(bytes.data(), bytes.size());
            }));
}

} // namespace

void bind_files(py::module_& module, IndexClass& index) {
    using py::arg;
    module.def(
            "write_index", write, arg("index"), arg("path"), doc::write_index);
    module.def(
            "_read_index",
            read,
            arg("path"),
            arg("mmap") = false,
            arg("verify") = false);
    // read_index and column_bytes of the package
    module.def("_read_within", read_within, arg("path"), arg("memory"));
    module.def("_columns_of", columns_of, arg("index"));
    module.def("_columns_of_file", columns_of_file, arg("path"), arg("memory"));
    module.def("clone_index", clone, arg("index"), doc::clone_index);
    module.def(
            "export_to_faiss",
            export_plain,
            arg("index"),
            arg("path"),
            doc::export_to_faiss);
    // from_faiss of the package
    module.def(
            "_import_data",
            import_data,
            arg("data"),
            arg("description"),
            arg("progress"));
    module.def(
            "_import_file",
            import_file,
            arg("path"),
            arg("description"),
            arg("progress"));
    module.def(
            "serialize_index", serialize, arg("index"), doc::serialize_index);
    module.def(
            "deserialize_index",
            deserialize,
            arg("data"),
            doc::deserialize_index);
    bind_copies(index);
}

} // namespace faiss_ext::python
