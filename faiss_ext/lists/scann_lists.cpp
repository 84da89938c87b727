#include <faiss_ext/lists/scann_lists.h>

#include <algorithm>
#include <new>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/lists/list_versions.h>
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
          tables_((nlist + kTable - 1) / kTable),
          move_codes_(layout.M + 1),
          move_entry_(layout.size()) {
    for (size_t table = 0; table < tables_.size(); table++) {
        tables_[table] = &lists_[table * kTable];
    }
}

ScaNNLists::~ScaNNLists() {
    *changes_ = kGone;
}

size_t ScaNNLists::rows_apart() const {
    size_t count = 0;
    for (size_t l = 0; l < nlist; l++) {
        count += list(l).apart.size();
    }
    return count;
}

size_t ScaNNLists::memory_usage() const {
    size_t total = nlist * sizeof(ScaNNList);
    total += arena_ == nullptr ? 0 : arena_->memory_usage();
    total += on_demand_rows_ == nullptr ? 0 : on_demand_rows_->memory_usage();
    for (size_t l = 0; l < nlist; l++) {
        total += list(l).apart.capacity() * sizeof(uint32_t);
    }
    visit_columns(layout_, [&](const char*, auto column, auto&&) {
        for (size_t l = 0; l < nlist; l++) {
            const auto& buffer = list(l).*column;
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
        sizes[l] = list(l).size();
    }
    out->reserve(sizes);
    for (size_t l = 0; l < nlist; l++) {
        out->lists_[l].apart = list(l).apart;
    }
    visit_columns(layout_, [&](const char*, auto column, auto&&) {
        for (size_t l = 0; l < nlist; l++) {
            const auto& from = list(l).*column;
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
        make_room(more.list, lists_[more.list].size() + more.count);
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
    const size_t size = lists_[list_no].size();
    if (versions_ != nullptr) {
        copy_shown(list_no, size, true);
    }
    make_room(list_no, size);
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
    auto arena = std::make_shared<ColumnArena>(total);
    auto retired = std::make_unique<RetiredLists>();
    if (versions_ != nullptr) {
        retired->lists.resize(nlist);
        for (size_t l = 0; l < nlist; l++) {
            retired->lists[l].apart = lists_[l].apart;
        }
        versions_->will_change_all();
    }
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
            if (versions_ != nullptr) {
                (retired->lists[l].*column).swap(moved);
            }
        }
    });
    if (versions_ != nullptr) {
        for (size_t l = 0; l < nlist; l++) {
            lists_[l].apart.swap(retired->lists[l].apart);
            versions_->shown(l) = 0;
        }
        retired->arena = std::move(arena_);
        versions_->retire(std::move(retired));
    }
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
    try {
        if (entries == 0) {
            reset();
            return true;
        }
        return shrink(2);
    } catch (const std::bad_alloc&) {
        return false; // later additions use the memory
    }
}

void ScaNNLists::trim(size_t list_no) {
    count_change();
    // what a view shows stays as it is
    const ListVersions::Columns shown =
            versions_ == nullptr ? 0 : versions_->shown(list_no);
    ListVersions::Columns bit = 1;
    try {
        visit_columns(layout_, [&](const char*, auto column, auto&&) {
            auto& buffer = lists_[list_no].*column;
            const size_t bytes = buffer.size() * sizeof(buffer[0]);
            if ((shown & bit) == 0 &&
                double(buffer.allocated_bytes()) >
                        kTrimmed * double(bytes) + kAlignment) {
                buffer.shrink_to_fit();
            }
            bit <<= 1;
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
    if (mapped && versions_ != nullptr) {
        return false; // nor are columns that views show cut
    }
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
void ScaNNLists::make_room(size_t list_no, size_t n) {
    count_change();
    ScaNNList& list = lists_[list_no];
    if (versions_ != nullptr) {
        copy_shown(list_no, n, false);
    }
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
    if (versions_ != nullptr && new_size < versions_->shown_size(list_no)) {
        make_writable(list_no);
    }
    make_room(list_no, std::max(old_size, new_size));
    if (new_size > old_size) {
        resize_columns(list, new_size);
    }
    reshape_tail(
            layout_.packed(), list.packed.mutable_data(), old_size, new_size);
    if (new_size < old_size) {
        resize_columns(list, new_size);
        const auto& apart = list.apart;
        list.apart.resize(
                size_t(std::lower_bound(apart.begin(), apart.end(), new_size) -
                       apart.begin()));
        removed_ += old_size - new_size;
    }
}

std::unique_ptr<RetiredLists> ScaNNLists::prepare_reset() {
    if (versions_ == nullptr) {
        return nullptr;
    }
    auto retired = std::make_unique<RetiredLists>();
    retired->lists.resize(nlist);
    versions_->will_change_all();
    return retired;
}

void ScaNNLists::reset(std::unique_ptr<RetiredLists> retired) {
    count_change();
    for (size_t l = 0; l < nlist; l++) {
        if (retired != nullptr) {
            std::swap(retired->lists[l], lists_[l]);
            versions_->shown(l) = 0;
        }
        lists_[l] = ScaNNList();
    }
    if (retired != nullptr) {
        retired->arena = std::move(arena_);
        versions_->retire(std::move(retired));
    }
    arena_.reset();
    owner_.reset();
    on_demand_rows_.reset();
    removed_ = next_check_ = 0;
}

void ScaNNLists::reset() {
    reset(prepare_reset());
}

// ---- versions ----

void ScaNNLists::begin_versions(RetiredMemory& retired) {
    versions_ = std::make_unique<ListVersions>(nlist, retired);
}

ScaNNLists::ScaNNLists(const ScaNNLists& of, View)
        : faiss::InvertedLists(of.nlist, of.code_size),
          layout_(of.layout_),
          changes_(std::make_shared<std::atomic<uint64_t>>(0)),
          tables_(of.tables_.size()) {}

std::unique_ptr<ScaNNLists> ScaNNLists::new_view() const {
    return std::unique_ptr<ScaNNLists>(new ScaNNLists(*this, View()));
}

void ScaNNLists::show(ScaNNLists& view, RetiredMemory& retired) noexcept {
    versions_->show(lists_, layout_, view.tables_, retired);
    view.owner_ = owner_;
    view.on_demand_rows_ = on_demand_rows_;
}

/** Copies columns of a list that a view shows.
 * @param n    entries to have room for
 * @param all  all of them; else what appending entries writes to */
void ScaNNLists::copy_shown(size_t list_no, size_t n, bool all) {
    versions_->will_change(list_no);
    ListVersions::Columns& shown = versions_->shown(list_no);
    ScaNNList& list = lists_[list_no];
    ListVersions::Columns wanted = 0, bit = 1;
    visit_columns(layout_, [&](const char*, auto column, auto elements) {
        const bool grows = elements(n) > (list.*column).capacity();
        // appending changes the shape of the last block
        const bool packed = bit == 1;
        wanted |= all || grows || packed ? bit : 0;
        bit <<= 1;
    });
    wanted |= ListVersions::kApart;
    if (list.apart.empty()) {
        shown &= ~ListVersions::kApart; // no view reads what comes there
    }
    wanted &= shown;
    if (wanted == 0) {
        return;
    }
    auto retired = std::make_unique<RetiredColumns>(layout_, arena_);
    ScaNNList& fresh = retired->list;
    // Room for a few more: an update adds rows to a list that it has copied to
    // remove others. By less than reserve() gives, since blocks of malloc that
    // are used again and again are resident with all their room.
    const size_t room = n + n / 16 + 1;
    const auto visit_wanted = [&](auto&& visit) {
        bit = 1;
        visit_columns(layout_, [&](const char*, auto column, auto elements) {
            if ((wanted & bit) != 0) {
                visit(list.*column, fresh.*column, elements(room));
            }
            bit <<= 1;
        });
        if ((wanted & ListVersions::kApart) != 0) {
            visit(list.apart, fresh.apart, list.apart.size());
        }
    };
    visit_wanted([](const auto& from, auto& to, size_t capacity) {
        to.reserve(capacity);
        to.resize(from.size());
        std::copy_n(from.data(), from.size(), to.mutable_data());
    });
    // nothing fails from here on
    visit_wanted([](auto& from, auto& to, size_t) { from.swap(to); });
    shown &= ~wanted;
    versions_->retire(std::move(retired));
}

} // namespace faiss_ext
