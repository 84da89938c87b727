/*
 * scan() and scan_lists() of every level but the scalar one, over the level's
 * own scan_block<NQ, kFull>() for up to kQueriesPerPass queries.
 *
 * Included once per level, in its anonymous namespace (see select_keys.h).
 */

// (no include guard and no namespace: this is a part of its .cpp file)

template <size_t NQ, bool kFull>
FAISS_EXT_INLINE void scan_block_for(
        const ScanList& list,
        const uint8_t* block,
        size_t half,
        uint32_t mask,
        uint32_t offset,
        ScanQuery* q) {
    if constexpr (NQ <= kQueriesPerPass) {
        scan_block<NQ, kFull>(list, block, half, mask, offset, q);
    } else {
        scan_block<kQueriesPerPass, kFull>(list, block, half, mask, offset, q);
        scan_block_for<NQ - kQueriesPerPass, kFull>(
                list, block, half, mask, offset, q + kQueriesPerPass);
    }
}

/// scan(), inlined, so that queries and list that nothing else points to stay
/// in registers.
template <size_t NQ>
FAISS_EXT_INLINE size_t
scan_blocks(const ScanList& list, size_t begin, ScanQuery* q) {
    const size_t block_bytes = (list.groups + (list.has_term ? 1 : 0)) * 64;
    const size_t offset = begin / kBlockSize * block_bytes;
    const uint8_t* block = list.blocks + offset;
    const uint8_t* next = list.next == nullptr ? nullptr : list.next + offset;
    auto has_room = [&] {
        bool room = true;
        for (size_t i = 0; i < NQ; i++) {
            room &= q[i].capacity - q[i].count >= kBlockSize;
        }
        return room;
    };
    auto mask_of_block = [&] {
        return list.masks ? list.masks[begin / kBlockSize] : ~0u;
    };
    for (; begin + kBlockSize <= list.n; begin += kBlockSize) {
        if (next != nullptr) {
            for (size_t i = 0; i < block_bytes; i += 64) {
                __builtin_prefetch(next + i, 0, 2);
            }
            next += block_bytes;
        }
        const uint32_t mask = mask_of_block();
        if (mask != 0) {
            if (!has_room()) {
                return begin;
            }
            scan_block_for<NQ, true>(
                    list, block, 16, mask, static_cast<uint32_t>(begin), q);
        }
        block += block_bytes;
    }
    if (begin < list.n) {
        const size_t size = list.n - begin;
        const uint32_t mask = mask_of_block() & ((1u << size) - 1);
        if (mask != 0) {
            if (!has_room()) {
                return begin;
            }
            scan_block_for<NQ, false>(
                    list,
                    block,
                    (size + 1) / 2,
                    mask,
                    static_cast<uint32_t>(begin),
                    q);
        }
    }
    return list.n;
}

template <size_t NQ>
size_t scan_queries(const ScanList& given, size_t begin, ScanQuery* queries) {
    const ScanList list = given;
    ScanQuery q[NQ];
    memcpy(q, queries, sizeof(q));
    begin = scan_blocks<NQ>(list, begin, q);
    for (size_t i = 0; i < NQ; i++) {
        queries[i].count = q[i].count;
    }
    return begin;
}

size_t scan(
        const ScanList& list,
        size_t begin,
        ScanQuery* queries,
        size_t nq) noexcept {
    switch (nq) {
        case 1:
            return scan_queries<1>(list, begin, queries);
        case 2:
            return scan_queries<2>(list, begin, queries);
        case 3:
            return scan_queries<3>(list, begin, queries);
        default:
            return scan_queries<4>(list, begin, queries);
    }
}

/// scan_lists() for lists of one kind, which the compiler knows in scan_blocks.
template <bool kTerm, bool kMasks>
void scan_lists_of(ScanListsArgs& a, ScanQuery& query) {
    ScanQuery q = query;
    ScanList list = {nullptr, 0, a.groups, kTerm, nullptr, nullptr};
    size_t begin = a.begin;
    size_t i = a.probe;
    for (; i < a.n; i++) {
        const Probe& probe = a.probes[i];
        list.blocks = probe.blocks;
        list.n = probe.n;
        list.masks = kMasks ? probe.masks : nullptr;
        list.next = a.probes[i + 1 < a.n ? i + 1 : i].blocks;
        q.bias = probe.bias;
        q.position = probe.position;
        begin = scan_blocks<1>(list, begin, &q);
        if (begin < list.n) {
            break;
        }
        begin = 0;
        if (q.count >= q.enough) {
            i++;
            break;
        }
    }
    a.probe = i;
    a.begin = begin;
    query.count = q.count;
}

/* A call per list costs as much as two blocks, and a list's first bytes come
 * from a far cache: with 80 lists of 7 blocks (glove-50) this loop takes 12 %
 * off the scan, fetching the next list block by block another 10 %: into the
 * second-level cache, since Zen 4 stalls on many fetches into the first. */
void scan_lists(ScanListsArgs& a, ScanQuery& query) noexcept {
    if (a.has_masks) {
        (a.has_term ? scan_lists_of<true, true>
                    : scan_lists_of<false, true>)(a, query);
    } else {
        (a.has_term ? scan_lists_of<true, false>
                    : scan_lists_of<false, false>)(a, query);
    }
}
