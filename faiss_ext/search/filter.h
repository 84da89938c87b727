/*
 * The filter: an IDSelector as one bit per vector of a list.
 *
 * In: a faiss::IDSelector, the ids of a list. Out: one word per packed block;
 * next: the scan, which skips blocks whose word is 0.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss/impl/IDSelector.h>

#include <faiss_ext/kernels/kernels.h>

namespace faiss_ext {

/** A selector, and a table of what it says of the ids 0 .. 8 * bytes - 1: one
 * bit each, which the kernels test as fast as a bitmap. Other ids are asked of
 * the selector itself. */
struct TabledSelector : faiss::IDSelector {
    faiss::IDSelectorBitmap table;
    const faiss::IDSelector& whole;

    /// @param whole, bitmap  borrowed; bitmap has size `bytes`
    TabledSelector(
            const faiss::IDSelector& whole,
            const uint8_t* bitmap,
            size_t bytes)
            : table(bytes, bitmap), whole(whole) {}
    bool covers(int64_t id) const {
        return uint64_t(id) < 8 * uint64_t(table.n);
    }
    bool is_member(int64_t id) const override {
        return covers(id) ? (table.bitmap[id >> 3] >> (id & 7) & 1) != 0
                          : whole.is_member(id);
    }
};

class Filter {
 public:
    /// @param sel  borrowed; nullptr: everything passes
    explicit Filter(const faiss::IDSelector* sel);

    bool passes_all() const {
        return sel_ == nullptr;
    }
    bool passes(int64_t id) const {
        return sel_ == nullptr || sel_->is_member(id);
    }

    /// Words that masks() writes for n ids: one a packed block.
    static size_t mask_words(size_t n) {
        return (n + kernels::kBlockSize - 1) / kernels::kBlockSize;
    }

    /** Bitmaps and tables are tested by the kernel; other selectors once per
     * id.
     * @param ids    size n
     * @param words  out, size mask_words(n)
     * @return       number of ids that pass */
    size_t masks(
            const kernels::Kernels& kernels,
            const int64_t* ids,
            size_t n,
            uint32_t* words) const;

    /** Lists the ids that pass, in any order and each once.
     * @param ids  out; undefined if false is returned
     * @return     false if the selector holds more than `most` ids, probably
     *             holds more (by a sample), or cannot be listed */
    bool list_ids(size_t most, std::vector<int64_t>& ids) const;

 private:
    size_t add_ids_beyond_table(const int64_t* ids, size_t n, uint32_t* words)
            const;

    const faiss::IDSelector* sel_;
    const TabledSelector* tabled_;
    /// sel_ itself, or the table of tabled_
    const faiss::IDSelectorBitmap* bitmap_;
};

} // namespace faiss_ext
