/* What a search uses where its parameters leave something open. */

#pragma once

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/search/search_plan.h>

namespace faiss_ext {

inline SearchDefaults search_defaults(const IndexIVFScaNN& index) {
    return {index.nprobe,
            index.max_codes,
            index.reorder_k,
            index.refine_k,
            index.calibration};
}

} // namespace faiss_ext
