#include <faiss_ext/lists/list_versions.h>

#include <algorithm>
#include <utility>

namespace faiss_ext {

RetiredColumns::~RetiredColumns() {
    visit_columns(layout, [&](const char*, auto column, auto&&) {
        const auto& buffer = list.*column;
        if (buffer.is_lent()) {
            arena->give_back(
                    buffer.data(), buffer.capacity() * sizeof(buffer[0]));
        }
    });
}

ListVersions::ListVersions(size_t nlist, RetiredMemory& retired)
        : shown_((nlist + ScaNNLists::kTable - 1) / ScaNNLists::kTable),
          next_(shown_.size()),
          columns_(nlist),
          retired_(&retired) {
    changed_.reserve(shown_.size());
    will_change_all();
}

void ListVersions::will_change(size_t list_no) {
    const size_t table = list_no / ScaNNLists::kTable;
    if (next_[table] == nullptr) {
        next_[table] = std::make_unique<Table>();
        changed_.push_back(table);
    }
}

void ListVersions::will_change_all() {
    for (size_t table = 0; table < next_.size(); table++) {
        will_change(table * ScaNNLists::kTable);
    }
}

size_t ListVersions::shown_size(size_t list_no) const {
    const auto& table = shown_[list_no / ScaNNLists::kTable];
    return table == nullptr ? 0
                            : table->lists[list_no % ScaNNLists::kTable].size();
}

void ListVersions::show(
        const std::vector<ScaNNList>& lists,
        const EntryLayout& layout,
        std::vector<const ScaNNList*>& tables,
        RetiredMemory& retired) noexcept {
    for (size_t table : changed_) {
        const size_t begin = table * ScaNNLists::kTable;
        const size_t end = std::min(lists.size(), begin + ScaNNLists::kTable);
        for (size_t l = begin; l < end; l++) {
            ScaNNList& view = next_[table]->lists[l - begin];
            visit_columns(layout, [&](const char*, auto column, auto&&) {
                auto& to = view.*column;
                const auto& from = lists[l].*column;
                to = std::decay_t<decltype(to)>::borrow(
                        from.data(), from.size());
            });
            view.apart = AlignedBuffer<uint32_t>::borrow(
                    lists[l].apart.data(), lists[l].apart.size());
            columns_[l] = kAll;
        }
        shown_[table].swap(next_[table]);
        if (next_[table] != nullptr) {
            retired_->keep(std::move(next_[table]));
        }
    }
    changed_.clear();
    for (size_t table = 0; table < shown_.size(); table++) {
        tables[table] = shown_[table]->lists;
    }
    retired_ = &retired;
}

} // namespace faiss_ext
