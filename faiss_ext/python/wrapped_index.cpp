#include "wrapped_index.h"

#include "wrapper_layers.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>
#include <unordered_map>

#include <faiss/impl/FaissAssert.h>
#include <faiss/impl/FaissException.h>

#include <faiss_ext/lists/direct_map.h>
#include <faiss_ext/search/filter.h>
#include <faiss_ext/wrappers/id_maps.h>

namespace faiss_ext::python {

namespace {

using faiss::DirectMap;
using faiss::IndexIDMap;
using faiss::IndexIDMap2;
using faiss::IndexIVF;
using faiss::IndexPreTransform;

[[noreturn]] void throw_unknown_id(int64_t id) {
    FAISS_THROW_FMT("id %lld is not in the index", static_cast<long long>(id));
}

/// Ids below an IDMap; for IDMap2 by its own map.
std::vector<int64_t>
to_inner_ids(const IndexIDMap& layer, int64_t n, const int64_t* ids) {
    std::unordered_map<int64_t, int64_t> found;
    auto map2 = dynamic_cast<const IndexIDMap2*>(&layer);
    if (map2 == nullptr) {
        for (int64_t i = 0; i < n; i++) {
            found[ids[i]] = -1;
        }
        for (size_t i = 0; i < layer.id_map.size(); i++) {
            auto wanted = found.find(layer.id_map[i]);
            if (wanted != found.end()) {
                wanted->second = i;
            }
        }
    }
    const auto& map = map2 != nullptr ? map2->rev_map : found;
    std::vector<int64_t> inner(n);
    for (int64_t i = 0; i < n; i++) {
        auto place = map.find(ids[i]);
        if (place == map.end() || place->second < 0) {
            throw_unknown_id(ids[i]);
        }
        inner[i] = place->second;
    }
    return inner;
}

/// List and offset of each id: by the direct map, or by one pass over the ids
/// of all lists.
std::vector<int64_t>
places_of(const IndexIVF& ivf, int64_t n, const int64_t* ids) {
    const faiss::DirectMap& map = ivf.direct_map;
    std::unordered_map<int64_t, int64_t> found;
    if (map.no()) {
        for (int64_t i = 0; i < n; i++) {
            found[ids[i]] = -1;
        }
        for (size_t l = 0; l < ivf.invlists->nlist; l++) {
            faiss::InvertedLists::ScopedIds list_ids(ivf.invlists, l);
            size_t size = ivf.invlists->list_size(l);
            for (size_t i = 0; i < size; i++) {
                auto wanted = found.find(list_ids[i]);
                if (wanted != found.end()) {
                    wanted->second = faiss::lo_build(l, i);
                }
            }
        }
    }
    const auto& table = map.no() ? found : map.hashtable;
    std::vector<int64_t> places(n, -1);
    for (int64_t i = 0; i < n; i++) {
        if (map.type == faiss::DirectMap::Array) {
            if (ids[i] >= 0 && size_t(ids[i]) < map.array.size()) {
                places[i] = map.array[ids[i]];
            }
        } else if (auto p = table.find(ids[i]); p != table.end()) {
            places[i] = p->second;
        }
        if (places[i] < 0) {
            throw_unknown_id(ids[i]);
        }
    }
    return places;
}

/// While this lives, there are no direct maps: Faiss merges and copies only
/// without them.
class DirectMapOff {
 public:
    explicit DirectMapOff(faiss::Index* index) : ivf_(find_ivf(index)) {
        if (ivf_ != nullptr) {
            type_ = ivf_->direct_map.type;
            ivf_->set_direct_map_type(faiss::DirectMap::NoMap);
        }
    }
    ~DirectMapOff() {
        if (ivf_ == nullptr || type_ == faiss::DirectMap::NoMap) {
            return;
        }
        try {
            set_direct_map_type(*ivf_, type_);
        } catch (const faiss::FaissException&) {
            // ids no longer consecutive: an Array map cannot hold them
            set_direct_map_type(*ivf_, faiss::DirectMap::Hashtable);
        }
    }

 private:
    IndexIVF* ivf_;
    faiss::DirectMap::Type type_ = faiss::DirectMap::NoMap;
};

} // namespace

faiss::IndexIVF* find_ivf(faiss::Index* index) {
    if (auto layer = as<IndexPreTransform>(index)) {
        return find_ivf(layer->index);
    }
    if (auto layer = as<IndexIDMap>(index)) {
        return find_ivf(layer->index);
    }
    return as<IndexIVF>(index);
}

const faiss::IndexIVF* find_ivf(const faiss::Index* index) {
    if (auto layer = as<IndexPreTransform>(index)) {
        return find_ivf(static_cast<const faiss::Index*>(layer->index));
    }
    if (auto layer = as<IndexIDMap>(index)) {
        return find_ivf(static_cast<const faiss::Index*>(layer->index));
    }
    return as<IndexIVF>(index);
}

std::string layers(const faiss::Index* index) {
    if (auto layer = as<IndexPreTransform>(index)) {
        return "PreTransform," + layers(layer->index);
    }
    if (auto layer = as<IndexIDMap>(index)) {
        return (as<IndexIDMap2>(index) ? "IDMap2," : "IDMap,") +
               layers(layer->index);
    }
    return as<IndexIVFScaNN>(index) ? "ScaNN"
           : as<IndexIVF>(index)    ? "IVF"
                                    : "other";
}

size_t wrapper_memory(const faiss::Index* index, size_t n) {
    if (auto layer = as<IndexPreTransform>(index)) {
        return wrapper_memory(layer->index, n);
    }
    auto layer = as<IndexIDMap>(index);
    if (layer == nullptr) {
        return 0;
    }
    size_t bytes = n * sizeof(int64_t);
    if (as<IndexIDMap2>(index) != nullptr) {
        // a node of the hash map (next, key, value) and its bucket
        bytes += n * 4 * sizeof(void*);
    }
    return bytes + wrapper_memory(layer->index, n);
}

std::vector<int64_t> all_ids(const faiss::Index* index) {
    if (auto layer = as<IndexPreTransform>(index)) {
        return all_ids(layer->index);
    }
    if (auto layer = as<IndexIDMap>(index)) {
        return layer->id_map;
    }
    std::vector<int64_t> ids;
    if (auto ivf = as<IndexIVF>(index)) {
        ids.reserve(size_t(ivf->ntotal));
        for (size_t l = 0; l < ivf->invlists->nlist; l++) {
            faiss::InvertedLists::ScopedIds of_list(ivf->invlists, l);
            ids.insert(
                    ids.end(),
                    of_list.get(),
                    of_list.get() + ivf->invlists->list_size(l));
        }
        return ids;
    }
    ids.resize(size_t(index->ntotal));
    std::iota(ids.begin(), ids.end(), int64_t(0));
    return ids;
}

std::vector<int64_t> list_ids(const faiss::Index* index, size_t list) {
    if (auto layer = as<IndexPreTransform>(index)) {
        return list_ids(layer->index, list);
    }
    if (auto layer = as<IndexIDMap>(index)) {
        std::vector<int64_t> ids = list_ids(layer->index, list);
        for (int64_t& id : ids) {
            // a damaged file that is mapped may hold any id
            bool known = uint64_t(id) < layer->id_map.size();
            id = known ? layer->id_map[size_t(id)] : -1;
        }
        return ids;
    }
    auto ivf = as<IndexIVF>(index);
    FAISS_THROW_IF_NOT_MSG(ivf != nullptr, "list_ids needs an IVF index");
    faiss::InvertedLists::ScopedIds ids(ivf->invlists, list);
    return {ids.get(), ids.get() + ivf->invlists->list_size(list)};
}

size_t remove_ids(faiss::Index* index, const faiss::IDSelector& selector) {
    if (auto layer = as<IndexPreTransform>(index)) {
        size_t removed = remove_ids(layer->index, selector);
        layer->ntotal = layer->index->ntotal;
        return removed;
    }
    auto layer = as<IndexIDMap>(index);
    auto leaf = layer ? as<IndexIVFScaNN>(find_ivf(layer)) : nullptr;
    if (leaf == nullptr) {
        auto ivf = as<IndexIVF>(index);
        if (ivf != nullptr && ivf->direct_map.type == DirectMap::Hashtable &&
            as<IndexIVFScaNN>(ivf) == nullptr) {
            // the only selector that Faiss takes with this map
            std::vector<int64_t> listed;
            if (!faiss_ext::Filter(&selector).list_ids(
                        size_t(ivf->ntotal), listed)) {
                listed = all_ids(ivf);
                std::erase_if(listed, [&](int64_t id) {
                    return !selector.is_member(id);
                });
            }
            return index->remove_ids(
                    faiss::IDSelectorArray(listed.size(), listed.data()));
        }
        return index->remove_ids(selector);
    }
    return remove_from_map(*layer, selector);
}

void train_rows(faiss::Index* index, int64_t n, const TypedRows& x) {
    if (auto scann = as<IndexIVFScaNN>(index)) {
        scann->train_rows(n, x.data, x.type);
        return;
    }
    std::vector<float> storage;
    index->train(n, x.floats(0, size_t(n), storage));
}

void add_rows(
        faiss::Index* index,
        int64_t n,
        const TypedRows& x,
        const int64_t* ids) {
    if (auto scann = as<IndexIVFScaNN>(index)) {
        scann->add_rows(n, x.data, x.type, ids);
        return;
    }
    std::vector<float> storage;
    const float* floats = x.floats(0, size_t(n), storage);
    if (ids == nullptr) {
        index->add(n, floats);
    } else {
        index->add_with_ids(n, floats, ids);
    }
}

void update_rows(
        faiss::Index* index,
        int64_t n,
        const int64_t* ids,
        const TypedRows& x) {
    if (auto layer = as<IndexIDMap>(index)) {
        std::vector<int64_t> inner = to_inner_ids(*layer, n, ids);
        update_rows(layer->index, n, inner.data(), x);
        return;
    }
    if (auto scann = as<IndexIVFScaNN>(index)) {
        scann->update_rows(n, ids, x.data, x.type);
        return;
    }
    std::vector<float> storage;
    const float* floats = x.floats(0, size_t(n), storage);
    if (auto layer = as<IndexPreTransform>(index)) {
        const Transformed below(*layer, n, floats);
        const auto d = size_t(layer->index->d);
        update_rows(layer->index, n, ids, {below.data(), RowType::Float32, d});
        return;
    }
    auto ivf = as<IndexIVF>(index);
    FAISS_THROW_IF_NOT_MSG(ivf != nullptr, "update_vectors needs an IVF index");
    if (ivf->direct_map.no()) {
        set_direct_map_type(*ivf, faiss::DirectMap::Hashtable);
    }
    FAISS_THROW_IF_NOT_FMT(
            n <= std::numeric_limits<int>::max(),
            "%lld rows (allowed: at most 2^31 - 1)",
            static_cast<long long>(n));
    ivf->update_vectors(int(n), ids, floats);
}

void set_direct_map_type(faiss::IndexIVF& ivf, faiss::DirectMap::Type type) {
    if (auto scann = as<IndexIVFScaNN>(&ivf)) {
        scann->set_direct_map_type(type);
    } else if (type != ivf.direct_map.type) {
        ivf.direct_map = make_map(type, *ivf.invlists, size_t(ivf.ntotal));
    }
}

bool has_direct_map(const faiss::Index* index) {
    auto ivf = find_ivf(index);
    return ivf == nullptr || !ivf->direct_map.no();
}

void reconstruct(
        const faiss::Index* index,
        int64_t n,
        const int64_t* ids,
        float* x) {
    if (auto layer = as<IndexPreTransform>(index)) {
        std::vector<float> inner(n * layer->index->d);
        reconstruct(layer->index, n, ids, inner.data());
        layer->reverse_chain(n, inner.data(), x);
        return;
    }
    if (auto layer = as<IndexIDMap>(index)) {
        std::vector<int64_t> inner = to_inner_ids(*layer, n, ids);
        reconstruct(layer->index, n, inner.data(), x);
        return;
    }
    auto ivf = as<IndexIVF>(index);
    if (ivf == nullptr) {
        for (int64_t i = 0; i < n; i++) {
            index->reconstruct(ids[i], x + i * index->d);
        }
        return;
    }
    std::vector<int64_t> places = places_of(*ivf, n, ids);
    for (int64_t i = 0; i < n; i++) {
        ivf->reconstruct_from_offset(
                faiss::lo_listno(places[i]),
                faiss::lo_offset(places[i]),
                x + i * index->d);
    }
}

const faiss::Index* codec(const faiss::Index* index) {
    while (auto layer = as<IndexIDMap>(index)) {
        index = layer->index;
    }
    return index;
}

void add_sa_codes(
        faiss::Index* index,
        int64_t n,
        const uint8_t* codes,
        const int64_t* ids) {
    if (auto layer = as<IndexPreTransform>(index)) {
        add_sa_codes(layer->index, n, codes, ids);
        layer->ntotal = layer->index->ntotal;
        return;
    }
    if (auto layer = as<IndexIDMap>(index)) {
        FAISS_THROW_IF_NOT_MSG(
                ids != nullptr, "an IDMap index needs ids for its vectors");
        MapGrowth growth(*layer, size_t(n), ids);
        add_sa_codes(layer->index, n, codes, nullptr);
        growth.commit();
        return;
    }
    auto leaf = as<IndexIVFScaNN>(index);
    FAISS_THROW_IF_NOT_MSG(leaf != nullptr, "add_sa_codes needs ScaNN");
    leaf->add_sa_codes(n, codes, ids);
}

namespace {

void merge_layers(faiss::Index* index, faiss::Index* other, int64_t add_id) {
    if (auto layer = as<IndexPreTransform>(index)) {
        auto theirs = static_cast<IndexPreTransform*>(other);
        merge_layers(layer->index, theirs->index, add_id);
        layer->ntotal = layer->index->ntotal;
        theirs->ntotal = 0;
        return;
    }
    if (auto layer = as<IndexIDMap>(index)) {
        auto theirs = static_cast<IndexIDMap*>(other);
        merge_maps(*layer, *theirs, add_id, [&](int64_t more) {
            merge_layers(layer->index, theirs->index, more);
        });
        return;
    }
    index->merge_from(*other, add_id);
}

void check_same_layers(const faiss::Index* index, const faiss::Index* other) {
    FAISS_THROW_IF_NOT_FMT(
            layers(index) == layers(other),
            "the indexes have different layers: %s and %s",
            layers(index).c_str(),
            layers(other).c_str());
}

} // namespace

void merge_from(faiss::Index* index, faiss::Index* other, int64_t add_id) {
    check_same_layers(index, other);
    DirectMapOff mine(index), theirs(other);
    index->check_compatible_for_merge(*other);
    merge_layers(index, other, add_id);
}

void copy_subset_to(
        faiss::Index* index,
        faiss::Index* other,
        int subset_type,
        int64_t a1,
        int64_t a2) {
    check_same_layers(index, other);
    FAISS_THROW_IF_NOT_MSG(
            layers(index).find("IDMap") == std::string::npos,
            "copy_subset_to does not work through an IDMap");
    DirectMapOff mine(index), theirs(other);
    index->check_compatible_for_merge(*other);
    IndexIVF* from = find_ivf(index);
    IndexIVF* to = find_ivf(other);
    FAISS_THROW_IF_NOT_MSG(from != nullptr, "copy_subset_to needs IVF");
    from->copy_subset_to(*to, SubsetType(subset_type), a1, a2);
    while (auto layer = as<IndexPreTransform>(other)) {
        layer->ntotal = to->ntotal;
        other = layer->index;
    }
}

} // namespace faiss_ext::python
