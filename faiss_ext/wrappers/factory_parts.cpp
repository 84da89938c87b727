#include <faiss_ext/wrappers/factory_parts.h>

#include <faiss/impl/FaissAssert.h>

namespace faiss_ext {

namespace {

// Far more than is needed in practice; Faiss uses stack for each level and
// part.
constexpr size_t kMaxCharacters = 1000;
constexpr size_t kMaxParts = 32;
constexpr size_t kMaxDepth = 3;

} // namespace

std::string printable(const std::string& text, size_t longest) {
    constexpr char kDigits[] = "0123456789abcdef";
    std::string shown;
    for (unsigned char c : text.substr(0, longest)) {
        if (c >= 0x20 && c < 0x7f) {
            shown += char(c);
        } else {
            shown += "\\x";
            shown += kDigits[c >> 4];
            shown += kDigits[c & 15];
        }
    }
    return text.size() > longest ? shown + ".." : shown;
}

std::string quoted(const std::string& text) {
    std::string shown = "\"";
    shown += printable(text);
    return shown += '"';
}

void fail_factory(
        const std::string& description,
        size_t position,
        const std::string& message) {
    constexpr size_t kShown = 200;
    FAISS_THROW_FMT(
            "factory string \"%s\", position %zu: %s",
            printable(description, kShown).c_str(),
            position,
            message.c_str());
}

std::vector<FactoryPart> split_factory(
        const std::string& description,
        const FactoryPart& whole) {
    std::vector<FactoryPart> parts = {{"", whole.position}};
    std::vector<size_t> open;
    for (size_t i = 0; i < whole.text.size(); i++) {
        char c = whole.text[i];
        size_t position = whole.position + i;
        if (c == ',' && open.empty()) {
            parts.push_back({"", position + 1});
            continue;
        }
        if (c == '(') {
            open.push_back(position);
        } else if (c == ')') {
            if (open.empty()) {
                fail_factory(description, position, "\")\" without \"(\"");
            }
            open.pop_back();
        }
        parts.back().text += c;
    }
    if (!open.empty()) {
        fail_factory(description, open.back(), "\"(\" without \")\"");
    }
    for (const FactoryPart& part : parts) {
        if (part.text.empty()) {
            fail_factory(
                    description, part.position, "nothing between two commas");
        }
    }
    return parts;
}

void check_factory_string(const std::string& description) {
    if (description.empty()) {
        fail_factory(description, 0, "it is empty");
    }
    if (description.size() > kMaxCharacters) {
        fail_factory(
                description,
                kMaxCharacters,
                std::to_string(description.size()) +
                        " characters (allowed: 1.." +
                        std::to_string(kMaxCharacters) + ")");
    }
    size_t depth = 0, parts = 1;
    for (size_t i = 0; i < description.size(); i++) {
        unsigned char c = static_cast<unsigned char>(description[i]);
        if (c < 0x20 || c >= 0x7f) {
            fail_factory(
                    description,
                    i,
                    quoted(description.substr(i, 1)) +
                            " (allowed: printable ASCII)");
        }
        parts += c == ',';
        depth += c == '(';
        depth -= c == ')' && depth > 0;
        if (depth > kMaxDepth) {
            fail_factory(
                    description,
                    i,
                    "parentheses too deep (allowed: " +
                            std::to_string(kMaxDepth) + " levels)");
        }
        if (parts > kMaxParts) {
            fail_factory(
                    description,
                    i,
                    "too many commas (allowed: " +
                            std::to_string(kMaxParts - 1) + ")");
        }
    }
}

} // namespace faiss_ext
