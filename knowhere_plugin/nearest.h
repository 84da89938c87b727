/*
 * The k nearest of the rows that are offered, by distance: inner products are
 * offered negated.
 */

#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace knowhere_plugin {

class Nearest {
 public:
    explicit Nearest(size_t k) : k_(k) {}

    bool full() const {
        return heap_.size() == k_;
    }
    /// Larger distances are refused.
    float worst() const {
        return full() ? heap_.front().first
                      : std::numeric_limits<float>::infinity();
    }
    /// @return whether it is among the k nearest so far; of equal distances
    ///         the smaller id is nearer
    bool offer(float distance, int64_t id) {
        if (!full()) {
            heap_.emplace_back(distance, id);
            std::push_heap(heap_.begin(), heap_.end());
            return true;
        }
        if (std::pair(distance, id) >= heap_.front()) {
            return false;
        }
        std::pop_heap(heap_.begin(), heap_.end());
        heap_.back() = {distance, id};
        std::push_heap(heap_.begin(), heap_.end());
        return true;
    }
    /// Nearest first. No more offers after it.
    const std::vector<std::pair<float, int64_t>>& sorted() {
        std::sort_heap(heap_.begin(), heap_.end());
        return heap_;
    }

 private:
    size_t k_; ///< at least 1
    /// the worst first
    std::vector<std::pair<float, int64_t>> heap_;
};

} // namespace knowhere_plugin
