/*
 * The interface inside libknowhere_scann_engine.so between node.cpp, compiled
 * with the host's old std::string, and engine.cpp, compiled with the new one:
 * plain C types only, and nothing throws. engine.cpp has the index;
 * baseline_engine.cpp has none, for benchmarks of the host itself.
 */

#pragma once

#include <cstddef>
#include <cstdint>

namespace knowhere_plugin::milvus23 {

/// How a value arrives from the host.
enum class ValueKind { Text, Integer, Real, Flag };
enum EnginePhase : unsigned {
    kEngineBuild = 1,
    kEngineSearch = 2,
    kEngineRange = 4,
    kEngineLoad = 8
};

struct EngineParameter {
    const char* name;
    ValueKind kind;
    unsigned phases; ///< EnginePhase
};

struct EngineSetting {
    const char* key;
    const char* value;
};
struct EngineSettings {
    const EngineSetting* settings;
    size_t count;
};

/// Rows or queries, borrowed.
struct EngineRows {
    int64_t rows;
    int64_t dim;
    const float* tensor; ///< size rows * dim
};

/// A set bit is a row left out. bits nullptr: none is.
struct EngineFilter {
    const uint8_t* bits;
    size_t size; ///< bits
};

/// Until engine_release(). What a call does not give is nullptr.
struct EngineResult {
    int64_t rows;
    int64_t dim;
    const int64_t* ids;
    const float* distance;
    const size_t* lims;
    const float* tensor;
    uint8_t* bytes; ///< not const in the host's type; it only reads
    size_t byte_count;
    void* owner;
};

struct EngineFailure {
    int32_t code; ///< as Knowhere's Status; 0: no failure
    char text[2048];
};

struct EngineNode;

/// For the log: version, SIMD level, Faiss.
bool engine_describe(char* text, size_t size) noexcept;
/// The parameters that a host may pass; borrowed, for ever.
const EngineParameter* engine_parameters(size_t* count) noexcept;

/// @return nullptr without memory; the other functions accept nullptr and fail
///         with that message
EngineNode* engine_create() noexcept;
void engine_destroy(EngineNode*) noexcept;

enum class BuildStep { Train, Add, Both };
/** Values that are not allowed are replaced and logged: after a failed build the
 * host would try again for ever and tell no user. */
bool engine_build(
        EngineNode*,
        BuildStep,
        const EngineRows&,
        const EngineSettings&,
        EngineFailure*) noexcept;
bool engine_search(
        const EngineNode*,
        const EngineRows& queries,
        const EngineSettings&,
        const EngineFilter&,
        EngineResult*,
        EngineFailure*) noexcept;
bool engine_range_search(
        const EngineNode*,
        const EngineRows& queries,
        const EngineSettings&,
        const EngineFilter&,
        EngineResult*,
        EngineFailure*) noexcept;
bool engine_vectors(
        const EngineNode*,
        const int64_t* ids,
        int64_t count,
        EngineResult*,
        EngineFailure*) noexcept;
bool engine_serialize(
        const EngineNode*,
        EngineResult*,
        EngineFailure*) noexcept;
/// @param bytes  copied
bool engine_deserialize(
        EngineNode*,
        const uint8_t* bytes,
        size_t size,
        EngineFailure*) noexcept;
bool engine_open(
        EngineNode*,
        const char* path,
        const EngineSettings&,
        EngineFailure*) noexcept;
void engine_release(EngineResult*) noexcept;

bool engine_has_raw_data(const EngineNode*, const char* metric) noexcept;
int64_t engine_dim(const EngineNode*) noexcept;
int64_t engine_count(const EngineNode*) noexcept;
int64_t engine_bytes(const EngineNode*) noexcept;

} // namespace knowhere_plugin::milvus23
