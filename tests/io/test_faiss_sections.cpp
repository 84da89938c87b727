/* Files whose sections that Faiss reads (wrappers, quantizer), and the ids of
 * IndexIDMaps, are as others may have made them, behind right checksums. */

#include <omp.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <faiss/IndexHNSW.h>
#include <faiss/IndexIDMap.h>
#include <faiss/IndexLSH.h>
#include <faiss/IndexNSG.h>
#include <faiss/IndexPreTransform.h>
#include <faiss/VectorTransform.h>
#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/IDSelector.h>
#include <faiss/index_io.h>

#include "fixtures/damaged_files.h"
#include "fixtures/hostile_bytes.h"
#include "fixtures/index_cases.h"

using namespace cases;
using damaged::set_at;
using faiss_ext::find_scann;
using hostile::Bytes;

namespace {

[[maybe_unused]] const bool one_thread = (omp_set_num_threads(1), true);

/// Of a PQ, Faiss' factory makes 2^8 entries in a graph.
constexpr size_t kSmallD = 6, kSmallRows = 60, kManyRows = 300;

std::string written(const faiss::Index& index) {
    faiss::VectorIOWriter writer;
    faiss_ext::write_index(&index, &writer);
    return {writer.data.begin(), writer.data.end()};
}

IndexPtr read(const std::string& file) {
    faiss::VectorIOReader reader;
    reader.data.assign(file.begin(), file.end());
    return IndexPtr(faiss_ext::read_index(&reader));
}

Bytes faiss_bytes(const faiss::Index& index) {
    faiss::VectorIOWriter writer;
    faiss::write_index(&index, &writer);
    return writer.data;
}

/// The file with another section in the place of the one of that name.
std::string
with(const std::string& file, const std::string& name, const Bytes& section) {
    damaged::Sections sections = damaged::take_apart(file);
    for (auto& [found, bytes] : sections) {
        if (found == name) {
            bytes.assign(section.begin(), section.end());
        }
    }
    return damaged::put_together(sections, file);
}

Bytes section_of(const std::string& file, const std::string& name) {
    for (const auto& [found, bytes] : damaged::take_apart(file)) {
        if (found == name) {
            return {bytes.begin(), bytes.end()};
        }
    }
    ADD_FAILURE() << name;
    return {};
}

void use(faiss::Index& index) {
    const size_t d = index.d;
    std::vector<float> x = rows(5, d, 4), row(d);
    std::vector<float> distances(5 * 8);
    std::vector<int64_t> labels(5 * 8);
    auto search = [&] {
        index.search(5, x.data(), 8, distances.data(), labels.data());
    };
    message_of(search);
    message_of([&] {
        faiss::RangeSearchResult found(5);
        index.range_search(5, x.data(), 4, &found);
    });
    for (int64_t id : {0, 5, 38, 1000}) {
        message_of([&] { index.reconstruct(id, row.data()); });
    }
    message_of([&] { written(index); });
    message_of([&] { IndexPtr(faiss_ext::clone_index(&index)); });
    message_of([&] { IndexPtr(faiss_ext::export_to_faiss(&index)); });
    message_of([&] { index.add(5, x.data()); });
    message_of([&] {
        const int64_t ids[] = {5, 7, -3, 1 << 20, 8};
        index.add_with_ids(5, x.data(), ids);
    });
    message_of(search);
    message_of([&] { index.remove_ids(faiss::IDSelectorRange(3, 20)); });
    message_of(search);
}

class FaissSections : public testing::TestWithParam<const char*> {
 protected:
    IndexPtr index = build(
            {GetParam()},
            std::string(GetParam()).find("OPQ") == 0 ? kManyRows : kSmallRows,
            kSmallD);
    const std::string file = written(*index);
};

TEST_P(FaissSections, NoChangeCrashes) {
    ASSERT_EQ(damaged::put_together(damaged::take_apart(file), file), file);
    for (const char* name : {"tree", "quantizer", "id_maps"}) {
        const Bytes section = section_of(file, name);
        size_t refused = 0;
        hostile::for_each_change(
                section,
                [&](const Bytes& changed) {
                    hostile::largest_allocation = 0;
                    IndexPtr opened;
                    try {
                        opened = read(with(file, name, changed));
                    } catch (const faiss::FaissException& error) {
                        refused++;
                        ASSERT_NE(
                                std::string(error.what())
                                        .find("'" + std::string(name) + "'"),
                                std::string::npos)
                                << error.what();
                    }
                    // Faiss' table of pairs of an HNSW over PQ is largest
                    ASSERT_LE(
                            hostile::largest_allocation,
                            (4 << 20) + 64 * file.size());
                    if (opened != nullptr) {
                        use(*opened);
                    }
                },
                section.size() > 1000 ? 40 : 8);
        EXPECT_GT(refused, section.size() / 40) << name;
    }
}

INSTANTIATE_TEST_SUITE_P(
        Some,
        FaissSections,
        testing::Values(
                "IVF4,ScaNN,RFlat",
                "IDMap2,PCA5,IVF4,ScaNN,RFlat",
                "IDMap,L2norm,IVF4_HNSW2,ScaNN",
                "OPQ2,IVF16(PQ2x4np),ScaNN,SQ8",
                "ITQ5,IVF4(SQ8),ScaNN",
                "Pad8,RR,IVF4(HNSW2),ScaNN(soar_lambda=1)"),
        [](const auto& info) { return std::to_string(info.index); });

// ---- what cannot be read is not written ----

TEST(FaissSectionsWrite, AQuantizerThatIsNotReadIsRefused) {
    IndexPtr index = build({"IVF16,ScaNN"}, 300, kSmallD);
    auto scann = find_scann(index.get());
    std::vector<float> centroids(16 * kSmallD);
    scann->quantizer->reconstruct_n(0, 16, centroids.data());
    faiss::IndexLSH other(kSmallD, 32);
    other.train(16, centroids.data());
    other.add(16, centroids.data());
    faiss::Index* old = std::exchange(scann->quantizer, &other);
    std::string message = message_of([&] { written(*index); });
    scann->quantizer = old;
    EXPECT_NE(message.find("its quantizer: \"IxHe\""), std::string::npos)
            << message;
    EXPECT_EQ(message_of([&] { written(*index); }), "");
}

// ---- wrappers ----

TEST(FaissSectionsTree, AnotherTreeIsRefused) {
    IndexPtr index = build({"IDMap2,IVF4,ScaNN"}, kSmallRows, kSmallD);
    const std::string file = written(*index);
    auto message_with = [&](const faiss::Index& tree) {
        return message_of([&] { read(with(file, "tree", faiss_bytes(tree))); });
    };
    faiss::IndexFlat flat(kSmallD), filled(kSmallD);
    EXPECT_EQ(message_with(faiss::IndexIDMap2(&flat)), "");
    EXPECT_EQ(message_with(faiss::IndexIDMap(&flat)), "");
    faiss::IndexFlat wider(kSmallD + 1);
    EXPECT_NE(message_with(faiss::IndexIDMap2(&wider)), "");
    faiss::IndexFlat other(kSmallD, faiss::METRIC_INNER_PRODUCT);
    EXPECT_NE(message_with(faiss::IndexIDMap2(&other)), "");
    // no wrapper for which there is a table of ids
    EXPECT_NE(message_with(flat), "");
    faiss::IndexHNSWFlat graph(kSmallD, 4);
    EXPECT_NE(message_with(faiss::IndexIDMap2(&graph)), "");
    std::vector<float> x(kSmallD);
    faiss::IndexIDMap map(&filled);
    const int64_t id = 0;
    map.add_with_ids(1, x.data(), &id);
    EXPECT_NE(message_with(map), "");
}

// ---- ids ----

TEST(FaissSectionsIds, AreAsManyAsRows) {
    for (const char* description : {"IDMap,IVF4,ScaNN", "IDMap2,IVF4,ScaNN"}) {
        IndexPtr index = build({description}, kSmallRows, kSmallD);
        const std::string file = written(*index);
        for (int64_t n :
             {int64_t(0),
              int64_t(1),
              int64_t(kSmallRows) - 1,
              int64_t(kSmallRows) + 1,
              int64_t(100000)}) {
            Bytes section(16 + size_t(n) * 8);
            set_at<uint64_t>(section, 0, 1);
            set_at<uint64_t>(section, 8, uint64_t(n));
            std::string message =
                    message_of([&] { read(with(file, "id_maps", section)); });
            EXPECT_NE(message.find("'id_maps'"), std::string::npos)
                    << n << message;
        }
        // an id twice is allowed, as in Faiss: the last one counts
        Bytes section(16 + kSmallRows * 8);
        set_at<uint64_t>(section, 0, 1);
        set_at<uint64_t>(section, 8, kSmallRows);
        IndexPtr opened = read(with(file, "id_maps", section));
        EXPECT_EQ(opened->ntotal, int64_t(kSmallRows));
        use(*opened);
    }
}

// ---- found by a fuzzer ----

TEST(FaissSectionsFound, AreRefused) {
    for (auto [name, section] :
         {std::pair("alloc16GB", "'tree'"),
          std::pair("idmap2_segv", "'tree'"),
          std::pair("idmap", "'rotation'")}) {
        std::string bytes = read_bytes(
                std::string(FAISS_EXT_TEST_DATA "/damaged/file_") + name +
                ".scann");
        ASSERT_GT(bytes.size(), 500u);
        hostile::largest_allocation = 0;
        std::string message = message_of([&] { read(bytes); });
        EXPECT_LT(hostile::largest_allocation, 1 << 20) << name;
        EXPECT_NE(message.find(section), std::string::npos)
                << name << ": " << message;
    }
}

} // namespace
