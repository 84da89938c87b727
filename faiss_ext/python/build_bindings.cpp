/* Index: training, adding, removing, merging. */

#include <optional>
#include <string>

#include <pybind11/stl.h>

#include "array_arguments.h"
#include "bindings.h"
#include "docstrings.h"
#include "progress.h"
#include "selector_argument.h"
#include "wrapped_index.h"

namespace faiss_ext::python {

namespace {

void check_trained(const IndexHandle& self) {
    if (!self.index()->is_trained) {
        throw py::value_error(
                "the index is not trained: call train(x) before adding");
    }
}

void train(IndexHandle& self, py::handle x, const py::object& given_progress) {
    const py::object progress = progress_for(self, given_progress);
    const TypedArray rows = at_least_one("x", typed_rows_for(self, "x", x));
    self.change(ErrorOrigin::Caller, [&] {
        ProgressScope scope(self.scann(), progress);
        train_rows(self.index(), rows.n, rows);
    });
}

/// @param ids  None: running numbers
void add_any(
        IndexHandle& self,
        py::handle x,
        py::handle ids,
        const py::object& given_progress,
        const py::object& tags) {
    const py::object progress = progress_for(self, given_progress);
    const TypedArray rows = typed_rows_for(self, "x", x);
    Ids new_ids{{}, nullptr, 0};
    if (!ids.is_none()) {
        new_ids = new_ids_argument("ids", ids, rows.n);
    }
    std::optional<Ids> new_tags;
    if (!tags.is_none()) {
        need_plain_scann(self, "tags");
        new_tags = ids_argument("tags", tags, rows.n);
    }
    check_trained(self);
    if (rows.n == 0) {
        return;
    }
    self.change(ErrorOrigin::Caller, [&] {
        ProgressScope scope(self.scann(), progress);
        if (new_tags) {
            self.scann()->add_rows(
                    rows.n, rows.data, rows.type, new_ids.data, new_tags->data);
        } else {
            add_rows(self.index(), rows.n, rows, new_ids.data);
        }
    });
}

void add(
        IndexHandle& self,
        py::handle x,
        const py::object& progress,
        const py::object& tags) {
    add_any(self, x, py::none(), progress, tags);
}

void add_with_ids(
        IndexHandle& self,
        py::handle x,
        py::handle ids,
        const py::object& progress,
        const py::object& tags) {
    if (ids.is_none()) { // refused by name
        new_ids_argument("ids", ids, 0);
    }
    add_any(self, x, ids, progress, tags);
}

void set_tags(IndexHandle& self, py::handle ids, py::handle tags) {
    IndexIVFScaNN& scann = need_plain_scann(self, "set_tags");
    const Ids wanted = ids_argument("ids", ids);
    const Ids values = ids_argument("tags", tags, wanted.n);
    self.change(ErrorOrigin::Caller, [&] {
        scann.set_tags(wanted.n, wanted.data, values.data);
    });
}

py::array_t<int64_t> get_tags(const IndexHandle& self, py::handle ids) {
    const IndexIVFScaNN& scann = need_plain_scann(self, "get_tags");
    const Ids wanted = ids_argument("ids", ids);
    py::array_t<int64_t> tags(wanted.n);
    int64_t* out = tags.mutable_data();
    self.read(ErrorOrigin::Caller, [&] {
        scann.get_tags(wanted.n, wanted.data, out);
    });
    return tags;
}

} // namespace

py::dict calibration_dict(const ScaNNCalibration& chosen) {
    py::dict result;
    result["target_recall"] = as_written(chosen.target_recall);
    result["k"] = chosen.k;
    result["nprobe"] = chosen.nprobe;
    result["refine_k"] = chosen.refine_k;
    result["reorder_k"] = chosen.reorder_k;
    result["recall"] = as_written(chosen.recall);
    return result;
}

namespace {

py::dict calibrate(
        IndexHandle& self,
        py::handle queries,
        double target_recall,
        int64_t k,
        const py::object& given_progress) {
    const py::object progress = progress_for(self, given_progress);
    IndexIVFScaNN& scann = need_plain_scann(self, "calibrate");
    if (!self.index()->is_trained) {
        throw py::value_error(
                "the index is not trained: call train(x) and add(x) before "
                "calibrating");
    }
    Rows rows{{}, nullptr, 0, 0};
    if (!queries.is_none()) {
        rows = some_rows_for(self, "queries", queries);
    }
    ScaNNCalibration chosen = self.change(ErrorOrigin::Caller, [&] {
        ProgressScope scope(&scann, progress);
        return scann.calibrate(rows.n, rows.data, float(target_recall), k);
    });
    return calibration_dict(chosen);
}

size_t remove(IndexHandle& self, py::handle ids) {
    if (is_selector(ids)) {
        auto selector = selector_argument("ids", ids, &self)
                                ->for_index(self.seen()->ntotal);
        return self.change(ErrorOrigin::Caller, [&] {
            return remove_ids(self.index(), *selector);
        });
    }
    Ids wanted = ids_argument("ids", ids);
    return self.change(ErrorOrigin::Caller, [&] {
        faiss::IDSelectorBatch selector(wanted.n, wanted.data);
        return remove_ids(self.index(), selector);
    });
}

void update(IndexHandle& self, py::handle ids, py::handle x) {
    const TypedArray rows = typed_rows_for(self, "x", x);
    const Ids wanted = ids_argument("ids", ids, rows.n);
    check_trained(self);
    if (rows.n > 0) {
        self.change(ErrorOrigin::Caller, [&] {
            update_rows(self.index(), rows.n, wanted.data, rows);
        });
    }
}

size_t code_size(const IndexHandle& self) {
    return self.read(ErrorOrigin::Caller, [&] {
        return codec(self.index())->sa_code_size();
    });
}

py::array_t<uint8_t> encode(const IndexHandle& self, py::handle x) {
    Rows rows = rows_for(self, "x", x);
    check_trained(self);
    py::array_t<uint8_t> codes({rows.n, int64_t(code_size(self))});
    if (rows.n == 0) {
        return codes;
    }
    uint8_t* out = codes.mutable_data();
    self.read(ErrorOrigin::Caller, [&] {
        codec(self.index())->sa_encode(rows.n, rows.data, out);
    });
    return codes;
}

py::array_t<float> decode(const IndexHandle& self, py::handle codes) {
    check_trained(self);
    Codes given = codes_argument("codes", codes, code_size(self));
    py::array_t<float> rows({given.n, int64_t(self.index()->d)});
    if (given.n == 0) {
        return rows;
    }
    float* out = rows.mutable_data();
    self.read(ErrorOrigin::Caller, [&] {
        codec(self.index())->sa_decode(given.n, given.data, out);
    });
    return rows;
}

void add_codes(IndexHandle& self, py::handle codes, const py::object& ids) {
    need_scann(self, "add_sa_codes");
    check_trained(self);
    Codes given = codes_argument("codes", codes, code_size(self));
    std::optional<Ids> new_ids;
    if (!ids.is_none()) {
        new_ids = new_ids_argument("ids", ids, given.n);
    }
    if (given.n == 0) {
        return;
    }
    self.change(ErrorOrigin::Caller, [&] {
        add_sa_codes(
                self.index(),
                given.n,
                given.data,
                new_ids ? new_ids->data : nullptr);
    });
}

void merge(IndexHandle& self, IndexHandle& other, int64_t add_id) {
    if (&self == &other) {
        throw py::value_error("other is the index itself");
    }
    self.change_both(other, ErrorOrigin::Caller, [&] {
        merge_from(self.index(), other.index(), add_id);
    });
}

void copy_subset(
        IndexHandle& self,
        IndexHandle& other,
        int64_t subset_type,
        int64_t a1,
        int64_t a2) {
    if (&self == &other) {
        throw py::value_error("other is the index itself");
    }
    int largest = FAISS_EXT_FAISS_VERSION >= 10704 ? 4 : 2;
    checked_integer("subset_type", subset_type, 0, largest);
    if (subset_type == 1) {
        checked_integer("a1", a1, 1);
    }
    self.change_both(other, ErrorOrigin::Caller, [&] {
        copy_subset_to(self.index(), other.index(), int(subset_type), a1, a2);
    });
}

void set_direct_map(IndexHandle& self, faiss::DirectMap::Type type) {
    faiss::IndexIVF& ivf = need_ivf(self, "set_direct_map_type");
    self.change(ErrorOrigin::Caller, [&] { set_direct_map_type(ivf, type); });
}

void make_direct_map(IndexHandle& self, bool on) {
    set_direct_map(
            self, on ? faiss::DirectMap::Array : faiss::DirectMap::NoMap);
}

void reset(IndexHandle& self) {
    self.change(ErrorOrigin::Caller, [&] { self.index()->reset(); });
}

void bind_training(IndexClass& index) {
    using py::arg;
    py::object none = py::none();
    index.def("train", train, arg("x"), arg("progress") = none, doc::train)
            .def("calibrate",
                 calibrate,
                 arg("queries") = none,
                 arg("target_recall") = 0.95,
                 arg("k") = 10,
                 arg("progress") = none,
                 doc::calibrate);
}

/// Rows in, out and exchanged; the map from ids to them.
void bind_row_changes(IndexClass& index) {
    using py::arg;
    py::object none = py::none();
    index.def("add",
              add,
              arg("x"),
              arg("progress") = none,
              arg("tags") = none,
              doc::add)
            .def("add_with_ids",
                 add_with_ids,
                 arg("x"),
                 arg("ids"),
                 arg("progress") = none,
                 arg("tags") = none,
                 doc::add_with_ids)
            .def("set_tags", set_tags, arg("ids"), arg("tags"), doc::set_tags)
            .def("get_tags", get_tags, arg("ids"), doc::get_tags)
            .def("remove_ids", remove, arg("ids"), doc::remove_ids)
            .def("update_vectors",
                 update,
                 arg("ids"),
                 arg("x"),
                 doc::update_vectors)
            .def("reset", reset, doc::reset)
            .def("set_direct_map_type",
                 set_direct_map,
                 arg("type"),
                 doc::set_direct_map_type)
            .def("make_direct_map",
                 make_direct_map,
                 arg("new_maintain_direct_map") = true,
                 doc::make_direct_map);
}

/// Rows as codes.
void bind_codes(IndexClass& index) {
    using py::arg;
    index.def("sa_code_size", code_size, doc::sa_code_size)
            .def("sa_encode", encode, arg("x"), doc::sa_encode)
            .def("sa_decode", decode, arg("codes"), doc::sa_decode)
            .def("add_sa_codes",
                 add_codes,
                 arg("codes"),
                 arg("ids") = py::none(),
                 doc::add_sa_codes);
}

/// Rows from one index to another.
void bind_transfers(IndexClass& index) {
    using py::arg;
    index.def("merge_from",
              merge,
              arg("other"),
              arg("add_id") = 0,
              doc::merge_from)
            .def("copy_subset_to",
                 copy_subset,
                 arg("other"),
                 arg("subset_type"),
                 arg("a1"),
                 arg("a2"),
                 doc::copy_subset_to);
}

} // namespace

void bind_build(IndexClass& index) {
    bind_training(index);
    bind_row_changes(index);
    bind_codes(index);
    bind_transfers(index);
}

} // namespace faiss_ext::python
