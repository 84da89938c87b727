/* Golden files, which must open for ever.
 *
 * One file per format version, written by the first library with it:
 *
 *     FAISS_EXT_WRITE_GOLDEN=1 test_golden_files
 *
 * writes the file of the current version, which is then committed and never
 * written again. Only what no later version may change is asked of it. */

#include <faiss_ext/model/index_state.h>

#include "fixtures/damaged_files.h"

using namespace cases;
using damaged::value_at;
using faiss_ext::ReadMode;

namespace {

std::string golden_path(unsigned version) {
    return FAISS_EXT_TEST_DATA "/index-v" + std::to_string(version) + ".scann";
}

constexpr size_t kGoldenD = 7, kGoldenTrainingRows = 50;

/// From version 2 on, one row that training did not see lies far out.
size_t golden_count(unsigned version) {
    return kGoldenTrainingRows + (version >= 2 ? 1 : 0);
}

/// The same numbers on every machine.
std::vector<float> golden_rows(unsigned version) {
    std::vector<float> x(kGoldenTrainingRows * kGoldenD);
    uint32_t state = 1;
    for (float& value : x) {
        state = state * 1664525 + 1013904223;
        value = float(int(state >> 24) - 128) / 16;
    }
    x.resize(golden_count(version) * kGoldenD, 250);
    return x;
}

int64_t golden_id(size_t row) {
    return 1000 + 7 * row;
}

TEST(Golden, WriteIfAsked) {
    if (std::getenv("FAISS_EXT_WRITE_GOLDEN") == nullptr) {
        GTEST_SKIP() << "FAISS_EXT_WRITE_GOLDEN is not set";
    }
    // up to version 3: "IDMap2,PCA7,IVF4,ScaNN(soar_lambda=1),SQ8,RFlat"
    IndexPtr index(faiss_ext::index_factory(
            kGoldenD, "IDMap2,IVF4,ScaNN(soar_lambda=1),SQ8,RFP16"));
    const unsigned version = faiss_ext::kFormatVersion;
    const size_t n = golden_count(version);
    std::vector<float> x = golden_rows(version);
    std::vector<int64_t> ids(n);
    for (size_t i = 0; i < n; i++) {
        ids[i] = golden_id(i);
    }
    index->train(kGoldenTrainingRows, x.data());
    auto scann = faiss_ext::find_scann(index.get());
    scann->set_direct_map_type(faiss::DirectMap::Hashtable);
    index->add_with_ids(n, x.data(), ids.data());
    scann->calibrate(kGoldenTrainingRows, x.data(), 0.9f, 3);
    scann->nprobe = 4;
    faiss_ext::write_index(index.get(), golden_path(version));
}

TEST(Golden, EveryVersionOpens) {
    for (unsigned version = 1; version <= faiss_ext::kFormatVersion;
         version++) {
        const size_t n = golden_count(version);
        const std::string path = golden_path(version);
        EXPECT_EQ(value_at<uint32_t>(read_bytes(path), 8), version);
        for (ReadMode mode : {ReadMode::Copy, ReadMode::Mmap}) {
            IndexPtr index(faiss_ext::read_index(path, mode));
            ASSERT_EQ(index->ntotal, n);
            auto scann = faiss_ext::find_scann(index.get());
            EXPECT_EQ(scann->nprobe, 4);
            ASSERT_EQ(scann->profile != nullptr, version >= 5);
            EXPECT_TRUE(version < 5 || scann->profile->rows == n);
            size_t apart = 0;
            for (size_t l = 0; l < scann->nlist; l++) {
                apart += scann->state().lists->list(l).apart.size();
            }
            EXPECT_EQ(apart, n - kGoldenTrainingRows);
            std::vector<float> x = golden_rows(version);
            std::vector<float> distances(n), row(kGoldenD);
            std::vector<int64_t> labels(n);
            index->search(n, x.data(), 1, distances.data(), labels.data());
            for (size_t i = 0; i < n; i++) {
                EXPECT_EQ(labels[i], golden_id(i));
                EXPECT_NEAR(distances[i], 0, 1e-3);
                index->reconstruct(golden_id(i), row.data());
                for (size_t j = 0; j < kGoldenD; j++) {
                    EXPECT_NEAR(row[j], x[i * kGoldenD + j], 1e-3);
                }
            }
        }
    }
}

} // namespace
