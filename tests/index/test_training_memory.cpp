/*
 * How much memory training and adding take beside the rows, where these are
 * wide: several copies of a sample are then more than all that is kept.
 */

#include <sys/resource.h>

#include <fstream>

#include "fixtures/child.h"
#include "fixtures/index_fixtures.h"

namespace {

using namespace fixtures;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
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
            IndexIVFScaNN index(kD, 64, cosine ? kIP : kL2, options);
            const size_t before = resident_bytes();
            index.train(kN, x.data());
            index.add(kN, x.data());
            const double times = double(peak_bytes() - before) / double(kBytes);

            // the rows of unit length, what training keeps of a sample that
            // is all of them (residuals, directions, rotated rows), the index
            return times < (cosine ? 8.5 : 7.5);
        };
        EXPECT_EQ(in_child(work), "") << "cosine " << cosine;
    }
}

} // namespace
