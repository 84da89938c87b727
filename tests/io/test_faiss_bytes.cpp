/* Faiss' byte streams as others may have made them: refused, or read into an
 * index that is safe to use. And that what Faiss writes is never refused. */

#include <omp.h>

#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <set>
#include <string>

#include <faiss/IndexFlat.h>
#include <faiss/IndexHNSW.h>
#include <faiss/IndexIDMap.h>
#include <faiss/IndexIVF.h>
#include <faiss/IndexIVFPQ.h>
#include <faiss/IndexPQ.h>
#include <faiss/IndexPreTransform.h>
#include <faiss/VectorTransform.h>
#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/FaissException.h>
#include <faiss/index_factory.h>
#include <faiss/index_io.h>
#include <gtest/gtest.h>

#include <faiss_ext/io/faiss_bytes.h>
#include <faiss_ext/index_factory.h>

#include "fixtures/hostile_bytes.h"
#include "fixtures/random_rows.h"

using faiss_ext::FaissContents;
using faiss_ext::FaissExpected;
using faiss_ext::FaissKind;
using hostile::Bytes;
using IndexPtr = std::unique_ptr<faiss::Index>;

namespace {

constexpr auto L2 = faiss::METRIC_L2;
constexpr auto IP = faiss::METRIC_INNER_PRODUCT;
constexpr size_t kD = 4, kRows = 24;

/// Each of many short searches would wake the others.
[[maybe_unused]] const bool one_thread = (omp_set_num_threads(1), true);

const std::vector<FaissKind> kAllKinds = {
        FaissKind::Flat,
        FaissKind::ScalarQuantizer,
        FaissKind::PQ,
        FaissKind::HNSWFlat,
        FaissKind::HNSWSQ,
        FaissKind::HNSWPQ,
        FaissKind::IVFFlat,
        FaissKind::IVFPQ,
        FaissKind::IDMap,
        FaissKind::IDMap2,
        FaissKind::PreTransform};

struct Case {
    const char* description; ///< for Faiss' factory
    FaissKind kind;
    faiss::MetricType metric = L2;
};

void PrintTo(const Case& c, std::ostream* out) {
    *out << c.description << (c.metric == L2 ? " L2" : " IP");
}

// 2 links a row: half of the rows are on a second level; np: no polysemous
// training, which takes seconds
const std::vector<Case> kCases = {
        {"Flat", FaissKind::Flat},
        {"Flat", FaissKind::Flat, IP},
        {"SQ8", FaissKind::ScalarQuantizer},
        {"SQ4", FaissKind::ScalarQuantizer, IP},
        {"SQ6", FaissKind::ScalarQuantizer},
        {"SQfp16", FaissKind::ScalarQuantizer},
        {"PQ2x4np", FaissKind::PQ},
        {"PQ4x3np", FaissKind::PQ, IP},
        {"HNSW2,Flat", FaissKind::HNSWFlat},
        {"HNSW2,Flat", FaissKind::HNSWFlat, IP},
        {"HNSW2,SQ8", FaissKind::HNSWSQ},
        {"HNSW2,PQ2np", FaissKind::HNSWPQ},
        {"IVF2,Flat", FaissKind::IVFFlat},
        {"IVF2,Flat", FaissKind::IVFFlat, IP},
        {"IVF20,Flat", FaissKind::IVFFlat}, // most lists are empty
        {"IVF2,PQ2x4np", FaissKind::IVFPQ},
        {"IVF2,PQ2x4np", FaissKind::IVFPQ, IP},
        {"IDMap,Flat", FaissKind::IDMap},
        {"IDMap2,Flat", FaissKind::IDMap2},
        {"IDMap2,Flat", FaissKind::IDMap2, IP},
        {"PCA3,Flat", FaissKind::PreTransform},
        {"PCAR3,Flat", FaissKind::PreTransform},
        {"PCAW2,Flat", FaissKind::PreTransform},
        {"OPQ2,Flat", FaissKind::PreTransform},
        {"OPQ2_2,Flat", FaissKind::PreTransform},
        {"RR,Flat", FaissKind::PreTransform},
        {"RR6,Flat", FaissKind::PreTransform, IP},
        {"ITQ,Flat", FaissKind::PreTransform},
        {"ITQ3,Flat", FaissKind::PreTransform},
        {"Pad6,Flat", FaissKind::PreTransform},
        {"L2norm,Flat", FaissKind::PreTransform, IP},
        {"L2norm,PCA3,L2norm,HNSW2,Flat", FaissKind::PreTransform},
        {"IDMap2,PCA3,Flat", FaissKind::IDMap2},
};

const std::vector<float>& rows() {
    static const std::vector<float> x =
            random_rows::clustered(300, kD, {5, 3}, 3);
    return x;
}

void add_rows(faiss::Index& index) {
    std::vector<int64_t> ids(kRows);
    for (size_t i = 0; i < kRows; i++) {
        ids[i] = 1000 - 3 * int64_t(i);
    }
    bool maps = dynamic_cast<faiss::IndexIDMap*>(&index) != nullptr;
    if (maps) {
        index.add_with_ids(kRows, rows().data(), ids.data());
    } else {
        index.add(kRows, rows().data());
    }
}

IndexPtr build(const Case& c, bool train = true, bool add = true) {
    IndexPtr index(faiss_ext::index_factory(kD, c.description, c.metric));
    if (train) {
        index->train(300, rows().data());
    }
    if (add) {
        add_rows(*index);
    }
    return index;
}

Bytes bytes_of(const faiss::Index& index) {
    faiss::VectorIOWriter writer;
    faiss::write_index(&index, &writer);
    return writer.data;
}

FaissExpected any_of(std::vector<FaissKind> kinds) {
    FaissExpected expected;
    expected.kinds = std::move(kinds);
    return expected;
}

/// What check_faiss_bytes() throws, or "".
std::string refusal(const Bytes& bytes, const FaissExpected& expected) {
    try {
        faiss_ext::check_faiss_bytes(bytes, expected);
    } catch (const faiss::FaissException& error) {
        return error.what();
    }
    return "";
}

void try_to(const std::function<void()>& operation) {
    try {
        operation();
    } catch (const faiss::FaissException&) {
        // not all do all; what matters is that none does more than throw
    }
}

/// All that one does with an index; labels are rows or -1.
void use(faiss::Index& index, bool own_ids) {
    const int64_t n = index.ntotal;
    const int64_t k = std::min<int64_t>(n + 2, 40);
    std::vector<float> x(3 * index.d, .5f), distances(3 * k), row(index.d);
    std::vector<int64_t> labels(3 * k);
    try_to([&] {
        index.search(3, x.data(), k, distances.data(), labels.data());
        for (int64_t label : labels) {
            ASSERT_TRUE(!own_ids || (label >= -1 && label < n)) << label;
        }
    });
    try_to([&] {
        faiss::RangeSearchResult found(3);
        index.range_search(3, x.data(), 2, &found);
    });
    for (int64_t id : {int64_t(0), n - 1}) {
        try_to([&] {
            if (id >= 0 && id < n) {
                index.reconstruct(id, row.data());
            }
        });
    }
    try_to([&] { bytes_of(index); });
    try_to([&] { index.add(3, x.data()); });
    try_to([&] {
        const int64_t ids[] = {7, 1000, -5};
        index.add_with_ids(3, x.data(), ids);
    });
    try_to([&] {
        index.search(3, x.data(), k, distances.data(), labels.data());
    });
    try_to([&] { index.reset(); });
}

class FaissBytes : public testing::TestWithParam<Case> {};

// ---- nothing that Faiss writes is refused ----

TEST_P(FaissBytes, WhatFaissWritesIsReadAndTheSame) {
    for (bool add : {true, false}) {
        IndexPtr index = build(GetParam(), true, add);
        Bytes bytes = bytes_of(*index);
        FaissExpected expected = any_of(kAllKinds);
        FaissContents found = faiss_ext::check_faiss_bytes(bytes, expected);
        EXPECT_EQ(found.kind, GetParam().kind);
        EXPECT_EQ(found.d, index->d);
        EXPECT_EQ(found.ntotal, index->ntotal);
        EXPECT_EQ(found.metric, index->metric_type);
        EXPECT_TRUE(found.is_trained);
        IndexPtr read = faiss_ext::read_faiss_bytes(bytes, expected);
        EXPECT_EQ(bytes_of(*read), bytes);
        const int64_t k = 7;
        std::vector<float> distances[2];
        std::vector<int64_t> labels[2];
        int i = 0;
        for (const faiss::Index* at : {index.get(), read.get()}) {
            distances[i].resize(10 * k);
            labels[i].resize(10 * k);
            at->search(
                    10,
                    rows().data(),
                    k,
                    distances[i].data(),
                    labels[i].data());
            i++;
        }
        EXPECT_EQ(distances[0], distances[1]);
        EXPECT_EQ(labels[0], labels[1]);
    }
}

TEST_P(FaissBytes, UntrainedIndexesAreReadToo) {
    const FaissKind kind = GetParam().kind;
    if (kind == FaissKind::IVFFlat || kind == FaissKind::IVFPQ) {
        GTEST_SKIP() << "lists that no centroids stand for are refused";
    }
    Bytes bytes = bytes_of(*build(GetParam(), false, false));
    IndexPtr read = faiss_ext::read_faiss_bytes(bytes, any_of(kAllKinds));
    EXPECT_EQ(bytes_of(*read), bytes);
    if (std::string(GetParam().description).starts_with("OPQ")) {
        return; // comes back as a LinearTransform, which cannot be trained
    }
    read->train(300, rows().data());
    add_rows(*read);
    EXPECT_EQ(read->ntotal, int64_t(kRows));
}

// ---- expectations ----

TEST_P(FaissBytes, AnotherClassMetricDimensionOrNumberIsRefused) {
    IndexPtr index = build(GetParam());
    Bytes bytes = bytes_of(*index);
    for (FaissKind kind : kAllKinds) {
        std::string message = refusal(bytes, any_of({kind}));
        bool wraps = kind == FaissKind::IDMap || kind == FaissKind::IDMap2 ||
                     kind == FaissKind::PreTransform;
        if (kind != GetParam().kind) {
            EXPECT_NE(message.find("(allowed here: "), std::string::npos)
                    << message;
        } else if (!wraps) {
            EXPECT_EQ(message, "");
        } else { // what is inside is not allowed
            EXPECT_NE(message, "");
        }
    }
    FaissExpected expected = any_of(kAllKinds);
    expected.metric = index->metric_type;
    expected.d = index->d;
    expected.ntotal = index->ntotal;
    expected.is_trained = true;
    EXPECT_EQ(refusal(bytes, expected), "");
    for (int64_t wrong : {-1, 0, 1, 1 << 20}) {
        FaissExpected other = expected;
        other.d = *expected.d + (wrong == 0 ? 1 : wrong);
        EXPECT_NE(refusal(bytes, other).find("dimension"), std::string::npos);
        other = expected;
        other.ntotal = *expected.ntotal + (wrong == 0 ? 1 : wrong);
        EXPECT_NE(refusal(bytes, other).find("rows"), std::string::npos);
    }
    FaissExpected other = expected;
    other.metric = index->metric_type == L2 ? IP : L2;
    EXPECT_NE(refusal(bytes, other).find("metric"), std::string::npos);
    other = expected;
    other.is_trained = false;
    EXPECT_NE(refusal(bytes, other), "");
}

// ---- hostile bytes ----

TEST_P(FaissBytes, NoChangeCrashes) {
    const Bytes bytes = bytes_of(*build(GetParam()));
    const FaissExpected expected = any_of(kAllKinds);
    const std::string description = GetParam().description;
    const bool own_ids = description.find("IDMap") == std::string::npos;
    // of some, Faiss makes a large table each time
    const unsigned one_of = bytes.size() > 4000   ? 40
                            : bytes.size() > 1000 ? 4
                                                  : 2;
    size_t refused = 0, read = 0;
    hostile::for_each_change(
            bytes,
            [&](const Bytes& changed) {
                IndexPtr index;
                hostile::largest_allocation = 0;
                try {
                    index = faiss_ext::read_faiss_bytes(changed, expected);
                } catch (const faiss::FaissException&) {
                    refused++;
                }
                // a PQ's table of the distances of all pairs of centroids is
                // what goes beyond the bytes here
                ASSERT_LE(
                        hostile::largest_allocation,
                        1000 + 64 * bytes.size() + (2 << 18));
                if (index != nullptr) {
                    read++;
                    // what was read is what was checked
                    ASSERT_EQ(refusal(bytes_of(*index), expected), "");
                    use(*index, own_ids);
                }
            },
            one_of);
    EXPECT_GT(refused, bytes.size() / one_of);
    EXPECT_GT(read, 10u); // of floats, ids and codes
}

TEST_P(FaissBytes, EveryCutIsRefused) {
    const Bytes bytes = bytes_of(*build(GetParam()));
    for (size_t size = 0; size < bytes.size(); size++) {
        Bytes cut(bytes.begin(), bytes.begin() + size);
        ASSERT_NE(refusal(cut, any_of(kAllKinds)), "") << size;
    }
    Bytes longer = bytes;
    longer.push_back(1);
    EXPECT_NE(
            refusal(longer, any_of(kAllKinds)).find("bytes too many"),
            std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
        All,
        FaissBytes,
        testing::ValuesIn(kCases),
        [](const auto& info) {
            std::string name = info.param.description;
            for (char& c : name) {
                c = c == ',' ? '_' : c;
            }
            return name + (info.param.metric == L2 ? "_L2" : "_IP");
        });

// ---- what Faiss has, but is not read here ----

TEST(FaissBytesOthers, AreRefusedByName) {
    for (const char* description :
         {"LSH",
          "PQ4x4fs",
          "IVF2,SQ8",
          "IVF2,PQ4x4fs",
          "PQ2x4,RFlat",
          "NSG4,Flat",
          "RQ2x4"}) {
        IndexPtr index(faiss::index_factory(kD, description));
        Bytes bytes = bytes_of(*index);
        std::string code(bytes.begin(), bytes.begin() + 4);
        std::string message = refusal(bytes, any_of(kAllKinds));
        EXPECT_NE(message.find("\"" + code + "\""), std::string::npos)
                << description << ": " << message;
    }
    faiss::IndexFlat index(kD, faiss::METRIC_L1);
    EXPECT_NE(refusal(bytes_of(index), any_of(kAllKinds)), "");
    Bytes bytes = {0, 'a', 255, '\n'};
    std::string message = refusal(bytes, any_of(kAllKinds));
    EXPECT_NE(message.find("\"\\x00a\\xFF\\x0A\""), std::string::npos)
            << message;
}

TEST(FaissBytesOthers, CenteringIsRead) {
    auto chain = std::make_unique<faiss::IndexPreTransform>(
            new faiss::CenteringTransform(kD), new faiss::IndexFlat(kD));
    chain->own_fields = true;
    chain->train(300, rows().data());
    chain->add(kRows, rows().data());
    Bytes bytes = bytes_of(*chain);
    IndexPtr read = faiss_ext::read_faiss_bytes(bytes, any_of(kAllKinds));
    EXPECT_EQ(bytes_of(*read), bytes);
    hostile::for_each_change(bytes, [&](const Bytes& changed) {
        try {
            use(*faiss_ext::read_faiss_bytes(changed, any_of(kAllKinds)), true);
        } catch (const faiss::FaissException&) {
        }
    });
}

TEST(FaissBytesOthers, DirectMapsAreRefused) {
    IndexPtr index = build({"IVF2,Flat", FaissKind::IVFFlat});
    dynamic_cast<faiss::IndexIVF&>(*index).make_direct_map();
    std::string message = refusal(bytes_of(*index), any_of(kAllKinds));
    EXPECT_NE(message.find("direct_map"), std::string::npos) << message;
}

TEST(FaissBytesOthers, DeepNestingIsRefused) {
    auto nested = [](int depth) {
        IndexPtr index = std::make_unique<faiss::IndexFlat>(kD);
        for (int i = 0; i < depth; i++) {
            auto map = std::make_unique<faiss::IndexIDMap>(index.release());
            map->own_fields = true;
            index = std::move(map);
        }
        return bytes_of(*index);
    };
    EXPECT_EQ(refusal(nested(20), any_of(kAllKinds)), "");
    std::string message = refusal(nested(100), any_of(kAllKinds));
    EXPECT_NE(message.find("deep"), std::string::npos) << message;
    // a header of 33 bytes each, far more than a stack holds
    Bytes one = nested(1), many;
    for (int i = 0; i < 200000; i++) {
        many.insert(many.end(), one.begin(), one.begin() + 37);
    }
    EXPECT_NE(refusal(many, any_of(kAllKinds)), "");
}

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
