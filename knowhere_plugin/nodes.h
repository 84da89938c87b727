/* The nodes that the factory holds from the start. */

#pragma once

#include <algorithm>

#include <knowhere_plugin/index_factory.h>

namespace knowhere_plugin {

void register_scann_node(IndexFactory& factory);
void register_faiss_nodes(IndexFactory& factory);

/// Lists for so many rows: Knowhere's rule, at least 39 rows each.
inline int64_t lists_for(int64_t wanted, int64_t rows) {
    return std::max<int64_t>(1, std::min(wanted, rows / 39));
}

} // namespace knowhere_plugin
