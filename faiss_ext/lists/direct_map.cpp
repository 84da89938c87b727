#include <faiss_ext/lists/direct_map.h>

#include <new>

#include <faiss/impl/FaissAssert.h>

namespace faiss_ext {

using faiss::DirectMap;
using faiss::lo_build;

DirectMap make_map(
        DirectMap::Type type,
        const faiss::InvertedLists& lists,
        size_t ntotal) {
    DirectMap map;
    if (type == DirectMap::Array) {
        for (size_t l = 0; l < lists.nlist; l++) {
            faiss::InvertedLists::ScopedIds ids(&lists, l);
            size_t size = lists.list_size(l);
            for (size_t i = 0; i < size; i++) {
                FAISS_THROW_IF_NOT_FMT(
                        ids[i] >= 0 && size_t(ids[i]) < ntotal,
                        "id %lld in a direct map of kind Array, for sequential "
                        "ids (allowed: 0..%zu; a Hashtable holds any)",
                        static_cast<long long>(ids[i]),
                        ntotal - 1);
            }
        }
    }
    map.set_type(type, &lists, ntotal);
    return map;
}

bool map_fits(
        const DirectMap& map,
        const faiss::InvertedLists& lists,
        size_t ntotal) {
    if (map.no()) {
        return true;
    }
    if (map.type == DirectMap::Array && map.array.size() != ntotal) {
        return false;
    }
    for (size_t l = lists.nlist; l-- > 0;) {
        size_t size = lists.list_size(l);
        if (size > 0) {
            return place_in(map, lists.get_single_id(l, size - 1)) != kNowhere;
        }
    }
    return true;
}

void drop_unfit_map(
        faiss::DirectMap& map,
        const faiss::InvertedLists& lists,
        size_t ntotal) {
    if (!map_fits(map, lists, ntotal)) {
        map = faiss::DirectMap();
    }
}

int64_t moved_id(int64_t id, int64_t add_id) {
    int64_t moved = 0;
    FAISS_THROW_IF_NOT_FMT(
            !__builtin_add_overflow(id, add_id, &moved) && moved != -1,
            "add_id = %lld for a row of id %lld (allowed: their sum is a "
            "64-bit integer other than -1)",
            static_cast<long long>(add_id),
            static_cast<long long>(id));
    return moved;
}

uint64_t place_in(const DirectMap& map, int64_t id) {
    if (map.type == DirectMap::Array) {
        bool known = id >= 0 && size_t(id) < map.array.size();
        return known && map.array[id] >= 0 ? uint64_t(map.array[id]) : kNowhere;
    }
    auto entry = map.hashtable.find(id);
    bool known = entry != map.hashtable.end() && entry->second >= 0;
    return known ? uint64_t(entry->second) : kNowhere;
}

uint64_t
checked_place_in(const DirectMap& map, const ScaNNLists& lists, int64_t id) {
    const uint64_t place = place_in(map, id);
    const bool is_its_own =
            is_place(place, lists) &&
            lists.list(faiss::lo_listno(place)).ids[faiss::lo_offset(place)] ==
                    id;
    return is_its_own ? place : kNowhere;
}

void change_place(DirectMap& map, int64_t id, uint64_t from, uint64_t to) {
    if (map.type == DirectMap::Array) {
        if (from != kNowhere && place_in(map, id) == from) {
            map.array[id] = int64_t(to);
        }
    } else if (map.type == DirectMap::Hashtable) {
        auto entry = map.hashtable.find(id);
        if (entry == map.hashtable.end() || uint64_t(entry->second) != from) {
            return;
        }
        if (to == kNowhere) {
            map.hashtable.erase(entry);
        } else {
            entry->second = int64_t(to);
        }
    }
}

DirectMap hashtable_of(const DirectMap& array) {
    DirectMap map;
    map.type = DirectMap::Hashtable;
    map.hashtable.reserve(array.array.size());
    for (size_t id = 0; id < array.array.size(); id++) {
        if (array.array[id] >= 0) {
            map.hashtable.emplace(id, array.array[id]);
        }
    }
    return map;
}

void release_unused(DirectMap& map) {
    // buckets per id, and ids for which a table is small whatever it holds
    constexpr size_t kMaxBucketsPerId = 8;
    constexpr size_t kFewIds = 64;
    if (map.hashtable.bucket_count() >
        kMaxBucketsPerId * (map.hashtable.size() + kFewIds)) {
        try {
            map.hashtable.rehash(0);
        } catch (const std::bad_alloc&) {
            // the table keeps its buckets
        }
    }
}

void clear_map(DirectMap& map) {
    DirectMap fresh;
    fresh.type = map.type;
    std::swap(map, fresh);
}

size_t memory_of(const DirectMap& map) {
    // a table of one bucket has it inside
    size_t buckets = map.hashtable.bucket_count();
    buckets = buckets > 1 ? buckets : 0;
    // a node of std::unordered_map: next and pair, as malloc() rounds it up
    return map.array.capacity() * sizeof(int64_t) +
           map.hashtable.size() * 4 * sizeof(void*) + buckets * sizeof(void*);
}

MapAddition::MapAddition(DirectMap& map)
        : map_(map), array_size_(map.array.size()) {}

void MapAddition::add(size_t n, const int64_t* ids, const uint64_t* places) {
    ids_ = ids;
    places_ = places;
    switch (map_.type) {
        case DirectMap::NoMap:
            break;
        case DirectMap::Array:
            // kNowhere is Faiss' -1
            map_.array.insert(map_.array.end(), places, places + n);
            break;
        case DirectMap::Hashtable:
            for (; added_ < n; added_++) {
                if (places[added_] == kNowhere) {
                    continue;
                }
                int64_t place = int64_t(places[added_]);
                auto [entry, fresh] =
                        map_.hashtable.emplace(ids[added_], place);
                if (!fresh) {
                    replaced_.emplace_back(added_, entry->second);
                    entry->second = place;
                }
            }
            break;
        default: // since 1.15 Faiss counts its types, too
            break;
    }
}

void MapAddition::undo() {
    if (map_.type == DirectMap::Array) {
        map_.array.resize(array_size_);
    }
    while (added_-- > 0) {
        if (!replaced_.empty() && replaced_.back().first == added_) {
            map_.hashtable[ids_[added_]] = replaced_.back().second;
            replaced_.pop_back();
        } else if (places_[added_] != kNowhere) {
            map_.hashtable.erase(ids_[added_]);
        }
    }
    added_ = 0;
}

} // namespace faiss_ext
