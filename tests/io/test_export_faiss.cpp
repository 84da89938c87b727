/* The export to plain Faiss: the same codes decode to the same vectors, and
 * Faiss finds with them what we find. */

#include <algorithm>
#include <cmath>
#include <set>

#include <faiss/IndexFlat.h>
#include <faiss/IndexIDMap.h>
#include <faiss/IndexIVFPQFastScan.h>
#include <faiss/IndexPreTransform.h>
#include <faiss/IndexRefine.h>
#include <faiss/index_io.h>

#include <faiss_ext/model/index_state.h>

#include "fixtures/index_cases.h"

using namespace cases;

namespace {

IndexPtr through_a_file(const faiss::Index& index) {
    faiss::VectorIOWriter writer;
    faiss::write_index(&index, &writer);
    faiss::VectorIOReader reader;
    reader.data = std::move(writer.data);
    return IndexPtr(faiss::read_index(&reader));
}

/// The FastScan index inside, and the transforms that lead to it.
faiss::IndexIVFPQFastScan* codes_of(
        faiss::Index* index,
        std::vector<faiss::VectorTransform*>& chain) {
    while (true) {
        if (auto map = dynamic_cast<faiss::IndexIDMap*>(index)) {
            index = map->index;
        } else if (auto refine = dynamic_cast<faiss::IndexRefine*>(index)) {
            index = refine->base_index;
        } else if (auto pre = dynamic_cast<faiss::IndexPreTransform*>(index)) {
            chain.insert(chain.end(), pre->chain.begin(), pre->chain.end());
            index = pre->index;
        } else {
            auto codes = dynamic_cast<faiss::IndexIVFPQFastScan*>(index);
#if FAISS_EXT_FAISS_VERSION >= 11000
            // 1.15's reader leaves it out, and its sa_decode() needs it
            if (codes != nullptr && codes->fine_quantizer == nullptr) {
                codes->fine_quantizer = &codes->pq;
            }
#endif
            return codes;
        }
    }
}

IndexPtr build_plain(const Case& c, size_t d = kD) {
    IndexPtr index(faiss_ext::index_factory(d, c.description, c.metric));
    std::vector<float> x = rows(kRows, d, 1);
    index->train(kRows, x.data());
    index->add(kRows, x.data());
    faiss_ext::find_scann(index.get())->nprobe = 8;
    return index;
}

constexpr auto IP = faiss::METRIC_INNER_PRODUCT;
constexpr auto L2 = faiss::METRIC_L2;

TEST(ExportFaiss, CodesDecodeToTheSameVectors) {
    for (const Case& c : std::vector<Case>{
                 {"IVF16,ScaNN", L2},
                 {"IVF16,ScaNN", IP},
                 {"IVF16,ScaNN(sub_dim=3,rotation=balanced)", IP},
                 {"IVF16,ScaNN(rotation=none)", L2},
                 {"IVF16,ScaNN(sub_dim=3,coded_dims=9)", L2},
                 {"IVF16,ScaNN(sub_dim=3,coded_dims=10,rotation=none)", IP},
                 {"IVF16,ScaNN(soar_lambda=1)", L2},
                 {"IVF16_HNSW8,ScaNN(rotation=none)", L2}}) {
        SCOPED_TRACE(name_of(c));
        // 18: whole blocks, so that no transform is needed without rotation.
        // No more than 16 codes: beyond them 1.7.3's own
        // pq4_get_packed_element, hence reconstruct, reads wrong ones.
        bool plain = c.description.find("none") != std::string::npos;
        const size_t d = plain ? 18 : kD;
        IndexPtr index = build_plain(c, d);
        IndexPtr exported(faiss_ext::export_to_faiss(index.get()));
        IndexPtr again = through_a_file(*exported);
        auto scann = faiss_ext::find_scann(index.get());
        std::vector<faiss::VectorTransform*> chain;
        auto codes = codes_of(again.get(), chain);
        ASSERT_NE(codes, nullptr);
        EXPECT_EQ(again->ntotal, kRows);
        EXPECT_EQ(chain.size(), plain ? 0 : 1);
        for (size_t l = 0; l < scann->nlist; l++) {
            size_t n = scann->get_list_size(l);
            ASSERT_EQ(codes->get_list_size(l), n);
            for (size_t i = 0; i < n; i++) {
                EXPECT_EQ(
                        codes->invlists->get_ids(l)[i],
                        scann->state().lists->get_single_id(l, i));
                std::vector<float> ours(d), theirs(d), space(codes->d);
                scann->reconstruct_from_offset(l, i, ours.data());
                codes->reconstruct_from_offset(l, i, space.data());
                if (chain.empty()) {
                    theirs = space;
                } else {
                    dynamic_cast<faiss::LinearTransform*>(chain[0])
                            ->transform_transpose(
                                    1, space.data(), theirs.data());
                }
                for (size_t j = 0; j < d; j++) {
                    ASSERT_NEAR(ours[j], theirs[j], 1e-3);
                }
            }
        }
    }
}

/// Part of the k nearest, by exhaustive search, that are found.
double
recall(const faiss::Index& index, faiss::MetricType metric, bool unit_rows) {
    constexpr size_t kQueries = 20, kK = 10;
    std::vector<float> x = rows(kRows, kD, 1);
    std::vector<float> queries = rows(kQueries, kD, 2);
    if (unit_rows) {
        for (size_t i = 0; i < kRows; i++) {
            float sum = 0;
            for (size_t j = 0; j < kD; j++) {
                sum += x[i * kD + j] * x[i * kD + j];
            }
            for (size_t j = 0; j < kD; j++) {
                x[i * kD + j] /= std::sqrt(sum);
            }
        }
    }
    faiss::IndexFlat flat(kD, metric);
    flat.add(kRows, x.data());
    Found exact = search(flat, kK), found = search(index, kK);
    size_t hits = 0;
    for (size_t q = 0; q < kQueries; q++) {
        auto begin = exact.labels.begin() + q * kK;
        std::set<int64_t> wanted(begin, begin + kK);
        for (size_t i = 0; i < kK; i++) {
            hits += wanted.count(found.labels[q * kK + i]);
        }
    }
    return double(hits) / (kQueries * kK);
}

TEST(ExportFaiss, FindsWhatWeFind) {
    for (const Case& c : std::vector<Case>{
                 {"IVF16,ScaNN,RFlat", L2},
                 {"IVF16,ScaNN,SQ8,RFlat", IP},
                 {"IVF16,ScaNN(coded_dims=16),RFlat", IP},
                 {"IVF16,ScaNN(normalize=1),RFlat", IP},
                 {"PCA19,IVF16,ScaNN,RFlat", L2},
                 {"IVF16,ScaNN(soar_lambda=1),RFlat", IP}}) {
        SCOPED_TRACE(name_of(c));
        IndexPtr index = build_plain(c);
        IndexPtr exported(faiss_ext::export_to_faiss(index.get()));
        IndexPtr again = through_a_file(*exported);
        bool unit = faiss_ext::find_scann(index.get())->options.normalize;
        double ours = recall(*index, c.metric, unit);
        EXPECT_GT(ours, 0.9);
        EXPECT_NEAR(ours, recall(*exported, c.metric, unit), 0.02);
        EXPECT_NEAR(ours, recall(*again, c.metric, unit), 0.02);
    }
}

TEST(ExportFaiss, WrappersStay) {
    IndexPtr index = build({"IDMap2,IVF16,ScaNN,RFlat"});
    IndexPtr exported(faiss_ext::export_to_faiss(index.get()));
    Found ours = search(*index, 1), theirs = search(*exported, 1);
    size_t same = 0;
    for (size_t i = 0; i < ours.labels.size(); i++) {
        same += ours.labels[i] == theirs.labels[i];
    }
    // fewer candidates there at k = 1
    EXPECT_GE(same, 18);
}

TEST(ExportFaiss, WhatCannotBeExportedIsRefused) {
    faiss::IndexFlat flat(4);
    EXPECT_NE(message_of([&] { faiss_ext::export_to_faiss(&flat); }), "");
    IndexPtr untrained(faiss_ext::index_factory(8, "IVF4,ScaNN"));
    std::string message =
            message_of([&] { faiss_ext::export_to_faiss(untrained.get()); });
    EXPECT_NE(message.find("not trained"), std::string::npos) << message;
    // ids that are not 0 .. ntotal - 1
    IndexPtr index = build({"IVF16,ScaNN,RFlat"});
    message = message_of([&] { faiss_ext::export_to_faiss(index.get()); });
    EXPECT_NE(message.find("0..ntotal-1"), std::string::npos) << message;
    // without raw rows they do not matter
    index = build({"IVF16,ScaNN"});
    IndexPtr exported(faiss_ext::export_to_faiss(index.get()));
    EXPECT_EQ(exported->ntotal, kRows);
}

} // namespace
