/*
 * top_scores(), select_near_best() and select_at_least() of every level, over the level's
 * own loops or, by default, plain ones.
 *
 * Included once per level, in its anonymous namespace (see select_keys.h).
 */

// (no include guard and no namespace: this is a part of its .cpp file)

/// From all floats to two neighbours; scores of one magnitude take a quarter.
constexpr size_t kMaxHalvings = 160;

/// Larger keys: larger scores, then smaller indices.
inline uint64_t score_key(float score, size_t index) {
    uint32_t bits;
    score += 0.f; // no -0
    memcpy(&bits, &score, sizeof(bits));
    bits ^= bits >> 31 ? 0xffffffffu : 0x80000000u;
    return static_cast<uint64_t>(bits) << 32 |
           static_cast<uint32_t>(~static_cast<uint32_t>(index));
}

// n >= 1 scores each

void score_range(
        const float* scores,
        size_t n,
        float* smallest,
        float* largest);

/// @return how many are at least `bound`
size_t count_at_least(const float* scores, size_t n, float bound);

/// Writes the keys of those. @return how many
size_t
append_at_least(const float* scores, size_t n, float bound, uint64_t* keys);

size_t top_scores(const TopArgs& a) noexcept {
    float bound;
    float above;
    score_range(a.scores, a.n, &bound, &above);
    const size_t enough = a.wanted + a.wanted / 2 + 16;
    for (size_t i = 0; i < kMaxHalvings && a.n > enough; i++) {
        const float middle = 0.5f * bound + 0.5f * above;
        if (!(middle > bound && middle < above)) {
            break;
        }
        const size_t reached = count_at_least(a.scores, a.n, middle);
        if (reached < a.wanted) {
            above = middle;
            continue;
        }
        bound = middle;
        if (reached <= enough) {
            break;
        }
    }
    return append_at_least(a.scores, a.n, bound, a.keys);
}

size_t select_near_best(const NearBestArgs& a) noexcept {
    float smallest;
    float largest;
    score_range(a.scores, a.n, &smallest, &largest);
    return append_at_least(a.scores, a.n, largest - a.margin, a.keys);
}

size_t select_at_least(const AtLeastArgs& a) noexcept {
    return append_at_least(a.scores, a.n, a.bound, a.keys);
}

#ifndef FAISS_EXT_OWN_SCORE_LOOPS
void score_range(
        const float* scores,
        size_t n,
        float* smallest,
        float* largest) {
    *smallest = *largest = scores[0];
    for (size_t i = 1; i < n; i++) {
        *smallest = scores[i] < *smallest ? scores[i] : *smallest;
        *largest = scores[i] > *largest ? scores[i] : *largest;
    }
}

size_t count_at_least(const float* scores, size_t n, float bound) {
    size_t reached = 0;
    for (size_t i = 0; i < n; i++) {
        reached += scores[i] >= bound;
    }
    return reached;
}

size_t
append_at_least(const float* scores, size_t n, float bound, uint64_t* keys) {
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        keys[found] = score_key(scores[i], i);
        found += scores[i] >= bound;
    }
    return found;
}
#endif
