/* Names of Faiss' classes by the four letters that their bytes begin with. */

#pragma once

#include <string_view>

namespace faiss_ext {

/// "IndexIVFFlat" of "IwFl", or nullptr. All versions of Faiss up to 1.15.
const char* faiss_class_name(std::string_view code);

} // namespace faiss_ext
