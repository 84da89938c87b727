/* Faiss' byte streams as others may have made them: refused, or read into an
 * index that is safe to use. And that what Faiss writes is never refused. */

#include "fixtures/faiss_bytes_cases.h"

using namespace faiss_bytes_cases;

namespace {

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

} // namespace
