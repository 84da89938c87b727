/*
 * Removing and replacing rows, in time that depends on their number only.
 *
 * In: a selector or ids; out: the places of their entries, sorted. What can
 * fail comes before the first change (prepare_removal). Next: scann_lists moves
 * the last entries of the lists into the holes; direct map, spilled copies and
 * the map to them (copy_places.h) are updated.
 */

#include <algorithm>
#include <memory>
#include <unordered_map>
#include <unordered_set>

#include <faiss/impl/FaissAssert.h>
#include <faiss/impl/IDSelector.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index/add.h>
#include <faiss_ext/index/maintain.h>
#include <faiss_ext/index/removal.h>
#include <faiss_ext/index/tags.h>
#include <faiss_ext/lists/copy_places.h>
#include <faiss_ext/lists/direct_map.h>
#include <faiss_ext/search/filter.h>
#include <faiss_ext/memory/parallel.h>
#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

using faiss::lo_build;
using faiss::lo_listno;
using faiss::lo_offset;

namespace {

/// Lists whose ids a thread tests at a time.
constexpr size_t kListSlice = 16;

/// Calls work(list, offsets) for each list of sorted places.
/// @param offsets  scratch; with room for all of them, nothing is allocated
template <class Work>
void for_lists(
        const std::vector<uint64_t>& places,
        std::vector<size_t>& offsets,
        Work&& work) {
    for (size_t i = 0; i < places.size();) {
        size_t list = lo_listno(places[i]);
        offsets.clear();
        for (; i < places.size() && lo_listno(places[i]) == list; i++) {
            offsets.push_back(lo_offset(places[i]));
        }
        work(list, offsets);
    }
}

/// Places of all selected entries, found by testing every id; sorted.
std::vector<uint64_t> test_all_ids(
        const ScaNNLists& lists,
        const faiss::IDSelector& given) {
    const faiss::IDSelector* sel = &given;
    // an array is searched from end to end for every id that is tested
    std::unique_ptr<faiss::IDSelectorBatch> set;
    if (auto array = dynamic_cast<const faiss::IDSelectorArray*>(sel)) {
        set = std::make_unique<faiss::IDSelectorBatch>(array->n, array->ids);
        sel = set.get();
    }
    std::vector<std::vector<uint64_t>> found(
            (lists.nlist + kListSlice - 1) / kListSlice);
    parallel_slices(lists.nlist, kListSlice, [&](size_t begin, size_t end) {
        std::vector<uint64_t>& places = found[begin / kListSlice];
        for (size_t l = begin; l < end; l++) {
            const auto& ids = lists.list(l).ids;
            for (size_t i = 0; i < ids.size(); i++) {
                if (sel->is_member(ids[i])) {
                    places.push_back(lo_build(l, i));
                }
            }
        }
    });
    std::vector<uint64_t> places;
    for (const auto& some : found) {
        places.insert(places.end(), some.begin(), some.end());
    }
    return places;
}

/// Places of the ids that the map knows, sorted.
std::vector<uint64_t> look_up(
        const faiss::DirectMap& map,
        const ScaNNLists& lists,
        const std::vector<int64_t>& ids) {
    std::vector<uint64_t> places;
    for (int64_t id : ids) {
        uint64_t place = checked_place_in(map, lists, id);
        if (place != kNowhere) {
            places.push_back(place);
        }
    }
    std::sort(places.begin(), places.end());
    return places;
}

/// Places to remove, and the memory that this takes.
struct Removal {
    std::vector<uint64_t> places; ///< sorted, each once
    std::vector<uint64_t> copies; ///< their spilled copies, sorted
    std::vector<size_t> offsets;  ///< scratch with room for one list's
};

/// The part of a removal that can fail. @param places  sorted, each once
Removal prepare_removal(IndexState& state, std::vector<uint64_t> places) {
    ScaNNLists& lists = *state.lists;
    ScaNNLists* spilled = state.spilled.get();
    if (spilled != nullptr && state.copy_places == nullptr) {
        state.copy_places = std::make_unique<CopyPlaces>(lists, *spilled);
    }
    const CopyPlaces* copy_places = state.copy_places.get();
    Removal removal;
    removal.places = std::move(places);
    for (uint64_t place : removal.places) {
        uint64_t copy = spilled == nullptr ? kNowhere : copy_places->get(place);
        if (copy != kNowhere) {
            removal.copies.push_back(copy);
        }
    }
    std::sort(removal.copies.begin(), removal.copies.end());
    removal.offsets.reserve(removal.places.size());
    for (uint64_t copy : removal.copies) {
        spilled->make_writable(lo_listno(copy));
    }
    auto prepare = [&](size_t list, const std::vector<size_t>& offsets) {
        lists.make_writable(list);
        size_t size = lists.list_size(list);
        for (size_t i = 0; i < offsets.size() && spilled != nullptr; i++) {
            // this entry will move into a hole, and its copy must follow
            uint64_t copy = copy_places->get(lo_build(list, size - 1 - i));
            if (copy != kNowhere) {
                spilled->make_writable(lo_listno(copy));
            }
        }
    };
    for_lists(removal.places, removal.offsets, prepare);
    return removal;
}

/// Does not fail.
void remove_places(IndexIVFScaNN& index, Removal& removal) {
    IndexState& state = index.state();
    ScaNNLists& lists = *state.lists;
    ScaNNLists* spilled = state.spilled.get();
    CopyPlaces* copy_places = state.copy_places.get();
    faiss::DirectMap& direct_map = index.direct_map;
    auto remove_copies = [&](size_t list, const std::vector<size_t>& removed) {
        const ScaNNList& left = spilled->list(list);
        spilled->remove(list, removed, [&](size_t, size_t to) {
            copy_places->set(left.primary[to], lo_build(list, to));
        });
    };
    for_lists(removal.copies, removal.offsets, remove_copies);
    auto remove = [&](size_t list, const std::vector<size_t>& removed) {
        const ScaNNList& left = lists.list(list);
        for (size_t offset : removed) {
            change_place(
                    direct_map,
                    left.ids[offset],
                    lo_build(list, offset),
                    kNowhere);
        }
        lists.remove(list, removed, [&](size_t from, size_t to) {
            uint64_t now = lo_build(list, to);
            change_place(direct_map, left.ids[to], lo_build(list, from), now);
            if (spilled != nullptr) {
                uint64_t copy = copy_places->get(lo_build(list, from));
                copy_places->set(now, copy);
                if (copy != kNowhere) {
                    spilled->set_primary(lo_listno(copy), lo_offset(copy), now);
                }
            }
        });
        if (spilled != nullptr) {
            copy_places->truncate(list, left.size());
        }
    };
    for_lists(removal.places, removal.offsets, remove);
    index.ntotal -= int64_t(removal.places.size());
    release_unused(direct_map);
    if (spilled != nullptr) {
        spilled->release_unused();
    }
    if (lists.release_unused()) {
        // made again when needed, with less memory
        state.copy_places.reset();
    }
}

} // namespace

std::vector<uint64_t>
places_of(const IndexIVFScaNN& index, size_t n, const int64_t* ids) {
    const faiss::DirectMap& direct_map = index.direct_map;
    const ScaNNLists& lists = *index.state().lists;
    std::unordered_map<int64_t, uint64_t> wanted;
    for (size_t i = 0; i < n; i++) {
        FAISS_THROW_IF_NOT_FMT(
                wanted.emplace(ids[i], kNowhere).second,
                "id %lld is given twice",
                static_cast<long long>(ids[i]));
    }
    if (direct_map.no()) {
        faiss::IDSelectorBatch set(n, ids);
        for (uint64_t place : test_all_ids(lists, set)) {
            const auto& list = lists.list(lo_listno(place));
            wanted[list.ids[lo_offset(place)]] = place;
        }
    }
    std::vector<uint64_t> places(n);
    for (size_t i = 0; i < n; i++) {
        places[i] = direct_map.no()
                            ? wanted[ids[i]]
                            : checked_place_in(direct_map, lists, ids[i]);
        FAISS_THROW_IF_NOT_FMT(
                places[i] != kNowhere,
                "id %lld is not in the index",
                static_cast<long long>(ids[i]));
    }
    return places;
}

void replace_rows(
        IndexIVFScaNN& index,
        const std::vector<uint64_t>& old,
        const int64_t* ids,
        const TypedRows& rows,
        const int64_t* lists) {
    faiss::DirectMap& direct_map = index.direct_map;
    const std::vector<int64_t> tags = tags_at(index.state(), old);
    std::vector<uint64_t> gone = old;
    std::sort(gone.begin(), gone.end());
    Removal removal = prepare_removal(index.state(), std::move(gone));
    // The new rows are added before the old ones are removed, so that a failure
    // loses nothing; old places stay valid, since adding appends. Meanwhile the
    // index has no map: an Array refuses ids that it has.
    faiss::DirectMap map;
    std::swap(map, direct_map);
    std::vector<uint64_t> now;
    try {
        now = add_rows(
                index,
                old.size(),
                rows,
                ids,
                0,
                lists,
                tags.empty() ? nullptr : tags.data());
    } catch (...) {
        std::swap(map, direct_map);
        throw;
    }
    std::swap(map, direct_map);
    for (size_t i = 0; i < old.size(); i++) {
        change_place(direct_map, ids[i], old[i], now[i]);
    }
    remove_places(index, removal);
}

size_t IndexIVFScaNN::remove_ids(const faiss::IDSelector& sel) {
    const ScaNNLists& lists = *state_->lists;
    drop_unfit_map(direct_map, lists, size_t(ntotal));
    std::vector<int64_t> ids;
    const bool ids_are_listed =
            !direct_map.no() && Filter(&sel).list_ids(size_t(ntotal), ids);
    std::vector<uint64_t> places = ids_are_listed
                                           ? look_up(direct_map, lists, ids)
                                           : test_all_ids(lists, sel);
    if (places.empty()) {
        return 0;
    }
    faiss::DirectMap hashtable;
    bool was_array = direct_map.type == faiss::DirectMap::Array;
    if (was_array) {
        hashtable = hashtable_of(direct_map);
    }
    const faiss::DirectMap& map = was_array ? hashtable : direct_map;
    if (ids_are_listed && map.hashtable.size() != size_t(ntotal)) {
        // a map has only one place for an id that was added twice
        places = test_all_ids(lists, sel);
    }
    const size_t count = places.size();
    Removal removal = prepare_removal(*state_, std::move(places));
    if (was_array) {
        std::swap(direct_map, hashtable);
    }
    remove_places(*this, removal);
    state_->fit.changed += count;
    return count;
}

void IndexIVFScaNN::update_vectors(int n, const idx_t* ids, const float* x) {
    update_rows(n, ids, x, RowType::Float32);
}

void IndexIVFScaNN::update_rows(
        idx_t n,
        const idx_t* ids,
        const void* x,
        RowType type) {
    check_trained(*state_);
    FAISS_THROW_IF_NOT_FMT(
            n >= 0, "%lld rows (allowed: >= 0)", static_cast<long long>(n));
    if (n == 0) {
        return;
    }
    drop_unfit_map(direct_map, *state_->lists, size_t(ntotal));
    const std::vector<uint64_t> old = places_of(*this, size_t(n), ids);
    replace_rows(*this, old, ids, {x, type, size_t(d)}, nullptr);
    maintain_after_add(*this, size_t(n));
}

} // namespace faiss_ext
