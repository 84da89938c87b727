/*
 * Options of an index: checked, and converted for codebook and training.
 *
 * In: ScaNNOptions as the caller gave them. Out: an exception, block
 * boundaries, eta; next: training.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss_ext/scann_options.h>

namespace faiss_ext {

/// @throws faiss::FaissException naming the value that no index can have
void check_options(
        size_t d,
        faiss::MetricType metric,
        const ScaNNOptions& options);

/// Boundaries of the blocks of dimensions that get one code each, size M + 1.
std::vector<uint32_t> block_offsets(size_t d, const ScaNNOptions& options);

/// The eta that training uses: options.eta, from options.threshold, or the
/// default. @param typical_norm  median length of the rows
float effective_eta(const ScaNNOptions& options, size_t d, float typical_norm);

} // namespace faiss_ext
