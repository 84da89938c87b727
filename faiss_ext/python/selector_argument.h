/*
 * What Python gives for a selector: None, masks, ids, our selectors, and those
 * of faiss-cpu, which are read by the names of their classes and fields; of any
 * other object its is_member() is asked for each id of the index.
 */

#pragma once

#include "index_handle.h"
#include "selectors.h"

namespace faiss_ext::python {

/// Whether it is a selector of any library, rather than an array.
bool is_selector(py::handle value);

/** @param index  that the ids are of; nullptr: unknown, and then what could
 *                only be asked for ids is a TypeError
 *  @return nullptr for None */
SelectorPointer
selector_argument(const char* name, py::handle value, const IndexHandle* index);

/// What there is of a selector of which others are made.
SelectorPointer selector_part(const char* name, py::handle value);

/** A field of one of faiss-cpu's objects as it was given: SWIG tells it by the
 * name of the base class, but the object keeps what it was made of. */
py::object given_field(py::handle owner, const char* field);

} // namespace faiss_ext::python
