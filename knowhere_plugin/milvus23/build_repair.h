/*
 * Makes build parameters valid: values that are not allowed are replaced by the
 * nearest that are. Milvus 2.3.5 retries a failing build for ever and tells no
 * user, so a build must not fail because of its parameters.
 *
 * In: the config of a build, the node that checks it. Out: Repaired; next:
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

/** For a build that failed although each value alone is valid: the config without
 * all parameters of the index, except the metric and with_raw_data. */
Config without_shaping_parameters(const Config& config);

} // namespace knowhere_plugin::milvus23
