/*
 * Loops over the rows of a refine or rerank kernel.
 *
 * Included once per level, in its anonymous namespace (see select_keys.h).
 */

// (no include guard and no namespace: this is a part of its .cpp file)

/// Rows lie scattered over memory, where the hardware prefetcher does not help:
/// they are fetched this many rows ahead. Into the second-level
/// cache: Zen 4 stalls on so many fetches into the first (60 rows of 1536 bytes
/// from DRAM: 5.0 us against 9.1, bench/stages with wordnet-384).
constexpr size_t kRowsAhead = 8;

FAISS_EXT_INLINE void prefetch_row(const void* row, size_t bytes) {
    const char* p = static_cast<const char*>(row);
    for (size_t i = 0; i < bytes; i += 64) {
        __builtin_prefetch(p + i, 0, 2);
    }
}

/// Calls scorer.score<4>(r) for four rows at a time, score<1>(r) for the rest.
template <class Scorer>
FAISS_EXT_INLINE void for_rows(
        const Scorer& scorer,
        const void* const* rows,
        size_t n,
        size_t row_bytes) {
    for (size_t r = 0; r < n && r < kRowsAhead; r++) {
        prefetch_row(rows[r], row_bytes);
    }
    size_t r = 0;
    for (; r + 4 <= n; r += 4) {
        for (size_t i = r + kRowsAhead; i < r + kRowsAhead + 4 && i < n; i++) {
            prefetch_row(rows[i], row_bytes);
        }
        scorer.template score<4>(r);
    }
    for (; r < n; r++) {
        scorer.template score<1>(r);
    }
}
