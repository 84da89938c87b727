/* A part of a factory string, read from left to right: words and numbers. */

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include <faiss_ext/wrappers/factory_parts.h>

namespace faiss_ext {

class PartReader {
 public:
    /// @param part  kept alive by the caller
    explicit PartReader(const FactoryPart& part) : part_(part) {}

    /// Goes past `wanted` if it stands here.
    bool word(const std::string& wanted) {
        if (part_.text.compare(at_, wanted.size(), wanted) != 0) {
            return false;
        }
        at_ += wanted.size();
        return true;
    }
    /// Digits; numbers that are too long become SIZE_MAX.
    bool number(size_t& value) {
        number_at_ = at_;
        value = 0;
        while (at_ < part_.text.size() && part_.text[at_] >= '0' &&
               part_.text[at_] <= '9') {
            size_t digit = size_t(part_.text[at_++] - '0');
            value = value > (SIZE_MAX - digit) / 10 ? SIZE_MAX
                                                    : value * 10 + digit;
        }
        return at_ > number_at_;
    }
    bool end() const {
        return at_ == part_.text.size();
    }
    size_t at() const {
        return at_;
    }
    /// Position of the last number in the description.
    size_t number_position() const {
        return part_.position + number_at_;
    }
    std::string last_number() const {
        return part_.text.substr(number_at_, at_ - number_at_);
    }

 private:
    const FactoryPart& part_;
    size_t at_ = 0;
    size_t number_at_ = 0;
};

} // namespace faiss_ext
