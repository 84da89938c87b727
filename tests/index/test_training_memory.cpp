/*
 * How much memory training and adding take beside the rows, where these are
 * wide: several copies of a sample are then more than all that is kept.
 */

#include <sys/resource.h>

#include <algorithm>
#include <fstream>

#include <faiss/IndexPQ.h>

#include <faiss_ext/model/index_state.h>

#include "fixtures/child.h"
#include "fixtures/index_fixtures.h"
#include "fixtures/sanitizers.h"

namespace {

using namespace fixtures;

#if FAISS_EXT_ADDRESS_SANITIZER || FAISS_EXT_THREAD_SANITIZER
constexpr bool kMemoryIsOurs = false;
#else
constexpr bool kMemoryIsOurs = true;
#endif

size_t resident_bytes() {
    size_t all = 0, resident = 0;
    std::ifstream("/proc/self/statm") >> all >> resident;
    return resident * size_t(sysconf(_SC_PAGESIZE));
}

/// The most that was ever resident.
size_t peak_bytes() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return size_t(usage.ru_maxrss) << 10;
}

TEST(TrainingMemory, OfWideRowsIsAFewTimesTheirs) {
    if (!kMemoryIsOurs) {
        GTEST_SKIP() << "a sanitizer takes memory of its own";
    }
    constexpr size_t kN = 8192, kD = 600, kBytes = kN * kD * sizeof(float);
    const std::vector<float> x = clustered_rows(kN, kD, 1);
    for (bool cosine : {true, false}) {
        auto work = [&] {
            ScaNNOptions options = tier_options(Tier::Raw, 1);
            options.normalize = cosine;
            options.rotation = faiss_ext::RotationKind::None; // takes long
            IndexIVFScaNN index(kD, 64, cosine ? kIP : kL2, options);
            const size_t before = resident_bytes();
            index.train(kN, x.data());
            index.add(kN, x.data());
            const double times = double(peak_bytes() - before) / double(kBytes);
            // rows of unit length; of a sample that is all of them, residuals,
            // directions, rotated rows. 7.0 and 6.0; with a copy for each step
            // of training, 12.3 and 11.3
            return times < (cosine ? 8.5 : 7.5);
        };
        EXPECT_EQ(in_child(work), "") << "cosine " << cosine;
    }
}

/// Faiss makes a table of half a megabyte for each row of a call, here.
TEST(TrainingMemory, OfAProductQuantizerDoesNotGrowWithTheRows) {
    constexpr size_t kD = 32, kN = 2000, kLists = 16;
    const std::vector<float> x = clustered_rows(kN, kD, 1);
    auto work = [&] {
        faiss::IndexPQ quantizer(kD, kD, 12);
        quantizer.is_trained = true;
        std::vector<float>& table = quantizer.pq.centroids;
        for (size_t i = 0; i < table.size(); i++) {
            table[i] = float(i % quantizer.pq.ksub) / 256 - 8;
        }
        IndexIVFScaNN index(
                &quantizer, kD, kLists, kL2, tier_options(Tier::Raw, 0));
        const size_t before = resident_bytes();
        index.train(kN, x.data());
        index.add(kN, x.data());
        std::vector<float> distances(kN);
        std::vector<int64_t> labels(kN), lists(1);
        index.nprobe = 1;
        index.search(kN, x.data(), 1, distances.data(), labels.data());
        for (size_t i = 0; i < kN; i += 100) { // in its list, as of one row
            quantizer.assign(1, &x[i * kD], lists.data());
            const auto& list = index.state().lists->list(size_t(lists[0]));
            const int64_t* end = list.ids.data() + list.size();
            if (std::find(list.ids.data(), end, int64_t(i)) == end ||
                labels[i] != int64_t(i)) {
                return false;
            }
        }
        const size_t most = size_t(200) << 20; // 1 GB with one call
        return !kMemoryIsOurs || peak_bytes() - before < most;
    };
    EXPECT_EQ(in_child(work), "");
}

} // namespace
