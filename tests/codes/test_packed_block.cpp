/* Packed blocks against a list of codes kept one by one. */

#include <faiss_ext/codes/packed_block.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include <faiss_ext/memory/aligned_buffer.h>
#include <faiss_ext/kernels/dispatch.h>

namespace {

using namespace faiss_ext;
using kernels::kBlockSize;
using kernels::kScanSlack;

constexpr size_t kLargestM = 9;
constexpr size_t kLargestN = 70;

/// A list both ways: packed, and as plain arrays.
class Model {
 public:
    Model(size_t M, bool has_term, int seed)
            : layout{M, has_term}, random_(seed) {}

    void resize(size_t n) {
        size_t old = size();
        packed.resize(layout.list_bytes(std::max(old, n)));
        reshape_tail(layout, packed.mutable_data(), old, n);
        packed.resize(layout.list_bytes(n));
        codes.resize(n * layout.M);
        terms.resize(n);
    }

    void write(size_t begin, size_t n) {
        for (size_t i = begin * layout.M; i < (begin + n) * layout.M; i++) {
            codes[i] = random_() % 16;
        }
        for (size_t i = begin; layout.has_term && i < begin + n; i++) {
            terms[i] = random_() % 65536;
        }
        pack_codes(
                layout,
                packed.mutable_data(),
                size(),
                begin,
                n,
                codes.data() + begin * layout.M,
                layout.has_term ? terms.data() + begin : nullptr);
    }

    void append(size_t n) {
        size_t old = size();
        resize(old + n);
        write(old, n);
    }

    size_t size() const {
        return terms.size();
    }

    /// What the head of packed_block.h says, byte by byte.
    std::vector<uint8_t> expected_bytes() const {
        std::vector<uint8_t> out;
        for (size_t b = 0; b < size(); b += kBlockSize) {
            size_t in_block = std::min(kBlockSize, size() - b);
            size_t h = (in_block + 1) / 2;
            auto term = [&](size_t v) -> uint16_t {
                return v < in_block ? terms[b + v] : 0;
            };
            auto code = [&](size_t v, size_t m) -> uint8_t {
                bool exists = v < in_block && m < layout.M;
                return exists ? codes[(b + v) * layout.M + m] : 0;
            };
            for (size_t i = 0; layout.has_term && i < h; i++) {
                for (size_t v : {i, i + h}) {
                    out.push_back(term(v) & 0xFF);
                    out.push_back(term(v) >> 8);
                }
            }
            for (size_t g = 0; g < layout.groups(); g++) {
                for (size_t i = 0; i < h; i++) {
                    for (size_t s = 0; s < 4; s++) {
                        out.push_back(
                                code(i, 4 * g + s) | code(i + h, 4 * g + s)
                                                             << 4);
                    }
                }
            }
        }
        return out;
    }

    void check() const {
        std::vector<uint8_t> bytes(
                packed.data(), packed.data() + packed.size());
        ASSERT_EQ(bytes, expected_bytes()) << layout.M << " " << size();
    }

    PackedLayout layout;
    AlignedBuffer<uint8_t> packed;
    std::vector<uint8_t> codes;
    std::vector<uint16_t> terms;

 private:
    std::mt19937 random_;
};

/// Calls f(M, has_term) for every shape.
template <class F>
void for_layouts(F&& f) {
    for (size_t M = 1; M <= kLargestM; M++) {
        for (bool has_term : {false, true}) {
            f(M, has_term);
        }
    }
}

TEST(PackedBlock, ListBytesAreThoseOfTheLayout) {
    for_layouts([](size_t M, bool has_term) {
        Model model(M, has_term, 1);
        for (size_t n = 0; n <= kLargestN; n++) {
            model.resize(n);
            ASSERT_EQ(
                    model.layout.list_bytes(n), model.expected_bytes().size());
        }
    });
}

TEST(PackedBlock, PacksTheDocumentedBytes) {
    for_layouts([](size_t M, bool has_term) {
        for (size_t n = 0; n <= kLargestN; n++) {
            Model model(M, has_term, n);
            model.append(n);
            model.check();
        }
    });
}

TEST(PackedBlock, UnpacksAnyRange) {
    for_layouts([](size_t M, bool has_term) {
        for (size_t n = 0; n <= kLargestN; n += n < 36 ? 1 : 11) {
            Model model(M, has_term, n);
            model.append(n);
            for (size_t begin = 0; begin <= n; begin += 5) {
                size_t count = (n - begin) / (1 + begin % 3);
                std::vector<uint8_t> codes(count * M, 99);
                std::vector<uint16_t> terms(count, has_term ? 99 : 0);
                unpack_codes(
                        model.layout,
                        model.packed.data(),
                        n,
                        begin,
                        count,
                        codes.data(),
                        terms.data());
                ASSERT_TRUE(std::equal(
                        codes.begin(),
                        codes.end(),
                        model.codes.begin() + begin * M));
                ASSERT_TRUE(std::equal(
                        terms.begin(),
                        terms.end(),
                        model.terms.begin() + begin));
            }
        }
    });
}

TEST(PackedBlock, UnpacksCodesWithoutTheirTerms) {
    Model model(5, true, 3);
    model.append(41);
    std::vector<uint8_t> codes(41 * 5);
    unpack_codes(
            model.layout,
            model.packed.data(),
            41,
            0,
            41,
            codes.data(),
            nullptr);
    EXPECT_EQ(codes, model.codes);
}

TEST(PackedBlock, OverwritesInPlace) {
    for_layouts([](size_t M, bool has_term) {
        for (size_t n : {1, 15, 17, 31, 32, 33, 48, 64, 70}) {
            Model model(M, has_term, n);
            model.append(n);
            for (size_t v = 0; v < n; v += 3) {
                model.write(v, 1);
            }
            model.check();
        }
    });
}

TEST(PackedBlock, AppendsAndTruncatesInAnyOrder) {
    for_layouts([](size_t M, bool has_term) {
        Model model(M, has_term, 11);
        std::mt19937 random(100 * M + has_term);
        for (int step = 0; step < 150; step++) {
            if (random() % 3 == 0) {
                model.resize(random() % (model.size() + 1));
            } else {
                model.append(random() % 20);
            }
            if (model.size() > kLargestN) {
                model.resize(random() % 40);
            }
            model.check();
        }
    });
}

TEST(PackedBlock, GrownEntriesAreZeros) {
    Model model(7, true, 5);
    model.append(20);
    model.resize(50);
    model.check();
    for (size_t v = 20; v < 50; v++) {
        EXPECT_EQ(model.terms[v], 0);
    }
}

TEST(PackedBlock, ScanScoresEveryVectorOfEveryTail) {
    std::mt19937 random(17);
    for_layouts([&](size_t M, bool has_term) {
        for (size_t n = 1; n <= kLargestN; n++) {
            Model model(M, has_term, n);
            model.append(n);
            size_t groups = model.layout.groups();
            AlignedBuffer<uint8_t> table(groups * 4 * kernels::kCodewords);
            for (size_t i = 0; i < M * kernels::kCodewords; i++) {
                table.mutable_data()[i] = random() % 256;
            }
            std::vector<uint64_t> keys(n + kBlockSize + kScanSlack);
            kernels::ScanQuery query{
                    table.data(),
                    int32_t(random() % 2000) - 1000,
                    uint32_t(has_term ? random() % 65536 : 0),
                    INT32_MIN,
                    1000,
                    keys.data(),
                    0,
                    n + kBlockSize,
                    n + kBlockSize};
            kernels::ScanList list{
                    model.packed.data(), n, groups, has_term, nullptr, nullptr};
            ASSERT_EQ(active_kernels().scan(list, 0, &query, 1), n);
            ASSERT_EQ(query.count, n);
            std::vector<uint64_t> expected(n);
            for (size_t v = 0; v < n; v++) {
                int32_t score = query.bias;
                for (size_t m = 0; m < M; m++) {
                    score += table[m * 16 + model.codes[v * M + m]];
                }
                score -= (uint32_t(model.terms[v]) * query.term_mult) >> 16;
                expected[v] = uint64_t(uint32_t(score) ^ 0x80000000u) << 32 |
                              uint32_t(~uint32_t(1000 + v));
            }
            keys.resize(n);
            std::sort(keys.begin(), keys.end());
            std::sort(expected.begin(), expected.end());
            ASSERT_EQ(keys, expected) << M << " " << has_term << " " << n;
        }
    });
}

} // namespace
