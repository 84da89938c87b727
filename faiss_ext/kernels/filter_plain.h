/*
 * filter_masks() of a level that has no gathers worth using.
 *
 * Included once per level, in its anonymous namespace (see select_keys.h).
 */

// (no include guard and no namespace: this is a part of its .cpp file)

size_t filter_masks(const FilterArgs& a) noexcept {
    size_t passing = 0;
    for (size_t i = 0; i < a.n; i += kBlockSize) {
        uint32_t mask = 0;
        for (size_t j = 0; j < kBlockSize && i + j < a.n; j++) {
            uint64_t id = static_cast<uint64_t>(a.ids[i + j]);
            if (id < static_cast<uint64_t>(a.nbits)) {
                uint32_t bit = a.bitmap[id >> 3] >> (id & 7) & 1u;
                mask |= bit << j;
                passing += bit;
            }
        }
        a.masks[i / kBlockSize] = mask;
    }
    return passing;
}
