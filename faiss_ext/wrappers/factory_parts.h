/*
 * The text of a factory string: limited, split into parts that have their
 * positions, quoted in messages.
 *
 * In: the string. Out: parts; next: faiss_parts for what Faiss builds,
 * index_factory for the rest.
 */

#pragma once

#include <string>
#include <vector>

namespace faiss_ext {

/// A piece of the description and where it begins.
struct FactoryPart {
    std::string text;
    size_t position = 0;

    FactoryPart part(size_t begin, size_t n = std::string::npos) const {
        return {text.substr(begin, n), position + begin};
    }
};

/// The text, shortened if it is long, with bytes that are not printable
/// replaced.
std::string printable(const std::string& text, size_t longest = 60);

/// The same in quotation marks.
std::string quoted(const std::string& text);

/// @throws faiss::FaissException with the description and the position
[[noreturn]] void fail_factory(
        const std::string& description,
        size_t position,
        const std::string& message);

/// Splits at commas outside of parentheses.
std::vector<FactoryPart> split_factory(
        const std::string& description,
        const FactoryPart& whole);

/// Checks length, characters and depth, which all later steps rely on.
void check_factory_string(const std::string& description);

} // namespace faiss_ext
