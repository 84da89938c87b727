/*
 * Searches in a quantizer of Faiss, of any kind, in bounded memory.
 *
 * In: rows. Out: the nearest centroids of each; used by the index where its
 * quantizer is not flat.
 */

#pragma once

#include <cstdint>

#include <faiss/Index.h>

namespace faiss_ext {

/// quantizer.search(), some rows at a time where Faiss makes a table for each.
void search_quantizer(
        const faiss::Index& quantizer,
        int64_t n,
        const float* x,
        int64_t k,
        float* distances,
        int64_t* labels,
        const faiss::SearchParameters* parameters = nullptr);

} // namespace faiss_ext
