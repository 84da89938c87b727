/*
 * What the fuzzers run and what tests/knowhere_plugin/test_fuzz_inputs.cpp runs again on the
 * inputs that were found. A target takes any bytes. It returns if the library
 * kept its promise (SECURITY.md), throws if it broke it in a way that can be
 * seen from outside, and a sanitizer sees the rest.
 */

#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

namespace fuzz {

using Bytes = std::span<const uint8_t>;

struct BrokenPromise : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/** A file of the engine: read, mapped or streamed, then operations.
 * @param way  how it is read, which operations, their arguments */
void index_file(Bytes input, uint32_t way);
/// The bytes of a node of the Knowhere-style factory, then all operations.
/// @param way  their arguments
void node_blob(Bytes input, uint32_t way);
/// The ways from 0 on among which all reads and all operations are.
constexpr uint32_t kWays = 40;
/// One way, which the input itself decides.
void index_file(Bytes input);
void node_blob(Bytes input);
/// Two bytes for dimension and metric, then a factory string.
void factory_string(Bytes input);
/// Lines: type, then key=value for a build, "--", key=value for searches.
void node_config(Bytes input);

/// With the checksums of an index file, or of a blob, made right.
std::vector<uint8_t> sealed(Bytes input);

/** Ends the process if more than 256 MB and 8 times the input are held at
 * once while it lives. Built without a sanitizer it limits the address space,
 * and the allocation fails. */
class MemoryLimit {
 public:
    explicit MemoryLimit(size_t input_bytes);
    ~MemoryLimit();
    MemoryLimit(const MemoryLimit&) = delete;
    MemoryLimit& operator=(const MemoryLimit&) = delete;

 private:
    [[maybe_unused]] uint64_t old_limit_ = 0; ///< of the address space
};

} // namespace fuzz
