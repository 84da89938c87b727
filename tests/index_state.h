/* All that can be told of an index from outside, to see that a call which
 * failed changed none of it. */

#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <faiss/IndexIDMap.h>
#include <faiss/IndexIVF.h>
#include <faiss/impl/io.h>
#include <gtest/gtest.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index_factory.h>
#include <faiss_ext/index_io.h>

namespace index_state {

struct State {
    int64_t ntotal = 0;
    bool is_trained = false;
    size_t nlist = 0;
    size_t nprobe = 0;
    size_t memory_of_lists = 0; ///< lists there are
    faiss::DirectMap::Type map_type = faiss::DirectMap::NoMap;
    std::vector<std::pair<int64_t, int64_t>> map; ///< id, place; sorted
    std::vector<int64_t> id_map;                  ///< of an IndexIDMap
    std::vector<std::pair<int64_t, int64_t>> rev_map;
    std::vector<float> distances;
    std::vector<int64_t> labels;
    std::vector<uint8_t> bytes; ///< of a file, without the direct map
    bool operator==(const State&) const = default;
};

inline std::vector<std::pair<int64_t, int64_t>> sorted(
        const std::unordered_map<int64_t, int64_t>& map) {
    std::vector<std::pair<int64_t, int64_t>> pairs(map.begin(), map.end());
    std::sort(pairs.begin(), pairs.end());
    return pairs;
}

/// @param queries  size n * index.d
inline State state_of(faiss::Index& index, const std::vector<float>& queries) {
    faiss_ext::IndexIVFScaNN& scann = *faiss_ext::find_scann(&index);
    State state;
    state.ntotal = index.ntotal;
    EXPECT_EQ(scann.ntotal, index.ntotal);
    state.is_trained = index.is_trained;
    state.nlist = scann.nlist;
    state.nprobe = scann.nprobe;
    state.memory_of_lists = scann.lists().nlist;
    if (auto map = dynamic_cast<faiss::IndexIDMap*>(&index)) {
        state.id_map = map->id_map;
        if (auto map2 = dynamic_cast<faiss::IndexIDMap2*>(&index)) {
            state.rev_map = sorted(map2->rev_map);
        }
    }
    faiss::DirectMap& map = scann.direct_map;
    state.map_type = map.type;
    state.map = sorted(map.hashtable);
    for (size_t id = 0; id < map.array.size(); id++) {
        state.map.emplace_back(int64_t(id), map.array[id]);
    }
    // the order of a hash table depends on what it has been through
    faiss::DirectMap none;
    std::swap(map, none);
    faiss::VectorIOWriter writer;
    // what an untrained transform holds means nothing
    const faiss::Index* part = index.is_trained ? &index : &scann;
    faiss_ext::write_index(part, &writer);
    std::swap(map, none);
    state.bytes = std::move(writer.data);
    if (!index.is_trained) {
        return state;
    }
    constexpr size_t k = 7;
    const size_t n = queries.size() / size_t(index.d);
    state.distances.resize(n * k);
    state.labels.resize(n * k);
    index.search(
            int64_t(n),
            queries.data(),
            k,
            state.distances.data(),
            state.labels.data());
    return state;
}

/// Says which part differs.
inline void
expect_same(const State& a, const State& b, const std::string& when) {
    EXPECT_EQ(a.ntotal, b.ntotal) << when;
    EXPECT_EQ(a.is_trained, b.is_trained) << when;
    EXPECT_EQ(a.nlist, b.nlist) << when;
    EXPECT_EQ(a.nprobe, b.nprobe) << when;
    EXPECT_EQ(a.memory_of_lists, b.memory_of_lists) << when;
    EXPECT_EQ(a.map_type, b.map_type) << when;
    EXPECT_TRUE(a.map == b.map) << "direct map " << when;
    EXPECT_TRUE(a.id_map == b.id_map) << "ids of the IDMap " << when;
    EXPECT_TRUE(a.rev_map == b.rev_map) << "map of the IDMap2 " << when;
    EXPECT_TRUE(a.labels == b.labels) << "labels " << when;
    EXPECT_TRUE(a.distances == b.distances) << "distances " << when;
    EXPECT_TRUE(a.bytes == b.bytes) << "bytes " << when;
}

} // namespace index_state
