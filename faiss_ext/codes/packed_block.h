/*
 * The bytes that the scan reads: 32 vectors' codes, interleaved.
 *
 * In: codes, one byte each (score_aware_pq), and an optional uint16 term per
 * vector. Out: packed blocks; next: scann_lists holds them, kernels scan them.
 *
 * A list of n vectors is n / 32 full blocks and one last block of t = n % 32
 * vectors. With h = ceil(t / 2) (16 in a full block) a block is a run of
 * columns of 4 h bytes:
 *
 *     [term column, if any] [group 0] [group 1] ... [group ceil(M/4) - 1]
 *
 *     group g, byte 4 i + s:   bits 0..3  code 4 g + s of vector i
 *     (0 <= i < h, 0 <= s < 4) bits 4..7  code 4 g + s of vector i + h
 *
 *     term column, bytes 4 i .. 4 i + 3, little endian:
 *                              uint16 term of vector i, of vector i + h
 *
 * Why: one 64-byte row of a full block, two index masks and two VPERMB look up
 * 4 codes of 32 vectors in a 64-byte row of the table, and VPDPBUSD adds each
 * vector's 4 values at once (44-52 GB/s of codes on Zen 4, bench/kernels; the
 * usual layout with VPSHUFB and 16-bit adds reached 0.65 of that). The narrow
 * last block costs half a vector of padding on average, not half a block.
 * Codes M .. 4 ceil(M/4) - 1 and vectors beyond n are 0.
 */

#pragma once

#include <cstddef>
#include <cstdint>

#include <faiss_ext/codes/packed_layout.h>

namespace faiss_ext {

/** Writes vectors [begin, begin + n) of a list that then has `size` vectors.
 * The block structure of `packed` must already be that of `size` vectors
 * (see reshape_tail).
 * @param codes  size n * M, values 0..15
 * @param terms  size n, or nullptr without terms
 */
void pack_codes(
        const PackedLayout& layout,
        uint8_t* packed,
        size_t size,
        size_t begin,
        size_t n,
        const uint8_t* codes,
        const uint16_t* terms);

/// Reads vectors [begin, begin + n) of a list of `size` vectors; terms may be
/// nullptr.
void unpack_codes(
        const PackedLayout& layout,
        const uint8_t* packed,
        size_t size,
        size_t begin,
        size_t n,
        uint8_t* codes,
        uint16_t* terms);

/** Changes the last block from its shape in a list of old_size vectors to its
 * shape in one of new_size, keeping the vectors that both have and clearing
 * the rest. `packed` holds list_bytes(max(old_size, new_size)) bytes. */
void reshape_tail(
        const PackedLayout& layout,
        uint8_t* packed,
        size_t old_size,
        size_t new_size);

} // namespace faiss_ext
