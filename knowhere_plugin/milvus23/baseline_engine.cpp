/*
 * engine_c.h without an index: returns constant ids, for any data. With it, a
 * benchmark measures the host itself (benchmarks only).
 */

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include <knowhere_plugin/milvus23/engine_c.h>

namespace knowhere_plugin::milvus23 {

struct EngineNode {
    int64_t rows = 0;
    int64_t dim = 0;
};

namespace {

constexpr char kMagic[8] = {'b', 'a', 's', 'e', 'l', 'i', 'n', 'e'};
constexpr int32_t kNotImplemented = 7, kMallocError = 13, kInvalidBlob = 19;

constexpr EngineParameter kParameters[] = {
        {"k", ValueKind::Integer, kEngineSearch},
        {"nprobe", ValueKind::Integer, kEngineSearch | kEngineRange},
        {"reorder_k", ValueKind::Integer, kEngineSearch},
        {"metric_type",
         ValueKind::Text,
         kEngineBuild | kEngineSearch | kEngineRange},
};

struct ResultMemory {
    std::vector<int64_t> ids;
    std::vector<float> distance;
    std::vector<size_t> lims;
    std::vector<uint8_t> bytes;
};

bool fail(EngineFailure* failure, int32_t code, const char* text) {
    failure->code = code;
    snprintf(failure->text, sizeof(failure->text), "%s", text);
    return false;
}

/// work(ResultMemory&) fills what the result then points to.
template <class Work>
bool fill_result(EngineResult* result, EngineFailure* failure, Work&& work) {
    try {
        auto memory = std::make_unique<ResultMemory>();
        work(*memory);
        result->ids = memory->ids.data();
        result->distance = memory->distance.data();
        result->lims = memory->lims.empty() ? nullptr : memory->lims.data();
        result->bytes = memory->bytes.data();
        result->byte_count = memory->bytes.size();
        result->owner = memory.release();
        return true;
    } catch (const std::bad_alloc&) {
        return fail(failure, kMallocError, "out of memory");
    }
}

} // namespace

bool engine_describe(char* text, size_t size) noexcept {
    snprintf(text, size, "%s (no index, constant ids)", FAISS_EXT_VERSION);
    return true;
}

const EngineParameter* engine_parameters(size_t* count) noexcept {
    *count = std::size(kParameters);
    return kParameters;
}

EngineNode* engine_create() noexcept {
    return new (std::nothrow) EngineNode;
}

void engine_destroy(EngineNode* engine) noexcept {
    delete engine;
}

bool engine_build(
        EngineNode* engine,
        BuildStep,
        const EngineRows& rows,
        const EngineSettings&,
        EngineFailure*) noexcept {
    *engine = {rows.rows, rows.dim};
    return true;
}

bool engine_search(
        const EngineNode* engine,
        const EngineRows& queries,
        const EngineSettings& settings,
        const EngineFilter&,
        EngineResult* result,
        EngineFailure* failure) noexcept {
    int64_t k = 10;
    for (size_t i = 0; i < settings.count; i++) {
        if (std::strcmp(settings.settings[i].key, "k") == 0) {
            k = std::max(1ll, std::atoll(settings.settings[i].value));
        }
    }
    result->rows = queries.rows;
    result->dim = k;
    return fill_result(result, failure, [&](ResultMemory& memory) {
        for (int64_t q = 0; q < queries.rows; q++) {
            for (int64_t i = 0; i < k; i++) {
                memory.ids.push_back(i < engine->rows ? i : -1);
                memory.distance.push_back(0);
            }
        }
    });
}

bool engine_range_search(
        const EngineNode*,
        const EngineRows& queries,
        const EngineSettings&,
        const EngineFilter&,
        EngineResult* result,
        EngineFailure* failure) noexcept {
    result->rows = queries.rows;
    return fill_result(result, failure, [&](ResultMemory& memory) {
        memory.lims.resize(size_t(queries.rows) + 1);
    });
}

bool engine_vectors(
        const EngineNode*,
        const int64_t*,
        int64_t,
        EngineResult*,
        EngineFailure* failure) noexcept {
    return fail(failure, kNotImplemented, "no index: no rows");
}

bool engine_serialize(
        const EngineNode* engine,
        EngineResult* result,
        EngineFailure* failure) noexcept {
    return fill_result(result, failure, [&](ResultMemory& memory) {
        memory.bytes.resize(sizeof(kMagic) + sizeof(EngineNode));
        std::memcpy(memory.bytes.data(), kMagic, sizeof(kMagic));
        std::memcpy(
                memory.bytes.data() + sizeof(kMagic),
                engine,
                sizeof(EngineNode));
    });
}

bool engine_deserialize(
        EngineNode* engine,
        const uint8_t* bytes,
        size_t size,
        EngineFailure* failure) noexcept {
    if (size != sizeof(kMagic) + sizeof(EngineNode) ||
        std::memcmp(bytes, kMagic, sizeof(kMagic)) != 0) {
        return fail(failure, kInvalidBlob, "not a blob of this node");
    }
    std::memcpy(engine, bytes + sizeof(kMagic), sizeof(EngineNode));
    return true;
}

bool engine_open(
        EngineNode*,
        const char*,
        const EngineSettings&,
        EngineFailure* failure) noexcept {
    return fail(failure, kNotImplemented, "no index: no files");
}

void engine_release(EngineResult* result) noexcept {
    delete static_cast<ResultMemory*>(result->owner);
    result->owner = nullptr;
}

bool engine_has_raw_data(const EngineNode*, const char*) noexcept {
    return false;
}

int64_t engine_dim(const EngineNode* engine) noexcept {
    return engine == nullptr ? 0 : engine->dim;
}

int64_t engine_count(const EngineNode* engine) noexcept {
    return engine == nullptr ? 0 : engine->rows;
}

int64_t engine_bytes(const EngineNode*) noexcept {
    return 0;
}

} // namespace knowhere_plugin::milvus23
