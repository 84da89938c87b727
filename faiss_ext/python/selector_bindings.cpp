/* Filter and the selectors by Faiss' names. */

#include <string>

#include "bindings.h"
#include "docstrings.h"
#include "selector_argument.h"
#include "selectors.h"

namespace faiss_ext::python {

namespace {

template <class T>
using SelectorClass = py::class_<T, Selector, std::shared_ptr<T>>;

/// A selector as Python has it: nobody changes it, const or not.
std::shared_ptr<Selector> shown(const SelectorPointer& selector) {
    return std::const_pointer_cast<Selector>(selector);
}

template <class T>
void bind_pair(py::module_& module, const char* name, const char* doc) {
    SelectorClass<T>(module, name, doc)
            .def(py::init([](py::handle lhs, py::handle rhs) {
                     return std::make_shared<T>(
                             selector_part("lhs", lhs),
                             selector_part("rhs", rhs));
                 }),
                 py::arg("lhs"),
                 py::arg("rhs"),
                 doc::selector_pair_init)
            .def_property_readonly(
                    "lhs",
                    [](const T& self) { return shown(self.left()); },
                    doc::selector_lhs)
            .def_property_readonly(
                    "rhs",
                    [](const T& self) { return shown(self.right()); },
                    doc::selector_rhs);
}

} // namespace

void bind_selectors(py::module_& module) {
    using py::arg;
    py::class_<Selector, std::shared_ptr<Selector>>(
            module, "IDSelector", doc::selector)
            .def("is_member",
                 &Selector::is_member,
                 arg("id"),
                 doc::selector_is_member)
            .def("__reduce__", refuse_pickle)
            .def("__repr__", [](const py::object& self) {
                return "<faiss_ext." +
                       py::str(py::type::of(self).attr("__name__"))
                               .cast<std::string>() +
                       ": " + self.cast<const Selector&>().description() + ">";
            });
    SelectorClass<Filter>(module, "Filter", doc::filter)
            .def(py::init<py::handle>(), arg("allowed"), doc::filter_init)
            .def("__len__", &Filter::count)
            .def("__bool__", [](const Filter&) { return true; });
    SelectorClass<RangeSelector>(module, "IDSelectorRange", doc::selector_range)
            .def(py::init([](int64_t imin, int64_t imax, bool) {
                     return std::make_shared<RangeSelector>(imin, imax);
                 }),
                 arg("imin"),
                 arg("imax"),
                 arg("assume_sorted") = false,
                 doc::selector_range_init)
            .def_property_readonly(
                    "imin", &RangeSelector::imin, doc::selector_imin)
            .def_property_readonly(
                    "imax", &RangeSelector::imax, doc::selector_imax);
    SelectorClass<ArraySelector>(module, "IDSelectorArray", doc::selector_array)
            .def(py::init<py::handle>(), arg("ids"), doc::selector_ids_init);
    SelectorClass<BatchSelector>(module, "IDSelectorBatch", doc::selector_batch)
            .def(py::init<py::handle>(), arg("ids"), doc::selector_ids_init);
    SelectorClass<BitmapSelector>(
            module, "IDSelectorBitmap", doc::selector_bitmap)
            .def(py::init<py::handle>(),
                 arg("bitmap"),
                 doc::selector_bitmap_init);
    SelectorClass<AllSelector>(module, "IDSelectorAll", doc::selector_all)
            .def(py::init<>(), doc::selector_all_init);
    SelectorClass<NotSelector>(module, "IDSelectorNot", doc::selector_not)
            .def(py::init([](py::handle sel) {
                     return std::make_shared<NotSelector>(
                             selector_part("sel", sel));
                 }),
                 arg("sel"),
                 doc::selector_not_init)
            .def_property_readonly(
                    "sel",
                    [](const NotSelector& self) { return shown(self.sel()); },
                    doc::selector_sel);
    bind_pair<AndSelector>(module, "IDSelectorAnd", doc::selector_and);
    bind_pair<OrSelector>(module, "IDSelectorOr", doc::selector_or);
    bind_pair<XorSelector>(module, "IDSelectorXOr", doc::selector_xor);
}

} // namespace faiss_ext::python
