/* Faiss' bytes as others may have made them: refused, or taken over as an index
 * that is safe to use, with memory in proportion to them. */

#include <faiss/IndexFlat.h>
#include <faiss/IndexIVFFlat.h>
#include <faiss/IndexPQ.h>
#include <faiss/IndexPreTransform.h>
#include <faiss/IndexRefine.h>
#include <faiss/VectorTransform.h>
#include <faiss/index_factory.h>
#include <faiss/index_io.h>

#include "fixtures/hostile_bytes.h"
#include "fixtures/index_cases.h"

using namespace cases;
using hostile::Bytes;

namespace {

constexpr size_t kMega = size_t(1) << 20;

Bytes bytes_of(const faiss::Index& index) {
    faiss::VectorIOWriter writer;
    faiss::write_index(&index, &writer);
    return writer.data;
}

/// Empty if it is taken over.
std::string refusal(const Bytes& bytes, IndexPtr* made = nullptr) {
    try {
        IndexPtr index(
                faiss_ext::import_from_faiss(bytes.data(), bytes.size()));
        if (made != nullptr) {
            *made = std::move(index);
        }
        return "";
    } catch (const faiss::FaissException& error) {
        return error.what();
    }
}

class ImportHostile : public testing::TestWithParam<const char*> {};

TEST_P(ImportHostile, ChangedBytesAreRefusedOrSafe) {
    constexpr size_t kRows = 40, kSmallD = 4, kK = 3;
    IndexPtr plain(faiss::index_factory(kSmallD, GetParam()));
    const std::vector<float> x = rows(kRows, kSmallD, 1);
    plain->train(kRows, x.data());
    if (std::string(GetParam()).starts_with("IDMap")) {
        std::vector<int64_t> ids(kRows);
        for (size_t i = 0; i < kRows; i++) {
            ids[i] = int64_t(3 * i + 5);
        }
        plain->add_with_ids(kRows, x.data(), ids.data());
    } else {
        plain->add(kRows, x.data());
    }
    const Bytes bytes = bytes_of(*plain);
    ASSERT_EQ("", refusal(bytes));
    size_t refused = 0, taken = 0;
    constexpr unsigned kOneOf = 200;
    hostile::for_each_change(
            bytes,
            [&](const Bytes& changed) {
                IndexPtr index;
                hostile::largest_allocation = 0;
                const std::string message = refusal(changed, &index);
                ASSERT_LE(hostile::largest_allocation, 4 * kMega) << message;
                if (index == nullptr) {
                    ASSERT_NE(std::string::npos, message.find("cannot import"))
                            << message;
                    refused++;
                    return;
                }
                taken++;
                float distances[kK];
                int64_t found[kK];
                index->search(1, x.data(), kK, distances, found);
                index->add_with_ids(1, x.data(), found);
            },
            kOneOf);
    EXPECT_GT(refused, bytes.size() / kOneOf);
    EXPECT_GT(taken, 10u); // of floats, ids and codes
}

INSTANTIATE_TEST_SUITE_P(
        Kinds,
        ImportHostile,
        testing::Values(
                "IVF2,Flat",
                "IVF2,PQ2x4fs,RFlat",
                "IDMap,IVF2,PQ2x4np",
                "RR4,IVF2,SQ8,RFlat",
                "IDMap2,IVF2_HNSW4,SQfp16",
                "PCA2,Flat",
                "HNSW4"),
        [](const auto& info) {
            std::string name = info.param;
            std::erase_if(name, [](char c) { return !std::isalnum(c); });
            return name;
        });

/// Lists of one dimension, rows of many: the first of them is what lists see.
IndexPtr many_lists_of_one_dimension(size_t nlist, size_t n, int d) {
    auto quantizer = std::make_unique<faiss::IndexFlatL2>(1);
    std::vector<float> centroids(nlist);
    for (size_t l = 0; l < nlist; l++) {
        centroids[l] = float(l);
    }
    quantizer->add(int64_t(nlist), centroids.data());
    auto lists = std::make_unique<faiss::IndexIVFFlat>(
            quantizer.release(), 1, nlist);
    lists->own_fields = true;
    lists->is_trained = true;
    auto chain = std::make_unique<faiss::IndexPreTransform>(
            new faiss::RemapDimensionsTransform(d, 1, false), lists.release());
    chain->own_fields = true;
    chain->is_trained = true;
    auto refine = std::make_unique<faiss::IndexRefineFlat>(chain.release());
    refine->own_fields = true;
    refine->is_trained = true;
    const std::vector<float> x = rows(n, size_t(d), 1);
    refine->add(int64_t(n), x.data());
    return refine;
}

TEST(ImportMemory, CentroidsThatTheBytesDoNotHoldAreInProportionToTheRows) {
    constexpr int kWide = 4096;
    const Bytes bytes = bytes_of(*many_lists_of_one_dimension(20000, 8, kWide));
    hostile::largest_allocation = 0;
    const std::string message = refusal(bytes);
    EXPECT_NE(std::string::npos, message.find("nlist = 20000")) << message;
    EXPECT_LE(hostile::largest_allocation, 8 * bytes.size());
    // few enough lists, or enough rows
    EXPECT_EQ(
            "", refusal(bytes_of(*many_lists_of_one_dimension(12, 8, kWide))));
    EXPECT_EQ("", refusal(bytes_of(*many_lists_of_one_dimension(12, 40, 16))));
}

TEST(ImportMemory, DecodedCodesAreInProportionToTheBytes) {
    constexpr size_t kWide = 8192, kCodes = 60000; // of one bit: 2 GB of floats
    faiss::IndexPQ index(int(kWide), 1, 1);
    index.pq.centroids = rows(2, kWide, 1);
    index.is_trained = true;
    index.codes.resize(kCodes, 1);
    index.ntotal = int64_t(kCodes);
    const Bytes bytes = bytes_of(index);
    hostile::largest_allocation = 0;
    const std::string message = refusal(bytes);
    EXPECT_NE(std::string::npos, message.find("60000 rows of 8192")) << message;
    EXPECT_LE(hostile::largest_allocation, 8 * bytes.size());
}

TEST(ImportMemory, OneWideRowTakesAFewTimesItsBytes) {
    constexpr int kWidest = 65536;
    faiss::IndexFlatL2 index(kWidest);
    const std::vector<float> x = rows(2, size_t(kWidest), 1);
    index.add(2, x.data());
    const Bytes bytes = bytes_of(index);
    hostile::largest_allocation = 0;
    EXPECT_EQ("", refusal(bytes));
    EXPECT_LE(hostile::largest_allocation, 64 * kMega);
}

} // namespace
