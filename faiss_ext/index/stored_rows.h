/*
 * Rows that the index holds, for what is to be fitted to them or measured on
 * them.
 *
 * In: places. Out: rows as they were given; without raw rows, as the refine
 * codes have them.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/memory/row_types.h>

namespace faiss_ext {

class ScaNNLists;

/// Numbers 0 .. n - 1 for the n rows of the lists, in the order of the lists.
class NumberedRows {
 public:
    explicit NumberedRows(const ScaNNLists& lists);

    size_t size() const {
        return ends_.empty() ? 0 : ends_.back();
    }
    /// list << 32 | offset. @param number  < size()
    uint64_t place(size_t number) const;

 private:
    std::vector<size_t> ends_; ///< of each list
};

/// Places of min(rows, wanted) rows, drawn evenly, in random order.
std::vector<uint64_t>
sample_places(const ScaNNLists& lists, size_t wanted, uint64_t seed);

/// Copies of some rows.
struct StoredRows {
    size_t d = 0;
    RowType type = RowType::Float32;
    std::vector<uint8_t> bytes; ///< of each row d values
    std::vector<int64_t> ids;
    std::vector<int64_t> lists;

    /// @param places  size n
    StoredRows(const IndexIVFScaNN& index, size_t n, const uint64_t* places);

    size_t size() const {
        return ids.size();
    }
    TypedRows rows() const {
        return {bytes.data(), type, d};
    }
    /// Prepared, as training and the partition want them; size() * d
    std::vector<float> prepared(const IndexIVFScaNN& index) const;
};

} // namespace faiss_ext
