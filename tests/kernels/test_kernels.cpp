/*
 * Every kernel of every level that runs here, against scalar.cpp, which in
 * turn is held against formulas written down here once more.
 *
 * Integer kernels and those marked "exact order" must agree in every bit.
 * Arrays end at an inaccessible page (Guarded), so that a read or write past
 * the end is a crash even where no sanitizer looks.
 *
 * Exit code 77: SCANN_SIMD_LEVEL names a level that this machine lacks.
 */

#include "fixtures/kernel_cases.h"
#include "fixtures/kernel_cases_codes.h"
#include "fixtures/kernel_fixtures.h"
#include "fixtures/sanitizers.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include <faiss/impl/FaissException.h>

#ifdef FAISS_EXT_TEST_WITHOUT_FAISS
// for a cross build that has Faiss' headers but no library
namespace faiss {
FaissException::FaissException(const std::string& m) : msg(m) {}
FaissException::FaissException(
        const std::string& m,
        const char*,
        const char*,
        int)
        : msg(m) {}
const char* FaissException::what() const noexcept {
    return msg.c_str();
}
} // namespace faiss
#endif

namespace {

// ------------------------------------------------------------------ dispatch

TEST(Dispatch, ListsLevelsBestFirst) {
    std::vector<std::string> names = faiss_ext::simd_levels();
    ASSERT_FALSE(names.empty());
    EXPECT_EQ(names.back(), "NONE");
    for (const std::string& name : names) {
        EXPECT_EQ(kernels_of(name).name, name);
        EXPECT_EQ(faiss_ext::simd_level(), name);
    }
    faiss_ext::set_simd_level(names.front());
}

TEST(Dispatch, RefusesUnknownLevelAndListsTheOthers) {
    std::string before = faiss_ext::simd_level();
    for (const char* bad : {"", "SSE9", "avx2", "NONE "}) {
        try {
            faiss_ext::set_simd_level(bad);
            FAIL() << bad;
        } catch (const faiss::FaissException& e) {
            std::string message = e.what();
            EXPECT_NE(message.find("'" + std::string(bad) + "'"), message.npos);
            for (const std::string& name : faiss_ext::simd_levels()) {
                EXPECT_NE(message.find(name), message.npos) << message;
            }
        }
    }
    EXPECT_EQ(faiss_ext::simd_level(), before);
}

// ---------------------------------------------------------------------- scan

/// A list of random codes, packed straight from the diagram in packed_block.h.
struct TestList {
    size_t n, M, groups, columns;
    bool has_term;
    std::vector<uint8_t> codes;  // [n][M]
    std::vector<uint16_t> terms; // [n]
    std::vector<uint32_t> masks; // empty: no filter
    Guarded<uint8_t> packed;

    TestList(size_t n, size_t M, bool has_term, int mask_kind)
            : n(n),
              M(M),
              groups((M + 3) / 4),
              columns(groups + has_term),
              has_term(has_term),
              codes(n * M),
              terms(n),
              packed(n / 32 * 64 * columns + (n % 32 + 1) / 2 * 4 * columns,
                     64) {
        for (uint8_t& code : codes) {
            code = rng() & 15;
        }
        for (uint16_t& term : terms) {
            term = random_below(8) ? rng() & 0xffff : 0xffff;
        }
        if (mask_kind != 0) {
            masks.resize((n + 31) / 32);
            for (uint32_t& mask : masks) {
                mask = mask_kind == 1 ? rng() : rng() & rng() & rng() & rng();
                mask = random_below(3) ? mask : 0;
            }
        }
        packed.fill([] { return 0; });
        for (size_t v = 0; v < n; v++) {
            size_t block = v / 32;
            size_t size = std::min<size_t>(32, n - 32 * block);
            size_t h = (size + 1) / 2;
            size_t i = v % 32 % h;
            bool upper = v % 32 >= h;
            uint8_t* p = packed.data() + block * columns * 64;
            if (has_term) {
                p[4 * i + 2 * upper] = terms[v] & 255;
                p[4 * i + 2 * upper + 1] = terms[v] >> 8;
                p += 4 * h;
            }
            for (size_t m = 0; m < M; m++) {
                p[m / 4 * 4 * h + 4 * i + m % 4] |= codes[v * M + m]
                                                    << (upper ? 4 : 0);
            }
        }
    }

    ScanList args() {
        return {packed.data(),
                n,
                groups,
                has_term,
                masks.empty() ? nullptr : masks.data(),
                nullptr};
    }
    bool allowed(size_t v) const {
        return masks.empty() || (masks[v / 32] >> v % 32 & 1);
    }
};

struct TestQuery {
    Guarded<uint8_t> table;
    ScanQuery args;

    explicit TestQuery(TestList& list) : table(list.groups * 64, 64), args() {
        bool extreme = random_below(4) == 0;
        table.fill([&] { return extreme ? 255 : rng() & 255; });
        for (size_t m = list.M; m < 4 * list.groups; m++) {
            memset(&table[m * 16], 0, 16);
        }
        args.table = table.data();
        args.bias = static_cast<int32_t>(random_below(200000)) - 100000;
        args.term_mult = random_below(3) ? rng() & 0xffff : 0xffff;
        args.position = rng();
        if (list.n > 0) {
            // a vector's own score: "at least" must keep it
            size_t v = random_below(list.n);
            const int32_t thresholds[] = {
                    INT32_MIN,
                    INT32_MAX,
                    score(list, v),
                    score(list, v),
                    score(list, v) + 1};
            args.threshold = thresholds[random_below(5)];
        }
    }
    int32_t score(const TestList& list, size_t v) {
        int64_t sum = args.bias;
        for (size_t m = 0; m < list.M; m++) {
            sum += table[m * 16 + list.codes[v * list.M + m]];
        }
        if (list.has_term) {
            sum -= uint64_t(list.terms[v]) * args.term_mult >> 16;
        }
        return static_cast<int32_t>(sum);
    }
    /// keys of the survivors among vectors [begin, end)
    std::vector<uint64_t>
    expected(const TestList& list, size_t begin, size_t end) {
        std::vector<uint64_t> keys;
        for (size_t v = begin; v < end; v++) {
            if (list.allowed(v) && score(list, v) >= args.threshold) {
                uint64_t high = uint32_t(score(list, v)) ^ 0x80000000u;
                keys.push_back(high << 32 | ~uint32_t(args.position + v));
            }
        }
        return keys;
    }
};

/// Scans with buffers of `capacity` keys, emptied whenever the kernel stops.
void check_scan(
        const Kernels& kernels,
        TestList& list,
        std::vector<TestQuery>& queries,
        size_t capacity) {
    std::vector<Guarded<uint64_t>> keys;
    std::vector<ScanQuery> args;
    for (TestQuery& query : queries) {
        keys.emplace_back(capacity + kScanSlack);
        args.push_back(query.args);
        args.back().keys = keys.back().data();
        args.back().count = 0;
        args.back().capacity = capacity;
    }
    size_t begin = 0;
    do {
        size_t end = kernels.scan(list.args(), begin, args.data(), args.size());
        bool full = false;
        for (size_t q = 0; q < args.size(); q++) {
            std::vector<uint64_t> expected =
                    queries[q].expected(list, begin, end);
            ASSERT_LE(args[q].count, capacity);
            std::vector<uint64_t> found(
                    keys[q].data(), keys[q].data() + args[q].count);
            ASSERT_EQ(found, expected)
                    << kernels.name << " M " << list.M << " n " << list.n
                    << " query " << q << " of " << args.size() << " begin "
                    << begin << " end " << end;
            full |= capacity - args[q].count < kBlockSize;
            args[q].count = 0;
        }
        ASSERT_TRUE(end == list.n || full) << "stopped without need";
        ASSERT_TRUE(end == list.n || end > begin);
        ASSERT_TRUE(end == list.n || end % kBlockSize == 0);
        begin = end;
    } while (begin < list.n);
}

TEST(Scan, EveryShape) {
    std::vector<size_t> sizes;
    for (size_t M = 1; M <= 40; M++) {
        sizes.push_back(M);
    }
    sizes.insert(sizes.end(), {192, 256, 300, 509, 512, 513, 1100});
    size_t round = 0;
    for (size_t M : sizes) {
        for (size_t n = 0; n <= 70; n += M > 40 ? 7 : 1) {
            for (int kind = 0; kind < 6; kind++) {
                TestList list(n, M, kind % 2 != 0, kind / 2);
                std::vector<TestQuery> queries;
                for (size_t q = 0; q < 1 + round % kMaxScanQueries; q++) {
                    queries.emplace_back(list);
                }
                round++;
                for (const Kernels* level : all_levels()) {
                    check_scan(*level, list, queries, 96);
                    if (HasFatalFailure()) {
                        return;
                    }
                }
            }
        }
        round++;
    }
}

TEST(Scan, StopsAndResumes) {
    for (size_t capacity : {32, 33, 47, 63, 64, 65, 100, 1000}) {
        for (size_t nq = 1; nq <= kMaxScanQueries; nq++) {
            TestList list(900 + random_below(100), 13, true, nq % 3);
            std::vector<TestQuery> queries;
            for (size_t q = 0; q < nq; q++) {
                queries.emplace_back(list);
            }
            queries[random_below(nq)].args.threshold = INT32_MIN;
            for (const Kernels* level : all_levels()) {
                check_scan(*level, list, queries, capacity);
                if (HasFatalFailure()) {
                    return;
                }
            }
        }
    }
}

TEST(Scan, AppendsAfterTheKeysThatAreThere) {
    TestList list(64, 8, false, 0);
    TestQuery query(list);
    query.args.threshold = INT32_MIN;
    for (const Kernels* level : all_levels()) {
        Guarded<uint64_t> keys(73 + kScanSlack);
        keys[0] = 1;
        keys[8] = 9;
        ScanQuery args = query.args;
        args.keys = keys.data();
        args.count = 9;
        args.capacity = 73;
        EXPECT_EQ(level->scan(list.args(), 0, &args, 1), 64u);
        EXPECT_EQ(args.count, 73u);
        EXPECT_EQ(keys[0], 1u);
        EXPECT_EQ(keys[8], 9u);
        EXPECT_EQ(keys[9], query.expected(list, 0, 1)[0]);
        EXPECT_EQ(level->scan(list.args(), 64, &args, 1), 64u);
    }
}

/// scan_lists() must find what scan() finds list by list.
TEST(Scan, ListsInARow) {
    for (size_t round = 0; round < 300; round++) {
        const size_t M = 1 + random_below(30);
        const bool has_term = random_below(2);
        const bool has_masks = random_below(2);
        std::vector<TestList> lists;
        for (size_t i = random_below(9); i > 0; i--) {
            lists.emplace_back(
                    random_below(140), M, has_term, has_masks ? 1 + i % 2 : 0);
        }
        TestList any(1 + random_below(50), M, has_term, 0);
        TestQuery query(any);
        std::vector<Probe> probes;
        uint32_t position = random_below(1000);
        for (TestList& list : lists) {
            ScanList codes = list.args();
            probes.push_back(
                    {.blocks = codes.blocks,
                     .masks = codes.masks,
                     .n = uint32_t(codes.n),
                     .position = position,
                     .bias = query.args.bias + int32_t(random_below(200)) - 100,
                     .score = 0,
                     .list = 0,
                     .spilled = false});
            position += uint32_t(list.n);
        }
        const size_t capacity = 32 + random_below(300);
        const size_t enough = 1 + random_below(300);
        for (const Kernels* level : all_levels()) {
            Guarded<uint64_t> keys(capacity + kScanSlack);
            ScanQuery args = query.args;
            args.keys = keys.data();
            args.capacity = capacity;
            args.enough = enough;
            args.count = 0;
            ScanListsArgs at{
                    probes.data(),
                    probes.size(),
                    (M + 3) / 4,
                    has_term,
                    has_masks,
                    0,
                    0};
            std::vector<uint64_t> found, expected;
            while (at.probe < at.n) {
                const size_t probe = at.probe;
                const size_t begin = at.begin;
                level->scan_lists(at, args);
                ASSERT_LE(args.count, capacity);
                ASSERT_TRUE(at.probe > probe || at.begin > begin);
                if (at.begin > 0) {
                    ASSERT_LT(capacity - args.count, kBlockSize);
                } else if (at.probe < at.n) {
                    ASSERT_TRUE(
                            args.count >= enough ||
                            capacity - args.count < kBlockSize);
                }
                found.insert(
                        found.end(), keys.data(), keys.data() + args.count);
                args.count = 0;
            }
            ASSERT_EQ(at.probe, at.n);
            for (size_t i = 0; i < lists.size(); i++) {
                query.args.bias = probes[i].bias;
                query.args.position = probes[i].position;
                std::vector<uint64_t> some =
                        query.expected(lists[i], 0, lists[i].n);
                expected.insert(expected.end(), some.begin(), some.end());
            }
            ASSERT_EQ(found, expected) << level->name << " M " << M;
        }
    }
}

TEST(Scan, DoesNotReadBlocksThatAreMaskedOut) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    TestList list(32 * 12, page / 16, false, 1); // a block is a page
    list.masks[3] = list.masks[7] = 0;
    list.masks[4] = ~0u;
    std::vector<TestQuery> queries;
    for (size_t q = 0; q < 3; q++) {
        queries.emplace_back(list);
    }
    for (size_t b = 0; b < 12; b++) {
        if (list.masks[b] == 0) {
            ASSERT_EQ(mprotect(&list.packed[b * page], page, PROT_NONE), 0);
        }
    }
    for (const Kernels* level : all_levels()) {
        check_scan(*level, list, queries, 32 * 12 + 32);
    }
}

#if defined(NDEBUG) && defined(__OPTIMIZE__) && \
        !FAISS_EXT_ADDRESS_SANITIZER && defined(__x86_64__)
TEST(Scan, Avx2IsTwiceAsFastAsScalar) {
    TestList list(4096, 64, false, 0);
    TestQuery query(list);
    Guarded<uint64_t> keys(4096 + kScanSlack);
    query.args.keys = keys.data();
    query.args.capacity = 4096;
    query.args.threshold = INT32_MAX;
    double scalar_time = 0;
    for (std::string name : {"NONE", "AVX2"}) {
        std::vector<std::string> levels = faiss_ext::simd_levels();
        if (std::find(levels.begin(), levels.end(), name) == levels.end()) {
            GTEST_SKIP() << "this CPU lacks " << name;
        }
        const Kernels& kernels = kernels_of(name);
        double best = 1e9;
        for (int i = 0; i < 10; i++) {
            auto start = std::chrono::steady_clock::now();
            kernels.scan(list.args(), 0, &query.args, 1);
            std::chrono::duration<double> time =
                    std::chrono::steady_clock::now() - start;
            best = std::min(best, time.count());
        }
        if (name == "NONE") {
            scalar_time = best;
        } else {
            EXPECT_GT(scalar_time, 2 * best);
        }
    }
    faiss_ext::set_simd_level(faiss_ext::simd_levels().front());
}
#endif

// -------------------------------------------------------------------- filter

TEST(FilterMasks, EverySize) {
    for (int64_t nbits :
         {0,  1,  7,  8,  9,  15, 16, 23, 24,  25,   31,   32,    33,
          40, 63, 64, 65, 95, 96, 97, 99, 127, 1000, 1023, 100000}) {
        Guarded<uint8_t> bitmap((nbits + 7) / 8);
        bitmap.fill([] { return rng() & 255; });
        for (size_t n = 0; n <= 100; n++) {
            Guarded<int64_t> ids(n);
            ids.fill([&]() -> int64_t {
                switch (random_below(12)) {
                    case 0:
                        return -1;
                    case 1:
                        return nbits;
                    case 2:
                        return INT64_MAX - int64_t(random_below(2));
                    case 3:
                        return INT64_MIN + int64_t(random_below(2));
                    case 4:
                        return (int64_t(1) << 35) + int64_t(random_below(9));
                    case 5:
                        return nbits - 1;
                    default:
                        return int64_t(random_below(nbits + 2));
                }
            });
            std::vector<uint32_t> expected((n + 31) / 32);
            size_t passing = 0;
            for (size_t i = 0; i < n; i++) {
                if (ids[i] >= 0 && ids[i] < nbits) {
                    uint32_t bit = bitmap[ids[i] / 8] >> ids[i] % 8 & 1;
                    expected[i / 32] |= bit << i % 32;
                    passing += bit;
                }
            }
            for (const Kernels* level : all_levels()) {
                Guarded<uint32_t> masks((n + 31) / 32);
                masks.fill([] { return 0xdeadbeef; });
                ASSERT_EQ(
                        passing,
                        level->filter_masks(
                                {ids.data(),
                                 n,
                                 bitmap.data(),
                                 nbits,
                                 masks.data()}));
                ASSERT_EQ(
                        expected,
                        std::vector<uint32_t>(
                                masks.data(), masks.data() + masks.size()))
                        << level->name << " nbits " << nbits << " n " << n;
            }
        }
    }
}

} // namespace

int main(int argc, char** argv) {
    try {
        std::printf("SIMD level: %s\n", faiss_ext::simd_level().c_str());
    } catch (const faiss::FaissException& e) {
        std::printf("skipped: %s\n", e.what());
        return 77;
    }
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
