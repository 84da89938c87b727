#include <faiss_ext/io/direct_map_section.h>

#include <algorithm>
#include <unordered_map>

#include <faiss_ext/lists/direct_map.h>

namespace faiss_ext {

namespace {

constexpr const char* kNotThere = "an entry is not where it says";

void check_array(
        const ByteReader& reader,
        const std::vector<int64_t>& array,
        const ScaNNLists& lists) {
    // Checked in the order of the lists, whose ids may be in no cache: an entry
    // is right if the row at its place has its id.
    size_t right = 0;
    for (size_t l = 0; l < lists.nlist; l++) {
        const auto& ids = lists.list(l).ids;
        for (size_t i = 0; i < ids.size(); i++) {
            const uint64_t id = uint64_t(ids[i]);
            right += id < array.size() &&
                     array[id] == int64_t(faiss::lo_build(l, i));
        }
    }
    // -1: counted, but in no list
    const size_t none = std::count(array.begin(), array.end(), -1);
    reader.check(right + none == array.size(), kNotThere);
}

void get_hashtable(
        ByteReader& reader,
        uint64_t n,
        const ScaNNLists& lists,
        std::unordered_map<int64_t, int64_t>& table) {
    struct Entry {
        int64_t id;
        int64_t place;
    };
    const std::vector<Entry> entries = reader.get_vector<Entry>(n);
    table.reserve(n);
    // ids chosen to fall into one bucket would make the table extremely slow
    constexpr size_t kMaxAlike = 1000;
    std::vector<uint16_t> alike(table.bucket_count());
    for (const Entry& entry : entries) {
        uint16_t& count = alike[table.bucket(entry.id)];
        reader.check(++count <= kMaxAlike, "ids that no table tells apart");
    }
    for (const auto& [id, place] : entries) {
        if (place == -1) {
            continue;
        }
        // whether the row has this id is checked on use (checked_place_in())
        reader.check(place >= 0 && is_place(place, lists), kNotThere);
        reader.check(table.emplace(id, place).second, "an id is there twice");
    }
}

} // namespace

faiss::DirectMap::Type saved_map_type(const IndexState& state) {
    return direct_map_fits(state) ? state.ivf.direct_map.type
                                  : faiss::DirectMap::NoMap;
}

void put_direct_map(SectionSink& sink, const IndexState& state) {
    const faiss::DirectMap& map = state.ivf.direct_map;
    switch (saved_map_type(state)) {
        case faiss::DirectMap::NoMap:
            sink.put_value(uint64_t(0));
            break;
        case faiss::DirectMap::Array:
            sink.put_value(uint64_t(map.array.size()));
            sink.put(map.array.data(), map.array.size() * sizeof(int64_t));
            break;
        case faiss::DirectMap::Hashtable:
            sink.put_value(uint64_t(map.hashtable.size()));
            for (const auto& [id, lo] : map.hashtable) {
                sink.put_value(id);
                sink.put_value(lo);
            }
            break;
        default: // since 1.15 Faiss counts its types, too
            break;
    }
}

void get_direct_map(
        ByteReader reader,
        faiss::DirectMap::Type type,
        uint64_t ntotal,
        const ScaNNLists& lists,
        faiss::DirectMap& map) {
    uint64_t n;
    reader.get_value(n);
    faiss::DirectMap fresh;
    fresh.type = type;
    switch (type) {
        case faiss::DirectMap::NoMap:
            reader.check(n == 0, "entries without a map");
            break;
        case faiss::DirectMap::Array:
            reader.check(
                    n == ntotal, "an Array of another size than the index");
            fresh.array = reader.get_vector<int64_t>(n);
            check_array(reader, fresh.array, lists);
            break;
        case faiss::DirectMap::Hashtable:
            get_hashtable(reader, n, lists, fresh.hashtable);
            break;
        default:
            break;
    }
    reader.finish();
    map = std::move(fresh);
}

} // namespace faiss_ext
