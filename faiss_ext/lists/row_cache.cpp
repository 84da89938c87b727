#include <faiss_ext/lists/row_cache.h>

#include <algorithm>
#include <cstring>

namespace faiss_ext {

RowCache::RowCache(uint64_t bytes, size_t row_bytes)
        : row_bytes_(row_bytes), sets_(bytes / set_bytes(row_bytes)) {
    for (Set& set : sets_) {
        set.places.fill(kNoRow);
    }
    rows_ = std::make_unique_for_overwrite<uint8_t[]>(
            sets_.size() * kWays * row_bytes_);
}

size_t RowCache::set_of(uint64_t place) const {
    // The mixer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014). Fibonacci hashing
    // puts rows of 3,072 bytes, being side by side, into five of eight sets.
    uint64_t hash = place;
    hash = (hash ^ hash >> 30) * 0xbf58476d1ce4e5b9;
    hash = (hash ^ hash >> 27) * 0x94d049bb133111eb;
    hash ^= hash >> 31;
    return size_t((unsigned __int128)(hash)*sets_.size() >> 64);
}

size_t RowCache::way_of(const Set& set, uint64_t place) {
    return size_t(
            std::find(set.places.begin(), set.places.end(), place) -
            set.places.begin());
}

bool RowCache::get(uint64_t place, uint8_t* row) {
    if (sets_.empty()) {
        return false;
    }
    const size_t at = set_of(place);
    std::lock_guard<std::mutex> lock(lock_of(at));
    Set& set = sets_[at];
    const size_t way = way_of(set, place);
    if (way == kWays) {
        return false;
    }
    set.asked_for |= uint8_t(1 << way);
    std::memcpy(row, row_at(at, way), row_bytes_);
    return true;
}

void RowCache::put(uint64_t place, const uint8_t* row) {
    if (sets_.empty()) {
        return;
    }
    const size_t at = set_of(place);
    std::lock_guard<std::mutex> lock(lock_of(at));
    Set& set = sets_[at];
    if (way_of(set, place) != kWays) {
        return; // another thread has read it, too
    }
    while (set.asked_for >> set.next & 1) {
        set.asked_for ^= uint8_t(1 << set.next);
        set.next = (set.next + 1) % kWays;
    }
    set.places[set.next] = place;
    std::memcpy(row_at(at, set.next), row, row_bytes_);
    set.next = (set.next + 1) % kWays;
}

} // namespace faiss_ext
