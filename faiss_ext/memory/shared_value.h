/* A value that several objects share, each of which may replace it. */

#pragma once

#include <memory>
#include <utility>

namespace faiss_ext {

/** Copies share the value, which nobody changes: whoever wants another value
 * replaces it, for itself alone. So a copy may be read by other threads while
 * the original gets another value. */
template <class T>
class SharedValue {
 public:
    SharedValue() : value_(std::make_shared<const T>()) {}
    /// May throw std::bad_alloc, as all that makes a new value.
    SharedValue(T value)
            : value_(std::make_shared<const T>(std::move(value))) {}

    const T& operator*() const {
        return *value_;
    }
    const T* operator->() const {
        return value_.get();
    }
    operator const T&() const {
        return *value_;
    }
    void swap(SharedValue& other) noexcept {
        value_.swap(other.value_);
    }
    /// Replaces the value by a copy that change(T&) has changed; if this throws,
    /// the value stays.
    template <class Change>
    void edit(Change&& change) {
        auto copy = std::make_shared<T>(*value_);
        change(*copy);
        value_ = std::move(copy);
    }

 private:
    std::shared_ptr<const T> value_;
};

} // namespace faiss_ext
