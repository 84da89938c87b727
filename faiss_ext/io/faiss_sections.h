/*
 * The sections that hold bytes of Faiss: "tree", the wrappers, and "quantizer".
 *
 * In: an index of Faiss. Out: its bytes, which could be read again, and back.
 */

#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <faiss/Index.h>

#include <faiss_ext/io/file_sections.h>
#include <faiss_ext/io/index_header.h>

namespace faiss_ext {

faiss::MetricType metric_of(const IndexHeader& header);

/// @param wrappers  around an empty IndexFlat
/// @throws faiss::FaissException if they could not be read again
std::vector<uint8_t> tree_bytes(
        const faiss::Index& wrappers,
        const IndexHeader& header);
std::vector<uint8_t> quantizer_bytes(
        const faiss::Index& quantizer,
        const IndexHeader& header);

/// @param section  its bytes are taken
std::unique_ptr<faiss::Index> get_tree(
        ByteReader& section,
        const IndexHeader& header);
/// Of a trained index its centroids are finite.
std::unique_ptr<faiss::Index> get_quantizer(
        ByteReader reader,
        const IndexHeader& header);

} // namespace faiss_ext
