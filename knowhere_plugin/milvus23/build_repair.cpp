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

/// A value in place of one that was refused; nullopt: the default.
std::optional<std::string> nearest(
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

/// What is wrong with one value alone; empty: nothing.
std::string complaint(
        std::span<const Parameter> schema,
        const std::string& key,
        const std::string& text) {
    try {
        Parameters alone(schema, {{key, text}});
        return {};
    } catch (const Fault& fault) {
        return fault.what();
    }
}

} // namespace

Repaired repaired(std::span<const Parameter> schema, const Config& asked) {
    Repaired made;
    for (const auto& [key, text] : asked) {
        std::string wrong = complaint(schema, key, text);
        if (wrong.empty()) {
            made.config[key] = text;
            continue;
        }
        const Parameter* p = find_parameter(schema, key);
        std::string used = "ignored";
        if (p != nullptr) {
            auto value = nearest(*p, text);
            if (value && complaint(schema, key, *value).empty()) {
                made.config[key] = *value;
                used = "using " + *value;
            } else {
                used = p->default_value[0] != 0
                               ? "using " + std::string(p->default_value)
                               : std::string("using the default");
            }
        }
        made.notes.push_back(wrong + ": " + used);
    }
    auto threshold = made.config.find("anisotropic_threshold");
    auto eta = made.config.find("eta");
    if (threshold != made.config.end() && eta != made.config.end()) {
        made.notes.push_back(
                "eta = " + eta->second + " and anisotropic_threshold = " +
                threshold->second + " (allowed: one of them): using eta");
        made.config.erase(threshold);
    }
    return made;
}

Config without_choices(const Config& config) {
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
