/*
 * A node's schema as a Knowhere config: the host checks names, types and
 * ranges with it, and what it has read comes out as the node's own strings.
 */

#pragma once

#include <cmath>
#include <map>
#include <sstream>
#include <string>

#include "knowhere/config.h"

#include <knowhere_plugin/index_factory.h>

namespace knowhere_plugin::knowhere26 {

class PluginConfig : public knowhere::BaseConfig {
 public:
    /// @param node  unbuilt; judges what was read
    explicit PluginConfig(NodePtr node)
            : node_(std::move(node)), schema_(node_->Schema()) {
        for (const Parameter& p : schema_) {
            if (__DICT__.count(p.name) == 0) { // k, radius, ... are the host's
                declare(p);
            }
        }
    }

    /// What the node knows of the parameters read for a phase.
    knowhere_plugin::Config values(knowhere::PARAM_TYPE phase) const {
        knowhere_plugin::Config out;
        for (const Parameter& p : schema_) {
            std::visit(
                    [&](const auto& entry) {
                        if ((entry.type & phase) != 0 &&
                            entry.val->has_value()) {
                            put(out, p, **entry.val);
                        }
                    },
                    __DICT__.at(p.name));
        }
        return out;
    }

    bool flag(const std::string& name) const {
        return bools_.at(name).value();
    }
    int64_t integer(const std::string& name) const {
        return integers_.at(name).value();
    }

 protected:
    knowhere::Status CheckAndAdjust(
            knowhere::PARAM_TYPE phase,
            std::string* message) override {
        const bool checked =
                phase == knowhere::TRAIN || phase == knowhere::SEARCH;
        const knowhere_plugin::Status status =
                checked ? node_->CheckConfig(
                                  values(phase),
                                  kBuild | kSearch | kRange | kLoad)
                        : knowhere_plugin::Status();
        return status.ok() ? knowhere::Status::success
                           : HandleError(
                                     message,
                                     status.message,
                                     static_cast<knowhere::Status>(
                                             int(status.code)));
    }

 private:
    void declare(const Parameter& p) {
        std::string text = p.default_value;
        switch (p.type) {
            case ParameterType::Integer: {
                auto access = field(p, integers_[p.name]);
                access.set_range(int32_t(p.min), int32_t(p.max));
                text.empty() ? access.allow_empty_without_default()
                             : access.set_default(std::stoi(text));
                break;
            }
            case ParameterType::Real: {
                auto access = field(p, reals_[p.name]);
                access.set_range(float(p.min), float(p.max));
                text.empty() ? access.allow_empty_without_default()
                             : access.set_default(std::stof(text));
                break;
            }
            case ParameterType::Bool:
                field(p, bools_[p.name]).set_default(text == "true");
                break;
            case ParameterType::Word:
                field(p, words_[p.name]).set_default(text);
                break;
        }
    }

    template <class Value>
    knowhere::EntryAccess<Value> field(const Parameter& p, Value& value) {
        using Entry = knowhere::Entry<Value>;
        auto& variant = __DICT__[p.name];
        variant = VarEntry(std::in_place_type<Entry>, &value);
        Entry* entry = std::get_if<Entry>(&variant);
        knowhere::EntryAccess<Value> access(entry);
        access.description(p.doc);
        // build parameters come back when an index is loaded
        uint32_t build = knowhere::TRAIN | knowhere::STATIC |
                         knowhere::DESERIALIZE |
                         knowhere::DESERIALIZE_FROM_FILE;
        entry->type =
                (p.phases & kBuild ? build : 0) |
                (p.phases & kSearch ? knowhere::SEARCH | knowhere::ITERATOR
                                    : 0) |
                (p.phases & kRange ? knowhere::RANGE_SEARCH : 0);
        return access;
    }

    template <class Value>
    static void
    put(knowhere_plugin::Config& out, const Parameter& p, const Value& value) {
        if constexpr (std::is_same_v<Value, bool>) {
            out[p.name] = value ? "true" : "false";
        } else if constexpr (std::is_same_v<Value, std::string>) {
            out[p.name] = value;
        } else if constexpr (std::is_arithmetic_v<Value>) {
            // an infinite range_filter means that there is none
            if (std::isfinite(double(value))) {
                std::ostringstream text;
                text.precision(9); // a float comes back as it was
                text << value;
                out[p.name] = text.str();
            }
        }
    }

    NodePtr node_;
    std::span<const Parameter> schema_;
    // std::map: the host keeps pointers to the values
    std::map<std::string, CFG_INT> integers_;
    std::map<std::string, CFG_FLOAT> reals_;
    std::map<std::string, CFG_BOOL> bools_;
    std::map<std::string, CFG_STRING> words_;
};

} // namespace knowhere_plugin::knowhere26
