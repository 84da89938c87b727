/*
 * Changing all that is stored: reset, merge, copy; the kind of direct map.
 *
 * What Faiss does not know of, spilled copies and their references to primary
 * entries, is kept in step here.
 */

#include <algorithm>
#include <optional>
#include <unordered_map>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/lists/copy_places.h>
#include <faiss_ext/lists/direct_map.h>
#include <faiss_ext/wrappers/id_maps.h>
#include <faiss_ext/memory/parallel.h>

namespace faiss_ext {

using faiss::lo_build;
using faiss::lo_listno;
using faiss::lo_offset;

// ---- direct map ----

void IndexIVFScaNN::set_direct_map_type(faiss::DirectMap::Type type) {
    if (type != direct_map.type || !direct_map_fits()) {
        direct_map = make_map(type, lists(), size_t(ntotal));
    }
}

void IndexIVFScaNN::make_direct_map(bool new_maintain_direct_map) {
    set_direct_map_type(
            new_maintain_direct_map ? faiss::DirectMap::Array
                                    : faiss::DirectMap::NoMap);
}

bool IndexIVFScaNN::direct_map_fits() const {
    return map_fits(direct_map, lists(), size_t(ntotal));
}

void IndexIVFScaNN::drop_unfit_map() {
    if (!direct_map_fits()) {
        direct_map = faiss::DirectMap();
    }
}

// ---- all rows, rows of others ----

void IndexIVFScaNN::reset() {
    clear_map(direct_map);
    mutable_lists().reset();
    if (spilled_ != nullptr) {
        spilled_->reset();
    }
    copy_places_.reset();
    ntotal = 0;
}

void IndexIVFScaNN::check_compatible_for_merge(
        const faiss::Index& other_index) const {
    auto other = dynamic_cast<const IndexIVFScaNN*>(&other_index);
    FAISS_THROW_IF_NOT_MSG(other != nullptr, "not a ScaNN index");
    // Faiss compares centroids, there or not
    check_trained();
    other->check_trained();
    faiss::IndexIVF::check_compatible_for_merge(other_index);
    FAISS_THROW_IF_NOT_MSG(
            other->lists().layout() == lists().layout() &&
                    (other->spilled_ == nullptr) == (spilled_ == nullptr),
            "the indexes keep different things of a vector");
    auto same = [](const auto& a, const auto& b) {
        return a.size() == b.size() &&
               std::equal(a.data(), a.data() + a.size(), b.data());
    };
    FAISS_THROW_IF_NOT_MSG(
            same(pq().codebook(), other->pq().codebook()) &&
                    same(rotation().matrix(), other->rotation().matrix()) &&
                    score_term() == other->score_term() &&
                    trained_.by_direction == other->trained_.by_direction,
            "the indexes were trained differently");
    std::vector<float> mine(nlist * d), theirs(nlist * d);
    quantizer->reconstruct_n(0, nlist, mine.data());
    other->quantizer->reconstruct_n(0, nlist, theirs.data());
    FAISS_THROW_IF_NOT_MSG(
            mine == theirs, "the indexes have different centroids");
}

namespace {

/// The sizes of lists that only grow from then on, to put them back.
class SizesOfAll {
 public:
    explicit SizesOfAll(ScaNNLists& lists)
            : lists_(lists), sizes_(lists.nlist) {
        for (size_t l = 0; l < lists.nlist; l++) {
            sizes_[l] = lists.list_size(l);
        }
    }
    const std::vector<size_t>& sizes() const {
        return sizes_;
    }
    /// Does not fail.
    void restore() {
        for (size_t l = 0; l < lists_.nlist; l++) {
            lists_.resize(l, sizes_[l]);
        }
        lists_.release_unused();
    }

 private:
    ScaNNLists& lists_;
    std::vector<size_t> sizes_;
};

/// Ids stay ids: 64 bits, and not the -1 of a missing result.
void check_moved_ids(const ScaNNLists& lists, int64_t add_id) {
    for (size_t l = 0; l < lists.nlist && add_id != 0; l++) {
        const auto& ids = lists.list(l).ids;
        for (size_t i = 0; i < ids.size(); i++) {
            (void)moved_id(ids[i], add_id);
        }
    }
}

/// What the lists of one index get from those of another: reserve() first, then
/// take(), undo() if something fails.
class ListMerge {
 public:
    ListMerge(ScaNNLists& to, const ScaNNLists& from)
            : to_(to), from_(from), before_(to) {
        std::vector<size_t> extra(to.nlist);
        for (size_t l = 0; l < to.nlist; l++) {
            extra[l] = from.list_size(l);
        }
        to.reserve(extra);
    }
    /// @param primaries  the merge of the primary lists, for spilled copies
    void take(int64_t add_id, const ListMerge* primaries) {
        parallel_slices(to_.nlist, 16, [&](size_t begin, size_t end) {
            std::vector<int64_t> ids;
            std::vector<uint8_t> entries;
            for (size_t l = begin; l < end; l++) {
                const ScaNNList& list = from_.list(l);
                size_t n = list.size();
                ids.resize(n);
                for (size_t i = 0; i < n; i++) { // wraps around
                    ids[i] = int64_t(uint64_t(list.ids[i]) + uint64_t(add_id));
                }
                entries.resize(n * from_.code_size);
                from_.read_entries(l, 0, n, entries.data());
                to_.add_entries(l, n, ids.data(), entries.data());
                for (size_t i = 0; i < n && primaries != nullptr; i++) {
                    uint64_t place = list.primary[i];
                    check_primary_place(place, primaries->from_);
                    place += primaries->before_.sizes()[lo_listno(place)];
                    to_.set_primary(l, before_.sizes()[l] + i, place);
                }
            }
        });
    }
    void undo() {
        before_.restore();
    }

 private:
    ScaNNLists& to_;
    const ScaNNLists& from_;
    SizesOfAll before_;
};

} // namespace

void IndexIVFScaNN::merge_from(faiss::Index& other_index, idx_t add_id) {
    check_compatible_for_merge(other_index);
    auto& other = dynamic_cast<IndexIVFScaNN&>(other_index);
    FAISS_THROW_IF_NOT_MSG(&other != this, "an index merged with itself");
    check_moved_ids(other.lists(), add_id);
    ListMerge rows(mutable_lists(), other.lists());
    std::optional<ListMerge> copies;
    if (spilled_ != nullptr) {
        copies.emplace(*spilled_, *other.spilled_);
    }
    try {
        rows.take(add_id, nullptr);
        if (copies) {
            copies->take(add_id, &rows);
        }
    } catch (...) {
        rows.undo();
        if (copies) {
            copies->undo();
        }
        throw;
    }
    copy_places_.reset();
    ntotal += other.ntotal;
    other.reset();
}

void IndexIVFScaNN::copy_subset_to(
        faiss::IndexIVF& other_index,
        SubsetType subset_type,
        idx_t a1,
        idx_t a2) const {
    auto other = dynamic_cast<IndexIVFScaNN*>(&other_index);
    FAISS_THROW_IF_NOT_MSG(other != nullptr, "not a ScaNN index");
    check_compatible_for_merge(*other);
    const size_t stored = lists().compute_ntotal();
    // what Faiss divides by, and what it ends the process for
    const bool by_share = int(subset_type) == 1 || int(subset_type) == 3;
    FAISS_THROW_IF_NOT_FMT(
            a1 != 0 || !by_share,
            "a1 = 0 for a subset of type %d (allowed: others)",
            int(subset_type));
    FAISS_THROW_IF_NOT_FMT(
            stored == size_t(ntotal),
            "of %lld rows only %zu are in a list: no subset can be told",
            static_cast<long long>(ntotal),
            stored);
    if (stored == 0) {
        return;
    }
    SizesOfAll before(other->mutable_lists());
    std::optional<SizesOfAll> copies_before;
    if (spilled_ != nullptr) {
        copies_before.emplace(*other->spilled_);
    }
    const idx_t old_ntotal = other->ntotal;
    other->copy_places_.reset();
    try {
        faiss::IndexIVF::copy_subset_to(other_index, subset_type, a1, a2);
        if (spilled_ != nullptr) {
            copy_spilled_to(*other, before.sizes());
        }
    } catch (...) {
        before.restore();
        if (copies_before) {
            copies_before->restore();
        }
        other->ntotal = old_ntotal;
        throw;
    }
}

/// The copies of the entries that Faiss has copied.
/// @param before  of each list of `other`, its size before that
void IndexIVFScaNN::copy_spilled_to(
        IndexIVFScaNN& other,
        const std::vector<size_t>& before) const {
    // Faiss appends what it copies in order, so the ids of each list tell
    // where an entry has gone.
    std::unordered_map<uint64_t, uint64_t> copied;
    for (size_t l = 0; l < nlist; l++) {
        const auto& from = lists().list(l).ids;
        const auto& to = other.lists().list(l).ids;
        size_t j = before[l];
        for (size_t i = 0; i < from.size() && j < to.size(); i++) {
            if (from[i] == to[j]) {
                copied[lo_build(l, i)] = lo_build(l, j++);
            }
        }
    }
    std::vector<uint8_t> entry(spilled_->code_size);
    for (size_t l = 0; l < nlist; l++) {
        const ScaNNList& copies = spilled_->list(l);
        for (size_t i = 0; i < copies.size(); i++) {
            auto place = copied.find(copies.primary[i]);
            if (place == copied.end()) {
                continue;
            }
            spilled_->read_entries(l, i, 1, entry.data());
            size_t at = other.spilled_->add_entries(
                    l, 1, &copies.ids[i], entry.data());
            other.spilled_->set_primary(l, at, place->second);
        }
    }
}

#if FAISS_EXT_FAISS_VERSION >= 10704
faiss::CodePacker* IndexIVFScaNN::get_CodePacker() const {
    // Faiss sees entries, which are flat.
    return new faiss::CodePackerFlat(code_size);
}
#endif

} // namespace faiss_ext
