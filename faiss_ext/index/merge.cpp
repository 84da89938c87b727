/*
 * Changing all that is stored: reset, merge, copy; the kind of direct map.
 *
 * Spilled copies and their references to primary entries, which Faiss does not
 * know of, are updated here.
 */

#include <algorithm>
#include <optional>
#include <unordered_map>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/lists/copy_places.h>
#include <faiss_ext/lists/direct_map.h>
#include <faiss_ext/lists/list_versions.h>
#include <faiss_ext/model/index_state.h>
#include <faiss_ext/memory/parallel.h>

namespace faiss_ext {

using faiss::lo_build;
using faiss::lo_listno;
using faiss::lo_offset;

// ---- direct map ----

void IndexIVFScaNN::set_direct_map_type(faiss::DirectMap::Type type) {
    if (type != direct_map.type || !direct_map_fits(*state_)) {
        direct_map = make_map(type, *state_->lists, size_t(ntotal));
    }
}

void IndexIVFScaNN::make_direct_map(bool new_maintain_direct_map) {
    set_direct_map_type(
            new_maintain_direct_map ? faiss::DirectMap::Array
                                    : faiss::DirectMap::NoMap);
}

// ---- all rows, rows of others ----

void IndexIVFScaNN::reset() {
    auto retired = state_->lists->prepare_reset();
    auto retired_copies =
            state_->spilled ? state_->spilled->prepare_reset() : nullptr;
    clear_map(direct_map);
    state_->lists->reset(std::move(retired));
    if (state_->spilled != nullptr) {
        state_->spilled->reset(std::move(retired_copies));
    }
    state_->copy_places.reset();
    state_->plan.reset();
    state_->fit.changed = 0;
    ntotal = 0;
}

void IndexIVFScaNN::check_compatible_for_merge(
        const faiss::Index& other_index) const {
    auto other = dynamic_cast<const IndexIVFScaNN*>(&other_index);
    FAISS_THROW_IF_NOT_MSG(other != nullptr, "not a ScaNN index");
    // Faiss compares centroids, there or not
    const IndexState& mine = *state_;
    const IndexState& theirs = *other->state_;
    check_trained(mine);
    check_trained(theirs);
    faiss::IndexIVF::check_compatible_for_merge(other_index);
    FAISS_THROW_IF_NOT_MSG(
            theirs.lists->layout() == mine.lists->layout() &&
                    (theirs.spilled == nullptr) == (mine.spilled == nullptr),
            "the indexes keep different things of a vector");
    auto same = [](const auto& a, const auto& b) {
        return a.size() == b.size() &&
               std::equal(a.data(), a.data() + a.size(), b.data());
    };
    FAISS_THROW_IF_NOT_MSG(
            mine.model->pq.offsets() == theirs.model->pq.offsets() &&
                    same(mine.model->pq.codebook(),
                         theirs.model->pq.codebook()) &&
                    same(mine.model->rotation.matrix(),
                         theirs.model->rotation.matrix()) &&
                    mine.model->score_term == theirs.model->score_term &&
                    mine.model->by_direction == theirs.model->by_direction,
            "the indexes were trained differently");
    std::vector<float> centroids(nlist * d), other_centroids(nlist * d);
    quantizer->reconstruct_n(0, nlist, centroids.data());
    other->quantizer->reconstruct_n(0, nlist, other_centroids.data());
    FAISS_THROW_IF_NOT_MSG(
            centroids == other_centroids,
            "the indexes have different centroids");
}

namespace {

/// Restores the sizes of lists that have grown.
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

/// @throws faiss::FaissException if an id plus add_id is not valid
void check_moved_ids(const ScaNNLists& lists, int64_t add_id) {
    for (size_t l = 0; l < lists.nlist && add_id != 0; l++) {
        const auto& ids = lists.list(l).ids;
        for (size_t i = 0; i < ids.size(); i++) {
            (void)moved_id(ids[i], add_id);
        }
    }
}

/// Appends the entries of one index' lists to another's. The constructor
/// reserves memory; take() copies; undo() removes what was copied.
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

/// Copies the spilled copies of the entries that Faiss has copied.
/// @param before  of each list of `to`, its size before that
void copy_spilled(
        const IndexState& from,
        IndexState& to,
        const std::vector<size_t>& before) {
    // Faiss appends the entries that it copies in order, so their new places
    // follow from the ids of each list.
    std::unordered_map<uint64_t, uint64_t> copied;
    const size_t nlist = from.lists->nlist;
    for (size_t l = 0; l < nlist; l++) {
        const auto& ids = from.lists->list(l).ids;
        const auto& ids_there = to.lists->list(l).ids;
        size_t j = before[l];
        for (size_t i = 0; i < ids.size() && j < ids_there.size(); i++) {
            if (ids[i] == ids_there[j]) {
                copied[lo_build(l, i)] = lo_build(l, j++);
            }
        }
    }
    std::vector<uint8_t> entry(from.spilled->code_size);
    for (size_t l = 0; l < nlist; l++) {
        const ScaNNList& copies = from.spilled->list(l);
        for (size_t i = 0; i < copies.size(); i++) {
            auto place = copied.find(copies.primary[i]);
            if (place == copied.end()) {
                continue;
            }
            from.spilled->read_entries(l, i, 1, entry.data());
            size_t at =
                    to.spilled->add_entries(l, 1, &copies.ids[i], entry.data());
            to.spilled->set_primary(l, at, place->second);
        }
    }
}

} // namespace

void IndexIVFScaNN::merge_from(faiss::Index& other_index, idx_t add_id) {
    check_compatible_for_merge(other_index);
    auto& other = dynamic_cast<IndexIVFScaNN&>(other_index);
    FAISS_THROW_IF_NOT_MSG(&other != this, "an index merged with itself");
    IndexState& from = *other.state_;
    check_moved_ids(*from.lists, add_id);
    ListMerge rows(*state_->lists, *from.lists);
    std::optional<ListMerge> copies;
    if (state_->spilled != nullptr) {
        copies.emplace(*state_->spilled, *from.spilled);
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
    state_->copy_places.reset();
    ntotal += other.ntotal;
    state_->fit.changed += uint64_t(other.ntotal);
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
    const size_t stored = state_->lists->compute_ntotal();
    // Faiss would divide by a1 = 0, and end the process if rows are missing
    const bool by_share = int(subset_type) == 1 || int(subset_type) == 3;
    FAISS_THROW_IF_NOT_FMT(
            a1 != 0 || !by_share,
            "a1 = 0 for a subset of type %d (allowed: any but 0)",
            int(subset_type));
    FAISS_THROW_IF_NOT_FMT(
            stored == size_t(ntotal),
            "of %lld rows only %zu are in a list: no subset can be chosen",
            static_cast<long long>(ntotal),
            stored);
    if (stored == 0) {
        return;
    }
    IndexState& to = *other->state_;
    SizesOfAll before(*to.lists);
    std::optional<SizesOfAll> copies_before;
    if (to.spilled != nullptr) {
        copies_before.emplace(*to.spilled);
    }
    const idx_t old_ntotal = other->ntotal;
    to.copy_places.reset();
    try {
        faiss::IndexIVF::copy_subset_to(other_index, subset_type, a1, a2);
        if (to.spilled != nullptr) {
            copy_spilled(*state_, to, before.sizes());
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

#if FAISS_EXT_FAISS_VERSION >= 10704
faiss::CodePacker* IndexIVFScaNN::get_CodePacker() const {
    // Faiss sees entries, which are flat.
    return new faiss::CodePackerFlat(code_size);
}
#endif

} // namespace faiss_ext
