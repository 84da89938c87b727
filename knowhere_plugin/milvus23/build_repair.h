/*
 * Build parameters that can be used: what was asked, with the values that
 * cannot replaced by the nearest that can. Milvus 2.3.5 retries a failing build
 * for ever and tells no user, so a build must not fail for them.
 *
 * In: the config of a build, the node that judges it. Out: Repaired; next:
 * engine.cpp.
 */

#pragma once

#include <string>
#include <vector>

#include <knowhere_plugin/index_factory.h>

namespace knowhere_plugin::milvus23 {

struct Repaired {
    Config config;
    /// one line each: key, value, what is allowed, what is used instead
    std::vector<std::string> notes;
};

Repaired repaired(const IndexNode& node, const Config& asked);

/** After a build that failed although each value alone is right: without
 * whatever shapes the index, except the metric and with_raw_data. */
Config without_shaping_parameters(const Config& config);

} // namespace knowhere_plugin::milvus23
