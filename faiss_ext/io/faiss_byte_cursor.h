/*
 * Reads Faiss' byte streams from front to back and checks each field and
 * vector; a wrong one throws, with the names of its part and field. Next:
 * faiss_bytes, which knows the fields.
 */

#pragma once

#include <concepts>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

namespace faiss_ext {

/// Numbers in the stream, at any address.
template <class T>
class Column {
 public:
    Column() = default;
    Column(const uint8_t* bytes, uint64_t n) : bytes_(bytes), n_(n) {}

    uint64_t size() const {
        return n_;
    }
    T operator[](uint64_t i) const {
        T value;
        std::memcpy(&value, bytes_ + i * sizeof(T), sizeof(T));
        return value;
    }

 private:
    const uint8_t* bytes_ = nullptr;
    uint64_t n_ = 0;
};

class FaissByteCursor {
 public:
    explicit FaissByteCursor(std::span<const uint8_t> bytes) : bytes_(bytes) {}

    /// While this lives, messages name the part.
    class Part {
     public:
        Part(FaissByteCursor& cursor, const char* name) : cursor_(cursor) {
            cursor_.parts_.push_back(name);
        }
        ~Part() {
            cursor_.parts_.pop_back();
        }
        Part(const Part&) = delete;
        Part& operator=(const Part&) = delete;

     private:
        FaissByteCursor& cursor_;
    };

    /// parts that are open
    size_t depth() const {
        return parts_.size();
    }

    template <class T>
    T get(const char* field) {
        return column<T>(field, 1)[0];
    }
    template <class T>
    T get_in(const char* field, T low, T high) {
        T value = get<T>(field);
        check_in(field, value, low, high);
        return value;
    }
    /// Other values of a bool would be undefined behaviour.
    bool get_flag(const char* field) {
        return get_in<uint8_t>(field, 0, 1) != 0;
    }
    float get_finite(const char* field);
    /// Four letters, others as \xNN.
    std::string get_code();

    /// n numbers without their count before them
    template <class T>
    Column<T> column(const char* field, uint64_t n) {
        return Column<T>(take(field, n, sizeof(T)), n);
    }
    template <class T>
    Column<T> vector(const char* field, uint64_t low, uint64_t high) {
        return column<T>(field, get_in<uint64_t>(field, low, high));
    }
    template <class T>
    Column<T> vector(const char* field, uint64_t n) {
        return vector<T>(field, n, n);
    }
    /// Throws unless n items of `size` bytes are left.
    void check_left(const char* field, uint64_t n, size_t size) const;
    /// n finite floats, and those of a vector
    Column<float> floats(const char* field, uint64_t n);
    Column<float> float_vector(const char* field, uint64_t low, uint64_t high);
    /// n bytes
    std::span<const uint8_t> bytes(const char* field, uint64_t n) {
        return {take(field, n, 1), size_t(n)};
    }
    /// What has been read since `rest` was what is left.
    std::span<const uint8_t> read_since(std::span<const uint8_t> rest) const {
        return rest.first(rest.size() - bytes_.size());
    }
    std::span<const uint8_t> rest() const {
        return bytes_;
    }

    template <class T>
    void check_in(const char* field, T value, T low, T high) const {
        if (!(value >= low && value <= high)) {
            fail_value(
                    field,
                    std::to_string(value),
                    std::to_string(low),
                    std::to_string(high));
        }
    }
    /// For fields that must equal another.
    template <std::integral T>
    void check_is(const char* field, T value, T wanted) const {
        check_in(field, value, wanted, wanted);
    }
    [[noreturn]] void fail(const std::string& message) const;
    /// Throws unless all bytes are used up.
    void finish() const;

 private:
    const uint8_t* take(const char* field, uint64_t n, size_t size);
    [[noreturn]] void fail_value(
            const char* field,
            const std::string& value,
            const std::string& low,
            const std::string& high) const;

    std::span<const uint8_t> bytes_; ///< what is left
    std::vector<const char*> parts_;
};

} // namespace faiss_ext
