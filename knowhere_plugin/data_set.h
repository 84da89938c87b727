/*
 * Arguments and results of the interface: Status, Expected, DataSet,
 * BitsetView.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#define KNOWHERE_PLUGIN_API __attribute__((visibility("default")))

namespace knowhere_plugin {

/// Numbers as in Knowhere.
enum class StatusCode {
    success = 0,
    invalid_args = 1,
    invalid_param_in_json = 2, ///< unknown key
    out_of_range_in_json = 3,
    type_conflict_in_json = 4, ///< not a number, not a bool
    invalid_metric_type = 5,
    empty_index = 6,
    not_implemented = 7,
    index_not_trained = 8,
    faiss_inner_error = 10,
    malloc_error = 13,
    disk_file_error = 15,
    invalid_value_in_json = 16, ///< not one of the words allowed
    invalid_binary_set = 19,    ///< a blob of another type, or damaged
    invalid_index_error = 23,   ///< no such type or version
};

struct Status {
    StatusCode code = StatusCode::success;
    /// what was wrong, with its value and what is allowed; empty on success
    std::string message;

    bool ok() const noexcept {
        return code == StatusCode::success;
    }
};

/// A value, or the Status that says why there is none.
template <class T>
class Expected {
 public:
    Expected(T value) : value_(std::move(value)) {}
    Expected(Status status) : status_(std::move(status)) {}

    bool ok() const noexcept {
        return value_.has_value();
    }
    const Status& status() const noexcept {
        return status_;
    }
    /// only if ok()
    T& value() noexcept {
        return *value_;
    }

 private:
    std::optional<T> value_;
    Status status_;
};

/** Rows, queries, ids or results. Pointers are borrowed, or kept alive by
 * `owner`.
 * rows: rows, dim, tensor. ids: rows, ids. Results of Search: rows = queries,
 * dim = k, ids and distance of size rows * k (beyond what was found: -1 and
 * the worst value). Results of RangeSearch: query q has
 * [lims[q], lims[q + 1]). */
struct DataSet {
    int64_t rows = 0;
    int64_t dim = 0;
    const float* tensor = nullptr;   ///< size rows * dim
    const int64_t* ids = nullptr;    ///< see above
    const float* distance = nullptr; ///< L2: squared; IP, COSINE: similarity
    const size_t* lims = nullptr;    ///< size rows + 1
    std::shared_ptr<const void> owner = nullptr;
};

/// Borrowed bits, least significant first; a set bit is a row FILTERED OUT,
/// and so is every row beyond num_bits. Without bits nothing is filtered.
class BitsetView {
 public:
    BitsetView() = default;
    /// @param bits  size ceil(num_bits / 8)
    BitsetView(const uint8_t* bits, size_t num_bits)
            : bits_(bits), num_bits_(bits == nullptr ? 0 : num_bits) {}

    bool empty() const noexcept {
        return num_bits_ == 0;
    }
    size_t size() const noexcept {
        return num_bits_;
    }
    const uint8_t* data() const noexcept {
        return bits_;
    }
    bool test(int64_t row) const noexcept {
        return !empty() && (row < 0 || size_t(row) >= num_bits_ ||
                            (bits_[row / 8] >> (row % 8) & 1));
    }
    /// rows filtered out among the first num_bits
    KNOWHERE_PLUGIN_API size_t count() const noexcept;

 private:
    const uint8_t* bits_ = nullptr;
    size_t num_bits_ = 0;
};

} // namespace knowhere_plugin
