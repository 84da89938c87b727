#include <faiss_ext/lists/scann_lists.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/memory/column_arena.h>
#include <faiss_ext/codes/packed_block.h>
#include <faiss_ext/partition/panels.h>
#include <faiss_ext/codes/score_term.h>

namespace faiss_ext {

namespace {

void check_range(size_t offset, size_t n, size_t size) {
    FAISS_THROW_IF_NOT_FMT(
            offset <= size && n <= size - offset,
            "entries %zu..%zu of a list of %zu",
            offset,
            offset + n,
            size);
}

bool all_columns(const char*) {
    return true;
}

} // namespace

ScaNNLists::ScaNNLists(size_t nlist, const EntryLayout& layout)
        : faiss::InvertedLists(nlist, layout.size()),
          layout_(layout),
          lists_(nlist),
          move_codes_(layout.M + 1),
          move_entry_(layout.size()) {}

ScaNNLists::~ScaNNLists() = default;

size_t ScaNNLists::memory_usage() const {
    size_t total = lists_.capacity() * sizeof(ScaNNList);
    total += arena_ == nullptr ? 0 : arena_->memory_usage();
    for (const ScaNNList& list : lists_) {
        total += list.apart.capacity() * sizeof(list.apart[0]);
    }
    visit_columns(layout_, [&](const char*, auto column, auto&&) {
        for (const ScaNNList& list : lists_) {
            const auto& buffer = list.*column;
            if (!buffer.is_lent()) {
                size_t held = buffer.size() * sizeof(buffer[0]);
                total += std::max(held, buffer.allocated_bytes());
            }
        }
    });
    return total;
}

std::unique_ptr<ScaNNLists> ScaNNLists::copy() const {
    auto out = std::make_unique<ScaNNLists>(nlist, layout_);
    std::vector<size_t> sizes(nlist);
    for (size_t l = 0; l < nlist; l++) {
        sizes[l] = lists_[l].size();
    }
    out->reserve(sizes);
    for (size_t l = 0; l < nlist; l++) {
        out->lists_[l].apart = lists_[l].apart;
    }
    visit_columns(layout_, [&](const char*, auto column, auto&&) {
        for (size_t l = 0; l < nlist; l++) {
            const auto& from = lists_[l].*column;
            auto& to = out->lists_[l].*column;
            to.resize(from.size());
            std::copy_n(from.data(), from.size(), to.mutable_data());
        }
    });
    return out;
}

size_t
ScaNNLists::estimate_memory(const EntryLayout& layout, size_t nlist, size_t n) {
    // Two vectors share a quad of each column. Lists with an odd number of
    // vectors waste half a quad: every second one, on average.
    size_t quads = 4 * layout.packed().columns();
    size_t packed = n / 2 * quads + std::min(nlist, n) * quads / 4;
    size_t per_vector = sizeof(int64_t) + layout.refine_row_bytes() +
                        layout.raw_row_bytes() +
                        (layout.has_primary ? sizeof(uint64_t) : 0);
    return nlist * sizeof(ScaNNList) + packed + n * per_vector;
}

void ScaNNLists::reserve_each(const std::vector<ListCount>& extra) {
    size_t added = 0;
    for (const ListCount& more : extra) {
        added += more.count;
    }
    // for fewer, even looking at every list would take too long
    if (added > 0 && added >= nlist / 8) {
        std::vector<size_t> wanted(nlist);
        size_t held = 0;
        for (size_t l = 0; l < nlist; l++) {
            wanted[l] = lists_[l].size();
            held += wanted[l];
        }
        if (added >= held) {
            for (const ListCount& more : extra) {
                wanted[more.list] += more.count;
            }
            move_into_arena(wanted, all_columns);
            return;
        }
    }
    for (const ListCount& more : extra) {
        ScaNNList& list = lists_[more.list];
        make_room(list, list.size() + more.count);
    }
}

void ScaNNLists::reserve(const std::vector<size_t>& extra) {
    FAISS_THROW_IF_NOT(extra.size() == nlist);
    std::vector<ListCount> counts;
    for (size_t l = 0; l < nlist; l++) {
        if (extra[l] > 0) {
            counts.push_back({l, extra[l]});
        }
    }
    reserve_each(counts);
}

void ScaNNLists::make_writable(size_t list_no) {
    ScaNNList& list = lists_[list_no];
    make_room(list, list.size());
}

void ScaNNLists::reserve_columns(
        const std::vector<size_t>& sizes,
        const ColumnFilter& wanted) {
    FAISS_THROW_IF_NOT(sizes.size() == nlist);
    move_into_arena(sizes, wanted);
}

/// @param capacities  entries of each list to have room for, >= its size
/// @param wanted      the columns that move
void ScaNNLists::move_into_arena(
        const std::vector<size_t>& capacities,
        const ColumnFilter& wanted) {
    size_t total = 0;
    visit_columns(layout_, [&](const char* name, auto column, auto elements) {
        if (!wanted(name)) {
            return;
        }
        using T = std::decay_t<decltype((ScaNNList().*column)[0])>;
        for (size_t capacity : capacities) {
            size_t bytes = round_up(elements(capacity) * sizeof(T), kAlignment);
            // a damaged file can ask for more than all memory
            if (bytes > SIZE_MAX - total) {
                throw std::bad_alloc();
            }
            total += bytes;
        }
    });
    auto arena = std::make_unique<ColumnArena>(total);
    uint8_t* part = arena->data();
    visit_columns(layout_, [&](const char* name, auto column, auto elements) {
        if (!wanted(name)) {
            return;
        }
        using T = std::decay_t<decltype((ScaNNList().*column)[0])>;
        for (size_t l = 0; l < nlist; l++) {
            size_t capacity = elements(capacities[l]);
            auto moved = AlignedBuffer<T>::lend(
                    reinterpret_cast<T*>(part), capacity);
            part += round_up(capacity * sizeof(T), kAlignment);
            auto& old = lists_[l].*column;
            moved.resize(old.size());
            std::copy_n(old.data(), old.size(), moved.mutable_data());
            old.swap(moved);
        }
    });
    arena_ = std::move(arena);
    owner_.reset();
    on_demand_rows_.reset();
}

bool ScaNNLists::release_unused() {
    if (removed_ < next_check_ || removed_ == 0) {
        return false;
    }
    size_t entries = 0;
    for (const ScaNNList& list : lists_) {
        entries += list.size();
    }
    removed_ = 0;
    next_check_ = std::max(entries / 4, nlist / 8);
    if (entries == 0) {
        reset();
        return true;
    }
    try {
        return shrink();
    } catch (const std::bad_alloc&) {
        return false; // later additions use the memory
    }
}

/// Frees unused memory, if that is more than half.
bool ScaNNLists::shrink() {
    // this much unused memory is not worth moving all lists
    constexpr size_t kFewBytes = 1 << 16;
    size_t held = arena_ == nullptr ? 0 : arena_->memory_usage();
    size_t used = 0;
    bool mapped = false;
    visit_columns(layout_, [&](const char*, auto column, auto&&) {
        for (const ScaNNList& list : lists_) {
            const auto& buffer = list.*column;
            held += buffer.allocated_bytes();
            used += round_up(buffer.size() * sizeof(buffer[0]), kAlignment);
            mapped |= buffer.is_borrowed();
        }
    });
    if (mapped) {
        // mapped columns stay mapped
        visit_columns(layout_, [&](const char*, auto column, auto&&) {
            for (ScaNNList& list : lists_) {
                auto& buffer = list.*column;
                if (buffer.capacity() > 2 * buffer.size()) {
                    buffer.shrink_to_fit();
                }
            }
        });
        return true;
    }
    if (held <= 2 * used + kFewBytes) {
        return false;
    }
    std::vector<size_t> sizes(nlist);
    for (size_t l = 0; l < nlist; l++) {
        sizes[l] = lists_[l].size();
    }
    move_into_arena(sizes, all_columns);
    return true;
}

/// Room for n entries; nothing changes if memory runs out.
void ScaNNLists::make_room(ScaNNList& list, size_t n) {
    visit_columns(layout_, [&](const char*, auto column, auto elements) {
        auto& buffer = list.*column;
        bool was_lent = buffer.is_lent();
        const void* part = buffer.data();
        size_t part_bytes = buffer.capacity() * sizeof(buffer[0]);
        buffer.reserve(elements(n));
        if (was_lent && !buffer.is_lent()) {
            arena_->give_back(part, part_bytes);
        }
    });
}

void ScaNNLists::resize_columns(ScaNNList& list, size_t n) {
    visit_columns(layout_, [&](const char*, auto column, auto elements) {
        (list.*column).resize(elements(n));
    });
}

size_t ScaNNLists::list_size(size_t list_no) const {
    FAISS_THROW_IF_NOT_FMT(
            list_no < nlist, "list %zu of %zu lists", list_no, nlist);
    return lists_[list_no].size();
}

const ScaNNLists::idx_t* ScaNNLists::get_ids(size_t list_no) const {
    list_size(list_no); // throws if there is no such list
    return lists_[list_no].ids.data();
}

ScaNNLists::idx_t ScaNNLists::get_single_id(size_t list_no, size_t offset)
        const {
    check_range(offset, 1, list_size(list_no));
    return lists_[list_no].ids[offset];
}

const uint8_t* ScaNNLists::get_codes(size_t list_no) const {
    size_t n = list_size(list_no);
    auto entries = std::make_unique<uint8_t[]>(n * code_size);
    read_entries(list_no, 0, n, entries.get());
    return entries.release();
}

const uint8_t* ScaNNLists::get_single_code(size_t list_no, size_t offset)
        const {
    auto entry = std::make_unique<uint8_t[]>(code_size);
    read_entries(list_no, offset, 1, entry.get());
    return entry.release();
}

void ScaNNLists::release_codes(size_t, const uint8_t* codes) const {
    delete[] codes;
}

void ScaNNLists::prefetch_lists(const idx_t* list_nos, int n) const {
    for (int i = 0; i < n; i++) {
        if (list_nos[i] >= 0 && size_t(list_nos[i]) < nlist) {
            __builtin_prefetch(lists_[list_nos[i]].packed.data());
        }
    }
}

size_t ScaNNLists::add_entries(
        size_t list_no,
        size_t n,
        const idx_t* ids,
        const uint8_t* entries) {
    size_t offset = list_size(list_no);
    if (n > 0) {
        resize(list_no, offset + n);
        write_entries(list_no, offset, n, ids, entries);
    }
    return offset;
}

void ScaNNLists::update_entries(
        size_t list_no,
        size_t offset,
        size_t n,
        const idx_t* ids,
        const uint8_t* entries) {
    check_range(offset, n, list_size(list_no));
    write_entries(list_no, offset, n, ids, entries);
}

void ScaNNLists::resize(size_t list_no, size_t new_size) {
    size_t old_size = list_size(list_no);
    if (new_size == old_size) {
        return;
    }
    ScaNNList& list = lists_[list_no];
    // all that can fail comes before the first change
    make_room(list, std::max(old_size, new_size));
    if (new_size > old_size) {
        resize_columns(list, new_size);
    }
    reshape_tail(
            layout_.packed(), list.packed.mutable_data(), old_size, new_size);
    if (new_size < old_size) {
        resize_columns(list, new_size);
        while (!list.apart.empty() && list.apart.back() >= new_size) {
            list.apart.pop_back();
        }
        removed_ += old_size - new_size;
    }
}

void ScaNNLists::reset() {
    for (ScaNNList& list : lists_) {
        list = ScaNNList();
    }
    arena_.reset();
    owner_.reset();
    on_demand_rows_.reset();
    removed_ = next_check_ = 0;
}

void ScaNNLists::read_entries(
        size_t list_no,
        size_t offset,
        size_t n,
        uint8_t* entries) const {
    check_range(offset, n, list_size(list_no));
    std::vector<uint8_t> codes(layout_.M + 1);
    for (size_t i = 0; i < n; i++) {
        read_entry(list_no, offset + i, codes.data(), entries + i * code_size);
    }
}

/// @param codes  scratch, size M + 1
void ScaNNLists::read_entry(
        size_t list_no,
        size_t at,
        uint8_t* codes,
        uint8_t* entry) const {
    const ScaNNList& list = lists_[list_no];
    size_t refine_bytes = layout_.refine_row_bytes();
    size_t raw_bytes = layout_.raw_row_bytes();
    uint16_t term = 0;
    codes[layout_.M] = 0;
    unpack_codes(
            layout_.packed(),
            list.packed.data(),
            list.size(),
            at,
            1,
            codes,
            &term);
    for (size_t m = 0; m < layout_.M; m += 2) {
        entry[m / 2] = codes[m] | (codes[m + 1] << 4);
    }
    if (layout_.has_term) {
        std::memcpy(entry + layout_.term_offset(), &term, sizeof(term));
    }
    if (refine_bytes > 0) {
        std::memcpy(
                entry + layout_.refine_offset(),
                list.refine.data() + at * refine_bytes,
                refine_bytes);
    }
    if (raw_bytes > 0) {
        std::memcpy(
                entry + layout_.raw_offset(), raw_row(list_no, at), raw_bytes);
    }
    if (layout_.has_primary) {
        std::memcpy(
                entry + layout_.primary_offset(),
                &list.primary[at],
                sizeof(uint64_t));
    }
}

/// Keeps the offsets of the entries apart up to date.
void ScaNNLists::set_apart(ScaNNList& list, size_t offset, bool apart) {
    auto at = std::lower_bound(list.apart.begin(), list.apart.end(), offset);
    bool was = at != list.apart.end() && *at == offset;
    if (apart && !was) {
        list.apart.insert(at, uint32_t(offset));
    } else if (!apart && was) {
        list.apart.erase(at);
    }
}

void ScaNNLists::write_entries(
        size_t list_no,
        size_t offset,
        size_t n,
        const idx_t* ids,
        const uint8_t* entries) {
    std::vector<uint8_t> codes(layout_.M + 1);
    for (size_t i = 0; i < n; i++) {
        write_entry(
                list_no,
                offset + i,
                ids[i],
                entries + i * code_size,
                codes.data());
    }
}

/// Allocates only if the list has more entries apart than ever before.
/// @param codes  scratch, size M + 1
void ScaNNLists::write_entry(
        size_t list_no,
        size_t at,
        idx_t id,
        const uint8_t* entry,
        uint8_t* codes) {
    ScaNNList& list = lists_[list_no];
    size_t refine_bytes = layout_.refine_row_bytes();
    size_t raw_bytes = layout_.raw_row_bytes();
    for (size_t m = 0; m < layout_.M; m += 2) {
        codes[m] = entry[m / 2] & 0x0F;
        codes[m + 1] = entry[m / 2] >> 4;
    }
    uint16_t term = 0;
    if (layout_.has_term) {
        std::memcpy(&term, entry + layout_.term_offset(), sizeof(term));
        set_apart(list, at, term == ScoreTerm::kApart);
    }
    pack_codes(
            layout_.packed(),
            list.packed.mutable_data(),
            list.size(),
            at,
            1,
            codes,
            &term);
    if (refine_bytes > 0) {
        std::memcpy(
                list.refine.mutable_data() + at * refine_bytes,
                entry + layout_.refine_offset(),
                refine_bytes);
    }
    if (raw_bytes > 0) {
        std::memcpy(
                list.raw.mutable_data() + at * raw_bytes,
                entry + layout_.raw_offset(),
                raw_bytes);
    }
    if (layout_.has_primary) {
        std::memcpy(
                list.primary.mutable_data() + at,
                entry + layout_.primary_offset(),
                sizeof(uint64_t));
    }
    list.ids.mutable_data()[at] = id;
}

void ScaNNLists::move_entry(size_t list_no, size_t from, size_t to) {
    read_entry(list_no, from, move_codes_.data(), move_entry_.data());
    idx_t id = lists_[list_no].ids[from];
    // before write_entry(), which then needs no memory for the new offset
    set_apart(lists_[list_no], from, false);
    write_entry(list_no, to, id, move_entry_.data(), move_codes_.data());
}

} // namespace faiss_ext
