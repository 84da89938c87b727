/*
 * What lists keep that are written to while views of them are read.
 *
 * A view shows the lists' memory as it is; the writer does not write to shown
 * memory any more, but appends behind it where there is room, and copies
 * whatever else it changes. Headers of lists stand in tables of kTable: a view
 * has pointers to them, and shares those in which nothing changed with the view
 * before it.
 *
 * In: lists that will change. Out: tables for the next view, all memory for which
 * was allocated before the change; used by ScaNNLists alone.
 */

#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <faiss_ext/lists/scann_lists.h>
#include <faiss_ext/memory/column_arena.h>
#include <faiss_ext/memory/retired_memory.h>

namespace faiss_ext {

/// Replaced columns of a list. Their parts of an arena are given back to it.
struct RetiredColumns : RetiredMemory::Item {
    EntryLayout layout;
    std::shared_ptr<ColumnArena> arena;
    ScaNNList list;

    RetiredColumns(
            const EntryLayout& layout,
            std::shared_ptr<ColumnArena> arena)
            : layout(layout), arena(std::move(arena)) {}
    ~RetiredColumns() override;
};

/// Replaced columns of all lists, and the arena that only they used.
struct RetiredLists : RetiredMemory::Item {
    std::vector<ScaNNList> lists;
    std::shared_ptr<ColumnArena> arena;
};

class ListVersions {
 public:
    /// Columns of a list that a view shows, as bits in the order of
    /// visit_columns().
    using Columns = uint8_t;
    static constexpr Columns kApart = 0x80; ///< ScaNNList::apart
    static constexpr Columns kAll = 0xFF;

    ListVersions(size_t nlist, RetiredMemory& retired);

    /// Before a list changes: memory for its header in the next view.
    void will_change(size_t list_no);
    void will_change_all();

    Columns& shown(size_t list_no) {
        return columns_[list_no];
    }
    /// Entries of the list in the last view.
    size_t shown_size(size_t list_no) const;
    /// Keeps what a change has replaced; does not fail.
    void retire(std::unique_ptr<RetiredMemory::Item> item) noexcept {
        retired_->keep(std::move(item));
    }

    /** The tables of a view of these lists; does not fail.
     * @param tables   out, of all tables
     * @param retired  of that view */
    void show(
            const std::vector<ScaNNList>& lists,
            const EntryLayout& layout,
            std::vector<const ScaNNList*>& tables,
            RetiredMemory& retired) noexcept;

 private:
    struct Table : RetiredMemory::Item {
        ScaNNList lists[ScaNNLists::kTable];
    };

    std::vector<std::unique_ptr<Table>> shown_; ///< by the last view
    std::vector<std::unique_ptr<Table>> next_;  ///< for tables that change
    std::vector<size_t> changed_;               ///< those tables
    std::vector<Columns> columns_;              ///< of each list
    RetiredMemory* retired_;                    ///< of the last view
};

} // namespace faiss_ext
