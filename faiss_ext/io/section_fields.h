/*
 * Fields of a section, written and read by the same lines: a transfer_ function
 * names them in the order of the file, for a writer or a reader.
 */

#pragma once

#include <cstdint>

#include <faiss_ext/io/file_sections.h>

namespace faiss_ext {

/// Writes each field it is called with.
struct FieldWriter {
    SectionSink& sink;

    template <class T>
    void operator()(const T& field) {
        sink.put_value(field);
    }
    void operator()(const bool& field) {
        sink.put_value(uint8_t(field));
    }
};

/// Reads each field it is called with; refuses values that a bool or enum does
/// not have.
struct FieldReader {
    ByteReader& reader;

    template <class T>
    void operator()(T& field) {
        reader.get_value(field);
    }
    void operator()(bool& field) {
        field = byte(1) != 0;
    }
    uint8_t byte(uint8_t largest) {
        uint8_t value;
        reader.get_value(value);
        reader.check(value <= largest, "a flag or kind out of range");
        return value;
    }
};

template <class Enum>
void transfer_enum(FieldWriter& fields, const Enum& value, Enum) {
    fields(uint8_t(value));
}

template <class Enum>
void transfer_enum(FieldReader& fields, Enum& value, Enum largest) {
    value = Enum(fields.byte(uint8_t(largest)));
}

/// false for NaN
inline bool is_share(float value) {
    return value >= 0 && value <= 1;
}

} // namespace faiss_ext
