/* Factory strings: what good ones give, where bad ones are wrong. */

#include <cmath>

#include <faiss/IndexHNSW.h>
#include <faiss/IndexIDMap.h>
#include <faiss/IndexIVFFlat.h>
#include <faiss/IndexPreTransform.h>

#include <faiss_ext/model/index_state.h>

#include "fixtures/index_cases.h"

using namespace cases;
using faiss_ext::find_scann;
using faiss_ext::RefineType;
using faiss_ext::RotationKind;

namespace {

constexpr auto IP = faiss::METRIC_INNER_PRODUCT;
constexpr auto L2 = faiss::METRIC_L2;

IndexPtr make(
        const std::string& description,
        faiss::MetricType metric = L2,
        int d = 32) {
    return IndexPtr(faiss_ext::index_factory(d, description, metric));
}

TEST(IndexFactory, Lists) {
    for (std::string name : {"ScaNN", "SCANN"}) {
        EXPECT_EQ(find_scann(make("IVF64," + name).get())->nlist, 64);
        EXPECT_EQ(find_scann(make("IVF," + name).get())->nlist, 0);
        EXPECT_EQ(find_scann(make(name).get())->nlist, 0);
        EXPECT_EQ(find_scann(make("PCA16," + name).get())->nlist, 0);
    }
    auto index = make("IVF64_HNSW8,ScaNN", IP);
    auto scann = find_scann(index.get());
    EXPECT_NE(dynamic_cast<faiss::IndexHNSW*>(scann->quantizer), nullptr);
    EXPECT_EQ(scann->quantizer_trains_alone, 2);
    EXPECT_TRUE(scann->own_fields);
    EXPECT_TRUE(scann->cp.spherical);
    EXPECT_EQ(scann->metric_type, IP);
    EXPECT_EQ(scann->quantizer->metric_type, IP);
    index = make("IVF64(HNSW8),ScaNN");
    scann = find_scann(index.get());
    EXPECT_NE(dynamic_cast<faiss::IndexHNSW*>(scann->quantizer), nullptr);
}

TEST(IndexFactory, Wrappers) {
    auto index = make("IDMap2,PCA16,L2norm,IVF64,ScaNN,RFlat");
    auto map = dynamic_cast<faiss::IndexIDMap2*>(index.get());
    ASSERT_NE(map, nullptr);
    auto chain = dynamic_cast<faiss::IndexPreTransform*>(map->index);
    ASSERT_NE(chain, nullptr);
    EXPECT_EQ(chain->chain.size(), 2);
    EXPECT_EQ(chain->index, find_scann(index.get()));
    EXPECT_EQ(chain->index->d, 16);
    index = make("IVF64,ScaNN,IDMap");
    EXPECT_NE(dynamic_cast<faiss::IndexIDMap*>(index.get()), nullptr);
    EXPECT_EQ(find_scann(make("OPQ4_8,IVF64,ScaNN").get())->d, 8);
    const faiss::Index* constant = index.get();
    EXPECT_EQ(find_scann(constant), find_scann(index.get()));
}

TEST(IndexFactory, Codes) {
    struct {
        const char* token;
        int d;
        size_t sub_dim, M;
    } table[] = {
            {"IVF,ScaNN", 32, 2, 16},
            {"IVF,ScaNN", 33, 2, 17},
            {"ScaNN16x4", 32, 2, 16},
            {"ScaNN32x4", 32, 1, 32},
            {"ScaNN4x4", 32, 8, 4},
            {"ScaNN17x4", 33, 2, 17},
            {"ScaNN7x4", 19, 3, 7},
            {"ScaNN1x4", 1, 1, 1},
            {"ScaNN(sub_dim=5)", 33, 5, 7},
            // blocks of two widths: sub_dim says nothing
            {"ScaNN15x4", 32, 2, 15},
            {"ScaNN20x4", 50, 2, 20},
    };
    for (const auto& row : table) {
        SCOPED_TRACE(row.token);
        auto index = make(row.token, L2, row.d);
        auto scann = find_scann(index.get());
        EXPECT_EQ(scann->options.sub_dim, row.sub_dim);
        EXPECT_EQ(scann->state().model->pq.M(), row.M);
    }
    EXPECT_EQ(find_scann(make("PCA16,ScaNN8x4").get())->options.sub_dim, 2);
}

TEST(IndexFactory, Options) {
    auto index =
            make("IVF64,ScaNN(sub_dim=3,eta=4.5,soar_lambda=1.5,rotation="
                 "balanced,normalize=1,score_aware_centroids=1,seed=77),"
                 "RFlat,SQ8",
                 IP);
    const auto& o = find_scann(index.get())->options;
    EXPECT_EQ(o.sub_dim, 3);
    EXPECT_EQ(o.eta, 4.5f);
    EXPECT_EQ(o.soar_lambda, 1.5f);
    EXPECT_EQ(o.rotation, RotationKind::Balanced);
    EXPECT_TRUE(o.normalize);
    EXPECT_TRUE(o.score_aware_centroids);
    EXPECT_EQ(o.seed, 77);
    EXPECT_EQ(o.refine_type, RefineType::Int8);
    EXPECT_TRUE(o.with_raw_data);
    EXPECT_TRUE(std::isnan(o.threshold));

    auto option = [](const std::string& text) {
        auto made = make("ScaNN(" + text + ")");
        return find_scann(made.get())->options;
    };
    EXPECT_EQ(option("threshold=0.25").threshold, 0.25f);
    EXPECT_EQ(option("threshold=-1e-3").threshold, -1e-3f);
    EXPECT_EQ(option("eta=0").eta, 0);
    EXPECT_EQ(option("rotation=none").rotation, RotationKind::None);
    EXPECT_EQ(option("rotation=pca").rotation, RotationKind::PCA);
    EXPECT_EQ(option("rotation=random").rotation, RotationKind::Random);
    EXPECT_FALSE(option("normalize=0").normalize);
    EXPECT_EQ(option("seed=18446744073709551615").seed, UINT64_MAX);
    auto refine = [](const std::string& text) {
        return find_scann(make("ScaNN" + text).get())->options.refine_type;
    };
    EXPECT_EQ(refine(",RFlat"), RefineType::None);
    EXPECT_EQ(refine(",SQfp16"), RefineType::FP16);
    EXPECT_EQ(refine(",SQbf16,RFlat"), RefineType::BF16);
}

TEST(IndexFactory, ScannAloneChoosesCodesAndStorage) {
    auto options = [](const std::string& text, int d) {
        return find_scann(make(text, IP, d).get())->options;
    };
    for (const char* text : {"ScaNN", "ScaNN(eta=3,seed=5)", "IDMap2,ScaNN"}) {
        auto few = options(text, 50);
        EXPECT_TRUE(few.with_raw_data);
        EXPECT_EQ(few.sub_dim, 2);
        EXPECT_EQ(few.soar_lambda, 0);
        auto many = options(text, 384);
        EXPECT_TRUE(many.with_raw_data);
        EXPECT_EQ(many.sub_dim, 4);
        EXPECT_GT(many.soar_lambda, 0);
    }
    EXPECT_EQ(options("ScaNN(eta=3,seed=5)", 50).eta, 3);
    EXPECT_EQ(options("ScaNN(eta=3,seed=5)", 50).seed, 5);
    EXPECT_EQ(options("PCA100,ScaNN", 384).soar_lambda, 0) << "d is 100 here";
    for (const char* given :
         {"IVF,ScaNN",
          "IVF16,ScaNN",
          "ScaNN25x4",
          "ScaNN(sub_dim=2)",
          "ScaNN(soar_lambda=0)"}) {
        EXPECT_FALSE(options(given, 50).with_raw_data) << given;
        EXPECT_EQ(options(given, 50).refine_type, RefineType::None) << given;
    }
    EXPECT_FALSE(options("ScaNN,SQ8", 50).with_raw_data);
}

TEST(IndexFactory, BytesPerVectorAreKept) {
    constexpr int n = 3000;
    for (int d : {24, 128}) {
        const std::vector<float> x = random_rows::normal(size_t(n) * d, 1);
        size_t last = SIZE_MAX;
        for (int bytes : {100000, 5 * d, 4 * d, 2 * d, d, 8 + d / 2}) {
            auto index = make(
                    "ScaNN(bytes_per_vector=" + std::to_string(bytes) + ")",
                    L2,
                    d);
            auto scann = find_scann(index.get());
            size_t estimate = scann->estimate_memory(n);
            index->train(n, x.data());
            index->add(n, x.data());
            size_t lists = scann->state().lists->memory_usage();
            if (scann->state().spilled != nullptr) {
                lists += scann->state().spilled->memory_usage();
            }
            size_t nlist = scann->nlist;
            EXPECT_LE(lists, size_t(bytes) * n * 1.02 + nlist * 400) << bytes;
            EXPECT_LE(lists, last) << bytes;
            EXPECT_NEAR(double(estimate) / scann->memory_usage(), 1, 0.05);
            last = lists;
        }
        auto most = make("ScaNN(bytes_per_vector=100000)", L2, d);
        EXPECT_TRUE(find_scann(most.get())->options.with_raw_data);
    }
}

TEST(IndexFactory, ListsAndProbesAreChosenInTraining) {
    constexpr int n = 4000, d = 8;
    const std::vector<float> x = random_rows::normal(n * d, 1);
    for (const char* text : {"ScaNN", "IVF,ScaNN,RFlat"}) {
        auto index = make(text, L2, d);
        auto scann = find_scann(index.get());
        EXPECT_EQ(scann->nprobe, 0);
        EXPECT_ANY_THROW(index->train(0, x.data()));
        EXPECT_EQ(scann->nprobe, 0);
        index->train(n, x.data());
        EXPECT_EQ(scann->nlist, 125); // 32 rows each
        EXPECT_EQ(scann->nprobe, 3);
        index = make(text, L2, d);
        scann = find_scann(index.get());
        scann->nprobe = 7;
        index->train(n, x.data());
        EXPECT_EQ(scann->nprobe, 7);
    }
    auto index = make("IVF64,ScaNN,RFlat", L2, d);
    index->train(n, x.data());
    EXPECT_EQ(find_scann(index.get())->nprobe, 1) << "as in Faiss";
}

TEST(IndexFactory, StringsWithoutScannAreFaiss) {
    auto index = make("IVF64,Flat");
    EXPECT_NE(dynamic_cast<faiss::IndexIVFFlat*>(index.get()), nullptr);
    EXPECT_EQ(find_scann(index.get()), nullptr);
    EXPECT_THROW(make("nonsense"), faiss::FaissException);
}

TEST(IndexFactory, FaultsHaveAPlaceAndAReason) {
    struct {
        const char* description;
        faiss::MetricType metric;
        size_t position;
        const char* reason;
    } table[] = {
            {"IVF64,Scann", L2, 6, "ScaNN?"},
            {"IVF64,ScaNNs", L2, 11, "\"s\""},
            {"IVF64,ScaNN16", L2, 13, "x4"},
            {"IVF64,ScaNN16x8", L2, 13, "x4"},
            {"IVF64,ScaNN16x4x", L2, 15, "\"x\""},
            {"IVF64,ScaNN0x4", L2, 11, "1..65536"},
            {"IVF64,ScaNN99999999999999999999x4", L2, 11, "1..65536"},
            {"IVF64,ScaNN3x4", L2, 11, "possible: 4..32"},
            {"IVF64,ScaNN33x4", L2, 11, "possible: 4..32"},
            {"IVF64,ScaNN16x4(sub_dim=2)", L2, 16, "exclude"},
            {"IVF64,ScaNN(", L2, 11, "without"},
            {"IVF64,ScaNN)", L2, 11, "without"},
            {"IVF64,ScaNN()", L2, 12, "nothing"},
            {"IVF64,ScaNN(eta=2,)", L2, 18, "nothing"},
            {"IVF64,ScaNN(eta=2)x", L2, 18, "allowed"},
            {"IVF64,ScaNN(eta=2)(eta=2)", L2, 18, "allowed"},
            {"IVF64,ScaNN(eta)", L2, 12, "=<value>"},
            {"IVF64,ScaNN(eta=)", L2, 16, ">= 1"},
            {"IVF64,ScaNN(eta=0.5)", L2, 16, ">= 1"},
            {"IVF64,ScaNN(eta=-1)", L2, 16, ">= 1"},
            {"IVF64,ScaNN(eta=nan)", L2, 16, ">= 1"},
            {"IVF64,ScaNN(eta=inf)", L2, 16, ">= 1"},
            {"IVF64,ScaNN(eta=2x)", L2, 16, ">= 1"},
            {"IVF64,ScaNN(eta= 2)", L2, 16, ">= 1"},
            {"IVF64,ScaNN(sub_dim=0)", L2, 20, "1..8"},
            {"IVF64,ScaNN(sub_dim=9)", L2, 20, "1..8"},
            {"IVF64,ScaNN(threshold=nan)", L2, 22, "finite"},
            {"IVF64,ScaNN(soar_lambda=-1)", L2, 24, ">= 0"},
            {"IVF64,ScaNN(rotation=opq)", L2, 21, "balanced"},
            {"IVF64,ScaNN(normalize=2)", IP, 22, "0, 1"},
            {"IVF64,ScaNN(seed=-1)", L2, 17, "2^64"},
            {"IVF64,ScaNN(eta=2,eta=3)", L2, 18, "twice"},
            {"IVF64,ScaNN(eta=2,threshold=1)", L2, 18, "exclude"},
            {"IVF64,ScaNN(threshold=1,eta=2)", L2, 24, "exclude"},
            {"IVF64,ScaNN(colour=red)", L2, 12, "known: sub_dim, coded_dims"},
            {"IVF64,ScaNN(normalize=1)", L2, 12, "INNER_PRODUCT"},
            {"IVF64,ScaNN(score_aware_centroids=1)", L2, 12, "INNER_PRODUCT"},
            {"IVF64,ScaNN,SQ8,SQ8", L2, 16, "second"},
            {"IVF64,ScaNN,SQ8,SQfp16", L2, 16, "second"},
            {"IVF64,ScaNN,RFlat,RFlat", L2, 18, "second kind of raw rows"},
            {"IVF64,ScaNN,RU8,RFP16", L2, 16, "second kind of raw rows"},
            {"IVF64,ScaNN,SQ4", L2, 12, "known: SQ8"},
            {"IVF64,ScaNN,Refine(SQ8)", L2, 12, "known: SQ8"},
            {"IVF64,ScaNN,IDMap,RFlat", L2, 18, "after"},
            {"IVF64,ScaNN,", L2, 12, "nothing"},
            {",ScaNN", L2, 0, "nothing"},
            {"ScaNN(bytes_per_vector=0)", L2, 23, "1..2^32"},
            {"IVF,ScaNN(bytes_per_vector=99)", L2, 4, "chooses lists"},
            {"ScaNN(bytes_per_vector=99),RFlat", L2, 0, "chooses lists"},
            {"IVF64,,ScaNN", L2, 6, "nothing"},
            {"IVF64,ScaNN,ScaNN", L2, 12, "unknown"},
            {"IVF64(ScaNN),Flat", L2, 6, "parentheses"},
            {"IVF0,ScaNN", L2, 3, "0 lists"},
            {"IVFx,ScaNN", L2, 0, "IVFx"},
            {"IVF64,PQ8,ScaNN", L2, 6, "PQ8"},
            {"IDMap,PCA16,What,IVF64,ScaNN", L2, 12, "What"},
            {"IDMap,PCA16,IVF64_What,ScaNN", L2, 12, "IVF64_What"},
            {"IVF64,ScaNN", faiss::METRIC_L1, 0, "METRIC_L2"},
    };
    for (const auto& row : table) {
        SCOPED_TRACE(row.description);
        std::string message =
                message_of([&] { make(row.description, row.metric); });
        std::string place = "position " + std::to_string(row.position) + ":";
        EXPECT_NE(message.find(place), std::string::npos) << message;
        EXPECT_NE(message.find(row.reason), std::string::npos) << message;
        EXPECT_NE(message.find(row.description), std::string::npos);
    }
    for (int d : {0, -1, 65537}) {
        EXPECT_THROW(make("ScaNN", L2, d), faiss::FaissException);
    }
}

TEST(IndexFactory, IndexesWork) {
    for (const Case& c : all()) {
        SCOPED_TRACE(name_of(c));
        IndexPtr index = build(c);
        EXPECT_EQ(index->ntotal, c.add ? kRows : 0);
        if (c.add) {
            EXPECT_GE(search(*index).labels[0], 0);
        }
    }
}

} // namespace
