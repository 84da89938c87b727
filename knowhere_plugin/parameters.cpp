#include <knowhere_plugin/parameters.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <sstream>

#include <faiss_ext/wrappers/factory_parts.h>

#include <knowhere_plugin/guard.h>

namespace knowhere_plugin {

namespace {

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](char c) {
        return char(std::tolower(static_cast<unsigned char>(c)));
    });
    return text;
}

std::string upper(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](char c) {
        return char(std::toupper(static_cast<unsigned char>(c)));
    });
    return text;
}

/// Without blanks around and without the quotes of a JSON string.
std::string bare(const std::string& text) {
    const char* blanks = " \t\r\n";
    auto strip = [&](const std::string& s) {
        size_t first = s.find_first_not_of(blanks);
        return first == std::string::npos
                       ? std::string()
                       : s.substr(
                                 first, s.find_last_not_of(blanks) - first + 1);
    };
    std::string inner = strip(text);
    if (inner.size() >= 2 && inner.front() == '"' && inner.back() == '"') {
        inner = strip(inner.substr(1, inner.size() - 2));
    }
    return inner;
}

std::string allowed(const Parameter& p) {
    switch (p.type) {
        case ParameterType::Integer:
        case ParameterType::Real: {
            std::string kind = p.type == ParameterType::Integer
                                       ? "an integer in "
                                       : "a number in ";
            std::string min = p.min <= -kNoLimit ? "-inf" : shown(p.min);
            std::string max = p.max >= kNoLimit ? "inf" : shown(p.max);
            return kind + min + ".." + max;
        }
        case ParameterType::Bool:
            return "true or false";
        case ParameterType::Word:
            return p.words;
    }
    return "";
}

[[noreturn]] void
refuse(StatusCode code, const Parameter& p, const std::string& text) {
    throw Fault(
            code,
            std::string(p.name) + " = " + faiss_ext::quoted(text) +
                    " (allowed: " + allowed(p) + ")");
}

bool is_one_of(const std::string& word, const char* words) {
    std::istringstream in(words);
    for (std::string one; std::getline(in, one, '|');) {
        if (one == word) {
            return true;
        }
    }
    return false;
}

/// All of the text, within the range. Number: int64_t or double
template <class Number>
Number parse_number(
        const Parameter& p,
        const std::string& text,
        const std::string& given) {
    const char* end = text.data() + text.size();
    Number value = 0;
    auto [at, error] = std::from_chars(text.data(), end, value);
    const bool too_large = error == std::errc::result_out_of_range;
    if (at != end || (error != std::errc() && !too_large) ||
        std::isnan(double(value))) {
        refuse(StatusCode::type_conflict_in_json, p, given);
    }
    if (too_large || double(value) < p.min || double(value) > p.max) {
        refuse(StatusCode::out_of_range_in_json, p, given);
    }
    return value;
}

bool parse_bool(
        const Parameter& p,
        const std::string& text,
        const std::string& given) {
    std::string word = lower(text);
    if (word != "true" && word != "false") {
        refuse(StatusCode::type_conflict_in_json, p, given);
    }
    return word == "true";
}

/// In the spelling of the schema, whatever the case of the text.
std::string parse_word(
        const Parameter& p,
        const std::string& text,
        const std::string& given) {
    if (p.words[0] == 0) {
        return text;
    }
    for (const std::string& word : {text, lower(text), upper(text)}) {
        if (is_one_of(word, p.words)) {
            return word;
        }
    }
    refuse(std::string(p.name) == "metric_type"
                   ? StatusCode::invalid_metric_type
                   : StatusCode::invalid_value_in_json,
           p,
           given);
}

/// For messages: "build " and so on; empty for several phases.
const char* name_of_phase(unsigned phases) {
    switch (phases) {
        case kBuild:
            return "build ";
        case kSearch:
            return "search ";
        case kRange:
            return "range search ";
        case kLoad:
            return "load ";
        default:
            return "";
    }
}

[[noreturn]] void refuse_unknown(
        std::span<const Parameter> schema,
        const std::string& key,
        const std::string& text,
        unsigned phases) {
    std::string names;
    for (const Parameter& p : schema) {
        if ((p.phases & phases) != 0) {
            names += names.empty() ? p.name : std::string(", ") + p.name;
        }
    }
    throw Fault(
            StatusCode::invalid_param_in_json,
            std::string("unknown ") + name_of_phase(phases) + "parameter " +
                    faiss_ext::printable(key) + " = " +
                    faiss_ext::quoted(text) + " (known: " + names + ")");
}

} // namespace

std::string shown(double value) {
    std::ostringstream out;
    out.precision(10);
    out << value;
    return out.str();
}

Parameters::Value Parameters::parse(
        const Parameter& p,
        const std::string& given) {
    std::string text = bare(given);
    switch (p.type) {
        case ParameterType::Integer:
            return parse_number<int64_t>(p, text, given);
        case ParameterType::Real:
            return parse_number<double>(p, text, given);
        case ParameterType::Bool:
            return parse_bool(p, text, given);
        case ParameterType::Word:
            return parse_word(p, text, given);
    }
    return int64_t(0);
}

Parameters::Parameters(
        std::span<const Parameter> schema,
        const Config& config,
        unsigned phases)
        : schema_(schema) {
    for (const auto& [key, text] : config) {
        const Parameter* found = find_parameter(schema, key);
        if (found == nullptr || (found->phases & phases) == 0) {
            refuse_unknown(schema, key, text, phases);
        }
        values_.emplace(key, parse(*found, text));
    }
}

Parameters::Value Parameters::value(const std::string& name) const {
    auto found = values_.find(name);
    if (found != values_.end()) {
        return found->second;
    }
    const Parameter* row = find_parameter(schema_, name);
    if (row != nullptr && row->default_value[0] != 0) {
        return parse(*row, row->default_value);
    }
    throw Fault(StatusCode::invalid_args, name + " is missing");
}

int64_t Parameters::integer(const std::string& name) const {
    return std::get<int64_t>(value(name));
}

double Parameters::real(const std::string& name) const {
    return std::get<double>(value(name));
}

bool Parameters::flag(const std::string& name) const {
    return std::get<bool>(value(name));
}

std::string Parameters::word(const std::string& name) const {
    return std::get<std::string>(value(name));
}

const Parameter* find_parameter(
        std::span<const Parameter> schema,
        const std::string& name) {
    for (const Parameter& p : schema) {
        if (name == p.name) {
            return &p;
        }
    }
    return nullptr;
}

std::vector<Parameter> with_common(std::vector<Parameter> own) {
    std::vector<Parameter> all = {
            word_parameter(
                    "metric_type",
                    "L2",
                    "L2|IP|COSINE",
                    kBuild | kSearch | kRange,
                    "what is near; a search may repeat it"),
            integer_parameter(
                    "dim", "", 1, 65536, kBuild, "checked against the rows"),
            integer_parameter(
                    "num_build_thread",
                    "",
                    1,
                    1024,
                    kBuild,
                    "threads of Train and Add; default: all of OpenMP's"),
            integer_parameter(
                    "k", "10", 1, 2147483647, kSearch, "results per query"),
            real_parameter(
                    "radius",
                    "",
                    -kNoLimit,
                    kNoLimit,
                    kRange,
                    "the far limit, excluded; needed"),
            real_parameter(
                    "range_filter",
                    "",
                    -kNoLimit,
                    kNoLimit,
                    kRange,
                    "the near limit, included"),
            bool_parameter(
                    "retain_iterator_order",
                    "false",
                    kSearch,
                    "AnnIterator: strictly ordered, for a complete scan at "
                    "the first row"),
            bool_parameter(
                    "enable_mmap",
                    "false",
                    kLoad,
                    "DeserializeFromFile maps the file"),
    };
    all.insert(all.end(), own.begin(), own.end());
    return all;
}

} // namespace knowhere_plugin
