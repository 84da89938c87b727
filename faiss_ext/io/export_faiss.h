/* Codes, centroids and rows in Faiss' own classes. */

#pragma once

#include <memory>

#include <faiss/Index.h>

#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

/// The part of export_to_faiss() (index_io.h) for the ScaNN index itself.
/// @throws faiss::FaissException as export_to_faiss()
std::unique_ptr<faiss::Index> export_index(const IndexState& state);

} // namespace faiss_ext
