#include "selector_argument.h"

#include <optional>
#include <string>
#include <vector>

#include "array_arguments.h"
#include "wrapped_index.h"

namespace faiss_ext::python {

namespace {

/// Faiss' selectors say what they are by the name of their class alone.
std::string class_of(py::handle value) {
    return py::str(py::type::of(value).attr("__name__")).cast<std::string>();
}

bool has_is_member(py::handle value) {
    py::object method = py::getattr(value, "is_member", py::none());
    return PyCallable_Check(method.ptr()) != 0;
}

/// A number of a Faiss object.
int64_t number_of(py::handle value, const char* field) {
    return py::int_(value.attr(field)).cast<int64_t>();
}

/// Whether two of SWIG's proxies stand for the same C++ object.
bool same_object(py::handle a, py::handle b) {
    py::object one = py::getattr(a, "this", py::none());
    py::object other = py::getattr(b, "this", py::none());
    return !one.is_none() && !other.is_none() && one.equal(other);
}

/// Objects that faiss-cpu keeps alive for another one.
std::vector<py::object> kept_by(py::handle owner, const char* field) {
    std::vector<py::object> kept;
    py::object fields = py::getattr(owner, "_sp_field_refs", py::none());
    if (py::isinstance<py::dict>(fields)) {
        py::object one = fields.attr("get")(field);
        kept.push_back(one);
    }
    py::object list = py::getattr(owner, "referenced_objects", py::none());
    if (py::isinstance<py::list>(list)) {
        for (py::handle one : py::reinterpret_borrow<py::list>(list)) {
            if (!py::isinstance<py::tuple>(one)) {
                kept.push_back(py::reinterpret_borrow<py::object>(one));
                continue;
            }
            for (py::handle inner : one) {
                kept.push_back(py::reinterpret_borrow<py::object>(inner));
            }
        }
    }
    return kept;
}

/// Reads selectors that are not ours.
class ForeignSelector {
 public:
    ForeignSelector(const char* name, const IndexHandle* index)
            : name_(name), index_(index) {}

    SelectorPointer read(py::handle value, size_t level) {
        if (level > Selector::kMaxLevels || ++parts_ > Selector::kMaxParts) {
            throw py::value_error(
                    std::string(name_) + " is nested too deep (allowed: " +
                    std::to_string(Selector::kMaxParts) + " parts, " +
                    std::to_string(Selector::kMaxLevels) + " deep)");
        }
        if (py::isinstance<Selector>(value)) {
            (void)value.cast<const Selector&>();
            return value.cast<std::shared_ptr<Selector>>();
        }
        const std::string kind = class_of(value);
        if (kind == "IDSelectorRange") {
            return std::make_shared<RangeSelector>(
                    number_of(value, "imin"), number_of(value, "imax"));
        }
        if (kind == "IDSelectorAll") {
            return std::make_shared<AllSelector>();
        }
        if (kind == "IDSelectorArray") {
            if (auto array = array_behind(value, "ids")) {
                return std::make_shared<ArraySelector>(*array);
            }
        }
        if (kind == "IDSelectorBitmap") {
            if (auto array = array_behind(value, "bitmap")) {
                return std::make_shared<BitmapSelector>(*array);
            }
        }
        if (kind == "IDSelectorNot") {
            return std::make_shared<NotSelector>(part(value, "sel", level));
        }
        if (kind == "IDSelectorAnd") {
            return pair<AndSelector>(value, level);
        }
        if (kind == "IDSelectorOr") {
            return pair<OrSelector>(value, level);
        }
        if (kind == "IDSelectorXOr") {
            return pair<XorSelector>(value, level);
        }
        return ask(value, kind);
    }

 private:
    template <class Pair>
    SelectorPointer pair(py::handle value, size_t level) {
        SelectorPointer left = part(value, "lhs", level);
        SelectorPointer right = part(value, "rhs", level);
        return std::make_shared<Pair>(std::move(left), std::move(right));
    }

    SelectorPointer part(py::handle value, const char* field, size_t level) {
        return read(given_field(value, field), level + 1);
    }

    /// The array of which the object has the address and the length. No memory
    /// is read by an address that an object tells.
    static std::optional<py::array> array_behind(
            py::handle value,
            const char* field) {
        const int64_t n = number_of(value, "n");
        py::object pointer = py::getattr(value, field, py::none());
        if (pointer.is_none() || PyIndex_Check(pointer.ptr()) != 0 ||
            !py::hasattr(pointer, "__int__")) {
            return {};
        }
        const auto address = py::int_(pointer).cast<uint64_t>();
        for (const py::object& kept : kept_by(value, field)) {
            if (!py::isinstance<py::array>(kept)) {
                continue;
            }
            auto array = py::reinterpret_borrow<py::array>(kept);
            if (array.ndim() == 1 && array.shape(0) == n &&
                reinterpret_cast<uint64_t>(array.data()) == address) {
                return array;
            }
        }
        return {};
    }

    /// By is_member(), for each id that there is.
    SelectorPointer ask(py::handle value, const std::string& kind) const {
        if (!has_is_member(value)) {
            throw py::type_error(
                    std::string(name_) + " is a " + kind +
                    " (allowed: None, a mask, ids, Filter, IDSelector.., or "
                    "an object with is_member(id))");
        }
        if (index_ == nullptr) {
            throw py::type_error(
                    std::string(name_) + " is a " + kind +
                    ", of which only is_member() is known: it can be given to "
                    "a search, not to a selector");
        }
        py::object is_member = value.attr("is_member");
        const std::vector<int64_t> ids = index_->read(
                ErrorOrigin::Caller, [&] { return all_ids(index_->index()); });
        std::vector<int64_t> members;
        for (size_t i = 0; i < ids.size(); i++) {
            py::object said = is_member(ids[i]);
            const int truth = PyObject_IsTrue(said.ptr());
            if (truth < 0 || (i % 1024 == 0 && PyErr_CheckSignals() != 0)) {
                throw py::error_already_set();
            }
            if (truth != 0) {
                members.push_back(ids[i]);
            }
        }
        return std::make_shared<ArraySelector>(std::move(members));
    }

    const char* name_;
    const IndexHandle* index_;
    size_t parts_ = 0;
};

} // namespace

bool is_selector(py::handle value) {
    return py::isinstance<Selector>(value) || has_is_member(value);
}

py::object given_field(py::handle owner, const char* field) {
    py::object told = owner.attr(field);
    for (const py::object& kept : kept_by(owner, field)) {
        if (same_object(kept, told)) {
            return kept;
        }
    }
    return told;
}

SelectorPointer selector_argument(
        const char* name,
        py::handle value,
        const IndexHandle* index) {
    if (value.is_none()) {
        return nullptr;
    }
    SelectorPointer selector;
    if (is_selector(value)) {
        selector = ForeignSelector(name, index).read(value, 1);
    } else {
        selector = std::make_shared<Filter>(value);
    }
    if (index != nullptr) {
        selector->check_covers(index->seen()->ntotal);
    }
    return selector;
}

SelectorPointer selector_part(const char* name, py::handle value) {
    if (!is_selector(value)) {
        throw py::type_error(
                std::string(name) + " is a " + class_of(value) +
                " (allowed: an IDSelector or a Filter)");
    }
    return ForeignSelector(name, nullptr).read(value, 1);
}

} // namespace faiss_ext::python
