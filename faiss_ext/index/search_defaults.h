/* The index' settings that searches use by default. */

#pragma once

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/search/search_plan.h>

namespace faiss_ext {

inline SearchDefaults search_defaults(const IndexIVFScaNN& index) {
    return {.nprobe = index.nprobe,
            .max_codes = index.max_codes,
            .reorder_k = index.reorder_k,
            .refine_k = index.refine_k,
            .calibration = index.calibration,
            .profile = index.profile.get()};
}

} // namespace faiss_ext
