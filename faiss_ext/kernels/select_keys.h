/*
 * select_keys() of every level: quickselect around the median of nine keys,
 * with the level's own partition step. Included once per level, in its
 * anonymous namespace, so that nothing of it is shared by the linker.
 */

// (no include guard and no namespace: this is a part of its .cpp file)

inline uint64_t median_of_3(uint64_t a, uint64_t b, uint64_t c) {
    uint64_t low = a < b ? a : b;
    uint64_t high = a < b ? b : a;
    uint64_t upper = high < c ? high : c;
    return low > upper ? low : upper;
}

inline uint64_t choose_pivot(const uint64_t* keys, size_t n) {
    auto at = [&](size_t eighth) { return keys[(n - 1) * eighth / 8]; };
    return median_of_3(
            median_of_3(at(0), at(1), at(2)),
            median_of_3(at(3), at(4), at(5)),
            median_of_3(at(6), at(7), at(8)));
}

/** @param partition  (keys, n, pivot, scratch) -> count: moves keys above the
 *         pivot to the front, the other n - count to scratch */
template <class Partition>
uint64_t select_keys_by(const SelectArgs& a, Partition partition) {
    uint64_t* keys = a.keys;
    size_t n = a.n;
    size_t keep = a.keep;
    while (n > keep && keep > 0) {
        uint64_t pivot = choose_pivot(keys, n);
        size_t above = partition(keys, n, pivot, a.scratch);
        if (above >= keep) {
            n = above;
            continue;
        }
        // All above stay; the rest of what is wanted is in scratch, where the
        // pivot is the largest.
        keys += above;
        keep -= above;
        n -= above;
        memcpy(keys, a.scratch, n * sizeof(uint64_t));
        size_t i = 0;
        while (keys[i] != pivot) {
            i++;
        }
        keys[i] = keys[0];
        keys[0] = pivot;
        keys++;
        keep--;
        n--;
    }
    uint64_t smallest = a.keys[0];
    for (size_t i = 1; i < a.keep; i++) {
        smallest = a.keys[i] < smallest ? a.keys[i] : smallest;
    }
    return smallest;
}

#ifndef FAISS_EXT_OWN_PARTITION
/// Without a branch, since it would be mispredicted every other time.
inline uint64_t
partition_keys(uint64_t* keys, size_t n, uint64_t pivot, uint64_t* scratch) {
    size_t above = 0;
    size_t below = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t key = keys[i];
        bool is_above = key > pivot;
        keys[above] = key;
        scratch[below] = key;
        above += is_above;
        below += !is_above;
    }
    return above;
}

uint64_t select_keys(const SelectArgs& a) noexcept {
    return select_keys_by(a, partition_keys);
}
#endif
