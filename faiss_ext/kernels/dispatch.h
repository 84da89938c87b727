/* The kernels of the level in use (simd_level.h). */

#pragma once

#include <faiss_ext/kernels/kernels.h>
#include <faiss_ext/simd_level.h>

namespace faiss_ext {

/// The table in use. @throws faiss::FaissException as simd_level()
const kernels::Kernels& active_kernels();

} // namespace faiss_ext
