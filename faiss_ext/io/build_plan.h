/* How a build divides its memory and disk. */

#pragma once

#include <cstddef>
#include <cstdint>

#include <faiss_ext/scann_options.h>

namespace faiss_ext {

class IndexIVFScaNN;

/// What a build is to be made of.
struct BuildRows {
    size_t n;
    RowType type;
    bool in_memory; ///< they take no memory of the build
};

struct BuildPlan {
    size_t run_rows;       ///< of each run but the last one
    uint64_t result_bytes; ///< of the file, within 5 %
};

/** @param index   not trained
 *  @param memory  bytes
 *  @param most    rows of a run, about; 0: as many as fit
 *  @throws faiss::FaissException with the least memory that works */
BuildPlan plan_build(
        const IndexIVFScaNN& index,
        const BuildRows& rows,
        uint64_t memory,
        size_t most);

} // namespace faiss_ext
