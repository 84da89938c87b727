/*
 * Changing what is stored: remove, update, merge, copy, reset.
 *
 * Primary lists follow Faiss' own code through the entry interface of
 * ScaNNLists; what Faiss does not know of, spilled copies and their
 * references to primary entries, is kept in step here.
 */

#include <algorithm>
#include <unordered_map>

#include <faiss/impl/FaissAssert.h>
#include <faiss/impl/IDSelector.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/parallel.h>

namespace faiss_ext {

namespace {

using faiss::lo_build;
using faiss::lo_listno;
using faiss::lo_offset;

} // namespace

void IndexIVFScaNN::rebuild_direct_map() {
    faiss::DirectMap::Type type = direct_map.type;
    if (type != faiss::DirectMap::NoMap) {
        direct_map.set_type(faiss::DirectMap::NoMap, invlists, ntotal);
        direct_map.set_type(type, invlists, ntotal);
    }
}

/** Removes entries of the primary lists and keeps direct map and spilled
 * copies in step. @param offsets  per list, ascending */
void IndexIVFScaNN::remove_places(
        const std::vector<std::vector<size_t>>& offsets) {
    constexpr uint64_t kGone = ~uint64_t(0);
    bool hashed = direct_map.type == faiss::DirectMap::Hashtable;
    std::unordered_map<uint64_t, uint64_t> now; // old place -> new place
    for (size_t l = 0; l < nlist; l++) {
        if (offsets[l].empty()) {
            continue;
        }
        const ScaNNList& list = lists().list(l);
        for (size_t offset : offsets[l]) {
            uint64_t place = lo_build(l, offset);
            if (spilled_ != nullptr) {
                now[place] = kGone;
            }
            auto entry = hashed ? direct_map.hashtable.find(list.ids[offset])
                                : direct_map.hashtable.end();
            if (hashed && entry != direct_map.hashtable.end() &&
                uint64_t(entry->second) == place) {
                direct_map.hashtable.erase(entry);
            }
        }
        // An entry that fills a hole near the end may move on from there:
        // what counts is where it was at first.
        std::unordered_map<size_t, size_t> first_place;
        mutable_lists().remove(l, offsets[l], [&](size_t from, size_t to) {
            if (spilled_ != nullptr) {
                auto before = first_place.find(from);
                size_t first =
                        before == first_place.end() ? from : before->second;
                first_place[to] = first;
                now[lo_build(l, first)] = lo_build(l, to);
            }
            if (hashed) {
                direct_map.hashtable[list.ids[to]] = lo_build(l, to);
            }
        });
        ntotal -= offsets[l].size();
    }
    if (spilled_ == nullptr) {
        return;
    }
    for (size_t l = 0; l < nlist; l++) {
        ScaNNList& copies = spilled_->mutable_list(l);
        std::vector<size_t> gone;
        for (size_t i = 0; i < copies.size(); i++) {
            auto moved = now.find(copies.primary[i]);
            if (moved == now.end()) {
                continue;
            }
            if (moved->second == kGone) {
                gone.push_back(i);
            } else {
                copies.primary.mutable_data()[i] = moved->second;
            }
        }
        if (!gone.empty()) {
            spilled_->remove(l, gone, [](size_t, size_t) {});
        }
    }
}

size_t IndexIVFScaNN::remove_ids(const faiss::IDSelector& sel) {
    std::vector<std::vector<size_t>> offsets(nlist);
    size_t removed = 0;
    auto listed = dynamic_cast<const faiss::IDSelectorArray*>(&sel);
    if (listed != nullptr && direct_map.type == faiss::DirectMap::Hashtable) {
        for (size_t i = 0; i < size_t(listed->n); i++) {
            auto entry = direct_map.hashtable.find(listed->ids[i]);
            if (entry != direct_map.hashtable.end()) {
                offsets[lo_listno(entry->second)].push_back(
                        lo_offset(entry->second));
            }
        }
        for (auto& of_list : offsets) {
            std::sort(of_list.begin(), of_list.end());
            auto end = std::unique(of_list.begin(), of_list.end());
            of_list.erase(end, of_list.end());
        }
    } else {
        parallel_slices(nlist, 16, [&](size_t begin, size_t end) {
            for (size_t l = begin; l < end; l++) {
                const auto& ids = lists().list(l).ids;
                for (size_t i = 0; i < ids.size(); i++) {
                    if (sel.is_member(ids[i])) {
                        offsets[l].push_back(i);
                    }
                }
            }
        });
    }
    for (const auto& of_list : offsets) {
        removed += of_list.size();
    }
    if (removed > 0) {
        if (direct_map.type == faiss::DirectMap::Array) {
            direct_map.set_type(faiss::DirectMap::Hashtable, invlists, ntotal);
        }
        remove_places(offsets);
    }
    return removed;
}

void IndexIVFScaNN::update_vectors(int n, const idx_t* ids, const float* x) {
    check_trained();
    // Where each id is: by the map, or by one pass over the lists.
    std::unordered_map<idx_t, uint64_t> places;
    for (int i = 0; i < n; i++) {
        FAISS_THROW_IF_NOT_FMT(
                places.emplace(ids[i], ~uint64_t(0)).second,
                "id %lld is given twice",
                static_cast<long long>(ids[i]));
    }
    for (size_t l = 0; l < nlist && direct_map.no(); l++) {
        const auto& list_ids = lists().list(l).ids;
        for (size_t i = 0; i < list_ids.size(); i++) {
            auto wanted = places.find(list_ids[i]);
            if (wanted != places.end()) {
                wanted->second = lo_build(l, i);
            }
        }
    }
    std::vector<std::vector<size_t>> offsets(nlist);
    for (auto& [id, place] : places) {
        if (direct_map.type == faiss::DirectMap::Array && id >= 0 &&
            size_t(id) < direct_map.array.size()) {
            place = direct_map.array[id];
        } else if (direct_map.type == faiss::DirectMap::Hashtable) {
            auto entry = direct_map.hashtable.find(id);
            if (entry != direct_map.hashtable.end()) {
                place = entry->second;
            }
        }
        FAISS_THROW_IF_NOT_FMT(
                int64_t(place) >= 0,
                "id %lld is not in the index",
                static_cast<long long>(id));
        offsets[lo_listno(place)].push_back(lo_offset(place));
    }
    for (auto& of_list : offsets) {
        std::sort(of_list.begin(), of_list.end());
    }
    // The new rows are stored before the old ones go, so that a failure in
    // between loses nothing; old offsets stay valid, since adding appends.
    faiss::DirectMap::Type type = direct_map.type;
    direct_map.set_type(faiss::DirectMap::NoMap, invlists, ntotal);
    try {
        add_with_ids(n, x, ids);
    } catch (...) {
        direct_map.set_type(type, invlists, ntotal);
        throw;
    }
    remove_places(offsets);
    direct_map.set_type(type, invlists, ntotal);
}

void IndexIVFScaNN::reset() {
    faiss::IndexIVF::reset();
    if (spilled_ != nullptr) {
        spilled_->reset();
    }
}

void IndexIVFScaNN::check_compatible_for_merge(
        const faiss::Index& other_index) const {
    faiss::IndexIVF::check_compatible_for_merge(other_index);
    auto other = dynamic_cast<const IndexIVFScaNN*>(&other_index);
    FAISS_THROW_IF_NOT_MSG(other != nullptr, "not a ScaNN index");
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
                    score_term() == other->score_term(),
            "the indexes were trained differently");
    std::vector<float> mine(nlist * d), theirs(nlist * d);
    quantizer->reconstruct_n(0, nlist, mine.data());
    other->quantizer->reconstruct_n(0, nlist, theirs.data());
    FAISS_THROW_IF_NOT_MSG(
            mine == theirs, "the indexes have different centroids");
}

void IndexIVFScaNN::merge_from(faiss::Index& other_index, idx_t add_id) {
    check_compatible_for_merge(other_index);
    auto& other = dynamic_cast<IndexIVFScaNN&>(other_index);
    FAISS_THROW_IF_NOT_MSG(&other != this, "an index merged with itself");
    if (spilled_ != nullptr) {
        for (size_t l = 0; l < nlist; l++) {
            ScaNNList& copies = other.spilled_->mutable_list(l);
            uint64_t* primary = copies.primary.mutable_data();
            for (size_t i = 0; i < copies.size(); i++) {
                uint64_t list = lo_listno(primary[i]);
                primary[i] = lo_build(
                        list, lo_offset(primary[i]) + lists().list_size(list));
            }
        }
        spilled_->merge_from(other.spilled_.get(), add_id);
    }
    faiss::IndexIVF::merge_from(other_index, add_id);
}

void IndexIVFScaNN::copy_subset_to(
        faiss::IndexIVF& other_index,
        SubsetType subset_type,
        idx_t a1,
        idx_t a2) const {
    auto other = dynamic_cast<IndexIVFScaNN*>(&other_index);
    FAISS_THROW_IF_NOT_MSG(other != nullptr, "not a ScaNN index");
    check_compatible_for_merge(*other);
    std::vector<size_t> before(nlist);
    for (size_t l = 0; l < nlist; l++) {
        before[l] = other->lists().list_size(l);
    }
    faiss::IndexIVF::copy_subset_to(other_index, subset_type, a1, a2);
    if (spilled_ == nullptr) {
        return;
    }
    // Faiss appends what it copies in order, so the ids of each list tell
    // where an entry has gone.
    std::unordered_map<uint64_t, uint64_t> copied;
    for (size_t l = 0; l < nlist; l++) {
        const auto& from = lists().list(l).ids;
        const auto& to = other->lists().list(l).ids;
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
            size_t at = other->spilled_->add_entries(
                    l, 1, &copies.ids[i], entry.data());
            other->spilled_->mutable_list(l).primary.mutable_data()[at] =
                    place->second;
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
