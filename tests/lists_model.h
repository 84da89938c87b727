/* Lists beside a std::vector of entries per list, for their tests. */

#pragma once

#include <algorithm>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <faiss_ext/scann_lists.h>
#include <faiss_ext/score_term.h>

namespace lists_model {

using namespace faiss_ext;

inline std::vector<EntryLayout> all_layouts() {
    std::vector<EntryLayout> layouts;
    for (size_t M : {1, 2, 7, 8}) {
        for (RefineType refine :
             {RefineType::None,
              RefineType::Int8,
              RefineType::FP16,
              RefineType::BF16}) {
            for (int bits = 0; bits < 12; bits++) {
                EntryLayout layout;
                layout.d = 7;
                layout.M = M;
                layout.refine_type = refine;
                layout.has_term = bits & 1;
                layout.has_primary = bits & 2;
                layout.with_raw_data = bits / 4 >= 1;
                layout.raw_norm = bits / 4 == 2;
                layouts.push_back(layout);
            }
        }
    }
    return layouts;
}

/// The layout with everything in it.
inline EntryLayout full_layout() {
    EntryLayout layout;
    layout.d = 9;
    layout.M = 5;
    layout.has_term = true;
    layout.refine_type = RefineType::Int8;
    layout.with_raw_data = layout.raw_norm = true;
    layout.has_primary = true;
    return layout;
}

struct Entry {
    int64_t id;
    std::vector<uint8_t> bytes;
    bool operator==(const Entry&) const = default;
};

/// Whether the term of an entry says that it is kept apart.
inline bool is_apart(const EntryLayout& layout, const uint8_t* entry) {
    uint16_t term = 0;
    if (layout.has_term) {
        std::memcpy(&term, entry + layout.term_offset(), sizeof(term));
    }
    return term == ScoreTerm::kApart;
}

/// What `apart` of a list must be by its entries.
inline std::vector<uint32_t> apart_by_terms(
        const faiss::InvertedLists& lists,
        const EntryLayout& layout,
        size_t list_no) {
    faiss::InvertedLists::ScopedCodes codes(&lists, list_no);
    std::vector<uint32_t> apart;
    for (size_t i = 0; i < lists.list_size(list_no); i++) {
        if (is_apart(layout, codes.get() + i * lists.code_size)) {
            apart.push_back(uint32_t(i));
        }
    }
    return apart;
}

/// Lists both ways.
class Model {
 public:
    Model(size_t nlist, const EntryLayout& layout, int seed)
            : lists(nlist, layout), entries(nlist), random(seed) {}

    Entry random_entry() {
        Entry entry{int64_t(random()), {}};
        const EntryLayout& layout = lists.layout();
        entry.bytes.resize(layout.size());
        for (uint8_t& byte : entry.bytes) {
            byte = random();
        }
        if (layout.M % 2 == 1) {
            entry.bytes[layout.code_bytes() - 1] &= 0x0F;
        }
        if (layout.has_term && random() % apart_every == 0) {
            uint16_t term = ScoreTerm::kApart;
            std::memcpy(&entry.bytes[layout.term_offset()], &term, 2);
        }
        return entry;
    }

    void add(size_t l, size_t n) {
        Batch batch(*this, n);
        size_t at =
                lists.add_entries(l, n, batch.ids.data(), batch.bytes.data());
        ASSERT_EQ(at, entries[l].size());
        entries[l].insert(
                entries[l].end(), batch.entries.begin(), batch.entries.end());
    }

    void update(size_t l, size_t offset, size_t n) {
        Batch batch(*this, n);
        lists.update_entries(
                l, offset, n, batch.ids.data(), batch.bytes.data());
        std::copy(
                batch.entries.begin(),
                batch.entries.end(),
                entries[l].begin() + offset);
    }

    void resize(size_t l, size_t n) {
        lists.resize(l, n);
        std::vector<uint8_t> zeros(lists.code_size);
        entries[l].resize(n, {0, zeros});
    }

    void remove(size_t l, const std::vector<size_t>& offsets) {
        std::vector<Entry>& model = entries[l];
        std::vector<std::pair<size_t, size_t>> moves;
        lists.remove(l, offsets, [&](size_t from, size_t to) {
            moves.push_back({from, to});
        });
        for (auto [from, to] : moves) {
            model[to] = model[from];
        }
        model.resize(model.size() - offsets.size());
    }

    void check() const {
        for (size_t l = 0; l < entries.size(); l++) {
            size_t n = entries[l].size();
            ASSERT_EQ(lists.list_size(l), n);
            faiss::InvertedLists::ScopedIds ids(&lists, l);
            faiss::InvertedLists::ScopedCodes codes(&lists, l);
            for (size_t i = 0; i < n; i++) {
                const uint8_t* bytes = codes.get() + i * lists.code_size;
                Entry entry{ids[i], {bytes, bytes + lists.code_size}};
                ASSERT_EQ(entry, entries[l][i]) << l << ", " << i;
            }
            ASSERT_EQ(
                    lists.list(l).apart,
                    apart_by_terms(lists, lists.layout(), l));
        }
    }

    ScaNNLists lists;
    std::vector<std::vector<Entry>> entries;
    /// so many entries to one that is kept apart
    size_t apart_every = 4;
    std::mt19937 random;

 private:
    struct Batch {
        Batch(Model& model, size_t n) {
            for (size_t i = 0; i < n; i++) {
                entries.push_back(model.random_entry());
                const Entry& last = entries.back();
                ids.push_back(last.id);
                bytes.insert(bytes.end(), last.bytes.begin(), last.bytes.end());
            }
        }
        std::vector<Entry> entries;
        std::vector<int64_t> ids;
        std::vector<uint8_t> bytes;
    };
};

} // namespace lists_model
