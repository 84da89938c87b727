/*
 * Appending entries to their lists, list by list and in parallel, and taking
 * them back.
 *
 * In: the list of each row, and a function that makes entries. Out: the place of
 * each row; used by add.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include <faiss_ext/lists/scann_lists.h>
#include <faiss_ext/scann_options.h>

namespace faiss_ext {

/// Rows in the order of their lists; rows of list -1 are left out.
struct ListOrder {
    std::vector<size_t> rows;
    std::vector<ListCount> lists; ///< those that get rows

    /** @param assign  size n
     *  @throws faiss::FaissException naming a row of another list than
     *          -1..nlist - 1 */
    ListOrder(size_t nlist, size_t n, const int64_t* assign);
};

/// Restores the sizes of the lists that rows are added to.
class SizesBefore {
 public:
    /// @param assign  list of each of n rows, or -1
    SizesBefore(ScaNNLists& lists, size_t n, const int64_t* assign);
    /// Does not fail.
    void restore();

 private:
    ScaNNLists& lists_;
    std::vector<ListCount> sizes_;
};

/// Writes the entries of the rows order.rows[begin] .. order.rows[end - 1]; is
/// called by several threads.
using MakeEntries =
        std::function<void(size_t begin, size_t end, uint8_t* entries)>;

/** Appends entries, of which little is in memory besides the lists. If it
 * throws, some may have been appended (SizesBefore).
 * @param assign    list of each row
 * @param ids       id of each row
 * @param places    out, list << 32 | offset of each row in `order`
 * @param progress  or nullptr */
void append_entries(
        ScaNNLists& lists,
        const ListOrder& order,
        const int64_t* assign,
        const int64_t* ids,
        std::vector<uint64_t>& places,
        const ScaNNProgress& progress,
        const MakeEntries& make);

} // namespace faiss_ext
