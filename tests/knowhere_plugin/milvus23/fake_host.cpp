#include "fake_host.h"

namespace fake_host {

std::map<std::string, abi::Creator>& registered() {
    static std::map<std::string, abi::Creator> creators;
    return creators;
}

namespace {

/// As the host formats a request before it reads it.
std::string
format(const abi::Entry& entry, const std::string& key, Json& value) {
    auto text = std::get_if<std::string>(&value);
    if (text == nullptr) {
        return {};
    }
    try {
        size_t read = 0;
        if (std::holds_alternative<abi::IntegerEntry>(entry)) {
            int64_t number = std::stoll(*text, &read);
            if (read < text->size()) {
                return "wrong data type in json, key: '" + key + "', value: '" +
                       *text + "'";
            }
            value = number;
        } else if (std::holds_alternative<abi::FloatEntry>(entry)) {
            value = double(std::stof(*text));
        } else if (std::holds_alternative<abi::BoolEntry>(entry)) {
            if (*text == "true" || *text == "false") {
                value = *text == "true";
            }
        }
    } catch (const std::exception& error) {
        return error.what();
    }
    return {};
}

/// As the host writes a value where the entry says.
std::string
store(const abi::Entry& entry, const std::string& key, const Json& value) {
    std::string conflict =
            "Type conflict in json: param [" + key + "] should be ";
    auto integer = std::get_if<int64_t>(&value);
    if (auto p = std::get_if<abi::IntegerEntry>(&entry)) {
        if (integer == nullptr) {
            return conflict + "integer";
        }
        if (p->range && *integer > p->range->second) {
            return "Arithmetic overflow: param [" + key + "]";
        }
        *p->value = int32_t(*integer);
    } else if (auto p = std::get_if<abi::FloatEntry>(&entry)) {
        auto real = std::get_if<double>(&value);
        if (integer == nullptr && real == nullptr) {
            return conflict + "a number";
        }
        *p->value = real != nullptr ? float(*real) : float(*integer);
    } else if (auto p = std::get_if<abi::BoolEntry>(&entry)) {
        auto flag = std::get_if<bool>(&value);
        if (flag == nullptr) {
            return conflict + "a boolean";
        }
        *p->value = *flag;
    } else if (auto p = std::get_if<abi::StringEntry>(&entry)) {
        auto text = std::get_if<std::string>(&value);
        if (text == nullptr) {
            return conflict + "a string";
        }
        *p->value = *text;
    }
    return {};
}

} // namespace

std::string fill(abi::Config& config, Request request, abi::Phase phase) {
    for (const auto& [key, entry] : config.entries) {
        auto found = request.find(key);
        if (found != request.end()) {
            std::string error = format(entry, key, found->second);
            if (!error.empty()) {
                return error;
            }
        }
    }
    for (const auto& [key, entry] : config.entries) {
        bool meant = std::visit(
                [&](const auto& e) { return (e.phases & phase) != 0; }, entry);
        bool optional = std::visit(
                [&](const auto& e) { return e.may_be_empty; }, entry);
        auto found = request.find(key);
        if (!meant) {
            continue;
        }
        if (found == request.end()) {
            if (!optional) {
                return "param [" + key + "] not exist in json";
            }
            continue;
        }
        std::string error = store(entry, key, found->second);
        if (!error.empty()) {
            return error;
        }
    }
    return {};
}

} // namespace fake_host

// ---------------------------------------------- what the plug-in looks up

#ifndef NODE_FUNCTIONS
#define NODE_FUNCTIONS 19
#endif

#define EXPORTED __attribute__((visibility("default")))

EXPORTED extern const void* const node_table[2 + NODE_FUNCTIONS] asm(
        "_ZTVN8knowhere12IvfIndexNodeIN5faiss10IndexScaNNEEE");
const void* const node_table[2 + NODE_FUNCTIONS] = {};
EXPORTED extern const void* const config_table[2 + 6] asm(
        "_ZTVN8knowhere10BaseConfigE");
const void* const config_table[2 + 6] = {};

EXPORTED void* factory_instance() asm("_ZN8knowhere12IndexFactory8InstanceEv");
void* factory_instance() {
    return &fake_host::registered();
}

EXPORTED const void*
factory_register(void* factory, const std::string& name, fake_host::abi::Creator creator) asm(
        "_ZN8knowhere12IndexFactory8RegisterERKSsSt8functionIFNS_5IndexINS_"
        "9IndexNodeEEERKiRKNS_6ObjectEEE");
const void* factory_register(
        void* factory,
        const std::string& name,
        fake_host::abi::Creator creator) {
    (*static_cast<std::map<std::string, fake_host::abi::Creator>*>(
            factory))[name] = std::move(creator);
    return factory;
}
