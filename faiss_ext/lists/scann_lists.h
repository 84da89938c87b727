/*
 * The lists: packed codes, ids, refine codes and raw rows of each list.
 *
 * In: entries (the flat bytes of one vector, EntryLayout). Out: columns that
 * the kernels read in place. The interface of faiss::InvertedLists takes and
 * gives entries, so that all of Faiss' list operations work (list_entries.cpp);
 * search reads the columns. Their memory is the matter of scann_lists.cpp.
 */

#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include <faiss_ext/memory/aligned_buffer.h>
#include <faiss_ext/codes/entry_layout.h>
#include <faiss_ext/faiss_compat.h>
#include <faiss_ext/memory/retired_memory.h>

namespace faiss_ext {

class ColumnArena;
class OnDemandRows;
class ListVersions;
struct RetiredLists;

/// The columns of one list; each is contiguous.
struct ScaNNList {
    AlignedBuffer<uint8_t> packed;   ///< PackedLayout::list_bytes(size)
    AlignedBuffer<int64_t> ids;      ///< size
    AlignedBuffer<uint8_t> refine;   ///< size * refine_row_bytes()
    AlignedBuffer<uint8_t> raw;      ///< size * raw_row_bytes()
    AlignedBuffer<int64_t> tags;     ///< size, with_tags only
    AlignedBuffer<uint64_t> primary; ///< size, spilled lists only
    /// offsets of the entries whose term is ScoreTerm::kApart, ascending: they
    /// have no useful code, so every query rescores them
    AlignedBuffer<uint32_t> apart;

    size_t size() const {
        return ids.size();
    }
};

/// Share of rows apart from which on users are told.
constexpr double kManyApart = 0.05;

/// A number of entries of a list.
struct ListCount {
    size_t list;
    size_t count;
};

/// Calls visit(name, column, elements of n vectors) for each column that lists
/// of this layout have, in the order of files and of memory.
template <class Visit>
void visit_columns(const EntryLayout& layout, Visit&& visit) {
    visit("codes", &ScaNNList::packed, [&](size_t n) {
        return layout.packed().list_bytes(n);
    });
    visit("ids", &ScaNNList::ids, [](size_t n) { return n; });
    if (layout.refine_type != RefineType::None) {
        visit("refine", &ScaNNList::refine, [&](size_t n) {
            return n * layout.refine_row_bytes();
        });
    }
    if (layout.with_raw_data) {
        visit("raw", &ScaNNList::raw, [&](size_t n) {
            return n * layout.raw_row_bytes();
        });
    }
    if (layout.has_tag) {
        visit("tags", &ScaNNList::tags, [](size_t n) { return n; });
    }
    if (layout.has_primary) {
        visit("primary", &ScaNNList::primary, [](size_t n) { return n; });
    }
}

class ScaNNLists : public faiss::InvertedLists {
 public:
    using idx_t = int64_t;

    ScaNNLists(size_t nlist, const EntryLayout& layout);
    ~ScaNNLists() override;
    /// The same entries in memory of its own.
    std::unique_ptr<ScaNNLists> copy() const;

    const EntryLayout& layout() const {
        return layout_;
    }
    const ScaNNList& list(size_t list_no) const {
        return tables_[list_no / kTable][list_no % kTable];
    }
    ScaNNList& mutable_list(size_t list_no) {
        count_change();
        return lists_[list_no];
    }

    /// Number of changes so far; kGone when the lists are gone. Who keeps it may
    /// ask whether what it has read is still so.
    using Changes = std::shared_ptr<const std::atomic<uint64_t>>;
    static constexpr uint64_t kGone = UINT64_MAX;
    Changes changes() const {
        return changes_;
    }
    const uint8_t* refine_row(size_t list_no, size_t offset) const {
        return list(list_no).refine.data() +
               offset * layout_.refine_row_bytes();
    }
    /// Values of layout().raw_type, and 1 / ||x|| where the layout has it.
    const uint8_t* raw_row(size_t list_no, size_t offset) const {
        return list(list_no).raw.data() + offset * layout_.raw_row_bytes();
    }

    /// Entries apart, of all lists.
    size_t rows_apart() const;

    /// Bytes allocated, or mapped; with those that on_demand_rows() may take.
    size_t memory_usage() const;
    /// Bytes for n vectors in nlist lists, besides the struct itself.
    static size_t
    estimate_memory(const EntryLayout& layout, size_t nlist, size_t n);

    /** Makes room for more entries, so that adding them cannot fail. If most
     * entries are new, all lists move into one arena of the size they need.
     * Otherwise only lists without room grow, by half, so that many small
     * additions do not copy all entries each time. For few entries, the time
     * does not depend on the number of lists.
     * @param extra  each list at most once */
    void reserve_each(const std::vector<ListCount>& extra);
    /// Same. @param extra  size nlist
    void reserve(const std::vector<size_t>& extra);
    /// Which columns, by their names in visit_columns().
    using ColumnFilter = std::function<bool(const char* name)>;
    /// Room for entries in some columns of empty lists; the other columns are
    /// to be borrowed. @param sizes  size nlist
    void reserve_columns(
            const std::vector<size_t>& sizes,
            const ColumnFilter& wanted);
    /// Copies columns that belong to a mapped file, so that changing and
    /// removing entries cannot fail.
    void make_writable(size_t list_no);

    /** Frees memory after removals: all lists move into an arena of the right
     * size if more than half of what they hold is unused. Checks this only
     * after a quarter of the entries was removed since the last check; does not
     * fail.
     * @return  whether memory was freed */
    bool release_unused();
    /// Frees what a list has allocated beyond a quarter more than it holds; does
    /// not fail.
    void trim(size_t list_no);
    /// The same for all lists, into one arena; does not fail.
    void trim_all();

    /// Sets the place of a spilled copy's primary entry.
    void set_primary(size_t list_no, size_t offset, uint64_t place) {
        count_change();
        lists_[list_no].primary.mutable_data()[offset] = place;
    }

    /// Of lists with tags.
    void set_tag(size_t list_no, size_t offset, int64_t tag) {
        count_change();
        lists_[list_no].tags.mutable_data()[offset] = tag;
    }

    /// Removes entries; the last ones of the list take their places. Does not
    /// fail after make_writable().
    /// @param offsets  ascending, distinct, < list_size(list_no)
    /// @param moved    called with (from, to) for each entry that moves
    template <class Moved>
    void
    remove(size_t list_no, const std::vector<size_t>& offsets, Moved&& moved) {
        size_t last = lists_[list_no].size();
        for (size_t i = offsets.size(); i-- > 0;) {
            if (offsets[i] != --last) {
                move_entry(list_no, last, offsets[i]);
                moved(last, offsets[i]);
            }
        }
        resize(list_no, last);
    }

    /// Whether they are of a mapped file, or were.
    bool is_borrowed() const {
        return owner_ != nullptr;
    }
    /// Keeps memory alive that lists borrow (a mapped file).
    void keep_alive(std::shared_ptr<const void> owner) {
        owner_ = std::move(owner);
    }
    /// Searches read raw rows that are borrowed from this file, not from memory.
    void read_rows_on_demand(std::shared_ptr<const OnDemandRows> file) {
        on_demand_rows_ = std::move(file);
    }
    /// nullptr: raw rows are in memory, or mapped
    const OnDemandRows* on_demand_rows() const {
        return on_demand_rows_.get();
    }

    // ---- versions (list_versions.h) ----

    /// The lists' headers are in tables of so many.
    static constexpr size_t kTable = 32;

    /** From now on memory that a view shows is not written to: changes copy what
     * they would write to, and retire what they replace. make_writable() and
     * reserving make all copies, so that what follows cannot fail.
     * @param retired  that of the next view */
    void begin_versions(RetiredMemory& retired);
    /// Lists that show nothing yet, for show(); not to be changed.
    std::unique_ptr<ScaNNLists> new_view() const;
    /** Shows these entries in a view; does not fail.
     * @param view     from new_view()
     * @param retired  that of the view; from now on, what is replaced is kept
     *                 there */
    void show(ScaNNLists& view, RetiredMemory& retired) noexcept;

    // ---- faiss::InvertedLists, in entries ----

    size_t list_size(size_t list_no) const override;
    /// All entries of the list, unpacked; release_codes() frees them.
    const uint8_t* get_codes(size_t list_no) const override;
    const idx_t* get_ids(size_t list_no) const override;
    void release_codes(size_t list_no, const uint8_t* codes) const override;
    idx_t get_single_id(size_t list_no, size_t offset) const override;
    const uint8_t* get_single_code(size_t list_no, size_t offset)
            const override;
    void prefetch_lists(const idx_t* list_nos, int nlist) const override;

    size_t add_entries(
            size_t list_no,
            size_t n,
            const idx_t* ids,
            const uint8_t* entries) override;
    void update_entries(
            size_t list_no,
            size_t offset,
            size_t n,
            const idx_t* ids,
            const uint8_t* entries) override;
    /// New entries, if any, are zeros.
    void resize(size_t list_no, size_t new_size) override;
    /// Removes all entries and frees their memory, or retires it.
    void reset() override;
    /// The same in two calls, of which only the first can fail.
    std::unique_ptr<RetiredLists> prepare_reset();
    void reset(std::unique_ptr<RetiredLists> retired);

    /// Reads entries [offset, offset + n). @param entries  out, n * code_size
    void read_entries(size_t list_no, size_t offset, size_t n, uint8_t* entries)
            const;

 private:
    void count_change() {
        changes_->fetch_add(1, std::memory_order_relaxed);
    }
    void move_into_arena(
            const std::vector<size_t>& capacities,
            const ColumnFilter& wanted);
    bool shrink(double most);
    struct View {};
    ScaNNLists(const ScaNNLists& of, View);
    void make_room(size_t list_no, size_t n);
    void copy_shown(size_t list_no, size_t n, bool all);
    void resize_columns(ScaNNList& list, size_t n);
    void move_entry(size_t list_no, size_t from, size_t to);
    void set_apart(ScaNNList& list, size_t offset, bool apart);
    void write_entries(
            size_t list_no,
            size_t offset,
            size_t n,
            const idx_t* ids,
            const uint8_t* entries);
    void read_entry(size_t list_no, size_t at, uint8_t* codes, uint8_t* entry)
            const;
    void write_entry(
            size_t list_no,
            size_t at,
            idx_t id,
            const uint8_t* entry,
            uint8_t* codes);

    EntryLayout layout_;
    std::shared_ptr<std::atomic<uint64_t>> changes_;
    std::vector<ScaNNList> lists_; ///< of a view: none
    std::vector<const ScaNNList*> tables_;
    std::shared_ptr<ColumnArena> arena_;     ///< lends columns, or nullptr
    std::unique_ptr<ListVersions> versions_; ///< nullptr: there are no views
    std::atomic<size_t> removed_ = 0;        ///< since the last check
    size_t next_check_ = 0;                  ///< at this many removed entries
    /// scratch of move_entry(), which must not fail
    std::vector<uint8_t> move_codes_, move_entry_;
    std::shared_ptr<const void> owner_;
    std::shared_ptr<const OnDemandRows> on_demand_rows_;
};

} // namespace faiss_ext
