/* Copies of quantizers. */

#pragma once

#include <memory>

#include <faiss/Index.h>

namespace faiss_ext {

/** A copy of any quantizer that Faiss can save. Unless it is flat, it is written
 * and read, not cloned: the clone of an IndexHNSWFlat by Faiss 1.7.3 is a plain
 * IndexHNSW, which Faiss cannot write. */
std::unique_ptr<faiss::Index> clone_quantizer(const faiss::Index& quantizer);

} // namespace faiss_ext
