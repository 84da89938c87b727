/*
 * Is this process the host that abi.h was written for?
 *
 * C types only: part of both libraries, loader.cpp and register.cpp.
 */

#pragma once

#include <cstddef>

namespace knowhere_plugin::milvus23 {

enum class Host {
    None,  ///< no Knowhere in this process
    Known, ///< Knowhere v2.2.3 with its old std::string
    Other, ///< some other Knowhere
};

struct HostFunctions {
    void* instance;      ///< abi::InstanceFunction
    void* register_type; ///< abi::RegisterFunction
};

/// @param why  for Other: what differs, one line
Host find_host(HostFunctions* functions, char* why, size_t size) noexcept;

} // namespace knowhere_plugin::milvus23
