#include <faiss_ext/lists/scann_lists.h>

#include <algorithm>
#include <new>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/lists/on_demand_rows.h>
#include <faiss_ext/memory/column_arena.h>
#include <faiss_ext/codes/packed_block.h>

namespace faiss_ext {

namespace {

/// Memory that trim() leaves, in times of what is used.
constexpr double kTrimmed = 1.25;

bool all_columns(const char*) {
    return true;
}

} // namespace

ScaNNLists::ScaNNLists(size_t nlist, const EntryLayout& layout)
        : faiss::InvertedLists(nlist, layout.size()),
          layout_(layout),
          changes_(std::make_shared<std::atomic<uint64_t>>(0)),
          lists_(nlist),
          move_codes_(layout.M + 1),
          move_entry_(layout.size()) {}

ScaNNLists::~ScaNNLists() {
    *changes_ = kGone;
}

size_t ScaNNLists::rows_apart() const {
    size_t count = 0;
    for (const ScaNNList& list : lists_) {
        count += list.apart.size();
    }
    return count;
}

size_t ScaNNLists::memory_usage() const {
    size_t total = lists_.capacity() * sizeof(ScaNNList);
    total += arena_ == nullptr ? 0 : arena_->memory_usage();
    total += on_demand_rows_ == nullptr ? 0 : on_demand_rows_->memory_usage();
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
                        (layout.has_tag ? sizeof(int64_t) : 0) +
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
    count_change();
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
        return shrink(2);
    } catch (const std::bad_alloc&) {
        return false; // later additions use the memory
    }
}

void ScaNNLists::trim(size_t list_no) {
    count_change();
    try {
        visit_columns(layout_, [&](const char*, auto column, auto&&) {
            auto& buffer = lists_[list_no].*column;
            const size_t bytes = buffer.size() * sizeof(buffer[0]);
            if (double(buffer.allocated_bytes()) >
                kTrimmed * double(bytes) + kAlignment) {
                buffer.shrink_to_fit();
            }
        });
    } catch (const std::bad_alloc&) {
        return; // later additions use the memory
    }
}

void ScaNNLists::trim_all() {
    try {
        shrink(kTrimmed);
    } catch (const std::bad_alloc&) {
        return;
    }
}

/// Frees unused memory, if lists hold more than so many times what they use.
bool ScaNNLists::shrink(double most) {
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
                if (double(buffer.capacity()) > most * double(buffer.size())) {
                    buffer.shrink_to_fit();
                }
            }
        });
        return true;
    }
    if (double(held) <= most * double(used) + kFewBytes) {
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
    count_change();
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
    count_change();
    for (ScaNNList& list : lists_) {
        list = ScaNNList();
    }
    arena_.reset();
    owner_.reset();
    on_demand_rows_.reset();
    removed_ = next_check_ = 0;
}

} // namespace faiss_ext
