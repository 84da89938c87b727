/* The candidate buffer against sorting everything. */

#include <faiss_ext/search/candidates.h>
#include <faiss_ext/kernels/dispatch.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>
#include <vector>

namespace {

using namespace faiss_ext;
using kernels::kBlockSize;

uint64_t key_of(int32_t score, uint32_t position) {
    return uint64_t(uint32_t(score) ^ 0x80000000u) << 32 | uint32_t(~position);
}

/// Offers keys as a scan does: a block at a time, above the threshold only.
void offer(Candidates& candidates, const std::vector<uint64_t>& keys) {
    kernels::ScanQuery query{};
    for (size_t at = 0; at < keys.size(); at += kBlockSize) {
        candidates.lend(query);
        ASSERT_GE(query.capacity - query.count, kBlockSize);
        size_t end = std::min(keys.size(), at + kBlockSize);
        for (size_t i = at; i < end; i++) {
            if (key_score(keys[i]) >= query.threshold) {
                query.keys[query.count++] = keys[i];
            }
        }
        candidates.take_back(query);
    }
}

/// What is held, largest first.
std::vector<uint64_t> kept(const Candidates& candidates) {
    std::vector<uint64_t> keys(
            candidates.keys(), candidates.keys() + candidates.size());
    std::sort(keys.begin(), keys.end(), std::greater<uint64_t>());
    return keys;
}

/// The `keep` largest, largest first.
std::vector<uint64_t> largest(std::vector<uint64_t> keys, size_t keep) {
    std::sort(keys.begin(), keys.end(), std::greater<uint64_t>());
    keys.resize(std::min(keys.size(), keep));
    return keys;
}

std::vector<uint64_t> random_keys(size_t n, int scores, int seed) {
    std::mt19937 random(seed);
    std::vector<uint64_t> keys(n);
    for (size_t i = 0; i < n; i++) {
        keys[i] = key_of(int32_t(random() % scores) - scores / 2, i);
    }
    return keys;
}

TEST(Candidates, KeyHoldsScoreAndPosition) {
    for (int32_t score : {INT32_MIN, -1, 0, 1, INT32_MAX}) {
        for (uint32_t position : {0u, 7u, UINT32_MAX}) {
            uint64_t key = key_of(score, position);
            EXPECT_EQ(key_score(key), score);
            EXPECT_EQ(key_position(key), position);
        }
    }
    EXPECT_GT(key_of(1, 9), key_of(0, 0));
    EXPECT_GT(key_of(5, 3), key_of(5, 4));
}

TEST(Candidates, KeepsTheBestOfAnyNumber) {
    Candidates candidates;
    for (size_t keep : {1, 2, 10, 31, 33, 100, 700}) {
        for (size_t n : {0, 1, 5, 32, 100, 1000, 5000}) {
            std::vector<uint64_t> keys = random_keys(n, 1 << 20, n + keep);
            candidates.reset(active_kernels(), keep);
            offer(candidates, keys);
            candidates.finish();
            ASSERT_EQ(kept(candidates), largest(keys, keep))
                    << keep << " of " << n;
        }
    }
}

TEST(Candidates, EqualScoresGoToTheSmallerPositionInAnyOrder) {
    Candidates candidates;
    std::vector<uint64_t> keys = random_keys(2000, 4, 5);
    std::vector<uint64_t> expected = largest(keys, 50);
    for (int seed = 0; seed < 10; seed++) {
        std::shuffle(keys.begin(), keys.end(), std::mt19937(seed));
        candidates.reset(active_kernels(), 50);
        offer(candidates, keys);
        candidates.finish();
        ASSERT_EQ(kept(candidates), expected);
    }
}

TEST(Candidates, ThresholdRisesToTheWorstKept) {
    Candidates candidates;
    candidates.reset(active_kernels(), 20);
    EXPECT_EQ(candidates.threshold(), INT32_MIN);
    std::vector<uint64_t> keys = random_keys(5000, 1 << 20, 8);
    int32_t before = INT32_MIN;
    for (size_t at = 0; at < keys.size(); at += 500) {
        offer(candidates, {keys.begin() + at, keys.begin() + at + 500});
        EXPECT_GE(candidates.threshold(), before);
        before = candidates.threshold();
    }
    candidates.finish();
    EXPECT_EQ(candidates.threshold(), key_score(kept(candidates).back()));
}

TEST(Candidates, ThresholdStaysOpenWhileFewerThanWanted) {
    Candidates candidates;
    candidates.reset(active_kernels(), 1000);
    offer(candidates, random_keys(999, 100, 1));
    candidates.finish();
    EXPECT_EQ(candidates.threshold(), INT32_MIN);
    EXPECT_EQ(candidates.size(), 999u);
}

TEST(Candidates, ResetForgetsTheQueryBefore) {
    Candidates candidates;
    candidates.reset(active_kernels(), 10);
    offer(candidates, {key_of(1000000, 1), key_of(1000000, 2)});
    candidates.finish();
    candidates.reset(active_kernels(), 5);
    std::vector<uint64_t> keys = random_keys(100, 50, 2);
    offer(candidates, keys);
    candidates.finish();
    EXPECT_EQ(kept(candidates), largest(keys, 5));
}

TEST(Candidates, ExtremeScoresAreOrdered) {
    Candidates candidates;
    candidates.reset(active_kernels(), 3);
    std::vector<uint64_t> keys = {
            key_of(INT32_MIN, 0),
            key_of(INT32_MAX, 1),
            key_of(0, 2),
            key_of(-1, 3)};
    offer(candidates, keys);
    candidates.finish();
    EXPECT_EQ(kept(candidates), largest(keys, 3));
}

} // namespace
