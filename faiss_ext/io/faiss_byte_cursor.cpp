#include <faiss_ext/io/faiss_byte_cursor.h>

#include <cmath>
#include <cstdio>

#include <faiss/impl/FaissException.h>

#include <faiss_ext/memory/row_types.h>

namespace faiss_ext {

void FaissByteCursor::check_left(const char* field, uint64_t n, size_t size)
        const {
    if (n > bytes_.size() / size) {
        fail(std::string(field) + ": the bytes end early (" +
             std::to_string(bytes_.size()) + " left, " + std::to_string(n) +
             " items of " + std::to_string(size) + " wanted)");
    }
}

const uint8_t*
FaissByteCursor::take(const char* field, uint64_t n, size_t size) {
    check_left(field, n, size);
    const uint8_t* taken = bytes_.data();
    bytes_ = bytes_.subspan(n * size);
    return taken;
}

float FaissByteCursor::get_finite(const char* field) {
    float value = get<float>(field);
    if (!std::isfinite(value)) {
        fail(std::string(field) + " is not finite");
    }
    return value;
}

std::string FaissByteCursor::get_code() {
    Column<char> letters = column<char>("four-letter code", 4);
    std::string code;
    for (uint64_t i = 0; i < letters.size(); i++) {
        char c = letters[i];
        if (c >= ' ' && c <= '~') {
            code += c;
            continue;
        }
        char text[8];
        std::snprintf(text, sizeof(text), "\\x%02X", unsigned(uint8_t(c)));
        code += text;
    }
    return code;
}

Column<float> FaissByteCursor::floats(const char* field, uint64_t n) {
    const uint8_t* bytes = take(field, n, sizeof(float));
    if (!all_finite(RowType::Float32, n, bytes)) {
        fail(std::string(field) + " has a NaN or infinite value");
    }
    return {bytes, n};
}

Column<float>
FaissByteCursor::float_vector(const char* field, uint64_t low, uint64_t high) {
    return floats(field, get_in<uint64_t>(field, low, high));
}

void FaissByteCursor::fail(const std::string& message) const {
    std::string where;
    for (const char* part : parts_) {
        where += std::string(part) + ": ";
    }
    throw faiss::FaissException(where + message);
}

void FaissByteCursor::fail_value(
        const char* field,
        const std::string& value,
        const std::string& low,
        const std::string& high) const {
    fail(std::string(field) + " = " + value + " (allowed: " + low +
         (low == high ? "" : ".." + high) + ")");
}

void FaissByteCursor::finish() const {
    if (!bytes_.empty()) {
        fail(std::to_string(bytes_.size()) + " bytes too many");
    }
}

} // namespace faiss_ext
