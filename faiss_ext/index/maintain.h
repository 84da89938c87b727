/*
 * Maintenance at the end of a call that adds rows (options.auto_maintain).
 *
 * In: an index, the rows that came. Out: the same rows, some in other lists.
 */

#pragma once

#include <cstddef>

namespace faiss_ext {

class IndexIVFScaNN;

/// Does not fail: where memory is missing, nothing is done this time.
void maintain_after_add(IndexIVFScaNN& index, size_t rows);

} // namespace faiss_ext
