/*
 * Which instruction set the library uses: chosen once from the CPU and the
 * operating system, or forced by the environment variable SCANN_SIMD_LEVEL or
 * by set_simd_level().
 */

#pragma once

#include <string>
#include <vector>

#include <faiss_ext/export.h>

namespace faiss_ext {

/// Name of the level in use: NONE, AVX2, AVX512 or ARM_NEON. The first call
/// reads SCANN_SIMD_LEVEL.
/// @throws faiss::FaissException if that names a level that is unknown, was
///         not compiled in, or that this CPU lacks (the message lists the
///         levels that would work)
FAISS_EXT_API std::string simd_level();

/// Levels that this machine can run, best first; the last is always NONE.
FAISS_EXT_API std::vector<std::string> simd_levels();

/// Switches all later calls to a level of simd_levels().
/// @throws faiss::FaissException as simd_level()
FAISS_EXT_API void set_simd_level(const std::string& name);

} // namespace faiss_ext
