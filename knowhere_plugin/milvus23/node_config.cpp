#include <knowhere_plugin/milvus23/node_config.h>

#include <cstdio>
#include <limits>
#include <string_view>

namespace knowhere_plugin::milvus23 {

namespace {

/// Search parameters of other index types, of Google's ScaNN and of slips of
/// the pen. The host passes over keys that are not declared, so these are: the
/// engine can refuse them, and their user learns it.
constexpr const char* kForeignKeys[] = {
        "ef",
        "efSearch",
        "itopk_size",
        "leaves_to_search",
        "max_codes",
        "n_probe",
        "nprobes",
        "num_leaves_to_search",
        "num_neighbors",
        "pre_reorder_num_neighbors",
        "refine_ratio",
        "reorder",
        "reordering_num_neighbors",
        "rerank_k",
        "search_k",
        "search_list",
        "search_width",
};

uint32_t host_phases(unsigned phases) {
    return (phases & kEngineBuild ? abi::kTrain : 0u) |
           (phases & kEngineSearch ? abi::kSearch : 0u) |
           (phases & kEngineRange ? abi::kRangeSearch : 0u) |
           (phases & kEngineLoad ? abi::kDeserializeFromFile : 0u);
}

template <class Entry, class T>
Entry entry_of(std::optional<T>* value, uint32_t phases) {
    Entry entry;
    entry.value = value;
    entry.phases = phases;
    return entry;
}

} // namespace

NodeConfig::NodeConfig(bool empty_node) {
    size_t count;
    const EngineParameter* parameters = engine_parameters(&count);
    values_.reserve(count + std::size(kForeignKeys));
    entries.reserve(count + std::size(kForeignKeys));
    auto declare = [&](const char* name, ValueKind kind, uint32_t phases) {
        Value& value = values_.emplace_back();
        value.name = name;
        switch (kind) {
            case ValueKind::Text:
                entries.emplace(
                        name, entry_of<abi::StringEntry>(&value.text, phases));
                break;
            case ValueKind::Integer: {
                auto entry =
                        entry_of<abi::IntegerEntry>(&value.integer, phases);
                // without a range the host would cut off higher bits
                entry.range = {
                        std::numeric_limits<int32_t>::min(),
                        std::numeric_limits<int32_t>::max()};
                entries.emplace(name, std::move(entry));
                break;
            }
            case ValueKind::Real:
                entries.emplace(
                        name, entry_of<abi::FloatEntry>(&value.real, phases));
                break;
            case ValueKind::Flag:
                entries.emplace(
                        name, entry_of<abi::BoolEntry>(&value.flag, phases));
                break;
        }
    };
    for (size_t i = 0; i < count; i++) {
        const EngineParameter& p = parameters[i];
        if (!empty_node) {
            if (p.phases & ~unsigned(kEngineBuild)) {
                declare(p.name, p.kind, host_phases(p.phases));
            }
            continue;
        }
        // as text every spelling reaches the engine: the host refuses "True"
        // for a flag, and retries a build that it refused for ever
        bool as_text = (p.phases & kEngineBuild) != 0;
        declare(p.name,
                as_text ? ValueKind::Text : p.kind,
                host_phases(p.phases));
    }
    if (empty_node) {
        return;
    }
    for (const char* name : kForeignKeys) {
        if (entries.count(name) == 0) {
            declare(name, ValueKind::Integer, abi::kSearch | abi::kRangeSearch);
        }
    }
}

void NodeConfig::fill_members() {
    constexpr int32_t kHostDefault = 10; // the host's default
    k = kHostDefault;
    for (const Value& value : values_) {
        const std::string_view name = value.name;
        if (name == "k" && value.integer) {
            k = value.integer;
        } else if (name == "metric_type") {
            metric_type = value.text;
        } else if (name == "radius") {
            radius = value.real;
        } else if (name == "range_filter") {
            range_filter = value.real;
        }
    }
}

NodeSettings::NodeSettings(const abi::Config& config) {
    const auto& values = static_cast<const NodeConfig&>(config).values_;
    numbers_.reserve(values.size()); // settings_ points into it
    settings_.reserve(values.size());
    for (const auto& value : values) {
        if (value.text) {
            settings_.push_back({value.name, value.text->c_str()});
        } else if (value.integer || value.real) {
            Number& number = numbers_.emplace_back();
            if (value.integer) {
                snprintf(
                        number.text, sizeof(number.text), "%d", *value.integer);
            } else {
                // enough digits for the same float
                snprintf(number.text, sizeof(number.text), "%.9g", *value.real);
            }
            settings_.push_back({value.name, number.text});
        } else if (value.flag) {
            settings_.push_back({value.name, *value.flag ? "true" : "false"});
        }
    }
}

} // namespace knowhere_plugin::milvus23
