/* What differs between the Faiss releases we compile against (1.7.3, 1.11 and
 * 1.15): with a few #if where these are used, the only place with version
 * checks. */

#pragma once

#include <faiss/Index.h>
#include <faiss/IndexIVF.h>

#define FAISS_EXT_FAISS_VERSION                                \
    (FAISS_VERSION_MAJOR * 10000 + FAISS_VERSION_MINOR * 100 + \
     FAISS_VERSION_PATCH)

/// `override` for functions that are virtual since some release, else nothing
#if FAISS_EXT_FAISS_VERSION >= 10704
#include <faiss/impl/CodePacker.h>
#define FAISS_EXT_OVERRIDE_10704 override
#else
#define FAISS_EXT_OVERRIDE_10704
#endif

namespace faiss_ext {
/// what copy_subset_to() copies: an enum since 1.7.4
#if FAISS_EXT_FAISS_VERSION >= 10704
using SubsetType = faiss::InvertedLists::subset_type_t;
#else
using SubsetType = int;
#endif
} // namespace faiss_ext

/// a last parameter that functions have since some release
#if FAISS_EXT_FAISS_VERSION >= 10800
#define FAISS_EXT_PARAMETER_10800(...) , __VA_ARGS__
#else
#define FAISS_EXT_PARAMETER_10800(...)
#endif

#if FAISS_EXT_FAISS_VERSION >= 11100
#define FAISS_EXT_PARAMETER_11100(...) , __VA_ARGS__
#else
#define FAISS_EXT_PARAMETER_11100(...)
#endif

#if FAISS_EXT_FAISS_VERSION >= 11000
#define FAISS_EXT_OVERRIDE_11000 override
#else
#define FAISS_EXT_OVERRIDE_11000
#endif

#if FAISS_EXT_FAISS_VERSION >= 11200
#define FAISS_EXT_OVERRIDE_11200 override
#else
#define FAISS_EXT_OVERRIDE_11200
#endif
