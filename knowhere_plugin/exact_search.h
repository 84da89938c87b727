/*
 * Search through all rows of a faiss::IndexFlat.
 *
 * Faiss hands batches of 20 queries and more to BLAS, whose threads are not
 * the caller's; here the engine's kernels work, on the calling thread alone.
 */

#pragma once

#include <faiss/IndexFlat.h>

#include <knowhere_plugin/faiss_node.h>

namespace knowhere_plugin {

/** @param sel  nullptr: every row passes
 *  @param distances, labels  size n * k; -1 beyond the rows that pass */
void exact_search(
        const faiss::IndexFlat& rows,
        const faiss::IDSelector* sel,
        int64_t n,
        const float* x,
        int64_t k,
        float* distances,
        int64_t* labels);

/// Rows nearer than the radius, by id.
Hits exact_range(
        const faiss::IndexFlat& rows,
        const faiss::IDSelector* sel,
        const float* query,
        float radius);

} // namespace knowhere_plugin
