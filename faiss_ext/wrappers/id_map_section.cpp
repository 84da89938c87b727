#include <faiss_ext/wrappers/id_map_section.h>

#include <algorithm>
#include <vector>

#include <faiss/IndexIDMap.h>
#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/io/list_sections.h>
#include <faiss_ext/wrappers/clone.h>

namespace faiss_ext {

namespace {

/// @tparam Map  faiss::IndexIDMap, const or not, as `root`
template <class Map, class Root>
std::vector<Map*> id_maps_of(Root& root) {
    std::vector<Map*> maps;
    Root* at = &root;
    while (auto below = wrapped_index(at)) {
        if (auto map = dynamic_cast<Map*>(at)) {
            maps.push_back(map);
        }
        at = *below;
    }
    return maps;
}

} // namespace

void put_id_maps(SectionSink& sink, const faiss::Index& root) {
    auto maps = id_maps_of<const faiss::IndexIDMap>(root);
    sink.put_value(uint64_t(maps.size()));
    for (const faiss::IndexIDMap* map : maps) {
        sink.put_value(uint64_t(map->id_map.size()));
        sink.put(map->id_map.data(), map->id_map.size() * sizeof(int64_t));
    }
}

void get_id_maps(ByteReader reader, uint64_t ntotal, faiss::Index& root) {
    auto maps = id_maps_of<faiss::IndexIDMap>(root);
    uint64_t count;
    reader.get_value(count);
    reader.check(count == maps.size(), "not one table for each IndexIDMap");
    for (faiss::IndexIDMap* map : maps) {
        uint64_t n;
        reader.get_value(n);
        reader.check(n == ntotal, "not one id for each vector");
        map->id_map = reader.get_vector<int64_t>(n);
        map->ntotal = int64_t(n);
        if (auto map2 = dynamic_cast<faiss::IndexIDMap2*>(map)) {
            map2->construct_rev_map();
        }
    }
    reader.finish();
}

void check_mapped_ids(
        const faiss::Index& root,
        const ScaNNLists& lists,
        const ScaNNLists* spilled) {
    const auto maps = id_maps_of<const faiss::IndexIDMap>(root);
    if (maps.empty()) {
        return;
    }
    // Faiss adds no rows to a map in a map
    FAISS_THROW_IF_NOT_MSG(
            maps.size() == 1 ||
                    std::all_of(
                            maps.begin(),
                            maps.end(),
                            [](auto map) { return map->id_map.empty(); }),
            "cannot read the index: section 'id_maps': an IndexIDMap around "
            "another has rows");
    const size_t n = maps.back()->id_map.size();
    auto check = [&](const char* prefix, const ScaNNList& list) {
        for (size_t i = 0; i < list.size(); i++) {
            FAISS_THROW_IF_NOT_FMT(
                    size_t(list.ids[i]) < n,
                    "cannot read the index: section '%sids': id %lld is not in "
                    "the IndexIDMap around the index",
                    prefix,
                    static_cast<long long>(list.ids[i]));
        }
    };
    for (size_t l = 0; l < lists.nlist; l++) {
        check("", lists.list(l));
    }
    for (size_t l = 0; spilled != nullptr && l < spilled->nlist; l++) {
        check(kOfCopies, spilled->list(l));
    }
}

} // namespace faiss_ext
