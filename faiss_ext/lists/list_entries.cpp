/*
 * The lists as faiss::InvertedLists: entries, of one vector each, read from and
 * written to the columns.
 */

#include <faiss_ext/lists/scann_lists.h>

#include <algorithm>
#include <cstring>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/codes/packed_block.h>
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

} // namespace

size_t ScaNNLists::list_size(size_t list_no) const {
    FAISS_THROW_IF_NOT_FMT(
            list_no < nlist, "list %zu of %zu lists", list_no, nlist);
    return list(list_no).size();
}

const ScaNNLists::idx_t* ScaNNLists::get_ids(size_t list_no) const {
    list_size(list_no); // throws if there is no such list
    return list(list_no).ids.data();
}

ScaNNLists::idx_t ScaNNLists::get_single_id(size_t list_no, size_t offset)
        const {
    check_range(offset, 1, list_size(list_no));
    return list(list_no).ids[offset];
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
            __builtin_prefetch(list(size_t(list_nos[i])).packed.data());
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
    make_writable(list_no);
    write_entries(list_no, offset, n, ids, entries);
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
    const ScaNNList& list = this->list(list_no);
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
    if (layout_.has_tag) {
        std::memcpy(
                entry + layout_.tag_offset(), &list.tags[at], sizeof(int64_t));
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
    AlignedBuffer<uint32_t>& all = list.apart;
    const auto found = std::lower_bound(all.begin(), all.end(), offset);
    const bool was = found != all.end() && *found == offset;
    const size_t at = size_t(found - all.begin());
    const size_t n = all.size();
    if (apart && !was) {
        all.resize(n + 1);
        uint32_t* offsets = all.mutable_data();
        std::copy_backward(offsets + at, offsets + n, offsets + n + 1);
        offsets[at] = uint32_t(offset);
    } else if (!apart && was) {
        uint32_t* offsets = all.mutable_data();
        std::copy(offsets + at + 1, offsets + n, offsets + at);
        all.resize(n - 1);
    }
}

void ScaNNLists::write_entries(
        size_t list_no,
        size_t offset,
        size_t n,
        const idx_t* ids,
        const uint8_t* entries) {
    count_change();
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
    if (layout_.has_tag) {
        std::memcpy(
                list.tags.mutable_data() + at,
                entry + layout_.tag_offset(),
                sizeof(int64_t));
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
