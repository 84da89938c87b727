/*
 * The best candidates of a scan: an append buffer with a rising threshold.
 *
 * In: keys (score, position) that the scan kernel appends. Out: the `keep`
 * best, equal scores going to the smaller position, so that the result does
 * not depend on the order in which lists are scanned; next: rerank.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss_ext/kernels/kernels.h>

namespace faiss_ext {

inline int32_t key_score(uint64_t key) {
    return static_cast<int32_t>(static_cast<uint32_t>(key >> 32) ^ 0x80000000u);
}
inline uint32_t key_position(uint64_t key) {
    return ~static_cast<uint32_t>(key);
}

class Candidates {
 public:
    /// Starts over for a query that wants the `keep` >= 1 best. The kernels
    /// are borrowed.
    void reset(const kernels::Kernels& kernels, size_t keep);

    /// Lends the buffer to a scan: keys, count, capacity, enough, threshold.
    void lend(kernels::ScanQuery& query);
    /// Takes it back; with enough keys or little room left, drops all but the
    /// best and raises the threshold.
    void take_back(const kernels::ScanQuery& query);
    /// The same, but first drops the new keys that do not pass.
    /// @param passing  moves those that pass to the front: size_t(uint64_t*
    /// keys,
    ///        size_t n), how many they are
    template <class Passing>
    void take_back(const kernels::ScanQuery& query, Passing&& passing) {
        uint64_t* fresh = keys_.data() + count_;
        count_ += passing(fresh, query.count - count_);
        make_room();
    }

    /// Drops all but the `keep` best. Unordered.
    void finish();

    size_t size() const {
        return count_;
    }
    const uint64_t* keys() const {
        return keys_.data();
    }
    /// lowest score that can still be kept
    int32_t threshold() const {
        return threshold_;
    }

 private:
    /// Number of keys at which the best are selected: selecting more often, for
    /// tighter thresholds, costs more than it saves.
    size_t enough() const {
        return 2 * keep_;
    }
    void make_room();
    void select();

    const kernels::Kernels* kernels_ = nullptr;
    std::vector<uint64_t> keys_;
    std::vector<uint64_t> scratch_;
    size_t keep_ = 0;
    size_t capacity_ = 0;
    size_t count_ = 0;
    int32_t threshold_ = INT32_MIN;
};

} // namespace faiss_ext
