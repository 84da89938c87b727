/* Bytes of Faiss whose parts are sound, but do not fit one another: links of
 * graphs, ids of lists, tables out of proportion. */

#include "fixtures/faiss_bytes_cases.h"

using namespace faiss_bytes_cases;

namespace {

// ---- graphs: links that are in range, but not where they lead ----

class FaissBytesGraph : public testing::Test {
 protected:
    IndexPtr index = build({"HNSW2,Flat", FaissKind::HNSWFlat});
    faiss::HNSW& graph = dynamic_cast<faiss::IndexHNSW&>(*index).hnsw;

    void expect_refused(const char* why) {
        std::string message = refusal(bytes_of(*index), any_of(kAllKinds));
        EXPECT_NE(message.find(why), std::string::npos) << message;
    }
    int row_of_level(int level) const {
        for (size_t i = 0; i < graph.levels.size(); i++) {
            if (graph.levels[i] == level) {
                return int(i);
            }
        }
        ADD_FAILURE() << "no row of level " << level;
        return 0;
    }
};

TEST_F(FaissBytesGraph, ALinkToARowThatIsNotOnTheLevelIsRefused) {
    int high = row_of_level(2), low = row_of_level(1);
    size_t begin, end;
    graph.neighbor_range(high, 1, &begin, &end);
    graph.neighbors[begin] = low;
    expect_refused("on level 1");
}

TEST_F(FaissBytesGraph, ALinkBehindTheEndOfTheLinksIsRefused) {
    size_t begin, end;
    graph.neighbor_range(0, 0, &begin, &end);
    graph.neighbors[begin] = -1;
    graph.neighbors[begin + 1] = 1;
    expect_refused("behind the end");
}

TEST_F(FaissBytesGraph, AnEntryPointBelowTheHighestLevelIsRefused) {
    graph.entry_point = row_of_level(1);
    expect_refused("levels of entry_point");
}

TEST_F(FaissBytesGraph, AHighestLevelThatNoRowHasIsRefused) {
    graph.max_level++;
    expect_refused("max_level");
    graph.max_level -= 2;
    expect_refused("max_level");
}

TEST_F(FaissBytesGraph, ARowWithTheLinksOfAnotherIsRefused) {
    graph.offsets[1] += 2;
    expect_refused("offsets");
}

TEST_F(FaissBytesGraph, AnArrayPerSearchOutOfProportionIsRefused) {
    auto& hnsw = graph;
    hnsw.efSearch = 0x7FFFFFFF;
    expect_refused("efSearch");
    hnsw.efSearch = 0;
    expect_refused("efSearch");
}

// ---- lists ----

TEST(FaissBytesLists, IdsAreTheRowsEachOnce) {
    for (const char* description : {"IVF2,Flat", "IVF2,PQ2x4np"}) {
        for (int64_t id : {-1, int(kRows), 0}) {
            IndexPtr index = build({description, FaissKind::IVFFlat});
            auto& ivf = dynamic_cast<faiss::IndexIVF&>(*index);
            auto& ids = dynamic_cast<faiss::ArrayInvertedLists&>(*ivf.invlists)
                                .ids[1];
            const size_t n = ids.size();
            ASSERT_GE(n, 2u);
            ids[n - 1] = id == 0 ? ids[0] : id;
            std::string message = refusal(bytes_of(*index), any_of(kAllKinds));
            EXPECT_NE(
                    message.find(id == 0 ? "twice" : "id = "),
                    std::string::npos)
                    << message;
        }
    }
}

// ---- tables that Faiss makes while it reads ----

TEST(FaissBytesTables, StayInProportionToTheBytes) {
    // 65,536 entries of one dimension: all pairs would be 16 GB
    faiss::IndexHNSWPQ graph(1, 1, 4);
    graph.is_trained = graph.storage->is_trained = true;
    auto& pq = dynamic_cast<faiss::IndexPQ&>(*graph.storage).pq;
    pq = faiss::ProductQuantizer(1, 1, 16);
    dynamic_cast<faiss::IndexPQ&>(*graph.storage).code_size = pq.code_size;
    Bytes bytes = bytes_of(graph);
    hostile::largest_allocation = 0;
    std::string message = refusal(bytes, any_of(kAllKinds));
    EXPECT_NE(message.find("2^(2 * nbits)"), std::string::npos) << message;
    EXPECT_LT(hostile::largest_allocation, 1 << 20);
}

TEST(FaissBytesTables, OfManyCodesStayInProportionToTheBytes) {
    // a table of 64 MB out of 256 kB
    constexpr int kD = 256;
    for (int m : {128, 256}) {
        faiss::IndexHNSWPQ graph(kD, m, 4);
        graph.is_trained = graph.storage->is_trained = true;
        Bytes bytes = bytes_of(graph);
        hostile::largest_allocation = 0;
        std::string message = refusal(bytes, any_of(kAllKinds));
        EXPECT_EQ(message.find("2^(2 * nbits)") != std::string::npos, m == 256)
                << message;
        EXPECT_LE(hostile::largest_allocation, size_t(34) << 20);
    }
}

TEST(FaissBytesTables, OfManyListsStayInProportionToTheBytes) {
    // some 20 MB with few rows a list, and few enough lists not to be refused
    constexpr int kD = 4;
    constexpr size_t kLists = 120000, kRows = 14;
    faiss::IndexFlatL2 quantizer(kD);
    std::vector<float> zeros(kLists * kD);
    quantizer.add(kLists, zeros.data());
    faiss::IndexIVFPQ index(&quantizer, kD, kLists, kD, 8);
    index.is_trained = true;
    std::vector<uint8_t> codes(kRows * index.code_size);
    std::vector<int64_t> ids(kRows);
    for (size_t list = 0; list < kLists; list++) {
        std::iota(ids.begin(), ids.end(), index.ntotal);
        index.invlists->add_entries(list, kRows, ids.data(), codes.data());
        index.ntotal += kRows;
    }
    Bytes bytes = bytes_of(index);
    ASSERT_GT(bytes.size(), size_t(17) << 20);
    hostile::largest_allocation = 0;
    auto read = read_faiss_bytes(bytes, any_of(kAllKinds));
    EXPECT_EQ(read->ntotal, index.ntotal);
    EXPECT_LE(hostile::largest_allocation, (256 << 20) + 7 * bytes.size());
}

} // namespace
