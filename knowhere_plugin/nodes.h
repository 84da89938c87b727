/* The nodes that the factory holds from the start, and what they share. */

#pragma once

#include <algorithm>

#include <faiss/MetricType.h>

#include <knowhere_plugin/faiss_node.h>

namespace knowhere_plugin {

void register_scann_node(IndexFactory& factory);
void register_flat_node(IndexFactory& factory);
void register_ivf_nodes(IndexFactory& factory);
void register_hnsw_node(IndexFactory& factory);

/// Lists for this many rows: Knowhere's rule, at least 39 rows each.
inline int64_t lists_for(int64_t wanted, int64_t rows) {
    return std::max<int64_t>(1, std::min(wanted, rows / 39));
}

inline faiss::MetricType faiss_metric(Metric metric) {
    return metric == Metric::L2 ? faiss::METRIC_L2
                                : faiss::METRIC_INNER_PRODUCT;
}

} // namespace knowhere_plugin
