/*
 * Tags of rows: a 64-bit integer each, by which results are grouped.
 */

#pragma once

#include <cstdint>
#include <vector>

#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

class IndexIVFScaNN;

/// @throws faiss::FaissException if tags are given to rows that have none
void check_may_have_tags(const IndexIVFScaNN& index, const int64_t* tags);

/// @param place  list << 32 | offset
int64_t tag_at(const IndexState& state, uint64_t place);

/// Of some places; empty without tags.
std::vector<int64_t> tags_at(
        const IndexState& state,
        const std::vector<uint64_t>& places);

} // namespace faiss_ext
