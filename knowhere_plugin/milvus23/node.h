/*
 * "SCANN" as the host calls it: an abi::IndexNode around an EngineNode.
 *
 * Converts arguments and results and counts calls. Catches all exceptions: an
 * error is a status with a message (only configs and names have no status; they
 * can only run out of memory, as the host's own).
 */

#pragma once

#include <knowhere_plugin/milvus23/abi.h>

namespace knowhere_plugin::milvus23 {

constexpr char kTypeName[] = "SCANN";

abi::Index create_node(const int32_t& version, const abi::Object&) noexcept;

} // namespace knowhere_plugin::milvus23
