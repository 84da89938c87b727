/* A copy of the quantizer. */

#pragma once

#include <memory>

#include <faiss/Index.h>

namespace faiss_ext {

/** A quantizer of any kind that Faiss can save. Saved and read again, not
 * cloned, unless it is flat: 1.7.3's clone of an IndexHNSWFlat is a plain
 * IndexHNSW, which it then cannot write. */
std::unique_ptr<faiss::Index> clone_quantizer(const faiss::Index& quantizer);

} // namespace faiss_ext
