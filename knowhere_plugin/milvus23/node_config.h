/*
 * The parameters of one request: entries for the host to fill, then settings
 * for the engine.
 *
 * In: engine_parameters(). Out: EngineSettings; next: node.cpp.
 */

#pragma once

#include <string>
#include <vector>

#include <knowhere_plugin/milvus23/abi.h>
#include <knowhere_plugin/milvus23/engine_c.h>

namespace knowhere_plugin::milvus23 {

class NodeConfig : public abi::BaseConfig {
 public:
    /** @param empty_node  the request builds or loads, where all values are
     *                     strings; a search has them as its client typed
     *                     them */
    explicit NodeConfig(bool empty_node);

    abi::Status CheckAndAdjustForSearch(std::string*) override {
        fill_members();
        return abi::Status::success;
    }
    abi::Status CheckAndAdjustForRangeSearch(std::string*) override {
        fill_members();
        return abi::Status::success;
    }

 private:
    friend class NodeSettings;
    /// Milvus 2.3.2 and 2.3.3 read k after a search, not through its entry.
    void fill_members();
    struct Value {
        const char* name;
        std::optional<std::string> text;
        std::optional<int32_t> integer;
        std::optional<float> real;
        std::optional<bool> flag;
    };
    /// addresses stay: the entries point into it
    std::vector<Value> values_;
};

/// Parameters that the host filled in. Valid as long as this and the config.
class NodeSettings {
 public:
    explicit NodeSettings(const abi::Config& config);

    EngineSettings view() const {
        return {settings_.data(), settings_.size()};
    }

 private:
    struct Number {
        char text[32];
    };
    std::vector<Number> numbers_;
    std::vector<EngineSetting> settings_;
};

} // namespace knowhere_plugin::milvus23
