/*
 * A config as typed values: checked against the schema of a node.
 *
 * In: Config (strings), the schema. Out: Parameters; next: faiss_node.
 * SCANN's own schema and rules: scann_parameters.h.
 */

#pragma once

#include <limits>
#include <map>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include <knowhere_plugin/index_factory.h>

namespace knowhere_plugin {

constexpr unsigned kAnyPhase = kBuild | kSearch | kRange | kLoad;

class Parameters {
 public:
    /** @param phases  keys that have no effect in any of them are unknown
     *  @throws Fault on unknown keys, values that do not parse or are out of
     *          range, with key, value and what is allowed */
    Parameters(
            std::span<const Parameter> schema,
            const Config& config,
            unsigned phases = kAnyPhase);

    /// whether the client gave a value
    bool given(const std::string& name) const {
        return values_.count(name) != 0;
    }
    /// The value given, else the default of the schema.
    int64_t integer(const std::string& name) const;
    double real(const std::string& name) const;
    bool flag(const std::string& name) const;
    std::string word(const std::string& name) const;

 private:
    using Value = std::variant<int64_t, double, bool, std::string>;
    static Value parse(const Parameter& parameter, const std::string& text);
    Value value(const std::string& name) const;

    std::span<const Parameter> schema_;
    std::map<std::string, Value> values_; ///< those given
};

/// The row of that name, or nullptr.
const Parameter* find_parameter(
        std::span<const Parameter> schema,
        const std::string& name);

/// The parameters of every node, followed by `own`.
std::vector<Parameter> with_common(std::vector<Parameter> own);

/// A number for messages, as short as possible: "0.2", "1", "1e+37".
std::string shown(double value);

constexpr double kNoLimit = std::numeric_limits<float>::max();

/// Functions that make schema rows.
inline Parameter integer_parameter(
        const char* name,
        const char* default_value,
        double min,
        double max,
        unsigned phases,
        const char* doc) {
    return {name,
            ParameterType::Integer,
            default_value,
            min,
            max,
            "",
            phases,
            doc};
}

inline Parameter real_parameter(
        const char* name,
        const char* default_value,
        double min,
        double max,
        unsigned phases,
        const char* doc) {
    return {name,
            ParameterType::Real,
            default_value,
            min,
            max,
            "",
            phases,
            doc};
}

inline Parameter bool_parameter(
        const char* name,
        const char* default_value,
        unsigned phases,
        const char* doc) {
    return {name, ParameterType::Bool, default_value, 0, 1, "", phases, doc};
}

inline Parameter word_parameter(
        const char* name,
        const char* default_value,
        const char* words,
        unsigned phases,
        const char* doc) {
    return {name, ParameterType::Word, default_value, 0, 0, words, phases, doc};
}

} // namespace knowhere_plugin
