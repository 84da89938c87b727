/*
 * Objects that were made without their constructor: T.__new__(T), or a
 * subclass that does not call super().__init__(). pybind11 would pass
 * uninitialised memory for such an object; here it is a TypeError.
 *
 * To be included wherever a function of the module takes one of the classes
 * named at the end; selectors.h does the same for selectors.
 */

#pragma once

#include <string>

#include <pybind11/pybind11.h>

#include <faiss/invlists/DirectMap.h>

#include <faiss_ext/IndexIVFScaNN.h>

namespace faiss_ext::python {

class IndexHandle;
class NodeHandle;
class NodeRows;
class SearchIterator;
struct FactoryHandle;

/// A caster of pybind11 that checks whether there is an object.
template <class T>
struct ConstructedCaster : pybind11::detail::type_caster_base<T> {
    using Base = pybind11::detail::type_caster_base<T>;

    bool load(pybind11::handle source, bool convert) {
        return Base::template load_impl<ConstructedCaster>(source, convert);
    }

    /// Called by load_impl().
    void load_value(pybind11::detail::value_and_holder&& found) {
        if (found.value_ptr() == nullptr) {
            throw pybind11::type_error(
                    "this " + std::string(Base::typeinfo->type->tp_name) +
                    " was made without its constructor");
        }
        Base::value = found.value_ptr();
    }
    // load_impl() calls these, too
    using Base::check_holder_compat;
    using Base::try_direct_conversions;
    using Base::try_implicit_casts;
};

} // namespace faiss_ext::python

namespace pybind11::detail {

template <>
struct type_caster<faiss_ext::python::IndexHandle>
        : faiss_ext::python::ConstructedCaster<faiss_ext::python::IndexHandle> {
};
template <>
struct type_caster<faiss_ext::python::NodeHandle>
        : faiss_ext::python::ConstructedCaster<faiss_ext::python::NodeHandle> {
};
template <>
struct type_caster<faiss_ext::python::NodeRows>
        : faiss_ext::python::ConstructedCaster<faiss_ext::python::NodeRows> {};
template <>
struct type_caster<faiss_ext::python::SearchIterator>
        : faiss_ext::python::ConstructedCaster<
                  faiss_ext::python::SearchIterator> {};
template <>
struct type_caster<faiss_ext::python::FactoryHandle>
        : faiss_ext::python::ConstructedCaster<
                  faiss_ext::python::FactoryHandle> {};
template <>
struct type_caster<faiss_ext::ScaNNSearchStats>
        : faiss_ext::python::ConstructedCaster<faiss_ext::ScaNNSearchStats> {};
template <>
struct type_caster<faiss::DirectMap::Type>
        : faiss_ext::python::ConstructedCaster<faiss::DirectMap::Type> {};

} // namespace pybind11::detail
