/* Operations through Faiss' wrappers, as the Python module calls them. */

#include <faiss_ext/python/wrapped_index.h>

#include <faiss/IndexIDMap.h>

#include "fixtures/index_cases.h"

using namespace cases;
namespace python = faiss_ext::python;

namespace {

constexpr size_t kSize = 8, kCount = 200;

int64_t nearest(const faiss::Index& index, const float* query) {
    float distance;
    int64_t label;
    faiss_ext::SearchParametersScaNN wide;
    wide.nprobe = 4;
    python::search(&index, 1, query, 1, &distance, &label, nullptr, wide);
    return label;
}

/// Below a map ids count from 0, in the lists of copies too: they must do so
/// again when rows in the middle are gone.
TEST(WrappedIndex, RemovesThroughAMap) {
    std::vector<float> x = rows(kCount, kSize, 1);
    for (const char* wrapped :
         {"IVF4,ScaNN,RFlat", "IVF4,ScaNN(soar_lambda=1),RFlat"}) {
        faiss::IndexIDMap2 index(faiss_ext::index_factory(kSize, wrapped));
        index.own_fields = true;
        index.train(kCount, x.data());
        std::vector<int64_t> ids(kCount);
        for (size_t i = 0; i < kCount; i++) {
            ids[i] = int64_t(1000 + 3 * i);
        }
        index.add_with_ids(kCount, x.data(), ids.data());
        for (int64_t first : {1030, 1200, 1330}) {
            python::remove_ids(
                    &index, faiss::IDSelectorRange(first, first + 30));
        }
        EXPECT_EQ(index.ntotal, kCount - 30);
        for (size_t i = 0; i < kCount; i++) {
            bool gone = (ids[i] >= 1030 && ids[i] < 1060) ||
                        (ids[i] >= 1200 && ids[i] < 1230) ||
                        (ids[i] >= 1330 && ids[i] < 1360);
            EXPECT_EQ(nearest(index, &x[i * kSize]) == ids[i], !gone)
                    << wrapped << ", row " << i;
            if (!gone) {
                std::vector<float> row(kSize);
                python::reconstruct(&index, 1, &ids[i], row.data());
                EXPECT_EQ(row[0], x[i * kSize]);
            }
        }
    }
}

/// A row in no list is counted, and has an id, but none is removed with it.
TEST(WrappedIndex, NumbersRowsAfterOneInNoListIsRemoved) {
    std::vector<float> x = rows(kCount, kSize, 1);
    IndexPtr index(faiss_ext::index_factory(kSize, "IDMap,IVF4,ScaNN,RFlat"));
    auto& map = dynamic_cast<faiss::IndexIDMap&>(*index);
    index->train(kCount, x.data());
    std::vector<int64_t> ids(kCount);
    for (size_t i = 0; i < kCount; i++) {
        ids[i] = int64_t(1000 + i);
    }
    const int64_t n = kCount - 1, nowhere = -1;
    index->add_with_ids(n, x.data(), ids.data());
    faiss_ext::IndexIVFScaNN* scann = faiss_ext::find_scann(index.get());
    scann->add_core(1, x.data(), nullptr, &nowhere);
    map.id_map.push_back(5000);
    map.ntotal = scann->ntotal;

    python::remove_ids(index.get(), faiss::IDSelectorRange(5000, 5001));
    EXPECT_EQ(index->ntotal, n);
    EXPECT_EQ(scann->ntotal, n);
    index->add_with_ids(1, &x[n * kSize], &ids[n]);
    for (size_t i = 0; i < kCount; i++) {
        EXPECT_EQ(nearest(*index, &x[i * kSize]), ids[i]);
    }
}

TEST(WrappedIndex, SaysThatItIsNotTrained) {
    std::vector<float> x = rows(1, kSize, 1);
    for (const char* kind :
         {"IVF4,ScaNN", "PCA4,IVF4,ScaNN", "IDMap2,PCA4,IVF4,ScaNN"}) {
        IndexPtr index(faiss_ext::index_factory(kSize, kind));
        EXPECT_NE(message_of([&] { nearest(*index, x.data()); }), "") << kind;
        int64_t id = 0;
        std::vector<float> row(kSize);
        EXPECT_NE(
                message_of([&] {
                    python::reconstruct(index.get(), 1, &id, row.data());
                }),
                "")
                << kind;
    }
}

} // namespace
