/* What Faiss' own factory may see: a closed list of parts with ranges. All that
 * passes builds, trains, takes rows and answers; all else is refused before
 * Faiss reads it, with the position. */

#include <memory>
#include <set>

#include <faiss_ext/index_factory.h>

#include "fixtures/index_fixtures.h"
#include "fixtures/sanitizers.h"

namespace {

using namespace fixtures;
using IndexPtr = std::unique_ptr<faiss::Index>;

constexpr int kD = 32, kN = 300;
/// Sanitizers try one description of five: all would take three minutes.
constexpr size_t kEvery = FAISS_EXT_ADDRESS_SANITIZER ? 5 : 1;

IndexPtr make(
        const std::string& description,
        faiss::MetricType metric = kL2,
        int d = kD) {
    return IndexPtr(faiss_ext::index_factory(d, description, metric));
}

std::string repeated(const std::string& text, size_t times) {
    std::string all;
    for (size_t i = 0; i < times; i++) {
        all += text;
    }
    return all;
}

TEST(FactoryString, LengthAndDepthAreBounded) {
    for (std::string scann : {"", ",ScaNN"}) {
        std::string lists = "IVF4" + (scann.empty() ? ",Flat" : scann);
        struct {
            std::string description;
            const char* reason;
        } table[] = {
                {"", "empty"},
                {std::string(30000, 'A') + scann, "allowed: 1..1000"},
                {std::string(1 << 24, '(') + scann, "allowed: 1..1000"},
                {repeated("IDMap2,", 10000) + lists, "allowed: 1..1000"},
                {repeated("IDMap2,", 3) + lists, "at most 2 id maps"},
                {repeated("IDMap2,", 40) + lists, "allowed: 31"},
                {repeated("L2norm,", 40) + lists, "allowed: 31"},
                {repeated("Flat,Refine(", 4) + "Flat))))" + scann,
                 "allowed: 3 levels"},
                {std::string(400, '(') + scann, "allowed: 3 levels"},
                {std::string(900, ')') + scann, "without"},
                {std::string(900, 'A') + scann, "unknown"},
                {std::string(900, '9') + scann, "unknown"},
        };
        for (const auto& row : table) {
            const std::string& description = row.description;
            SCOPED_TRACE(description.substr(0, 80) + scann);
            std::string message = message_of([&] { make(description); });
            EXPECT_NE(message.find(row.reason), std::string::npos) << message;
            EXPECT_LT(message.size(), 1200u);
        }
    }
}

TEST(FactoryString, OnlyPrintableCharacters) {
    for (int c = 0; c < 256; c++) {
        if (c >= 0x20 && c < 0x7f) {
            continue;
        }
        for (std::string rest : {"Flat", "ScaNN"}) {
            std::string description = "IVF4," + rest;
            description.insert(3, 1, char(c));
            std::string message = message_of([&] { make(description); });
            EXPECT_NE(message.find("position 3: "), std::string::npos);
            EXPECT_NE(message.find("\\x"), std::string::npos) << message;
            for (char shown : message) {
                EXPECT_TRUE(shown == '\n' || (shown >= 0x20 && shown < 0x7f));
            }
            // what Faiss would have cut off without a word
            message = message_of([&] { make(rest + char(c) + "rubbish"); });
            EXPECT_NE(message, "");
        }
    }
    EXPECT_NE(message_of([] { make("IVF4, Flat"); }), "");
    EXPECT_NE(message_of([] { make(" Flat"); }), "");
}

TEST(FactoryString, NumbersAreBounded) {
    struct {
        const char* text;
        size_t position;
        const char* allowed;
    } table[] = {
            {"PCA0,#", 3, "1..32"},
            {"PCA33,#", 3, "1..32"},
            {"PCAW0,#", 4, "1..32"},
            {"PCAWR99999999999999999999999999,#", 5, "1..32"},
            {"RR0,#", 2, "1..16384"},
            {"RR4294967297,#", 2, "1..16384"},
            {"ITQ0,#", 3, "1..32"},
            {"ITQ33,#", 3, "1..32"},
            {"OPQ0,#", 3, "1..32"},
            {"OPQ5,#", 3, "divisors of 32"},
            {"OPQ64,#", 3, "1..32"},
            {"OPQ4_0,#", 5, "1..16384"},
            {"OPQ4_9,#", 3, "divisors of 9"},
            {"OPQ18446744073709551616,#", 3, "1..32"},
            {"Pad0,#", 3, "1..65536"},
            {"Pad65537,#", 3, "1..65536"},
            {"IVF0,@", 3, "1..4194304"},
            {"IVF4194305,@", 3, "1..4194304"},
            {"IVF2147483648,@", 3, "1..4194304"},
            {"IVF100000000000000000000000000000,@", 3, "1..4194304"},
            {"IVF4_HNSW0,@", 9, "2..512"},
            {"IVF4_HNSW1,@", 9, "2..512"},
            {"IVF4_HNSW513,@", 9, "2..512"},
            {"IVF4(HNSW0),@", 9, "2..512"},
            {"IVF4(PQ0),@", 7, "1..32"},
            {"IVF4(PQ4x13),@", 9, "1..12"},
            {"IVF4(IVF2,Flat),@", 5, "HNSW<M>"},
            {"IVF4_NSG32,@", 0, "IVF<n>_HNSW<M>"},
            {"IVF4(NSG32),@", 5, "HNSW<M>"},
            {"IVF4(),@", 5, "nothing"},
            {"IVF4(IDMap,Flat),@", 5, "unknown"},
            {"IVF-4,@", 0, "IVF<n>"},
            {"IVF+4,@", 0, "IVF<n>"},
            {"IVF4 ,@", 0, "IVF<n>"},
            {"IVF0x4,@", 3, "1..4194304"},
            {"IVF1e3,@", 0, "IVF<n>"},
            {"IMI2x0,Flat", 5, "1..11"},
            {"IMI2x12,Flat", 5, "1..11"},
            {"NSG32,Flat", 0, "HNSW<M>"},
            {"HNSW0,Flat", 4, "2..512"},
            {"HNSW1", 4, "2..512"},
            {"HNSW8_PQ0", 8, "1..32"},
            {"PQ0", 2, "1..32"},
            {"PQ5", 2, "divisors of 32"},
            {"PQ4x0", 4, "1..12"},
            {"PQ4x99", 4, "1..12"},
            {"PQ4x4fs_0", 8, "32..128"},
            {"PQ4x4fs_33", 8, "multiples of 32"},
            {"PQ4x4fs_256", 8, "32..128"},
            {"IVF4(PQ4x4fs),@", 5, "HNSW<M>"},
            {"IVF4(PCA8,Flat),@", 5, "HNSW<M>"},
            {"IVF4(Flat,RFlat),@", 10, "HNSW<M>"},
            {"IVF4(HNSW4_PQ0),@", 13, "1..32"},
            {"IVF4,PQ4x9", 9, "1..8"},
            {"IVF4,PQ4+0", 9, "1..32"},
            {"IVF4", 4, "no codes"},
            {"PCA8", 0, "nothing to keep"},
            {"IDMap", 0, "nothing to keep"},
            {"Flat,Flat", 5, "RFlat"},
            {"Flat,Refine(What)", 12, "known"},
            {"RQ2x8", 0, "known"},
            {"Residual4x8,PQ4", 0, "known"},
            {"ZnLattice3x1_1", 0, "known"},
            {"MinMax,SQ8", 0, "known"},
            {"IVF4,ITQ8,SH", 5, "known"},
    };
    for (auto [text, position, allowed] : table) {
        std::set<std::string> descriptions;
        for (std::string behind : {"IVF4,Flat", "IVF4,ScaNN"}) {
            std::string description = text;
            if (size_t at = description.find('#'); at != std::string::npos) {
                description.replace(at, 1, behind);
            } else if (at = description.find('@'); at != std::string::npos) {
                description.replace(at, 1, behind.substr(5));
            }
            descriptions.insert(description);
        }
        for (const std::string& description : descriptions) {
            SCOPED_TRACE(description);
            std::string message = message_of([&] { make(description); });
            std::string place = "position " + std::to_string(position) + ":";
            EXPECT_NE(message.find(place), std::string::npos) << message;
            EXPECT_NE(message.find(allowed), std::string::npos) << message;
        }
    }
}

TEST(FactoryString, DimensionsAndMetricsAreBounded) {
    for (std::string text : {"Flat", "IVF4,Flat", "ScaNN", "PCA1,IVF4,ScaNN"}) {
        for (int d : {0, -1, 65537, INT32_MAX, INT32_MIN}) {
            std::string message = message_of([&] { make(text, kL2, d); });
            EXPECT_NE(message.find("1..65536"), std::string::npos) << message;
        }
        // all that the type can hold without being undefined
        for (int metric : {2, 4, 23, 24, 31}) {
            std::string message =
                    message_of([&] { make(text, faiss::MetricType(metric)); });
            EXPECT_NE(message.find("METRIC_L2"), std::string::npos) << message;
        }
    }
    // a matrix of 16 GB
    for (std::string text : {"PCA1,", "RR,", "ITQ,", "OPQ1,"}) {
        std::string message =
                message_of([&] { make(text + "IVF4,ScaNN", kL2, 65536); });
        EXPECT_NE(message.find("at most 16384"), std::string::npos) << message;
    }
    for (std::string text : {"LSH", "IMI2x2,Flat", "IVF4,PQ4+4"}) {
        EXPECT_NE(
                message_of([&] { make(text, kIP); }).find("METRIC_L2"),
                std::string::npos);
    }
}

TEST(FactoryString, WhatIsAllowedWorks) {
    const std::vector<float> x = clustered_rows(kN, kD, 1);
    std::vector<std::string> descriptions;
    for (const char* transform :
         {"PCA1,",        "PCA32,",      "PCAW8,", "PCAR8,", "PCAWR8,",
          "L2norm,",      "L2Norm,",     "RR,",    "RR1,",   "RR40,",
          "ITQ,",         "ITQ8,",       "OPQ1,",  "OPQ32,", "OPQ4_8,",
          "OPQ3_48,",     "Pad8,",       "Pad64,", "IDMap,", "IDMap2,",
          "PCA8,L2norm,", "IDMap2,PCA8,"}) {
        descriptions.push_back(std::string(transform) + "IVF4,ScaNN");
        descriptions.push_back(std::string(transform) + "Flat");
    }
    for (const char* lists :
         {"IVF1",
          "IVF4_HNSW",
          "IVF4_HNSW2",
          "IVF4_HNSW512",
          "IVF4(HNSW2)",
          "IVF4(HNSW8,Flat)",
          "IVF4(HNSW8_SQ8)",
          "IVF4(Flat)",
          "IVF4(SQ8)",
          "IVF16(PQ4x4np)"}) {
        descriptions.push_back(std::string(lists) + ",ScaNN");
        descriptions.push_back(std::string(lists) + ",Flat");
    }
    for (const char* body :
         {"IMI2x1,Flat",
          "IMI2x3,PQ4x4",
          "SQ4",
          "SQ6",
          "SQ8",
          "SQfp16",
          "PQ1x1np",
          "PQ32x4np",
          "PQ4x4np",
          "PQ4x4fs",
          "PQ3x4fs_32",
          "PQ4x4fs_64",
          "PQ4x4fs_96",
          "PQ4x4fs_128",
          "LSH",
          "LSHr",
          "LSHt",
          "LSHrt",
          "HNSW",
          "HNSW2",
          "HNSW512,Flat",
          "HNSW8_SQ8",
          "HNSW8,SQfp16",
          "IVF4,FlatDedup",
          "IVF4,SQ4",
          "IVF4,SQfp16",
          "IVF4,PQ2x3",
          "IVF4,PQ1x1np",
          "IVF4,PQ4x4np",
          "IVF4,PQ4x4fs",
          "IVF4,PQ4x4fsr",
          "IVF4,PQ4x4fs_64",
          "IVF4,PQ4x4fsr_128",
          "IVF4,PQ4x4np,RFlat",
          "IVF4,PQ4x4np,Refine(SQfp16)",
          "IDMap,IVF4,SQ8,RFlat",
          "SQ8,IDMap2"}) {
        descriptions.push_back(body);
    }
    for (size_t i = 0; i < descriptions.size(); i += kEvery) {
        const std::string& description = descriptions[i];
        int d = description.rfind("PQ3x", 0) == 0 ? 30 : kD;
        for (auto metric : {kL2, kIP}) {
            SCOPED_TRACE(description);
            IndexPtr index;
            try {
                index = make(description, metric, d);
                index->train(kN, x.data());
                index->add(kN, x.data());
            } catch (const faiss::FaissException& error) {
                // Faiss' own reasons, in words
                std::string reason = error.what();
                bool maps = description.rfind("IDMap", 0) == 0;
                EXPECT_TRUE(
                        metric == kIP || maps || description == "SQ8,IDMap2")
                        << reason;
                continue;
            }
            int64_t labels[5];
            float distances[5];
            index->search(1, x.data(), 5, distances, labels);
            for (int64_t label : labels) {
                EXPECT_LT(label, kN);
            }
        }
    }
}

} // namespace
