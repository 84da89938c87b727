#include <knowhere_plugin/milvus23/build_repair.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <sstream>

#include <knowhere_plugin/guard.h>
#include <knowhere_plugin/parameters.h>

namespace knowhere_plugin::milvus23 {

namespace {

/// The number that a text holds, with nothing else but blanks and quotes.
std::optional<double> number_in(const std::string& text) {
    size_t first = text.find_first_not_of(" \t\r\n\"");
    if (first == std::string::npos) {
        return {};
    }
    const char* start = text.c_str() + first;
    char* end = nullptr;
    double value = std::strtod(start, &end);
    bool rest = std::string(end).find_first_not_of(" \t\r\n\"") !=
                std::string::npos;
    if (end == start || rest || std::isnan(value)) {
        return {};
    }
    return value;
}

std::string nearest_number(const Parameter& p, double value) {
    value = std::clamp(value, p.min, p.max);
    std::ostringstream out;
    out.precision(9);
    if (p.type == ParameterType::Integer) {
        out << int64_t(std::llround(value));
    } else {
        out << value;
    }
    return out.str();
}

std::string letters_of(const std::string& text) {
    std::string word;
    for (char c : text) {
        if (std::isalnum(static_cast<unsigned char>(c))) {
            word += char(std::tolower(static_cast<unsigned char>(c)));
        }
    }
    return word;
}

/// A replacement for a value that was refused; nullopt: the default.
std::optional<std::string> nearest_allowed(
        const Parameter& p,
        const std::string& text) {
    switch (p.type) {
        case ParameterType::Integer:
        case ParameterType::Real:
            if (auto value = number_in(text)) {
                return nearest_number(p, *value);
            }
            return {};
        case ParameterType::Bool: {
            std::string word = letters_of(text);
            for (const char* yes : {"1", "yes", "on", "y", "t"}) {
                if (word == yes) {
                    return "true";
                }
            }
            for (const char* no : {"0", "no", "off", "n", "f"}) {
                if (word == no) {
                    return "false";
                }
            }
            return {};
        }
        case ParameterType::Word:
            return {};
    }
    return {};
}

/// The error of one value alone; empty: it is valid.
std::string fault_of(
        const IndexNode& node,
        const std::string& key,
        const std::string& text) {
    return node.CheckConfig({{key, text}}, kAnyPhase).message;
}

/// Replaces a value that is refused. @return its replacement
std::string repair_value(
        const IndexNode& node,
        const std::string& key,
        const std::string& text,
        Config& config) {
    const Parameter* p = find_parameter(node.Schema(), key);
    if (p == nullptr) {
        return "ignored";
    }
    auto value = nearest_allowed(*p, text);
    if (value && fault_of(node, key, *value).empty()) {
        config[key] = *value;
        return "using " + *value;
    }
    return p->default_value[0] != 0 ? "using " + std::string(p->default_value)
                                    : std::string("using the default");
}

/// Leaves out values that others exclude, the first of them by name.
void drop_excluded(const IndexNode& node, Repaired& made) {
    for (Status status = node.CheckConfig(made.config, kAnyPhase); !status.ok();
         status = node.CheckConfig(made.config, kAnyPhase)) {
        auto excluded = made.config.begin();
        for (; excluded != made.config.end(); ++excluded) {
            Config without = made.config;
            without.erase(excluded->first);
            if (node.CheckConfig(without, kAnyPhase).ok()) {
                break;
            }
        }
        if (excluded == made.config.end()) {
            return; // another error too: the build will report it
        }
        made.notes.push_back(status.message + ": ignoring " + excluded->first);
        made.config.erase(excluded);
    }
}

} // namespace

Repaired repaired(const IndexNode& node, const Config& asked) {
    Repaired made;
    for (const auto& [key, text] : asked) {
        std::string wrong = fault_of(node, key, text);
        if (wrong.empty()) {
            made.config[key] = text;
        } else {
            made.notes.push_back(
                    wrong + ": " + repair_value(node, key, text, made.config));
        }
    }
    drop_excluded(node, made);
    return made;
}

Config without_shaping_parameters(const Config& config) {
    Config plain;
    for (const char* key :
         {"metric_type", "dim", "with_raw_data", "num_build_thread"}) {
        auto found = config.find(key);
        if (found != config.end()) {
            plain.insert(*found);
        }
    }
    return plain;
}

} // namespace knowhere_plugin::milvus23
