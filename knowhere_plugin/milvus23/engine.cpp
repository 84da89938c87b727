/*
 * engine_c.h on "SCANN" of the index factory: C types become DataSet, Config
 * and BitsetView, statuses become failures.
 */

#include <knowhere_plugin/milvus23/engine_c.h>

#include <cctype>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <faiss/Index.h>

#include <faiss_ext/kernels/dispatch.h>

#include <knowhere_plugin/guard.h>
#include <knowhere_plugin/index_factory.h>
#include <knowhere_plugin/milvus23/build_repair.h>
#include <knowhere_plugin/milvus23/counters.h>
#include <knowhere_plugin/preload/plugin_log.h>

namespace knowhere_plugin::milvus23 {

struct EngineNode {
    NodePtr node;
};

namespace {

static_assert(unsigned(kEngineBuild) == unsigned(kBuild));
static_assert(unsigned(kEngineSearch) == unsigned(kSearch));
static_assert(unsigned(kEngineRange) == unsigned(kRange));
static_assert(unsigned(kEngineLoad) == unsigned(kLoad));

NodePtr new_node() {
    auto created = IndexFactory::Instance().Create("SCANN");
    return created.ok() ? created.value() : nullptr;
}

bool fill_failure(const Status& status, EngineFailure* failure) {
    failure->code = int32_t(status.code);
    snprintf(
            failure->text, sizeof(failure->text), "%s", status.message.c_str());
    return status.ok();
}

/// work(IndexNode&) -> Status
template <class Node, class Work>
bool with_node(Node* engine, EngineFailure* failure, Work&& work) noexcept {
    Status status{StatusCode::malloc_error, {}};
    if (engine != nullptr) {
        try {
            status = work(*engine->node);
        } catch (...) {
            status = status_in_flight();
        }
    }
    if (status.code == StatusCode::malloc_error && status.message.empty()) {
        failure->code = int32_t(StatusCode::malloc_error);
        snprintf(failure->text, sizeof(failure->text), "out of memory");
        return false;
    }
    return fill_failure(status, failure);
}

Config config_of(const EngineSettings& settings) {
    Config config;
    for (size_t i = 0; i < settings.count; i++) {
        config[settings.settings[i].key] = settings.settings[i].value;
    }
    return config;
}

DataSet data_of(const EngineRows& rows) {
    DataSet data;
    data.rows = rows.rows;
    data.dim = rows.dim;
    data.tensor = rows.tensor;
    return data;
}

BitsetView bits_of(const EngineFilter& filter) {
    return {filter.bits, filter.size};
}

/// Passes a DataSet to the caller. @throws std::bad_alloc
void hand_over(const DataSet& data, EngineResult* result) {
    result->owner = new std::shared_ptr<const void>(data.owner);
    result->rows = data.rows;
    result->dim = data.dim;
    result->ids = data.ids;
    result->distance = data.distance;
    result->lims = data.lims;
    result->tensor = data.tensor;
}

Status build(
        IndexNode& node,
        BuildStep step,
        const DataSet& rows,
        const Config& config) {
    switch (step) {
        case BuildStep::Train:
            return node.Train(rows, config);
        case BuildStep::Add:
            return node.Add(rows, config);
        case BuildStep::Both:
            return node.Build(rows, config);
    }
    return {};
}

using SearchMethod = Expected<DataSet> (IndexNode::*)(
        const DataSet&,
        const Config&,
        const BitsetView&) const noexcept;

bool run_search(
        SearchMethod search,
        const EngineNode* engine,
        const EngineRows& queries,
        const EngineSettings& settings,
        const EngineFilter& filter,
        EngineResult* result,
        EngineFailure* failure) noexcept {
    return with_node(engine, failure, [&](const IndexNode& node) {
        auto found = (node.*search)(
                data_of(queries), config_of(settings), bits_of(filter));
        if (found.ok()) {
            hand_over(found.value(), result);
        }
        return found.status();
    });
}

/// The kind of a refused blob: Faiss' files, also those of the host's own SCANN
/// ("IxSC"), begin with four such letters.
std::string describe_blob(const uint8_t* bytes, size_t size) {
    std::string kind = std::to_string(size) + " bytes";
    std::string letters;
    for (size_t i = 0; i < 4 && i < size && std::isalnum(bytes[i]); i++) {
        letters += char(bytes[i]);
    }
    if (letters.size() == 4 && letters[0] == 'I') {
        kind += ", \"" + letters +
                "\": an index of the host's own, to be "
                "dropped and built again";
    }
    return " (" + kind + ")";
}

void log_repair(const std::string& text) {
    count(Counter::repairs);
    log_line("build: %s", text.c_str());
}

} // namespace

bool engine_describe(char* text, size_t size) noexcept {
    try {
        snprintf(
                text,
                size,
                "%s (SIMD level %s, Faiss %d.%d.%d)",
                FAISS_EXT_VERSION,
                faiss_ext::simd_level().c_str(),
                FAISS_VERSION_MAJOR,
                FAISS_VERSION_MINOR,
                FAISS_VERSION_PATCH);
        return new_node() != nullptr;
    } catch (...) { // SCANN_SIMD_LEVEL names a level that is not there
        snprintf(text, size, "%s", status_in_flight().message.c_str());
        return false;
    }
}

const EngineParameter* engine_parameters(size_t* count) noexcept {
    static const std::vector<EngineParameter> all = [] {
        std::vector<EngineParameter> made;
        NodePtr node = new_node();
        if (node == nullptr) {
            return made;
        }
        for (const Parameter& p : node->Schema()) {
            ValueKind kind = ValueKind::Text;
            switch (p.type) {
                case ParameterType::Integer:
                    kind = ValueKind::Integer;
                    break;
                case ParameterType::Real:
                    kind = ValueKind::Real;
                    break;
                case ParameterType::Bool:
                    kind = ValueKind::Flag;
                    break;
                case ParameterType::Word:
                    break;
            }
            made.push_back({p.name, kind, p.phases});
        }
        return made;
    }();
    *count = all.size();
    return all.data();
}

EngineNode* engine_create() noexcept {
    try {
        auto engine = std::make_unique<EngineNode>();
        engine->node = new_node();
        return engine->node == nullptr ? nullptr : engine.release();
    } catch (...) {
        return nullptr;
    }
}

void engine_destroy(EngineNode* engine) noexcept {
    delete engine;
}

bool engine_build(
        EngineNode* engine,
        BuildStep step,
        const EngineRows& rows,
        const EngineSettings& settings,
        EngineFailure* failure) noexcept {
    return with_node(engine, failure, [&](IndexNode& node) {
        DataSet data = data_of(rows);
        Repaired plan = repaired(node, config_of(settings));
        for (const std::string& text : plan.notes) {
            log_repair(text);
        }
        Status status = build(node, step, data, plan.config);
        Config plain = without_shaping_parameters(plan.config);
        if (status.ok() || status.code == StatusCode::malloc_error ||
            plain == plan.config) {
            return status;
        }
        Status again = build(node, step, data, plain);
        if (!again.ok()) { // its parameters were not the cause
            return status;
        }
        log_repair(
                status.message + ": using defaults for all parameters but " +
                "metric_type and with_raw_data");
        return again;
    });
}

bool engine_search(
        const EngineNode* engine,
        const EngineRows& queries,
        const EngineSettings& settings,
        const EngineFilter& filter,
        EngineResult* result,
        EngineFailure* failure) noexcept {
    return run_search(
            &IndexNode::Search,
            engine,
            queries,
            settings,
            filter,
            result,
            failure);
}

bool engine_range_search(
        const EngineNode* engine,
        const EngineRows& queries,
        const EngineSettings& settings,
        const EngineFilter& filter,
        EngineResult* result,
        EngineFailure* failure) noexcept {
    return run_search(
            &IndexNode::RangeSearch,
            engine,
            queries,
            settings,
            filter,
            result,
            failure);
}

bool engine_vectors(
        const EngineNode* engine,
        const int64_t* ids,
        int64_t count,
        EngineResult* result,
        EngineFailure* failure) noexcept {
    return with_node(engine, failure, [&](const IndexNode& node) {
        DataSet wanted;
        wanted.rows = count;
        wanted.ids = ids;
        auto found = node.GetVectorByIds(wanted);
        if (found.ok()) {
            hand_over(found.value(), result);
        }
        return found.status();
    });
}

bool engine_serialize(
        const EngineNode* engine,
        EngineResult* result,
        EngineFailure* failure) noexcept {
    return with_node(engine, failure, [&](const IndexNode& node) {
        auto written = node.Serialize();
        if (written.ok()) {
            auto blob = std::make_shared<Blob>(std::move(written.value()));
            DataSet bytes;
            bytes.owner = blob;
            hand_over(bytes, result);
            result->bytes = blob->data();
            result->byte_count = blob->size();
        }
        return written.status();
    });
}

bool engine_deserialize(
        EngineNode* engine,
        const uint8_t* bytes,
        size_t size,
        EngineFailure* failure) noexcept {
    return with_node(engine, failure, [&](IndexNode& node) {
        Status status = node.Deserialize({bytes, size});
        if (status.code == StatusCode::invalid_binary_set) {
            status.message += describe_blob(bytes, size);
        }
        return status;
    });
}

bool engine_open(
        EngineNode* engine,
        const char* path,
        const EngineSettings& settings,
        EngineFailure* failure) noexcept {
    return with_node(engine, failure, [&](IndexNode& node) {
        return node.DeserializeFromFile(path, config_of(settings));
    });
}

void engine_release(EngineResult* result) noexcept {
    delete static_cast<std::shared_ptr<const void>*>(result->owner);
    result->owner = nullptr;
}

bool engine_has_raw_data(
        const EngineNode* engine,
        const char* metric) noexcept {
    try {
        return engine != nullptr && engine->node->HasRawData(metric);
    } catch (...) {
        return false;
    }
}

int64_t engine_dim(const EngineNode* engine) noexcept {
    return engine == nullptr ? 0 : engine->node->Dim();
}

int64_t engine_count(const EngineNode* engine) noexcept {
    return engine == nullptr ? 0 : engine->node->Count();
}

int64_t engine_bytes(const EngineNode* engine) noexcept {
    return engine == nullptr ? 0 : engine->node->Size();
}

} // namespace knowhere_plugin::milvus23
